// The ledger: a filterable list of sentences.
import { h } from "./dom.js";
import { GROUPS, clock, groupOf, sentence } from "./format.js";
import { get } from "./api.js";

const SHOWN_AT_MOST = 300;
const state = { entries: [], group: "all", text: "", more: null, error: null, loaded: false };

/** Adds what is new; the newest page is enough, unless the page was away for long. */
export async function refresh() {
  try {
    const { entries, next_before } = await get("/api/v1/ledger?limit=100");
    const newest = state.entries[0]?.seq ?? 0;
    const fresh = entries.filter((e) => e.seq > newest);
    // A gap (or an engine that began anew): what is held no longer joins on.
    if (!state.loaded || fresh.length === entries.length || (entries[0]?.seq ?? 0) < newest) {
      state.entries = entries;
      state.more = next_before ?? null;
    } else {
      state.entries.unshift(...fresh);
    }
    state.loaded = true;
    state.error = null;
  } catch (problem) {
    state.error = problem.message;
  }
}

export async function older() {
  const { entries, next_before } = await get(`/api/v1/ledger?limit=100&before=${state.more}`);
  state.entries.push(...entries);
  state.more = next_before ?? null;
}

export function filter(group, text) {
  if (group != null) state.group = group;
  if (text != null) state.text = text.toLowerCase();
}

export function ledger() {
  const of = (e) => state.group === "all" || groupOf(e.kind)[0] === state.group;
  const found = state.entries.map((e) => [e, sentence(e)]).filter(([e, words]) => of(e) && words.toLowerCase().includes(state.text));
  const chip = (name, label) => h("button", { key: name, type: "button", class: "chip", "data-act": "ledger-group", "data-group": name,
    "aria-pressed": String(state.group === name) }, label);
  return [
    h("div", { key: "tools", class: "tools" }, h("div", { class: "chips", role: "group", "aria-label": "Show" }, chip("all", "All"), GROUPS.map(([name, label]) => chip(name, label))),
      h("input", { type: "search", placeholder: "Filter by word or cell", "aria-label": "Filter the ledger", "data-input": "ledger-text" })),
    state.error && h("p", { key: "error", class: "problem" }, `The ledger can't be read: ${state.error}`),
    found.length
      ? h("ol", { key: "list", class: "entries" }, found.slice(0, SHOWN_AT_MOST).map(([e, words]) => {
        const [name, label, , sign] = groupOf(e.kind);
        return h("li", { key: `e${e.seq}`, "data-group": name, "data-verdict": e.verdict ?? null },
          h("span", { class: "seq num" }, `#${e.seq}`), h("time", { class: "num", datetime: new Date(e.at).toISOString() }, clock(e.at)),
          h("span", { class: "kind", title: label }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "kind-word" }, label)), h("span", { class: "words" }, words));
      }))
      : h("p", { key: "none", class: "empty" }, state.entries.length ? "No entry fits the filter." : "Nothing has been decided yet."),
    state.more && h("button", { key: "older", type: "button", class: "quiet", "data-act": "older" }, "Load older entries"),
  ];
}
