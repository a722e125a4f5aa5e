/** Waiting, with an end: for a session's event, or for time to pass. */

import { NOT_CONNECTED, ProblemError, TIMED_OUT } from "./problems.js";

/**
 * Resolves with the session's next event of `type`. Rejects with ProblemError when it does not
 * come in time, or when the connection changes first.
 * @param {import("./session.js").MediaSession} session
 * @param {string} type
 * @param {number} timeoutMs
 */
export function nextEvent(session, type, timeoutMs) {
  const { environment } = session;
  return new Promise((resolve, reject) => {
    const offs = [
      session.on(type, (event) => settle(() => resolve(event))),
      session.on("state", () => settle(() => reject(new ProblemError(NOT_CONNECTED)))),
    ];
    const timer = environment.setTimeout(
      () => settle(() => reject(new ProblemError(TIMED_OUT))),
      timeoutMs,
    );
    const settle = (/** @type {() => void} */ action) => {
      environment.clearTimeout(timer);
      for (const off of offs) off();
      action();
    };
  });
}

/**
 * Resolves with `promise`, or after `ms` if that takes longer.
 * @param {import("./environment.js").Environment} environment
 * @param {Promise<unknown>} promise
 * @param {number} ms
 * @returns {Promise<void>}
 */
export function within(environment, promise, ms) {
  return new Promise((resolve) => {
    const timer = environment.setTimeout(resolve, ms);
    promise.then(() => {
      environment.clearTimeout(timer);
      resolve();
    });
  });
}

/** A sleep that can be ended early. */
export class Sleep {
  #wake = () => {};

  /** @param {import("./environment.js").Environment} environment */
  constructor(environment) {
    this.environment = environment;
  }

  /** Resolves after `ms`, or at `wake`. @returns {Promise<void>} */
  for(/** @type {number} */ ms) {
    return new Promise((resolve) => {
      const timer = this.environment.setTimeout(resolve, ms);
      this.#wake = () => {
        this.environment.clearTimeout(timer);
        resolve();
      };
    });
  }

  wake() {
    this.#wake();
  }
}
