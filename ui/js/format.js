// Numbers and words as people read them.

/** Seconds of a duration as the API writes it. */
export const secs = (d) => (d == null ? null : d.secs + d.nanos / 1e9);

/** A share of 1 as a percentage. */
export function pct(x) {
  if (x == null) return "–";
  const p = x * 100;
  if (p > 0 && p < 0.1) return "<0.1%";
  if (p > 99.9 && p < 100) return ">99.9%";
  return p < 10 && p % 1 !== 0 ? `${p.toFixed(1)}%` : `${p.toFixed(0)}%`;
}

/** Basis points as a percentage. */
export const bp = (x) => pct(x == null ? null : x / 10000);

/** Seconds with a unit that suits them. */
export function dur(s) {
  if (s == null) return "–";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${(s / 86400).toFixed(1)} d`;
}

/** The time of day; the date too when it is not today's. */
export function clock(ms) {
  const at = new Date(ms);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-GB")} ${time}`;
}

export const capital = (s) => (s ? s[0].toUpperCase() + s.slice(1) : s);

/** Every state has a sign and a word besides its colour. */
export const RISK = {
  calm: { sign: "✓", word: "Calm" },
  watch: { sign: "◆", word: "Watched" },
  danger: { sign: "▲", word: "At risk" },
  failed: { sign: "✕", word: "Failed" },
  unknown: { sign: "?", word: "Unknown" },
};
export const RISK_ORDER = ["failed", "danger", "watch", "unknown", "calm"];

/** Colours that colour-blind people tell apart (Okabe and Ito), with dashes and hatching for the second sight. */
const PALETTE = ["#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8c6d1f", "#7a7fd1"];
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2], [12, 4], [6, 2, 2, 2]];

/** The look of each cell, stable as long as the set of cells is: `{id: {color, dash, hatched}}`. */
export function looks(cells) {
  const out = {};
  const real = cells.filter((c) => c.role !== "synthetic");
  const made = cells.filter((c) => c.role === "synthetic");
  [...real, ...made].forEach((c, i) => {
    out[c.id] = { color: PALETTE[i % PALETTE.length], dash: DASHES[i % DASHES.length], hatched: c.role === "synthetic" };
  });
  return out;
}

const effects = {
  "set-weights": (e) => `set the weights of ${e.service}`,
  create: (e) => `make ${e.cell.id} in ${e.cell.region}/${e.cell.zone} from ${e.blueprint}`,
  recreate: (e) => `make ${e.cell} again`,
  park: (e) => `freeze ${e.cell} to save cost`,
  unpark: (e) => `thaw ${e.cell}`,
  rewarm: (e) => `warm ${e.cell} again`,
  retire: (e) => `retire ${e.cell}`,
  "ask-approval": (e) => `ask for approval to shift ${e.cell}`,
};
export const effectWords = (e) => (effects[e.effect] ?? (() => e.effect))(e);

const REASONS = {
  predicted: "a failure is foreseen", failed: "the cell has failed", relief: "the cell is overloaded",
  operator: "an operator asked", drill: "a drill asked",
};
export const reasonWords = (r) => REASONS[r] ?? r;

const VERDICTS = {
  saved: "saved: the cell failed after its traffic had gone",
  "false-alarm": "false alarm: the cell stayed well",
  neutral: "neutral",
  unknown: "unknown: taking the traffic away may have saved the cell",
};

const SENTENCES = {
  engine: (e) => `Engine ${e.what}.`,
  decision: (e) => {
    const what = e.effects.map(effectWords);
    const why = e.explanations.map((x) => `${x.cell}: ${x.why}`);
    if (!what.length) return `${capital(why.join("; ") || "nothing to do")}.`;
    return `Decided to ${what.join(", ")}${why.length ? ` — ${why.join("; ")}` : ""}.`;
  },
  refused: (e) => `Could not ${effectWords(e.effect)}: ${e.why}.`,
  "shift-began": (e) => `Shift of ${e.cell} began: ${reasonWords(e.reason)}.`,
  "shift-done": (e) => `All traffic of ${e.cell} is away, ${dur(e.took_s)} after the decision.`,
  returned: (e) => `All traffic of ${e.cell} is home again.`,
  failure: (e) => e.lead_time_s > 0
    ? `${e.cell} failed, ${dur(e.lead_time_s)} after the last of its traffic had gone.`
    : `${e.cell} failed before its traffic was away.`,
  rejected: (e) => `${e.cell} answered ${e.evidence.bad} of ${e.evidence.requests} requests of ${e.from} badly.`,
  judged: (e) => `The shift of ${e.cell} (entry ${e.shift}) was judged ${VERDICTS[e.verdict] ?? e.verdict}.`,
  operator: (e) => `${capital(e.who)} asked: ${e.what}.`,
  "invariant-broken": (e) => `Invariant ${e.invariant} did not hold, the plan was dropped: ${e.detail}.`,
};

/** An entry of the ledger as a sentence. */
export const sentence = (e) => (SENTENCES[e.kind] ?? (() => e.kind))(e);

/** Groups of entries for the filter; `[name, label, kinds, sign]`. */
export const GROUPS = [
  ["shifts", "Shifts", ["shift-began", "shift-done", "returned"], "⇄"],
  ["failures", "Failures", ["failure", "rejected", "refused", "invariant-broken"], "✕"],
  ["verdicts", "Verdicts", ["judged"], "⚖"],
  ["decisions", "Decisions", ["decision"], "→"],
  ["operators", "Operators", ["operator"], "☝"],
  ["engine", "Engine", ["engine"], "⚙"],
];
export const groupOf = (kind) => GROUPS.find(([, , kinds]) => kinds.includes(kind)) ?? GROUPS[3];
