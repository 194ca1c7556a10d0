// Where the traffic goes, shifts on their way, and the life of synthetic cells.
import { h } from "./dom.js";
import { bp, capital, dur, reasonWords, secs } from "./format.js";

export function flow(view, look) {
  const services = Object.keys(view.world.services);
  if (!services.length) return h("p", { class: "empty" }, "No traffic yet.");
  return services.map((service) => {
    const cells = view.summaries.filter((c) => c.service === service);
    const shifts = view.shifts.filter((s) => s.service === service);
    const tests = (view.pre_tests ?? []).filter((t) => t.service === service);
    return h("div", { key: service, class: "flow" },
      services.length > 1 && h("h3", {}, service),
      bars(cells, look), key(cells, look),
      h("h3", { class: "shifts-h" }, "Shifts in progress"),
      shifts.map((s) => shift(s, view, look)), tests.map((t) => preTest(t, view, look)),
      !shifts.length && !tests.length && h("p", { class: "empty" }, "None: all traffic is at home."));
  });
}

function bars(cells, look) {
  const row = (name, field, title) => {
    const known = cells.some((c) => c.weights[field] != null);
    return h("div", { class: "bar-row", title }, h("span", { class: "label" }, name),
      h("div", { class: "stack", role: "img", "aria-label": `${name}: ${known ? cells.map((c) => `${c.id} ${bp(c.weights[field])}`).join(", ") : "unknown"}` },
        known ? cells.map((c) => h("span", { key: c.id, class: "seg", "data-hatched": look[c.id].hatched, "data-small": (c.weights[field] ?? 0) < 700,
          title: `${c.id}: ${bp(c.weights[field])}`, vars: { "--v": `${(c.weights[field] ?? 0) / 100}%`, "--c": look[c.id].color } },
          h("b", {}, bp(c.weights[field])))) : h("span", { class: "unknown" }, field === "observed_bp" ? "no requests seen" : "unknown: the data plane did not answer")));
  };
  return h("div", { class: "bars" }, row("home", "home_bp", "in normal times"), row("configured", "configured_bp", "what the engine wants"),
    row("effective", "effective_bp", "what the data plane says it applies"), row("observed", "observed_bp", "the share of requests really seen"));
}

const key = (cells, look) => h("ul", { class: "key" }, cells.map((c) =>
  h("li", { key: c.id }, swatch(look[c.id]), c.id, c.role !== "primary" && h("small", {}, c.role))));

export const swatch = (l) => h("i", { class: "swatch", "data-hatched": l.hatched, vars: { "--c": l.color } });

function shift(s, view, look) {
  const steps = view.world.services[s.service].service.policy.canary.steps;
  const age = dur((view.world.now - s.since) / 1000);
  return h("div", { key: s.from, class: "shift" },
    h("div", { class: "line" },
      h("span", { class: "route" }, look[s.from] && swatch(look[s.from]), h("b", {}, s.from),
        h("span", { class: "arrow", "aria-label": s.outbound ? "to" : "back from" }, s.outbound ? "⟶" : "⟵"),
        s.to.length ? s.to.map((id) => h("span", {}, look[id] && swatch(look[id]), h("b", {}, id))) : h("span", {}, "no standby yet")),
      h("span", { class: "tag" }, `${s.outbound ? "moving away" : "going home"}: ${reasonWords(s.reason)}`),
      s.bound_by && s.bound_by !== "none" && h("span", { class: "tag strong" }, `bound by ${s.bound_by}`)),
    h("div", { class: "progress", role: "progressbar", "aria-valuenow": s.moved / 100, "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Share of ${s.from}'s home traffic that is away`,
      vars: { "--v": `${s.moved / 100}%`, "--target": `${s.target / 100}%` } },
      h("i", { class: "fill" }), steps.map((x) => h("i", { class: "step", vars: { "--x": `${x / 100}%` } })), h("i", { class: "target" })),
    h("div", { class: "line small" }, h("span", {}, h("b", { class: "num" }, bp(s.moved)), ` of its home traffic away, ${bp(s.target)} wanted`),
      h("span", {}, `mirror: ${s.evidence.requests.toLocaleString("en-GB")} requests answered, ${s.evidence.bad} badly`), h("span", {}, `for ${age}`)));
}

/** A mirror that is tried with a little real traffic before it is needed. */
function preTest(t, view, look) {
  const cap = view.world.services[t.service].service.policy.pre_test.cap;
  return h("div", { key: `test-${t.from}`, class: "shift pre-test" },
    h("div", { class: "line" },
      h("span", { class: "route" }, look[t.from] && swatch(look[t.from]), h("b", {}, t.from),
        h("span", { class: "arrow", "aria-label": "tries" }, "⇢"), look[t.to] && swatch(look[t.to]), h("b", {}, t.to)),
      h("span", { class: "tag" }, "pre-test, no shift")),
    h("div", { class: "line small" }, h("span", {}, "the mirror is tried with ", h("b", { class: "num" }, bp(t.share)), ` of the traffic, at most ${bp(cap)}`),
      h("span", {}, `${t.evidence.requests.toLocaleString("en-GB")} requests answered, ${t.evidence.bad} badly`),
      h("span", {}, `for ${dur((view.world.now - t.since) / 1000)}`)));
}

const LIFE = ["planned", "creating", "warming", "idle", "canary", "serving", "draining"];

export function synthetic(view) {
  const cells = view.summaries.filter((c) => c.role === "synthetic");
  if (!cells.length) return h("p", { class: "empty" }, "None at the moment. They are made from the service's blueprint when a failure is foreseen.");
  return cells.map((c) => {
    const end = LIFE.includes(c.life) ? [] : [c.life];
    const papers = view.world.services[c.service].cells[c.id].passport;
    return h("div", { key: c.id, class: "life" },
      h("div", { class: "line" }, h("b", {}, c.id), h("span", { class: "muted" }, `${c.region}/${c.zone}`),
        c.parked && h("span", { class: "tag" }, "❄ parked"), h("span", { class: "muted" }, capital(c.next))),
      h("ol", { class: "strip" }, [...LIFE, ...end].map((step) =>
        h("li", { key: step, "aria-current": step === c.life ? "step" : null, "data-bad": step === "failed" }, capital(step)))),
      h("div", { class: "small muted" }, papers
        ? `Passport: warmed ${dur((view.world.now - papers.warmed_at) / 1000)} ago, ${papers.warm_ok} of ${papers.warm_requests} requests answered well`
          + `${papers.measured_capacity ? `, ${Math.round(papers.measured_capacity)}/s measured` : ""}, blueprint ${papers.blueprint.slice(0, 8)}${papers.current ? "" : " (not the newest)"}`
        : "No passport yet: it does not count as capacity."));
  });
}
