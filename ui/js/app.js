// The dashboard: takes ticks, draws them, hands commands over.
import { h, patch } from "./dom.js";
import { follow, get, onTokenNeeded, post, setToken } from "./api.js";
import { RISK, RISK_ORDER, capital, dur, looks } from "./format.js";
import { map } from "./map.js";
import { flow, synthetic } from "./flow.js";
import { detail } from "./detail.js";
import * as charts from "./charts.js";
import * as book from "./ledger.js";
import * as practice from "./drills.js";

const $ = (id) => document.getElementById(id);
const state = { view: null, link: "connecting", heardAt: 0, selected: null, chosen: false, full: null };

// --- drawing

function draw() {
  const { view, link } = state;
  const age = view ? (Date.now() - state.heardAt) / 1000 : null;
  // The stream may live while the engine's loop does not.
  const stuck = link === "live" && view && age > 10;
  document.body.dataset.link = stuck ? "stuck" : link;
  document.body.dataset.frozen = String(Boolean(view?.world.frozen));
  patch($("link"), linkWords(view, link, stuck));
  patch($("banners"), banners(view, link, age, stuck));
  if (!view) {
    patch($("headline"), h("p", { class: "muted" }, link === "lost" ? "The engine can't be reached." : "Waiting for the first tick …"));
    return;
  }
  const worst = worstOf(view);
  document.title = `${worst ? RISK[worst.risk].sign : ""} Forefend`.trim();
  const look = looks(view.summaries);
  patch($("headline"), headline(view));
  patch($("map"), map(view, state.selected));
  patch($("flow"), flow(view, look));
  patch($("synthetic"), synthetic(view));
  patch($("charts"), charts.charts(view, look));
  charts.drawCharts(view, look);
  patch($("drills"), practice.drills(view.world.now));
  patch($("ledger"), book.ledger());
  patch($("detail"), detail(view, state.selected, state.full));
  const plot = $("curve-plot");
  if (plot) charts.curve(plot, view.predictions[state.selected]);
  const button = $("freeze");
  button.disabled = link !== "live";
  button.textContent = view.world.frozen ? "End freeze" : "Freeze";
  button.setAttribute("aria-pressed", String(view.world.frozen));
}

function linkWords(view, link, stuck) {
  const [sign, word] = stuck ? ["▲", "Engine silent"] : { live: ["●", "Live"], lost: ["✕", "Connection lost"], connecting: ["○", "Connecting"] }[link];
  return [h("span", { class: "sign", "aria-hidden": "true" }, sign), h("span", {}, word), view && h("span", { class: "tick num", "aria-hidden": "true" }, `tick ${view.tick}`)];
}

function banners(view, link, age, stuck) {
  return [
    link === "lost" && h("div", { key: "lost", class: "banner lost" }, h("b", {}, "✕ Connection lost."),
      view ? ` What you see is ${dur(age)} old. The data plane keeps serving; trying again …` : " Trying again …"),
    stuck && h("div", { key: "stuck", class: "banner lost" }, h("b", {}, "▲ The engine is silent."), ` Its last tick arrived ${dur(age)} ago. The data plane keeps its last good state.`),
    view?.world.frozen && h("div", { key: "frozen", id: "frozen-banner", class: "banner frozen" }, h("b", {}, "❄ Frozen."),
      " No standby's weight grows, no cell is made or removed. Traffic that has moved stays where it is.",
      h("button", { type: "button", "data-act": "freeze" }, "End freeze")),
    view?.degraded.length > 0 && h("div", { key: "degraded", class: "banner degraded" }, h("b", {}, "▲ Degraded:"), ` ${view.degraded.join("; ")}`),
  ];
}

function headline(view) {
  const count = (risks) => view.summaries.filter((c) => risks.includes(c.risk)).length;
  const made = view.summaries.filter((c) => c.role === "synthetic");
  const ready = made.filter((c) => ["idle", "canary", "serving", "draining"].includes(c.life)).length;
  const figure = (n, label, risk) => h("div", { class: "stat", "data-risk": n ? risk : null }, h("b", { class: "num" }, n), h("span", {}, label));
  return [h("p", { class: "sentence" }, view.headline), h("div", { class: "stats" },
    figure(count(["danger", "failed"]), "at risk or failed", "danger"), figure(count(["watch"]), "watched", "watch"),
    figure(view.shifts.length, view.shifts.length === 1 ? "shift" : "shifts"), figure(`${ready}/${made.length}`, "synthetic ready"))];
}

/** Endangered cells first, then those whose traffic is away; parked ones last. */
function worstOf(view) {
  const away = new Set(view.shifts.map((s) => s.from));
  const rank = (c) => (c.parked ? RISK_ORDER.length : away.has(c.id) ? Math.min(RISK_ORDER.indexOf(c.risk), 2.5) : RISK_ORDER.indexOf(c.risk));
  return [...view.summaries].sort((a, b) => rank(a) - rank(b) || (b.probability ?? -1) - (a.probability ?? -1))[0];
}

/** Until somebody chooses, the cell that is worst off is shown; it changes only when another becomes endangered. */
function pick() {
  const cells = state.view.summaries;
  const current = cells.find((c) => c.id === state.selected);
  const worst = worstOf(state.view);
  const urgent = (c) => ["failed", "danger", "watch"].includes(c?.risk);
  if (!current || (!state.chosen && urgent(worst) && !urgent(current))) {
    state.selected = worst?.id ?? null;
    state.chosen = false;
  }
}

// --- what comes in

let fetching = false;
async function fetchFull() {
  const id = state.selected;
  if (!id || fetching) return;
  fetching = true;
  try {
    state.full = await get(`/api/v1/cells/${encodeURIComponent(id)}`);
  } catch { /* The next tick tries again; a lost connection is shown by the stream. */ }
  fetching = false;
  if (state.selected !== id) fetchFull();
  else draw();
}

const refreshBooks = () => Promise.all([book.refresh(), practice.refresh()]);

let fullAt = 0;
let bookAt = 0;
function onSnapshot(view) {
  state.view = view;
  state.heardAt = Date.now();
  pick();
  charts.add(view);
  draw();
  if (state.heardAt - fullAt > 900 || state.full?.id !== state.selected) { fullAt = state.heardAt; fetchFull(); }
  if (state.heardAt - bookAt > 2500) { bookAt = state.heardAt; refreshBooks().then(draw); }
}

async function onLink(link) {
  state.link = link;
  draw();
  if (link === "live") {
    // The past first: ticks are added after it.
    await charts.load(Date.now()).catch(() => {});
    await refreshBooks();
    draw();
  }
}

// --- what people do

function select(id) {
  state.selected = id;
  state.chosen = true;
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  draw();
  fetchFull();
  if (matchMedia("(max-width: 1099px)").matches) $("detail").scrollIntoView({ block: "start" });
}

let toastUntil;
function toast(text, bad = false) {
  const node = $("toast");
  node.textContent = text;
  node.dataset.bad = String(bad);
  node.dataset.shown = "true";
  clearTimeout(toastUntil);
  toastUntil = setTimeout(() => { node.dataset.shown = "false"; }, 7000);
}

async function command(path, body) {
  try {
    toast(capital((await post(path, body)).result));
    refreshBooks().then(draw);
  } catch (problem) {
    toast(`${problem.title ?? "It did not work"}: ${problem.message}${problem.remedy ? ` — ${problem.remedy}` : ""}`, true);
  }
}

/** Answers the question that is open. The dialog's own `close` event comes late, and may meet the next question. */
let answer = null;

/** Asks first; the promise tells whether to go on. */
function confirm(title, text, ok) {
  const dialog = $("confirm");
  $("confirm-h").textContent = title;
  $("confirm-p").textContent = text;
  $("confirm-ok").textContent = ok;
  answer?.(false);
  dialog.showModal();
  return new Promise((done) => {
    answer = (yes) => { answer = null; dialog.close(); done(yes); };
  });
}

const ACTS = {
  select: (id) => select(id),
  theme: () => theme(true),
  cancel: () => answer?.(false),
  older: () => book.older().then(draw, (problem) => toast(problem.message, true)),
  "ledger-group": (_, node) => { book.filter(node.dataset.group, null); draw(); },
  async freeze() {
    const frozen = state.view?.world.frozen;
    const sure = frozen
      ? await confirm("End the freeze?", "The engine goes on deciding: standbys may be made and get traffic again.", "End freeze")
      : await confirm("Freeze everything?", "No standby's weight grows, no cell is made or removed, until the freeze is ended. Traffic already moved stays where it is.", "Freeze");
    if (sure) await command(frozen ? "/api/v1/unfreeze" : "/api/v1/freeze");
  },
  async approve(id) {
    if (await confirm(`Approve the shift of ${id}?`, "Its traffic moves to a standby in steps, as the standby earns it.", "Approve")) await command(`/api/v1/cells/${id}/approve`);
  },
  async shift(id) {
    const share = Number($("shift-pct").value);
    if (!(share >= 0 && share <= 100)) { toast("Give a share from 0 to 100 %", true); return; }
    if (await confirm(`Move ${share}% of ${id} away?`, "That share of its home traffic goes to a standby and stays there until the shift is ended. The bounds of the policy still hold.", "Shift")) {
      await command(`/api/v1/cells/${id}/shift`, { weight_bp: Math.round(share * 100) });
    }
  },
  async "end-shift"(id) {
    if (await confirm(`End the shift of ${id}?`, "The traffic goes home at the policy's rate.", "End shift")) await command(`/api/v1/cells/${id}/end-shift`);
  },
  async "approve-drill"(id) {
    if (await confirm(`Approve ${id}?`, "When enough have approved, its readiness checks are made, and then it begins.", "Approve")) await command(`/api/v1/drills/${id}/approve`);
  },
  async "end-drill"(id) {
    if (await confirm(`End ${id} now?`, "Its faults are undone at once, and traffic that it moved goes home.", "End it")) await command(`/api/v1/drills/${id}/end`);
  },
  async "drill-report"(id) {
    try {
      $("report-h").textContent = `Report of ${id}`;
      $("report-text").textContent = await practice.report(id);
      $("report").showModal();
      $("report-text").scrollTop = 0;
    } catch (problem) {
      toast(`${problem.title ?? "There is no report"}: ${problem.message}`, true);
    }
  },
  "close-report": () => $("report").close(),
};

document.addEventListener("click", (event) => {
  const node = event.target.closest("[data-act]");
  if (node && !node.disabled) ACTS[node.dataset.act]?.(node.dataset.cell, node);
});
document.addEventListener("input", (event) => {
  if (event.target.dataset.input === "ledger-text") { book.filter(null, event.target.value); draw(); }
});
$("confirm").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  answer?.(true);
});
// By the keyboard.
$("confirm").addEventListener("close", (event) => { if (!event.target.open) answer?.(false); });

// --- signing in: many requests may find out at once that a token is needed; one dialog serves them all

let signingIn = null;
onTokenNeeded((wasGiven) => {
  signingIn ??= new Promise((done) => {
    const dialog = $("signin");
    $("signin-error").textContent = wasGiven ? "This token is not known here." : "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      setToken($("token").value.trim());
      $("token").value = "";
      dialog.close();
      signingIn = null;
      done();
    };
    dialog.showModal();
  });
  return signingIn;
});

// --- the theme: the system's, until somebody says otherwise

const THEMES = { auto: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
function theme(next) {
  const order = Object.keys(THEMES);
  let now = localStorage.getItem("forefend-theme") ?? "auto";
  if (!order.includes(now)) now = "auto";
  if (next) {
    now = order[(order.indexOf(now) + 1) % order.length];
    localStorage.setItem("forefend-theme", now);
  }
  if (now === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = now;
  const [sign, word] = THEMES[now];
  $("theme").textContent = sign;
  $("theme").setAttribute("aria-label", `Colour theme: ${word}. Change`);
  $("theme").title = `Colour theme: ${word}`;
  charts.redraw();
  if (state.view) draw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(false));

state.selected = decodeURIComponent(location.hash.slice(1)) || null;
state.chosen = Boolean(state.selected);
theme(false);
draw();
setInterval(draw, 1000);
follow(onSnapshot, onLink);
