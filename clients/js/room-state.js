/** What a member knows of its room. Pure: messages come in, changes go out. */

/**
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./types.d.ts").MemberInfo} MemberInfo
 * @typedef {import("./types.d.ts").Chat} Chat
 * @typedef {import("./types.d.ts").PlaybackState} PlaybackState
 * @typedef {import("./types.d.ts").QueueItem} QueueItem
 * @typedef {import("./types.d.ts").RoomSettings} RoomSettings
 * @typedef {import("./types.d.ts").Grants} Grants
 * @typedef {[type: string, event: any]} Change
 */

const REMEMBERED_NAMES = 1000;
const KEPT_CHAT = 1000;

export class RoomState {
  /** One's own member id; null before the first welcome. @type {string | null} */
  memberId = null;
  /** @type {import("./index.d.ts").RoomRole | null} */
  role = null;
  /** @type {Grants | null} */
  grants = null;
  /** @type {RoomSettings | null} */
  settings = null;
  /** In the order in which they came. @type {Map<string, MemberInfo>} */
  members = new Map();
  /** @type {readonly QueueItem[]} */
  queue = [];
  /** @type {PlaybackState | null} */
  playback = null;
  /** In the order in which they were said. @type {Map<string, Chat>} */
  chat = new Map();
  /** Whose tracks are live. @type {Map<string, string>} track id to member id */
  tracks = new Map();
  /** Whether the room is connected to the other instances. */
  away = false;
  /** Names of who was here too. @type {Map<string, string>} */
  #names = new Map();

  /** Oneself as the others see one. */
  get me() {
    return this.memberId === null ? undefined : this.members.get(this.memberId);
  }

  /** The item that is played, or about to be. @returns {QueueItem | null} */
  get item() {
    const id = this.playback?.item_id ?? null;
    return this.queue.find(({ item_id }) => item_id === id) ?? null;
  }

  /** The name of somebody who is, or was, here. @param {string} memberId */
  nameOf(memberId) {
    return this.members.get(memberId)?.name ?? this.#names.get(memberId) ?? "somebody";
  }

  /**
   * Takes a message of the server; returns what it changed.
   * @param {ServerMessage} message
   * @returns {Change[]}
   */
  apply(message) {
    switch (message.type) {
      case "welcome":
        return this.#welcome(message);
      case "room.snapshot":
        return this.#snapshot(message);
      case "room.updated":
        this.settings = message.settings;
        return [["settings", message.settings]];
      case "room.status":
        this.away = message.state === "away";
        return [["status", message]];
      case "grants":
        [this.role, this.grants] = [message.role, message.grants];
        return [["grants", { role: message.role, grants: message.grants }]];
      case "member.joined":
      case "member.updated":
        return this.#member(message.member, message.type === "member.joined");
      case "member.left":
        return this.#left(message.member_id, message.reason);
      case "queue":
        this.queue = message.items;
        return [["queue", { items: message.items, by: message.by ?? null }]];
      case "playback":
        this.playback = message.state;
        return [["playback", { state: message.state, by: message.by ?? null, snapshot: false }]];
      case "track.started":
        this.tracks.set(message.track_id, message.member_id);
        return [["speakers", this.tracks]];
      case "track.ended":
        this.tracks.delete(message.track_id);
        return [["speakers", this.tracks]];
      case "member.typing":
        return [["typing", { memberId: message.member_id, typing: message.typing }]];
      case "reaction":
        return [["reaction", { memberId: message.member_id, emoji: message.emoji }]];
      case "room.closed":
        return [["closed", message.reason]];
      default:
        return this.#chatMessage(message);
    }
  }

  /** @param {import("./types.d.ts").Welcome} welcome @returns {Change[]} */
  #welcome({ member_id, role, grants }) {
    this.memberId = member_id;
    [this.role, this.grants] = [role, grants];
    this.away = false;
    return [["grants", { role, grants }]];
  }

  /** @param {import("./types.d.ts").RoomSnapshot} snapshot @returns {Change[]} */
  #snapshot({ room, members, queue, playback }) {
    this.settings = room.settings;
    this.members = new Map(members.map((member) => [member.member_id, member]));
    for (const { member_id, name } of members) this.#names.set(member_id, name);
    this.queue = queue;
    this.playback = playback;
    this.chat.clear();
    this.tracks.clear();
    return [
      ["settings", room.settings],
      ["members", this.members],
      ["chat", { kind: "reset" }],
      ["queue", { items: queue, by: null }],
      ["playback", { state: playback, by: null, snapshot: true }],
      ["speakers", this.tracks],
    ];
  }

  /** @param {MemberInfo} member @param {boolean} joined @returns {Change[]} */
  #member(member, joined) {
    const known = this.members.has(member.member_id);
    this.members.set(member.member_id, member);
    this.#names.set(member.member_id, member.name);
    if (this.#names.size > REMEMBERED_NAMES) {
      this.#names.delete(/** @type {string} */ (this.#names.keys().next().value));
    }
    /** @type {Change[]} */
    const changes = [["members", this.members]];
    if (joined && !known) changes.push(["came", member]);
    return changes;
  }

  /** @param {string} memberId @param {string} reason @returns {Change[]} */
  #left(memberId, reason) {
    const member = this.members.get(memberId);
    this.members.delete(memberId);
    /** @type {Change[]} */
    const changes = [["members", this.members]];
    if (member) changes.push(["went", { member, reason }]);
    return changes;
  }

  /** @param {ServerMessage} message @returns {Change[]} */
  #chatMessage(message) {
    switch (message.type) {
      case "chat": {
        const known = this.chat.has(message.id);
        this.chat.set(message.id, message);
        if (!this.#names.has(message.member_id)) this.#names.set(message.member_id, message.name);
        while (this.chat.size > KEPT_CHAT) {
          this.chat.delete(/** @type {string} */ (this.chat.keys().next().value));
        }
        return [["chat", { kind: known ? "changed" : "added", message }]];
      }
      case "chat.edited": {
        const { text, edited_at } = message;
        return this.#chatChanged(message.message_id, { text, edited_at });
      }
      case "chat.reacted":
        return this.#chatChanged(message.message_id, { reactions: message.reactions });
      case "chat.deleted": {
        const known = this.chat.get(message.message_id);
        if (!known) return [];
        this.chat.delete(message.message_id);
        return [["chat", { kind: "removed", message: known, by: message.by }]];
      }
      default:
        return [];
    }
  }

  /** @param {string} id @param {Partial<Chat>} change @returns {Change[]} */
  #chatChanged(id, change) {
    const known = this.chat.get(id);
    if (!known) return [];
    const message = { ...known, ...change };
    this.chat.set(id, message);
    return [["chat", { kind: "changed", message }]];
  }
}
