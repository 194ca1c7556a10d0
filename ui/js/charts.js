// Plots: the survival curve, weights and probability over time.
/* global uPlot */
import { h } from "./dom.js";
import { bp, dur, pct, secs } from "./format.js";
import { get } from "./api.js";
import { swatch } from "./flow.js";

const WINDOW_MS = 600_000;
/** By cell: instants and values, oldest first. */
const past = { at: [], cells: new Map() };
const plots = new Map();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Forgets plots, so that they are drawn anew in the other theme or size. */
export function redraw() {
  for (const { plot, gone } of plots.values()) { gone.disconnect(); plot.destroy(); }
  plots.clear();
}

/** Takes the past from the engine. */
export async function load(now) {
  const { points } = await get(`/api/v1/history?since_ms=${Math.max(0, Math.round(now - WINDOW_MS))}`);
  past.at = [];
  past.cells.clear();
  for (const p of points) put(p.at, p.service, p.cell, p.effective_bp, p.probability);
}

/** Adds a tick, at most one a second. */
export function add(view) {
  const now = view.world.now;
  if (past.at.length && now - past.at.at(-1) < 1000) return;
  for (const c of view.summaries) put(now, c.service, c.id, c.weights.effective_bp, c.probability);
  const drop = past.at.findIndex((t) => t >= now - WINDOW_MS);
  if (drop > 0) {
    past.at.splice(0, drop);
    for (const c of past.cells.values()) { c.weight.splice(0, drop); c.probability.splice(0, drop); }
  }
}

function put(at, service, id, weight, probability) {
  if (past.at.at(-1) !== at) past.at.push(at);
  const n = past.at.length;
  if (!past.cells.has(id)) past.cells.set(id, { service, weight: [], probability: [] });
  const c = past.cells.get(id);
  while (c.weight.length < n) { c.weight.push(null); c.probability.push(null); }
  c.weight[n - 1] = weight ?? null;
  c.probability[n - 1] = probability ?? null;
}

const axis = (more) => ({ stroke: css("--muted"), font: `11px ${css("--font")}`, grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, ...more });
const time = () => axis({ size: 26, space: 84, values: (_, ts) => ts.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) });
const share = (max) => axis({ size: 44, values: (_, vs) => vs.map((v) => pct(v)), splits: () => [0, 0.25, 0.5, 0.75, 1].map((v) => v * max) });

/** Draws into `node`, or gives an existing plot the new data. `shape` changes when series come or go. */
function draw(node, shape, data, options) {
  const held = plots.get(node.id);
  if (held && held.shape === shape && held.node === node) { held.plot.setData(data); return; }
  if (held) { held.gone.disconnect(); held.plot.destroy(); }
  const size = () => ({ width: Math.max(node.clientWidth, 80), height: node.clientHeight });
  const plot = new uPlot({ ...size(), legend: { show: false }, padding: [8, 8, 0, 0], ...options }, data, node);
  const gone = new ResizeObserver(() => plot.setSize(size()));
  gone.observe(node);
  plots.set(node.id, { plot, shape, node, gone });
}

/** Vertical and horizontal lines over a plot: `[axis, value, color, label]`. */
const lines = (get) => ({ hooks: { draw: [(u) => {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px ${css("--font")}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const [i, [scale, value, color, label]] of get().entries()) {
    const p = u.valToPos(value, scale, true);
    if (!(scale === "x" ? p >= left && p <= left + width : p >= top && p <= top + height)) continue;
    ctx.strokeStyle = ctx.fillStyle = color;
    ctx.beginPath();
    if (scale === "x") { ctx.moveTo(p, top); ctx.lineTo(p, top + height); } else { ctx.moveTo(left, p); ctx.lineTo(left + width, p); }
    ctx.stroke();
    const wide = ctx.measureText(label).width + 6;
    if (scale === "x") ctx.fillText(label, p + 4 + wide > left + width ? p - wide : p + 4, top + (11 + 13 * i) * devicePixelRatio);
    else ctx.fillText(label, left + width - wide, p - 4);
  }
  ctx.restore();
}] } });

let curveLines = [];

/** P(fail by t) of one prediction. */
export function curve(node, prediction) {
  const xs = prediction.curve.map(([s]) => s);
  const ys = prediction.curve.map(([, p]) => p);
  curveLines = [...["p10", "p50", "p90"].filter((q) => prediction.time_to_failure[q]).map((q) => ["x", secs(prediction.time_to_failure[q]), css("--text"), q]),
    ["x", secs(prediction.horizon), css("--muted"), "horizon"]];
  draw(node, "curve", [xs, ys], {
    padding: [8, 20, 0, 0],
    scales: { x: { time: false, distr: 3 }, y: { range: [0, 1] } },
    cursor: { y: false, drag: { x: false, y: false } },
    axes: [axis({ size: 26, values: (_, vs) => vs.map((v) => (v == null ? "" : dur(v).replace(".0 s", " s"))) }), share(1)],
    series: [{}, { stroke: css("--accent"), width: 2, fill: css("--accent-soft"), points: { show: false }, paths: uPlot.paths.spline() }],
    plugins: [lines(() => curveLines)],
  });
}

/** Hatching tells made cells from kept ones without colour. */
function fill(look) {
  if (!look.hatched) return `${look.color}b0`;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const ctx = tile.getContext("2d");
  ctx.fillStyle = `${look.color}70`;
  ctx.fillRect(0, 0, 8, 8);
  ctx.strokeStyle = look.color;
  ctx.lineWidth = 2;
  ctx.beginPath();
  for (const x of [-8, 0, 8]) { ctx.moveTo(x, 8); ctx.lineTo(x + 8, 0); }
  ctx.stroke();
  return ctx.createPattern(tile, "repeat");
}

const stroke = (l) => h("svg", { width: 24, height: 8, "aria-hidden": "true" },
  h("line", { x1: 0, y1: 4, x2: 24, y2: 4, stroke: l.color, "stroke-width": 2.5, "stroke-dasharray": l.dash.join(" ") }));

/** The places of the plots, by service. */
export function charts(view, look) {
  const services = Object.keys(view.world.services);
  if (!services.length) return h("p", { class: "empty" }, "Nothing to plot yet.");
  return services.map((service) => {
    const cells = view.summaries.filter((c) => c.service === service);
    const item = (c, value, sign) => h("li", { key: c.id }, sign, c.id, h("span", { class: "num" }, value));
    return h("div", { key: service, class: "chart-pair" },
      h("figure", {}, h("figcaption", {}, `${service}: effective weight`),
        h("div", { class: "plot", id: `w-${service}`, opaque: true, role: "img", "aria-label": `Effective weights of ${service} over time` }),
        h("ul", { class: "key" }, cells.map((c) => item(c, bp(c.weights.effective_bp), swatch(look[c.id]))))),
      h("figure", {}, h("figcaption", {}, `${service}: probability of failure`),
        h("div", { class: "plot", id: `p-${service}`, opaque: true, role: "img", "aria-label": `Failure probability of the cells of ${service} over time` }),
        h("ul", { class: "key" }, cells.map((c) => item(c, pct(c.probability), stroke(look[c.id]))))));
  });
}

/** Fills the places made by `charts`. */
export function drawCharts(view, look) {
  const xs = past.at.map((t) => t / 1000);
  if (xs.length < 2) return;
  for (const [service, { service: spec }] of Object.entries(view.world.services)) {
    const ids = [...past.cells.keys()].filter((id) => past.cells.get(id).service === service && look[id]);
    const padded = (values) => { while (values.length < xs.length) values.push(null); return values; };
    // Stacked: each series is the sum of those up to it; drawn from the top down, so that each covers what is below.
    let sum = xs.map(() => 0);
    const sums = ids.map((id) => (sum = padded(past.cells.get(id).weight).map((w, i) => sum[i] + (w ?? 0) / 10000)));
    draw(document.getElementById(`w-${service}`), ids.join(), [xs, ...sums.toReversed()], {
      scales: { y: { range: [0, 1] } }, cursor: { y: false, drag: { x: false, y: false }, sync: { key: service } }, axes: [time(), share(1)],
      series: [{}, ...ids.toReversed().map((id) => ({ stroke: look[id].color, width: 1, fill: () => fill(look[id]), points: { show: false } }))],
      // What lies under the next lower series is cut away, or translucent areas would mix.
      bands: ids.slice(1).map((_, i) => ({ series: [i + 1, i + 2] })),
    });
    const trigger = spec.policy.trigger;
    draw(document.getElementById(`p-${service}`), ids.join(), [xs, ...ids.map((id) => padded(past.cells.get(id).probability))], {
      scales: { y: { range: [0, 1] } }, cursor: { y: false, drag: { x: false, y: false }, sync: { key: service } }, axes: [time(), share(1)],
      series: [{}, ...ids.map((id) => ({ stroke: look[id].color, width: 2, dash: look[id].dash, points: { show: false } }))],
      plugins: [lines(() => [["y", trigger.shift_at, css("--danger"), "shifts"], ["y", trigger.prepare_at, css("--watch"), "prepares"]])],
    });
  }
}

