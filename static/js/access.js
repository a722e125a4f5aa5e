/** What whoever sits here may do on this server; asked once, and anew after signing in. */

import { ProblemError } from "../../clients/js/index.js";

export class Access {
  #api;
  #asked = null;

  /**
   * @param {import("../../clients/js/index.js").RoomsApi} api
   * @param {import("./sign-in.js").SignIn} signIn
   */
  constructor(api, signIn) {
    this.#api = api;
    signIn.onSignedIn(() => (this.#asked = null));
  }

  /** Scopes; none for guests, and where nobody has signed in who has to. @returns {Promise<Set<string>>} */
  scopes() {
    if (this.#api.token) return Promise.resolve(new Set());
    this.#asked ??= this.#ask();
    return this.#asked;
  }

  async #ask() {
    try {
      const { scopes } = await this.#api.request("GET", "api/v1/auth/me");
      return new Set(scopes);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.#asked = null;
      return new Set();
    }
  }
}
