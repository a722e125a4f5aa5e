/** The room's chat: messages, older ones, reactions, who is writing. Words are text, never markup. */

import { ProblemError } from "../../clients/js/index.js";
import { messageElement } from "./chat-message.js";
import { ChatComposer } from "./chat-composer.js";
import { ask } from "./confirm.js";
import { $, make, say, stickToEnd } from "./dom.js";
import { openMenu } from "./menu.js";

const GROUP_S = 180;
const EDITABLE_S = 600;
const HISTORY_MS = 1500;
const QUICK = [["👍", "Thumbs up"], ["❤️", "Love"], ["😂", "Laugh"], ["😮", "Wow"], ["👏", "Applause"]];

export class ChatView {
  #room;
  #api;
  #notices;
  #list = $("chats");
  #stick;
  #unread = 0;
  #unreadForMe = false;
  #context;
  #composer;
  #older = /** @type {Map<string, object>} */ (new Map());
  #more = false;
  #asked = false;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("../../clients/js/index.js").RoomsApi} api
   * @param {import("./notices.js").Notices} notices
   * @param {(memberId: string) => number} colourOf
   */
  constructor(room, api, notices, colourOf) {
    this.#room = room;
    this.#api = api;
    this.#notices = notices;
    const latest = $("chat-latest");
    this.#stick = stickToEnd($("chat-scroll"), (atEnd) => (latest.hidden = atEnd));
    latest.addEventListener("click", () => {
      this.#stick.toEnd();
      $("chat-scroll").focus();
    });
    const { state } = room;
    this.#context = {
      isOwn: (id) => id === state.memberId,
      nameOf: (id) => state.nameOf(id),
      colourOf,
      find: (id) => this.#find(id),
      get memberId() {
        return state.memberId;
      },
      get mayReact() {
        return state.grants?.can_react ?? false;
      },
      react: (message, emoji, on) => this.#do(() => room.reactTo(message.id, emoji, on)),
      more: (message, button) => this.#actions(message, button),
      jump: (id) => this.#jump(id),
    };
    this.#composer = new ChatComposer(room, notices);
    room.on("chat", (change) => this.#apply(change));
    room.on("typing", (typing) => this.#typing(typing));
    $("chat-older").addEventListener("click", () => this.#loadOlder());
  }

  opened() {
    this.#unreadForMe = false;
    this.#showUnread(0);
    this.#stick.follow();
  }

  #find(id) {
    return this.#room.state.chat.get(id) ?? this.#older.get(id);
  }

  get #messages() {
    return [...this.#older.values(), ...this.#room.state.chat.values()];
  }

  #apply({ kind, message }) {
    if (kind === "reset") {
      this.#older.clear();
      this.#asked = false;
      this.#renderAll();
      this.#quietly();
      return;
    }
    if (kind === "added") this.#add(message);
    else if (kind === "removed") this.#remove(message);
    else this.#replace(message);
    $("chat-empty").hidden = this.#list.childElementCount > 0;
  }

  /** What was said before is not read out to who comes. */
  #quietly() {
    const region = this.#list.parentElement;
    region.setAttribute("aria-live", "off");
    setTimeout(() => region.setAttribute("aria-live", "polite"), HISTORY_MS);
  }

  #renderAll() {
    const elements = [];
    let before;
    for (const message of this.#messages) {
      elements.push(messageElement(message, this.#context, groups(before, message)));
      before = message;
    }
    this.#list.replaceChildren(...elements);
    $("chat-empty").hidden = elements.length > 0;
    this.#stick.follow();
  }

  #add(message) {
    const messages = this.#messages;
    const before = messages.at(-2);
    this.#list.append(messageElement(message, this.#context, groups(before, message)));
    const own = this.#context.isOwn(message.member_id);
    if (own) this.#stick.toEnd();
    else this.#stick.follow();
    this.#offerOlder();
    const fresh = Date.now() / 1000 - message.sent_at < 60;
    if (own || !fresh || !$("chat-view").hidden) return;
    this.#unreadForMe ||= message.mentions.includes(this.#room.state.memberId);
    this.#showUnread(this.#unread + 1);
  }

  #element(id) {
    return this.#list.querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  #replace(message) {
    const element = this.#element(message.id);
    if (!element) return;
    const hadFocus = element.contains(document.activeElement);
    const next = messageElement(message, this.#context, element.hasAttribute("data-grouped"));
    element.replaceWith(next);
    if (hadFocus) next.querySelector(".chat-more").focus();
    this.#quotesOf(message.id);
    this.#stick.follow();
  }

  #remove(message) {
    const element = this.#element(message.id);
    const following = element?.nextElementSibling;
    const hadFocus = element?.contains(document.activeElement);
    element?.remove();
    this.#older.delete(message.id);
    if (hadFocus) $("chat-scroll").focus();
    if (following) {
      const messages = this.#messages;
      const at = messages.findIndex(({ id }) => id === following.dataset.id);
      following.toggleAttribute("data-grouped", groups(messages[at - 1], messages[at]));
    }
    this.#composer.gone(message.id);
    this.#quotesOf(message.id);
  }

  /** Answers show what they answer as it is now. */
  #quotesOf(id) {
    for (const answer of this.#messages.filter(({ reply_to }) => reply_to === id)) {
      const element = this.#element(answer.id);
      element?.replaceWith(messageElement(answer, this.#context, element.hasAttribute("data-grouped")));
    }
  }

  #actions(message, button) {
    const { state } = this.#room;
    const own = this.#context.isOwn(message.member_id);
    const { grants } = state;
    const entries = [];
    if (grants?.can_chat) entries.push(["Reply", () => this.#composer.reply(message)]);
    if (own && grants?.can_chat && Date.now() / 1000 - message.sent_at < EDITABLE_S) {
      entries.push(["Edit", () => this.#composer.edit(message)]);
    }
    if (own || grants?.can_moderate) {
      entries.push(["Delete…", () => this.#delete(message, own), { danger: true }]);
    }
    const emoji = grants?.can_react
      ? QUICK.map(([symbol, name]) => {
          const mine = message.reactions?.[symbol]?.includes(state.memberId) ?? false;
          return [symbol, () => this.#do(() => this.#room.reactTo(message.id, symbol, !mine)), name];
        })
      : [];
    if (entries.length + emoji.length > 0) openMenu(button, entries, { label: "Message", emoji });
  }

  async #delete(message, own) {
    const whose = own ? "your message" : `the message of ${message.name}`;
    const sure = await ask({ title: `Delete ${whose}?`, text: message.text.slice(0, 200), yes: "Delete", danger: true });
    if (sure) await this.#do(() => this.#room.delete(message.id), "Message deleted");
  }

  async #do(action, done) {
    try {
      await action();
      if (done) say(done);
      this.#notices.clear("chat");
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.#notices.show("chat", { kind: "warning", title: error.problem.title, text: error.message });
    }
  }

  #jump(id) {
    const element = this.#element(id);
    if (!element) return;
    element.scrollIntoView({ block: "center", behavior: "smooth" });
    element.classList.remove("chat-found");
    void element.offsetWidth; // the mark starts anew
    element.classList.add("chat-found");
    element.querySelector(".chat-more").focus({ preventScroll: true });
  }

  // ---- older ones ------------------------------------------------------------------------------

  /** A full page at the start: there may be older ones. */
  #offerOlder() {
    if (this.#asked || this.#room.state.chat.size < 50) return;
    this.#asked = true;
    this.#more = true;
    $("chat-older").hidden = false;
  }

  async #loadOlder() {
    const first = this.#messages[0];
    const button = $("chat-older");
    if (!first) return;
    try {
      const { messages, more } = await this.#api.chat(this.#room.session.room, { before: first.id });
      this.#older = new Map([...messages.map((m) => [m.id, m]), ...this.#older]);
      this.#more = more;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.#notices.show("chat", { kind: "warning", title: error.problem.title, text: error.message });
    }
    button.hidden = !this.#more;
    const scroller = $("chat-scroll");
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    this.#renderAll();
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
  }

  #typing(typing) {
    const names = typing.map((id) => this.#room.state.nameOf(id));
    const text =
      names.length === 0 ? "" :
      names.length === 1 ? `${names[0]} is writing…` :
      names.length === 2 ? `${names[0]} and ${names[1]} are writing…` :
      `${names.length} people are writing…`;
    $("typing").textContent = text;
  }

  #showUnread(count) {
    this.#unread = count;
    const badge = $("unread");
    badge.hidden = count === 0;
    badge.replaceChildren(
      this.#unreadForMe ? `@${count}` : String(count),
      make("span", { class: "vh", text: count === 1 ? " unread message" : " unread messages" }),
    );
  }
}

function groups(before, message) {
  return Boolean(
    before &&
      before.member_id === message.member_id &&
      before.name === message.name &&
      !message.reply_to &&
      message.sent_at - before.sent_at < GROUP_S,
  );
}
