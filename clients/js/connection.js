/** One WebSocket from its opening to its end: welcome, pings, silence, close. */

import { problem, problemOfClose, problemOfHandshake } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./types.d.ts").ClientMessage} ClientMessage
 */

const WELCOME_TIMEOUT_MS = 10_000;
const CHECK_TIMEOUT_MS = 3000;
const SILENT_PINGS = 3;
const LEAST_SILENCE_MS = 6000;
const RECENT_MS = 2000;
const CLOSE_GOING_AWAY = 4000; // an application's code: browsers may not send 1001
const KEY_PATTERN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/; // a token of RFC 9110, so of a subprotocol

export class Connection {
  /** Becomes the reason when the connection is over. @type {Promise<Problem>} */
  closed;
  /** @type {(problem: Problem) => void} */
  #end = () => {};
  #over = false;
  #welcomed = false;
  #stopTicking = () => {};
  /** @type {Map<string, number>} */
  #pings = new Map();
  #pingCount = 0;
  #lastReceived = 0;
  #receivedCount = 0;
  /** @type {{problem: Problem, at: number} | null} */
  #lastProblem = null;
  /** @type {WebSocket | null} */
  #socket = null;
  #timers = new Set();

  /**
   * @param {object} options
   * @param {string} options.url with its query
   * @param {string | null} options.apiKey
   * @param {import("./environment.js").Environment} options.environment
   * @param {(message: ServerMessage) => void} options.onMessage
   * @param {(roundTripMs: number) => void} options.onRoundTrip
   */
  constructor({ url, apiKey, environment, onMessage, onRoundTrip }) {
    this.environment = environment;
    this.onMessage = onMessage;
    this.onRoundTrip = onRoundTrip;
    this.closed = new Promise((resolve) => (this.#end = resolve));
    if (apiKey && !KEY_PATTERN.test(apiKey)) {
      const detail = "The API key holds characters that no key has.";
      this.#finish(problem("unauthorized", "Unauthorized", detail, { status: 401 }));
      return;
    }
    this.#open(url, apiKey);
  }

  #open(/** @type {string} */ url, /** @type {string | null} */ apiKey) {
    const socket = apiKey
      ? new this.environment.WebSocket(url, ["token", apiKey])
      : new this.environment.WebSocket(url);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => (opened = true);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = async ({ code, reason }) => {
      this.#stopClocks();
      if (opened) this.#finish(problemOfClose(code, reason, this.#recentProblem()));
      else this.#finish(await problemOfHandshake(url, apiKey, this.environment));
    };
    this.#later(WELCOME_TIMEOUT_MS, () => {
      if (!this.#welcomed) this.abort(lost("The server did not answer in time."));
    });
  }

  /** Sends a message; false when the socket is not open. @param {ClientMessage} message */
  send(message) {
    if (this.#over || this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Gives the connection up: nothing more is received. @param {Problem} reason */
  abort(reason) {
    this.#finish(reason);
  }

  /** Asks whether the other side is still there, for example after the computer slept. */
  check() {
    if (this.#over || !this.#welcomed) return;
    const before = this.#receivedCount;
    this.#ping();
    this.#later(CHECK_TIMEOUT_MS, () => {
      if (this.#receivedCount === before) this.abort(lost("The server does not answer any more."));
    });
  }

  #receive(/** @type {unknown} */ data) {
    if (this.#over) return;
    this.#lastReceived = this.environment.now();
    this.#receivedCount += 1;
    const message = parseMessage(data);
    if (!message) return;
    if (message.type === "welcome" && !this.#welcomed) {
      this.#welcomed = true;
      this.#startPinging((message.ping_interval_s ?? 2) * 1000);
    } else if (message.type === "pong") {
      const sent = this.#pings.get(message.id);
      this.#pings.delete(message.id);
      if (sent !== undefined) this.onRoundTrip(this.#lastReceived - sent);
    } else if (message.type === "error") {
      this.#lastProblem = { problem: message.problem, at: this.#lastReceived };
    }
    this.onMessage(message);
  }

  #startPinging(/** @type {number} */ intervalMs) {
    const silence = Math.max(LEAST_SILENCE_MS, SILENT_PINGS * intervalMs);
    this.#ping();
    this.#stopTicking = this.environment.tick(intervalMs, () => {
      if (this.environment.now() - this.#lastReceived > silence) {
        this.abort(lost("The server does not answer any more."));
      } else {
        this.#ping();
      }
    });
  }

  #ping() {
    const id = String((this.#pingCount += 1));
    this.#pings.set(id, this.environment.now());
    if (this.#pings.size > 10) this.#pings.delete(this.#pings.keys().next().value ?? "");
    this.send({ type: "ping", id });
  }

  #recentProblem() {
    const last = this.#lastProblem;
    return last && this.environment.now() - last.at < RECENT_MS ? last.problem : null;
  }

  #later(/** @type {number} */ ms, /** @type {() => void} */ action) {
    const timer = this.environment.setTimeout(() => {
      this.#timers.delete(timer);
      if (!this.#over) action();
    }, ms);
    this.#timers.add(timer);
  }

  #stopClocks() {
    this.#stopTicking();
    for (const timer of this.#timers) this.environment.clearTimeout(timer);
    this.#timers.clear();
  }

  #finish(/** @type {Problem} */ reason) {
    if (this.#over) return;
    this.#over = true;
    this.#stopClocks();
    const socket = this.#socket;
    if (socket) {
      socket.onmessage = socket.onclose = socket.onopen = null;
      if (socket.readyState <= 1) socket.close(CLOSE_GOING_AWAY, "gone");
    }
    this.#end(reason);
  }
}

/** @returns {ServerMessage | null} what is no JSON object with a type is passed over */
export function parseMessage(/** @type {unknown} */ data) {
  if (typeof data !== "string") return null;
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}

function lost(/** @type {string} */ detail) {
  return problem("connection_lost", "Connection lost", detail, { retryable: true });
}
