// Regions, zones and cells as cards.
import { h } from "./dom.js";
import { RISK, bp, capital, dur, pct, secs } from "./format.js";

/** The axis of time to failure: 1 s to 1 h, logarithmic. */
const AXIS_S = 3600;
const at = (s) => `${(100 * Math.log(Math.min(Math.max(s, 1), AXIS_S))) / Math.log(AXIS_S)}%`;
const TICKS = [[1, "1 s"], [10, "10 s"], [60, "1 min"], [600, "10 min"], [3600, "1 h"]];

export function map(view, selected) {
  const services = Object.entries(view.world.services);
  if (!services.length) {
    return h("div", { class: "panel empty" }, h("h2", {}, "No services yet"),
      h("p", {}, "Name services, regions and cells in the configuration file. `forefend check FILE` tells what is missing."));
  }
  return services.map(([id, service]) => {
    const cells = view.summaries.filter((c) => c.service === id);
    return h("div", { key: id, class: "service" },
      h("h2", {}, id, h("small", {}, `${service.service.tier} · mode ${service.service.policy.mode}`)),
      cells.length ? h("div", { class: "regions" }, regions(service, cells, selected))
        : h("p", { class: "empty" }, "This service has no cells yet."));
  });
}

const grouped = (cells, by) => Object.entries(Object.groupBy(cells, (c) => c[by])).sort(([a], [b]) => a < b ? -1 : 1);

function regions(service, cells, selected) {
  return grouped(cells, "region").map(([region, inside]) => {
    const weight = (service.effective ?? service.home).regions[region] ?? 0;
    return h("div", { key: region, class: "panel region", role: "group", "aria-label": `Region ${region}`, vars: { "--n": `${inside.length}` } },
      h("h3", {}, region, h("small", {}, `${bp(weight)} of the traffic`)),
      h("div", { class: "zones" }, grouped(inside, "zone").map(([zone, those]) =>
        h("div", { key: zone, class: "zone", role: "group", "aria-label": `Zone ${zone}`, vars: { "--n": `${those.length}` } },
          h("h4", {}, zone),
          h("div", { class: "cards" }, those.map((c) => card(c, service, c.id === selected)))))));
  });
}

function card(c, service, selected) {
  const risk = RISK[c.risk];
  const trigger = service.service.policy.trigger;
  const horizon = dur(c.horizon_s ?? secs(service.service.policy.horizon));
  return h("article", { key: c.id, class: "card", "data-risk": c.risk, "data-cell": c.id, "data-selected": selected },
    h("div", { class: "card-top" },
      h("button", { type: "button", class: "card-name", "data-act": "select", "data-cell": c.id, "aria-pressed": String(selected),
        "aria-label": `${c.id}, ${c.role}, ${risk.word}. Show details` }, c.id),
      h("span", { class: "risk" }, h("span", { class: "sign", "aria-hidden": "true" }, risk.sign), risk.word)),
    h("div", { class: "sub" }, h("span", { class: `role role-${c.role}` }, capital(c.role)), h("span", {}, capital(c.life)),
      c.parked && h("span", { class: "tag" }, "❄ parked"),
      c.reachable === "down" && h("span", { class: "tag bad" }, "unreachable"),
      c.objective.state === "breaking" && h("span", { class: "tag bad" }, "breaking its objective")),
    h("div", { class: "figures" },
      h("div", {}, h("div", { class: "label" }, `P(fail ≤ ${horizon})`), h("div", { class: "big prob" }, pct(c.probability))),
      h("div", { class: "right" }, h("div", { class: "label" }, "Health"), h("div", { class: "big" }, c.health == null ? "–" : Math.round(c.health)))),
    h("div", { class: "meter", role: "img", "aria-label": `Failure probability ${pct(c.probability)}; prepares at ${pct(trigger.prepare_at)}, shifts at ${pct(trigger.shift_at)}`,
      vars: { "--v": `${100 * (c.probability ?? 0)}%`, "--a": `${100 * trigger.prepare_at}%`, "--b": `${100 * trigger.shift_at}%` } },
      h("i", { class: "fill", "data-none": c.probability == null }), h("i", { class: "mark a", title: `prepares at ${pct(trigger.prepare_at)}` }), h("i", { class: "mark b", title: `shifts at ${pct(trigger.shift_at)}` })),
    ttf(c),
    weights(c),
    h("div", { class: "next" }, h("span", { class: "label" }, "Next"), h("span", {}, capital(c.next))),
    c.approval_asked && h("button", { type: "button", class: "primary-action", "data-act": "approve", "data-cell": c.id }, "Approve the shift"));
}

/** The band from p10 to p90 with p50 in it. */
function ttf(c) {
  const t = c.time_to_failure ?? {};
  const [p10, p50, p90] = [secs(t.p10), secs(t.p50), secs(t.p90)];
  const words = p10 == null ? (c.time_to_failure ? "beyond forecast" : "no prediction")
    : p50 == null ? `after ${dur(p10)} (p10)`
    : `≈ ${dur(p50)} (${dur(p10)} – ${p90 == null ? "beyond" : dur(p90)})`;
  return h("div", { class: "ttf" },
    h("div", { class: "line" }, h("span", { class: "label", title: "the median, and in brackets p10 – p90: eight times in ten it fails in between" }, "Fails in (p10–p90)"), h("span", { class: "num" }, words)),
    h("div", { class: "band", role: "img", "aria-label": `Time to failure: ${words}`, "data-none": p10 == null, "data-open": p90 == null,
      vars: { "--p10": p10 == null ? "100%" : at(p10), "--p50": p50 == null ? "100%" : at(p50), "--p90": p90 == null ? "100%" : at(p90) } },
      TICKS.map(([s]) => h("i", { class: "tick", vars: { "--x": at(s) } })), h("i", { class: "fill" }), h("i", { class: "mid", "data-none": p50 == null })),
    h("div", { class: "axis", "aria-hidden": "true" }, TICKS.map(([s, label]) => h("span", { vars: { "--x": at(s) } }, label))));
}

function weights(c) {
  const w = c.weights;
  const row = (name, value, title) => h("div", { class: "weight", title },
    h("span", { class: "label" }, name),
    h("span", { class: "track", vars: { "--v": `${(value ?? 0) / 100}%`, "--home": `${w.home_bp / 100}%` } }, h("i", { class: "fill" }), h("i", { class: "home" })),
    h("span", { class: "num" }, bp(value)));
  return h("div", { class: "weights", role: "group", "aria-label": `Share of the service's traffic, ${bp(w.home_bp)} at home` },
    row("configured", w.configured_bp, "what the engine wants"), row("effective", w.effective_bp, "what the data plane says it applies"),
    row("observed", w.observed_bp, "the share of requests really seen"));
}
