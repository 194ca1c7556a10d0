// Experiments and drills: what runs, what waits for somebody, how it ended.
import { h } from "./dom.js";
import { clock, dur } from "./format.js";
import { get } from "./api.js";

const SHOWN_AT_MOST = 8;
const state = { runs: [], error: null, loaded: false };

export async function refresh() {
  try {
    state.runs = (await get("/api/v1/drills")).runs;
    state.loaded = true;
    state.error = null;
  } catch (problem) {
    state.error = problem.message;
  }
}

/** The report of a run, as Markdown. */
export const report = async (id) => (await get(`/api/v1/drills/${encodeURIComponent(id)}`)).result;

/** `[name, sign]` by what has become of a run: sign and word go with every colour. */
function look(run) {
  if (run.needs_approvals > 0) return ["waiting", "◆"];
  if (!run.ended) return ["running", "▶"];
  const word = run.state.split(":")[0];
  if (word === "finished") return run.state.includes("upheld") ? ["upheld", "✓"] : ["refuted", "▲"];
  return [word, word === "refused" ? "–" : "✕"];
}

export function drills(now) {
  if (state.error) return h("p", { class: "problem" }, `The runs can't be read: ${state.error}`);
  if (!state.runs.length) {
    return h("p", { class: "empty" }, state.loaded ? "None yet. " : "Reading …",
      state.loaded && h("code", {}, "forefend drill run FILE"), state.loaded && " begins one, where the configuration allows it.");
  }
  const rest = state.runs.length - SHOWN_AT_MOST;
  return [h("ul", { key: "runs", class: "runs" }, state.runs.slice(0, SHOWN_AT_MOST).map((run) => row(run, now))),
    rest > 0 && h("p", { key: "rest", class: "empty small" }, `${rest} older: `, h("code", {}, "forefend drill list"))];
}

function row(run, now) {
  const [name, sign] = look(run);
  const act = (what, label, quiet = true) => h("button", { type: "button", class: quiet ? "quiet" : null, "data-act": what, "data-cell": run.id,
    "aria-label": `${label}: ${run.experiment}` }, label);
  return h("li", { key: run.id, "data-run": run.id, "data-state": name },
    h("div", { class: "line" }, h("span", { class: "route" }, h("span", { class: "sign", "aria-hidden": "true" }, sign), h("b", {}, run.experiment),
      h("span", { class: "muted" }, run.service), run.cells.map((id) => h("span", { key: id, class: "tag" }, id))),
      h("span", { class: "small muted num" }, run.ended ? `${clock(run.began)}, ${dur((run.ended - run.began) / 1000)}` : `for ${dur(Math.max(0, now - run.began) / 1000)}`)),
    h("div", { class: "line" }, h("p", { class: "state" }, run.state),
      h("span", { class: "row" }, run.needs_approvals > 0 && act("approve-drill", "Approve", false), !run.ended && act("end-drill", "End"),
        run.ended && name !== "refused" && name !== "interrupted" && act("drill-report", "Report"))));
}
