/** Keeps a guest's room token fresh for as long as its session goes on. */

import { ProblemError } from "./problems.js";

/** Renewed so long before it expires, or when half of a shorter life is over. */
const EARLY_S = 3600;
const RETRY_S = 30;

/**
 * @param {import("./session.js").MediaSession} session
 * @param {import("./api.js").RoomsApi} api has the token
 * @param {import("./environment.js").Environment} environment
 */
export function renewGuestToken(session, api, environment) {
  /** @type {any} */
  let timer = null;

  const renewIn = (/** @type {string} */ room, /** @type {number} */ seconds) => {
    timer = environment.setTimeout(() => void renew(room), Math.max(seconds, 1) * 1000);
  };
  const expires = (/** @type {string} */ room, /** @type {number} */ at) => {
    const left = at - environment.wallTime();
    renewIn(room, left > 2 * EARLY_S ? left - EARLY_S : left / 2);
  };
  const renew = async (/** @type {string} */ room) => {
    const waited = timer;
    try {
      const { token, expires_at } = await api.renew(room);
      if (timer !== waited) return; // the session has ended meanwhile; the next one has it
      session.tell({ type: "auth", token });
      session.emit("token", token);
      expires(room, expires_at);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      // the invitation is over: the token is good for as long as it was
      if (timer === waited && error.problem.retryable) renewIn(room, RETRY_S);
    }
  };

  session.on("state", ({ state }) => {
    if (state === "open" || timer === null) return;
    environment.clearTimeout(timer);
    timer = null;
  });
  session.on("welcome", ({ room, expires_at }) => {
    if (api.token && expires_at) expires(room, expires_at);
  });
}
