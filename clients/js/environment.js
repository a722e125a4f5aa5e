/**
 * What the client takes from the world around it, in one object, so that tests (and Node programs)
 * can give their own.
 *
 * @typedef {object} Environment
 * @property {typeof globalThis.WebSocket} WebSocket
 * @property {typeof globalThis.RTCPeerConnection} RTCPeerConnection
 * @property {typeof globalThis.fetch} fetch
 * @property {typeof globalThis.XMLHttpRequest | null} XMLHttpRequest tells how an upload gets on;
 *   null: there is none, as in Node
 * @property {Storage | null} storage remembers across reloads; null: nothing does
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now milliseconds, monotonic
 * @property {() => number} wallTime Unix seconds
 * @property {() => number} random in [0, 1)
 * @property {(intervalMs: number, callback: () => void) => () => void} tick calls back until the
 *   returned function is called
 * @property {(callback: () => void) => () => void} watchWake calls back when the network or the
 *   page returns, until the returned function is called
 */

/** @type {Environment["tick"]} */
function tick(intervalMs, callback) {
  const fallback = () => {
    const timer = setInterval(callback, intervalMs);
    return () => clearInterval(timer);
  };
  if (typeof Worker === "undefined") return fallback();
  let worker;
  try {
    worker = new Worker(new URL("./ticker.js", import.meta.url), { type: "module" });
  } catch {
    return fallback(); // the client was loaded from another origin
  }
  let stopFallback = () => {};
  worker.onmessage = () => callback();
  worker.onerror = () => {
    stopFallback();
    stopFallback = fallback();
  };
  worker.postMessage(intervalMs);
  return () => {
    worker.terminate();
    stopFallback();
  };
}

/** @type {Environment["watchWake"]} */
function watchWake(callback) {
  if (typeof window === "undefined") return () => {};
  const onVisible = () => {
    if (document.visibilityState === "visible") callback();
  };
  window.addEventListener("online", callback);
  document.addEventListener("visibilitychange", onVisible);
  return () => {
    window.removeEventListener("online", callback);
    document.removeEventListener("visibilitychange", onVisible);
  };
}

/** A page's localStorage, where it may have one. @returns {Storage | null} */
function pageStorage() {
  try {
    return typeof window === "undefined" ? null : window.localStorage;
  } catch {
    return null; // refused, in a private window for example
  }
}

/**
 * Returns the browser's (or Node's) own, with `changes` on top.
 * @param {Partial<Environment>} [changes]
 * @returns {Environment}
 */
export function standardEnvironment(changes = {}) {
  return {
    WebSocket: globalThis.WebSocket,
    RTCPeerConnection: globalThis.RTCPeerConnection,
    fetch: (input, init) => globalThis.fetch(input, init),
    XMLHttpRequest: globalThis.XMLHttpRequest ?? null,
    storage: pageStorage(),
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    now: () => performance.now(),
    wallTime: () => Date.now() / 1000,
    random: () => Math.random(),
    tick,
    watchWake,
    ...changes,
  };
}
