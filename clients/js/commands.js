/** Commands that await their `ack`, `error`, `watch.answer` or `video.source`, by id. */

import { ProblemError, TIMED_OUT } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 */

const ANSWER_TIMEOUT_MS = 10_000;

export class Commands {
  /** @type {Map<string, {resolve: (ack: any) => void, reject: (error: Error) => void, timer: any}>} */
  #waiting = new Map();
  #count = 0;

  /** @param {import("./environment.js").Environment} environment */
  constructor(environment) {
    this.environment = environment;
  }

  /** Makes an id that no other client uses. */
  newId() {
    this.#count += 1;
    return `c${this.#count}-${Math.floor(this.environment.random() * 1e9)}`;
  }

  /**
   * Resolves with the `ack` (or `watch.answer`, `video.source`) of the command `id`. Rejects with
   * ProblemError: refused, no answer, or the connection is lost (then it may have been done all the same).
   * @param {string} id
   * @returns {Promise<any>}
   */
  answer(id) {
    return new Promise((resolve, reject) => {
      const timer = this.environment.setTimeout(() => {
        this.#waiting.delete(id);
        reject(new ProblemError(TIMED_OUT));
      }, ANSWER_TIMEOUT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
    });
  }

  /** Takes an answer; false if nobody waits for it. @param {ServerMessage} message */
  take(message) {
    if (message.type === "ack") return this.#settle(message.id, ({ resolve }) => resolve(message));
    if (message.type === "video.source") {
      return this.#settle(message.id ?? "", ({ resolve }) => resolve(message));
    }
    if (message.type === "watch.answer") {
      return this.#settle(message.in_reply_to ?? "", ({ resolve }) => resolve(message));
    }
    if (message.type !== "error" || !message.in_reply_to) return false;
    const error = new ProblemError(message.problem);
    return this.#settle(message.in_reply_to, ({ reject }) => reject(error));
  }

  /** The connection is lost: no answer will come. @param {Problem} reason */
  fail(reason) {
    for (const id of [...this.#waiting.keys()]) {
      this.#settle(id, ({ reject }) => reject(new ProblemError(reason)));
    }
  }

  /**
   * @param {string} id
   * @param {(waiter: {resolve: (ack: any) => void, reject: (error: Error) => void}) => void} action
   */
  #settle(id, action) {
    const waiter = this.#waiting.get(id);
    if (!waiter) return false;
    this.#waiting.delete(id);
    this.environment.clearTimeout(waiter.timer);
    action(waiter);
    return true;
  }
}
