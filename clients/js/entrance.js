/** The way into a room, and back to one's place in it: which address the WebSocket is opened at. */

import { RoomsApi } from "./api.js";

/**
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./index.d.ts").Place} Place
 */

export class Entrance {
  /** Where one is in the room; null before the first welcome. @type {Place | null} */
  place;
  #api;

  /**
   * @param {string} url of `/ws`
   * @param {import("./api.js").RoomsApi | null} api asks for tickets; null: the room is entered by
   *   its name
   * @param {Place | null} place from an earlier visit
   */
  constructor(url, api, place) {
    this.url = url;
    this.#api = api;
    this.place = place;
  }

  /** Whether a ticket has to be asked for. */
  get byTicket() {
    return this.#api !== null;
  }

  /** @param {string | null} room @param {string} name */
  byName(room, name) {
    const url = new URL(this.url);
    if (room) url.searchParams.set("room", room);
    if (name) url.searchParams.set("name", name);
    return this.#back(url, room);
  }

  /**
   * Rejects with ProblemError.
   * @param {string} room
   * @param {string} name
   * @param {string | null} invitation
   */
  async withTicket(room, name, invitation) {
    const api = /** @type {import("./api.js").RoomsApi} */ (this.#api);
    const { ticket } = await api.join(room, { name, invitation });
    const url = new URL(this.url);
    url.searchParams.set("ticket", ticket);
    url.searchParams.set("refuse", "close"); // why not, where a page can read it
    return this.#back(url, room);
  }

  /** Notes how far the room's log has been seen. @param {ServerMessage} message */
  see(message) {
    if (message.type === "welcome") {
      const { room, member_id, resume_secret, log_id } = message;
      if (!resume_secret) return;
      // What is missed still has to come; the snapshot or the missed events tell how far we are.
      const known = this.place?.logId === log_id ? this.place.seq : null;
      const at = this.place?.memberId === member_id ? known : null;
      this.place = { room, memberId: member_id, secret: resume_secret, logId: log_id, seq: at };
    } else if (this.place) {
      if (message.type === "room.snapshot") {
        this.place = { ...this.place, logId: message.log_id, seq: message.seq };
      } else if ("seq" in message && typeof message.seq === "number") {
        if (message.type === "ack" || message.type === "room.resumed") return;
        if (message.seq > (this.place.seq ?? -1)) this.place = { ...this.place, seq: message.seq };
      }
    }
  }

  #back(/** @type {URL} */ url, /** @type {string | null} */ room) {
    const { place } = this;
    if (!place || (room && place.room !== room)) return url.href;
    if (place.logId && place.seq !== null) {
      url.searchParams.set("resume", `${place.logId}:${place.seq}`);
    }
    url.searchParams.set("member", place.memberId);
    url.searchParams.set("secret", place.secret);
    return url.href;
  }
}

/** The address of `/ws` as ws: or wss:. */
export function webSocketUrl(/** @type {string | URL} */ url) {
  const base = typeof document === "undefined" ? undefined : document.baseURI;
  return new URL(url, base).href.replace(/^http/, "ws");
}

/** Whether these options are for entering with a ticket. */
export function asksForTickets(/** @type {import("./index.d.ts").SessionOptions} */ options) {
  return Boolean(options.api ?? options.tickets ?? options.account ?? options.invitation);
}

/** What tickets are asked of. */
export function apiOf(
  /** @type {string} */ url,
  /** @type {import("./index.d.ts").SessionOptions} */ options,
) {
  const { account, apiKey, environment } = options;
  return options.api ?? new RoomsApi(url, { account, apiKey, environment });
}
