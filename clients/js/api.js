/** The server's HTTP routes for rooms, invitations and tickets. */

import { standardEnvironment } from "./environment.js";
import { ProblemError, problemOfResponse, UNREACHABLE } from "./problems.js";

const TIMEOUT_MS = 15_000;

/**
 * Sends a request; resolves with an answer that is no refusal.
 * @param {import("./environment.js").Environment} environment
 * @param {URL} url
 * @param {{method?: string, body?: unknown, headers?: Record<string, string>}} [options] body:
 *   sent as JSON
 * @returns {Promise<Response>}
 */
export async function fetchAnswer(environment, url, { method = "GET", body, headers = {} } = {}) {
  /** @type {Record<string, string>} */
  const sent = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await environment.fetch(url.href, {
      method,
      headers: { ...sent, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ProblemError(UNREACHABLE);
  }
  const found = await problemOfResponse(response);
  if (found) throw new ProblemError(found);
  return response;
}

/**
 * Sends a request and returns the answer's JSON (null where there is none).
 * @param {import("./environment.js").Environment} environment
 * @param {URL} url
 * @param {{method?: string, body?: unknown, headers?: Record<string, string>}} [options]
 */
export async function fetchJson(environment, url, options) {
  return jsonOf(await fetchAnswer(environment, url, options));
}

function jsonOf(/** @type {Response} */ response) {
  return response.status === 204 ? null : response.json();
}

/** Where the server's routes begin, for any of its addresses. @param {string | URL} url */
export function baseOf(url) {
  const page = typeof document === "undefined" ? undefined : document.baseURI;
  const base = new URL(url, page);
  base.protocol = base.protocol.replace(/^ws/, "http");
  base.search = base.hash = "";
  return new URL(".", base);
}

export class RoomsApi {
  /**
   * @param {string | URL} url of the server (or of its `/ws`)
   * @param {import("./index.d.ts").ApiOptions} [options]
   */
  constructor(url, { account = null, apiKey = null, environment } = {}) {
    this.base = baseOf(url);
    this.account = account;
    this.apiKey = apiKey;
    /** A guest's room token. @type {string | null} */
    this.token = null;
    this.environment = standardEnvironment(environment);
  }

  /** @returns {Promise<import("./types.d.ts").RoomInfo[]>} */
  async list() {
    return (await this.request("GET", "api/v1/rooms")).rooms;
  }

  /** @param {string} room @returns {Promise<import("./types.d.ts").RoomInfo>} */
  get(room) {
    return this.request("GET", pathOf(room));
  }

  /** @param {object} [settings] @returns {Promise<import("./types.d.ts").RoomInfo>} */
  create(settings = {}) {
    return this.request("POST", "api/v1/rooms", settings);
  }

  /** @param {string} room @param {object} settings */
  change(room, settings) {
    return this.request("PATCH", pathOf(room), settings);
  }

  /** @param {string} room */
  close(room) {
    return this.request("DELETE", pathOf(room));
  }

  /** @param {string} room @param {object} [invitation] role, expires_in_s, max_uses */
  invite(room, invitation = {}) {
    return this.request("POST", `${pathOf(room)}/invitations`, invitation);
  }

  /** @param {string} room */
  async invitations(room) {
    return (await this.request("GET", `${pathOf(room)}/invitations`)).invitations;
  }

  /**
   * Whoever came by it is sent away, unless `keepGuests`.
   * @param {string} room
   * @param {string} id
   * @param {{keepGuests?: boolean}} [options]
   */
  uninvite(room, id, { keepGuests = false } = {}) {
    const query = keepGuests ? "?keep_guests=true" : "";
    return this.request("DELETE", `${pathOf(room)}/invitations/${encodeURIComponent(id)}${query}`);
  }

  /** Guests' tokens that are good, for hosts and co-hosts. @param {string} room */
  async tokens(room) {
    return (await this.request("GET", `${pathOf(room)}/tokens`)).tokens;
  }

  /** Its holder is sent away. @param {string} room @param {string} id */
  revokeToken(room, id) {
    return this.request("DELETE", `${pathOf(room)}/tokens/${encodeURIComponent(id)}`);
  }

  /** A guest's later token, used from then on. @param {string} room */
  async renew(room) {
    const renewed = await this.request("POST", `${pathOf(room)}/tokens/renew`);
    this.token = renewed.token;
    return renewed;
  }

  /** @param {string} room @param {{before?: string, limit?: number}} [page] */
  chat(room, { before, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit: String(limit), ...(before ? { before } : {}) });
    return this.request("GET", `${pathOf(room)}/chat?${query}`);
  }

  /**
   * Asks for a ticket. A guest's room token is kept and used from then on.
   * @param {string} room
   * @param {{name?: string, invitation?: string | null}} [options]
   */
  async join(room, { name = "", invitation = null } = {}) {
    const ask = () => {
      const invited = invitation && !this.token ? { invitation } : {};
      return this.request("POST", `${pathOf(room)}/join`, { name, ...invited });
    };
    let ticket;
    try {
      ticket = await ask();
    } catch (error) {
      if (!(error instanceof ProblemError && error.problem.status === 401 && this.token)) throw error;
      this.token = null; // the guest's token has expired: the invitation may still be good
      ticket = await ask();
    }
    if (ticket.token) this.token = ticket.token;
    return ticket;
  }

  /** @param {string} method @param {string} path @param {unknown} [body] @returns {Promise<any>} */
  async request(method, path, body) {
    return jsonOf(await this.ask(method, path, { body }));
  }

  /**
   * Sends a request as whoever one is; resolves with the answer itself.
   * @param {string} method
   * @param {string} path
   * @param {{body?: unknown, headers?: Record<string, string>}} [options]
   */
  async ask(method, path, { body, headers = {} } = {}) {
    const ask = async () =>
      fetchAnswer(this.environment, new URL(path, this.base), {
        method,
        body,
        headers: { ...headers, ...(await this.headers()) },
      });
    try {
      return await ask();
    } catch (error) {
      const refused = error instanceof ProblemError && error.problem.status === 401;
      if (!refused || this.token || !this.account?.signedIn) throw error;
      await this.account.refresh(); // the server's keys or our clock may have changed
      return ask();
    }
  }

  /** @returns {Promise<Record<string, string>>} */
  async headers() {
    if (this.token) return { Authorization: `Bearer ${this.token}` };
    const token = await this.account?.token();
    if (token) return { Authorization: `Bearer ${token}` };
    return this.apiKey ? { "X-API-Key": this.apiKey } : {};
  }
}

function pathOf(/** @type {string} */ room) {
  return `api/v1/rooms/${encodeURIComponent(room)}`;
}
