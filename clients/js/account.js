/** Signing in: the access token stays in memory, the refresh token in an HttpOnly cookie. */

import { baseOf, fetchJson } from "./api.js";
import { Emitter } from "./emitter.js";
import { standardEnvironment } from "./environment.js";
import { ProblemError } from "./problems.js";

/** Renewed so long before it expires. */
const EARLY_S = 60;
const RETRY_S = 10;
const LOCK = "mediaserver-refresh";

export class Account extends Emitter {
  /** @type {{token: string, expiresAtMs: number, mustChangePassword: boolean} | null} */
  #access = null;
  /** @type {Promise<boolean> | null} */
  #refreshing = null;
  /** @type {any} */
  #timer = null;

  /**
   * @param {string | URL} url of the server (or of its `/ws`)
   * @param {{environment?: Partial<import("./environment.js").Environment>}} [options]
   */
  constructor(url, { environment } = {}) {
    super();
    this.base = baseOf(url);
    this.environment = standardEnvironment(environment);
  }

  get signedIn() {
    return this.#access !== null;
  }

  /** Until then the account is good for changing the password only. */
  get mustChangePassword() {
    return this.#access?.mustChangePassword ?? false;
  }

  /** Rejects with ProblemError. @param {string} name @param {string} password */
  async login(name, password) {
    this.#take(await this.#post("login", { name, password, cookie: true }));
  }

  /** Signs in by the cookie of an earlier visit; false where there is none that is good. */
  async resume() {
    try {
      return await this.refresh();
    } catch (error) {
      if (error instanceof ProblemError && [401, 403].includes(error.problem.status)) return false;
      throw error;
    }
  }

  /** Gets a new access token; all who ask meanwhile share it. Rejects with ProblemError. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /** The access token, renewed when it is about to expire; null when nobody is signed in. */
  async token() {
    if (!this.#access) return null;
    const leftMs = this.#access.expiresAtMs - this.environment.now();
    if (leftMs < 5000 && !this.mustChangePassword) await this.refresh();
    return this.#access?.token ?? null;
  }

  /** @param {string} current @param {string} next */
  async changePassword(current, next) {
    this.#take(await this.#post("password", { current, new: next, cookie: true }, true));
  }

  /** Who one is. @returns {Promise<import("./index.d.ts").Principal>} */
  async me() {
    return fetchJson(this.environment, new URL("api/v1/auth/me", this.base), {
      headers: await this.#headers(),
    });
  }

  /** Ends this session, or all of one's sessions. @param {{everywhere?: boolean}} [options] */
  async logout({ everywhere = false } = {}) {
    try {
      await this.#post(everywhere ? "logout-all" : "logout", undefined, true);
    } finally {
      this.#drop();
    }
  }

  /** Stops renewing; the session on the server stays. */
  close() {
    this.environment.clearTimeout(this.#timer);
  }

  async #refresh() {
    const ask = () => this.#post("refresh", {});
    try {
      // Tabs share the cookie; one at a time, so that each one spends the newest token.
      const locks = globalThis.navigator?.locks;
      this.#take(await (locks ? locks.request(LOCK, ask) : ask()));
      return true;
    } catch (error) {
      if (error instanceof ProblemError && error.problem.status === 401) this.#drop();
      throw error;
    }
  }

  /** @param {import("./index.d.ts").TokenAnswer} answer */
  #take({ access_token, expires_in_s, must_change_password }) {
    this.#access = {
      token: access_token,
      expiresAtMs: this.environment.now() + expires_in_s * 1000,
      mustChangePassword: must_change_password ?? false,
    };
    if (!this.mustChangePassword) this.#renewIn(Math.max(expires_in_s - EARLY_S, RETRY_S));
    this.emit("change", { signedIn: true });
    this.emit("token", access_token);
  }

  #renewIn(/** @type {number} */ seconds) {
    this.environment.clearTimeout(this.#timer);
    this.#timer = this.environment.setTimeout(() => {
      this.refresh().catch(() => {
        if (this.#access) this.#renewIn(RETRY_S);
      });
    }, seconds * 1000);
  }

  #drop() {
    this.environment.clearTimeout(this.#timer);
    if (!this.#access) return;
    this.#access = null;
    this.emit("change", { signedIn: false });
  }

  async #headers() {
    /** @type {Record<string, string>} */
    const headers = this.#access ? { Authorization: `Bearer ${this.#access.token}` } : {};
    return headers;
  }

  /** @param {string} what @param {unknown} [body] @param {boolean} [asOneself] */
  async #post(what, body, asOneself = false) {
    return fetchJson(this.environment, new URL(`api/v1/auth/${what}`, this.base), {
      method: "POST",
      body,
      headers: asOneself ? await this.#headers() : {},
    });
  }
}
