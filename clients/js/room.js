/** A room as a member sees it: its state, events for each change, and commands. */

import { baseOf } from "./api.js";
import { Emitter } from "./emitter.js";
import { RoomState } from "./room-state.js";
import { MediaSession } from "./session.js";

const TYPING_EVERY_MS = 3000;
const FORGOTTEN_MS = 6000;

export class Room extends Emitter {
  state = new RoomState();
  /** Who is writing now. @type {Map<string, any>} */
  #typing = new Map();
  #toldTypingAt = -Infinity;

  /** @param {MediaSession} session not connected yet, so that nothing is missed */
  constructor(session) {
    super();
    this.session = session;
    session.on("message", (message) => {
      for (const [type, event] of this.state.apply(message)) this.#changed(type, event);
    });
  }

  /**
   * Joins a room and resolves when the server has welcomed us.
   * @param {string | URL} url of `/ws`
   * @param {import("./index.d.ts").SessionOptions} options
   */
  static async join(url, options) {
    const room = new Room(new MediaSession(url, { tickets: true, ...options }));
    await room.session.connect();
    return room;
  }

  /** Member ids of who is writing, without oneself. */
  get typing() {
    return [...this.#typing.keys()];
  }

  // ---- chat ------------------------------------------------------------------------------------

  /**
   * Says something; resolves when it is kept. With the same `id` it may be sent again.
   * @param {string} text
   * @param {{replyTo?: string | null, mentions?: string[], id?: string}} [options]
   */
  say(text, { replyTo = null, mentions = [], id } = {}) {
    this.#toldTypingAt = -Infinity;
    const message = { type: "chat.send", text, reply_to: replyTo, mentions };
    return this.session.request(id ? { ...message, id } : message);
  }

  /** @param {string} messageId @param {string} text */
  edit(messageId, text) {
    return this.session.request({ type: "chat.edit", message_id: messageId, text });
  }

  /** @param {string} messageId */
  delete(messageId) {
    return this.session.request({ type: "chat.delete", message_id: messageId });
  }

  /** @param {string} messageId @param {string} emoji @param {boolean} [on] */
  reactTo(messageId, emoji, on = true) {
    return this.session.request({ type: "chat.react", message_id: messageId, emoji, on });
  }

  /** Tells that one is writing (at every key: it is not sent more often than needed). */
  isTyping(typing = true) {
    const now = this.session.environment.now();
    if (typing && now - this.#toldTypingAt < TYPING_EVERY_MS) return;
    if (!typing && this.#toldTypingAt === -Infinity) return;
    this.#toldTypingAt = typing ? now : -Infinity;
    this.#tell({ type: "typing", typing });
  }

  /** Lets an emoji float over everybody's player. @param {string} emoji */
  react(emoji) {
    this.#tell({ type: "react", emoji });
  }

  // ---- queue and playback ----------------------------------------------------------------------

  /** @param {import("./types.d.ts").QueueItemNew} item @param {number} [at] */
  add(item, at) {
    return this.session.request({ type: "queue.add", item, at: at ?? null });
  }

  /** @param {string} itemId */
  remove(itemId) {
    return this.session.request({ type: "queue.remove", item_id: itemId });
  }

  /** @param {string} itemId @param {number} to */
  move(itemId, to) {
    return this.session.request({ type: "queue.move", item_id: itemId, to });
  }

  /**
   * Controls playback: `play`, `pause`, `seek`, `rate`, `next`, `item`. It counts only if the
   * state is still the one that we know (`stale` else).
   * @param {string} action
   * @param {object} [more] position_s, rate, item_id, ended; base: null for any state
   */
  control(action, more = {}) {
    const { playback } = this.state;
    const base = playback && { epoch: playback.epoch, seq: playback.seq };
    return this.session.request({ type: "playback.command", action, base, ...more });
  }

  /**
   * Asks where the media of an item of kind `vod` are. The address is good for some minutes; what
   * began to play by then plays on.
   * @param {string} itemId
   * @returns {Promise<import("./types.d.ts").SignedPlayback>}
   */
  async openItem(itemId) {
    const { source } = await this.session.request({ type: "video.open", item_id: itemId });
    return { ...source, url: ofServer(source.url, this.session.url) };
  }

  // ---- people and the room ---------------------------------------------------------------------

  /** One's own name and caption language. @param {{name?: string, caption_language?: string}} change */
  update(change) {
    return this.session.request({ type: "member.update", ...change });
  }

  /** @param {string} memberId @param {string} role */
  setRole(memberId, role) {
    return this.session.request({ type: "member.role", member_id: memberId, role });
  }

  /** @param {string} memberId @param {{chat?: boolean, publish?: boolean}} what */
  mute(memberId, what) {
    return this.session.request({ type: "member.mute", member_id: memberId, ...what });
  }

  /** @param {string} memberId @param {string} [reason] */
  kick(memberId, reason = "") {
    return this.session.request({ type: "member.kick", member_id: memberId, reason });
  }

  /** @param {string} memberId @param {{reason?: string, durationS?: number | null}} [options] */
  ban(memberId, { reason = "", durationS = null } = {}) {
    const how = { reason, duration_s: durationS };
    return this.session.request({ type: "member.ban", member_id: memberId, ...how });
  }

  /** @param {object} change of the room's settings */
  change(change) {
    return this.session.request({ type: "room.update", change });
  }

  /** Closes the room for all. */
  closeForAll() {
    return this.session.request({ type: "room.close" });
  }

  leave() {
    return this.session.leave();
  }

  /** What is of the moment is not worth an error when there is no connection. */
  #tell(/** @type {any} */ message) {
    this.session.tell(message);
  }

  #changed(/** @type {string} */ type, /** @type {any} */ event) {
    if (type === "typing") return this.#somebodyTypes(event);
    this.emit(type, event);
    const silent =
      (type === "chat" && event.kind === "added" && event.message.member_id) ||
      (type === "went" && event.member.member_id);
    if (silent && this.#typing.has(silent)) {
      this.#somebodyTypes({ memberId: silent, typing: false });
    }
  }

  #somebodyTypes(/** @type {{memberId: string, typing: boolean}} */ { memberId, typing }) {
    const { environment } = this.session;
    environment.clearTimeout(this.#typing.get(memberId));
    this.#typing.delete(memberId);
    if (typing && memberId !== this.state.memberId) {
      const forget = () => this.#somebodyTypes({ memberId, typing: false });
      this.#typing.set(memberId, environment.setTimeout(forget, FORGOTTEN_MS));
    }
    this.emit("typing", this.typing);
  }
}

/** A path of the server as an address: below wherever its `/ws` is. */
function ofServer(/** @type {string} */ path, /** @type {string} */ webSocketUrl) {
  return new URL(path.replace(/^\/+/, ""), baseOf(webSocketUrl)).href;
}
