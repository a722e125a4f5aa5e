/** Where one writes: replies, edits, mentions, slow mode, and a mute that is said plainly. */

import { ProblemError } from "../../clients/js/index.js";
import { $, make } from "./dom.js";

const MOST_LINES_PX = 132;
const MOST_OFFERED = 6;

export class ChatComposer {
  #room;
  #notices;
  #field = $("chat-text");
  /** @type {{kind: "reply" | "edit", message: object} | null} */
  #about = null;
  /** Who was picked from the list: names to member ids. @type {Map<string, string>} */
  #picked = new Map();
  #offered = [];
  #chosen = 0;
  #freeAt = 0;
  #timer = null;
  #busy = false;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./notices.js").Notices} notices
   */
  constructor(room, notices) {
    this.#room = room;
    this.#notices = notices;
    this.#field.addEventListener("input", () => this.#changed());
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("blur", () => setTimeout(() => this.#offer([]), 150));
    $("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("chat-context-close").addEventListener("click", () => {
      if (this.#about?.kind === "edit") this.#field.value = "";
      this.#setAbout(null);
      this.#field.focus();
    });
    for (const type of ["grants", "settings", "members", "status"]) room.on(type, () => this.#limits());
    this.#field.setAttribute("aria-controls", "mentions");
    this.#field.setAttribute("aria-autocomplete", "list");
  }

  reply(message) {
    this.#setAbout({ kind: "reply", message });
    this.#field.focus();
  }

  edit(message) {
    this.#setAbout({ kind: "edit", message });
    this.#field.value = message.text;
    for (const id of message.mentions) this.#picked.set(this.#room.state.nameOf(id), id);
    this.#grow();
    this.#field.focus();
  }

  /** A message is gone: one cannot answer or change it any more. */
  gone(id) {
    if (this.#about?.message.id === id) this.#setAbout(null);
  }

  #setAbout(about) {
    this.#about = about;
    $("chat-context").hidden = about === null;
    if (!about) return this.#grow();
    const { kind, message } = about;
    const own = message.member_id === this.#room.state.memberId;
    const who = own ? "yourself" : message.name;
    $("chat-context-text").textContent =
      kind === "edit" ? "Changing your message" : `Answer to ${who}: ${message.text.slice(0, 80)}`;
  }

  async #submit() {
    const text = this.#field.value.trim();
    if (!text || this.#busy || this.#field.disabled) return;
    const about = this.#about;
    const mentions = this.#mentionsIn(text);
    this.#busy = true;
    this.#field.value = "";
    this.#setAbout(null);
    this.#offer([]);
    try {
      if (about?.kind === "edit") await this.#room.edit(about.message.id, text);
      else await this.#room.say(text, { replyTo: about?.message.id ?? null, mentions });
      this.#notices.clear("chat");
      this.#picked.clear();
      if (about?.kind !== "edit") this.#slow(this.#pauseS());
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (!this.#field.value) this.#field.value = text; // give the words back
      if (about) this.#setAbout(about);
      if (error.code === "slow_mode") this.#slow(error.problem.retry_after_s ?? this.#pauseS());
      else this.#notices.show("chat", { kind: "warning", title: "The message was not sent", text: error.message });
    } finally {
      this.#busy = false;
      this.#grow();
    }
  }

  // ---- limits ----------------------------------------------------------------------------------

  #pauseS() {
    const { settings, role } = this.#room.state;
    return role === "host" || role === "cohost" ? 0 : (settings?.slow_mode_s ?? 0);
  }

  #slow(seconds) {
    this.#freeAt = performance.now() + seconds * 1000;
    this.#limits();
  }

  #limits() {
    clearTimeout(this.#timer);
    const { grants, me } = this.#room.state;
    const may = grants?.can_chat ?? true;
    const leftS = Math.ceil((this.#freeAt - performance.now()) / 1000);
    const pause = this.#pauseS();
    const words = !may
      ? me?.chat_muted
        ? "A host has muted you in the chat. You can still read and react."
        : "Listeners read and react here; a host can let you write."
      : pause > 0 && leftS > 0
        ? `Slow mode: you can write again in ${leftS} s.`
        : pause > 0
          ? `Slow mode: one message every ${pause} s.`
          : "";
    this.#field.disabled = !may;
    this.#field.placeholder = may ? "Message to the room" : "You cannot write here now";
    $("chat-send").disabled = !may || (pause > 0 && leftS > 0);
    $("chat-limit").hidden = !words;
    $("chat-limit").textContent = words;
    if (may && pause > 0 && leftS > 0) this.#timer = setTimeout(() => this.#limits(), 500);
  }

  // ---- mentions --------------------------------------------------------------------------------

  #changed() {
    this.#grow();
    this.#room.isTyping(this.#field.value.trim() !== "");
    const before = this.#field.value.slice(0, this.#field.selectionStart);
    const asked = /(?:^|\s)@([^\s@]{0,40})$/.exec(before);
    if (!asked) return this.#offer([]);
    const { state } = this.#room;
    const wanted = asked[1].toLowerCase();
    const found = [...state.members.values()].filter(
      ({ member_id, name }) => member_id !== state.memberId && name.toLowerCase().includes(wanted),
    );
    this.#offer(found.slice(0, MOST_OFFERED));
  }

  #offer(members) {
    this.#offered = members;
    this.#chosen = 0;
    const list = $("mentions");
    list.hidden = members.length === 0;
    list.replaceChildren(
      ...members.map((member, index) => {
        const item = make("li", { id: `mention-${index}`, role: "option", dir: "auto", text: member.name });
        item.addEventListener("pointerdown", (event) => {
          event.preventDefault(); // the field keeps the focus
          this.#pick(member);
        });
        return item;
      }),
    );
    this.#choose(0);
  }

  #choose(index) {
    const count = this.#offered.length;
    this.#chosen = count ? (index + count) % count : 0;
    [...$("mentions").children].forEach((item, at) =>
      item.setAttribute("aria-selected", String(at === this.#chosen)),
    );
    if (count) this.#field.setAttribute("aria-activedescendant", `mention-${this.#chosen}`);
    else this.#field.removeAttribute("aria-activedescendant");
  }

  #pick(member) {
    const at = this.#field.selectionStart;
    const before = this.#field.value.slice(0, at).replace(/@[^\s@]*$/, `@${member.name} `);
    this.#field.value = before + this.#field.value.slice(at);
    this.#field.setSelectionRange(before.length, before.length);
    this.#picked.set(member.name, member.member_id);
    this.#offer([]);
    this.#grow();
  }

  #mentionsIn(text) {
    return [...this.#picked].filter(([name]) => text.includes(`@${name}`)).map(([, id]) => id);
  }

  #key(event) {
    const offering = this.#offered.length > 0;
    if (offering && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.#choose(this.#chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (offering && (event.key === "Enter" || event.key === "Tab")) {
      event.preventDefault();
      this.#pick(this.#offered[this.#chosen]);
    } else if (event.key === "Escape") {
      if (offering) this.#offer([]);
      else if (this.#about) $("chat-context-close").click();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    }
  }

  #grow() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight + 2, MOST_LINES_PX)}px`;
  }
}
