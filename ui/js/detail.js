// The selected cell in full.
import { h } from "./dom.js";
import { RISK, bp, capital, dur, pct, secs } from "./format.js";

/** `full` is what /api/v1/cells/{id} told last; it may be of an older tick, or still missing. */
export function detail(view, id, full) {
  const c = view.summaries.find((s) => s.id === id);
  if (!c) return h("p", { class: "empty" }, view.summaries.length ? "Select a cell to see what is foreseen for it, and why." : "No cells yet.");
  const prediction = view.predictions[id];
  const policy = view.world.services[c.service].service.policy;
  const risk = RISK[c.risk];
  return [
    h("div", { key: "head", class: "detail-head", "data-risk": c.risk },
      h("div", { class: "line" }, h("h2", {}, c.id), h("span", { class: "risk" }, h("span", { class: "sign", "aria-hidden": "true" }, risk.sign), risk.word)),
      h("div", { class: "muted" }, `${capital(c.role)} of ${c.service} · ${c.region}/${c.zone} · ${c.life}${c.parked ? " · parked" : ""}`)),
    race(c, prediction),
    h("section", { key: "curve" }, h("h3", {}, "Probability of failure by time from now"),
      prediction ? h("div", { class: "plot", id: "curve-plot", opaque: true, role: "img", "aria-label": curveWords(prediction) })
        : h("p", { class: "empty plot-empty" }, "No prediction: nothing was measured that could be judged."),
      prediction?.time_to_failure.p10 && h("p", { class: "small muted" }, prediction.interval === "calibrated"
        ? "p10 to p90 held eight in ten failures that were held out." : "How often p10 to p90 holds, no failures have shown yet.")),
    h("section", { key: "drivers" }, h("h3", {}, "Drivers", h("small", {}, "share of the hazard")),
      prediction?.drivers.length ? h("ol", { class: "drivers" }, prediction.drivers.map((d) =>
        h("li", { key: d.metric }, h("div", { class: "line" }, h("code", {}, d.metric), h("span", { class: "num" }, pct(d.contribution))),
          h("div", { class: "meter", "aria-hidden": "true", vars: { "--v": `${100 * d.contribution}%` } }, h("i", { class: "fill" })),
          h("div", { class: "small muted" }, h("span", { class: "tag" }, d.family), ` ${d.detail}`))))
        : h("p", { class: "empty" }, "Nothing drives a prediction."),
      prediction?.outlooks?.length ? h("ul", { class: "plain small" }, prediction.outlooks.map((o) =>
        h("li", { key: o.metric }, h("code", {}, o.metric), " at its limit ", o.reaches.p50
          ? `in ${dur(secs(o.reaches.p50))} (${dur(secs(o.reaches.p10))} – ${o.reaches.p90 ? dur(secs(o.reaches.p90)) : "beyond"})`
          : `no sooner than in ${dur(secs(o.reaches.p10))}`, h("span", { class: "muted" }, `, forecast from ${dur(secs(o.seen))}`)))) : null,
      prediction?.anomalies.length ? h("p", { class: "small" }, "Unlike its past: ", prediction.anomalies.map((a) =>
        h("span", { class: "tag" }, `${a.metric} ${a.z > 0 ? "+" : ""}${a.z.toFixed(1)} σ`))) : null),
    h("section", { key: "words" }, h("h3", {}, "In words"), h("pre", { class: "words" }, full?.id === id ? full.words : "…")),
    h("section", { key: "bounds" }, h("h3", {}, "What bounds its weight"),
      h("dl", { class: "bounds" }, full?.id === id ? full.bounds.map((b) => h("div", { key: b.bound, "data-binding": b.binding },
        h("dt", {}, b.bound, b.binding && h("span", { class: "tag strong" }, "binding")), h("dd", {}, b.words))) : h("div", {}, h("dd", {}, "…")))),
    actions(c, policy),
  ];
}

function race(c, prediction) {
  const margin = c.race_margin_s;
  const p10 = secs(prediction?.time_to_failure.p10);
  const lead = margin != null && p10 != null ? p10 - margin : null;
  const state = margin == null ? "none" : margin > 0 ? "ahead" : "due";
  const words = { none: "no race: nothing is foreseen", ahead: "left until a shift must begin", due: "a shift begun now would end after the early estimate (p10)" }[state];
  return h("section", { key: "race", class: "race", "data-state": state },
    h("h3", {}, "Lead-time race"),
    h("div", { class: "line" }, h("span", { class: "big num" }, margin == null ? "–" : `${margin > 0 ? "+" : "−"}${Math.abs(margin) < 10 ? `${Math.abs(margin).toFixed(1)} s` : dur(Math.abs(margin))}`),
      h("span", {}, h("span", { "aria-hidden": "true" }, { none: "", ahead: "✓ ", due: "▲ " }[state]), words)),
    h("div", { class: "small muted" }, lead == null ? "A shift's own time is compared with the p10 of time to failure."
      : `A shift with its margin takes ${dur(Math.max(lead, 0))}; one time in ten the cell fails within ${dur(p10)}.`));
}

const curveWords = (p) => `P(fail) ${pct(p.probability)} within ${dur(secs(p.horizon))}; `
  + ["p10", "p50", "p90"].map((q) => `${q} ${p.time_to_failure[q] ? dur(secs(p.time_to_failure[q])) : "beyond"}`).join(", ")
  + (p.interval === "calibrated" ? "; eight in ten held-out failures lay between p10 and p90" : "");

function actions(c, policy) {
  return h("section", { key: "actions", class: "actions" }, h("h3", {}, "Operator"),
    c.approval_asked && h("button", { type: "button", class: "primary-action", "data-act": "approve", "data-cell": c.id }, "Approve the shift"),
    policy.mode === "observe" && h("p", { class: "small muted" }, "Mode observe: the engine moves nothing by itself."),
    h("div", { class: "row" },
      h("label", {}, "Move away ", h("input", { id: "shift-pct", type: "number", min: 0, max: 100, step: 1, value: 25, inputmode: "decimal" }), " % of its home traffic"),
      h("button", { type: "button", class: "quiet", "data-act": "shift", "data-cell": c.id }, "Shift…"),
      h("button", { type: "button", class: "quiet", "data-act": "end-shift", "data-cell": c.id }, "End shift")),
    h("p", { class: "small muted" }, `Home weight ${bp(c.weights.home_bp)} of the service.`));
}
