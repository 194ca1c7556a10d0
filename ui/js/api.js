// Talks to the engine. The token goes in a header, which `EventSource` can't send: so the events are read by hand.

const KEY = "forefend-token";
let needToken = () => Promise.reject(new Error("no sign-in"));

/** `ask` is called when a token is needed; its promise ends when there is one. */
export function onTokenNeeded(ask) { needToken = ask; }

export function setToken(token) { sessionStorage.setItem(KEY, token); }

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, authorization: `Bearer ${token}` } : { ...more };
}

/** An error as the API tells it, or a network error: `{title, detail, remedy}`. */
export class Problem extends Error {
  constructor(p) { super(p.detail ?? p.title); Object.assign(this, p); }
}

async function ask(path, options = {}, timeout = 20000) {
  for (;;) {
    const given = headers(options.headers);
    const stop = timeout ? AbortSignal.timeout(timeout) : options.signal;
    const response = await fetch(path, { ...options, headers: given, signal: stop, cache: "no-store" });
    if (response.ok) return response;
    const problem = new Problem(await response.json().catch(() => ({ title: `HTTP ${response.status}` })));
    if (response.status !== 401) throw problem;
    await needToken("authorization" in given);
  }
}

export const get = async (path) => (await ask(path)).json();

export const post = async (path, body = {}) =>
  (await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();

/** Nothing, not even a heartbeat (every 5 s), for this long: the connection is dead. */
const SILENCE_MS = 12000;

/** Calls `onSnapshot` for each tick and `onLink("live" | "lost")`; reconnects for ever, ever slower up to 5 s. */
export async function follow(onSnapshot, onLink) {
  for (let wait = 500; ; wait = Math.min(wait * 1.7, 5000)) {
    const stop = new AbortController();
    let silence;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
    };
    try {
      alive();
      const response = await ask("/api/v1/events", { signal: stop.signal }, 0);
      onLink("live");
      wait = 500;
      await read(response.body.getReader(), alive, onSnapshot);
    } catch { /* The network or the engine is gone; said by onLink. */ }
    clearTimeout(silence);
    onLink("lost");
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(reader, alive, onSnapshot) {
  const text = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const frames = (rest + text.decode(value, { stream: true })).split("\n\n");
    rest = frames.pop();
    // Only the newest counts: a slow page skips ticks.
    const last = frames.findLast((f) => f.startsWith("event: snapshot"));
    const data = last?.split("\n").find((line) => line.startsWith("data: "));
    if (data) onSnapshot(JSON.parse(data.slice(6)));
  }
}
