/** The room's chat. Names and messages are text, never markup. */

import { ProblemError } from "../../clients/js/index.js";
import { $, clockTime, make, stickToEnd } from "./dom.js";

const MOST_SHOWN = 500;

export class ChatView {
  #list = $("chats");
  #stick = stickToEnd($("chat-scroll"));
  #unread = 0;
  #isOwn;
  /** What was sent and has not come back yet. @type {Map<string, string>} */
  #pending = new Map();

  /**
   * @param {(memberId: string) => boolean} isOwn
   * @param {(text: string) => string} send
   * @param {import("./notices.js").Notices} notices
   */
  constructor(isOwn, send, notices) {
    this.#isOwn = isOwn;
    const field = $("chat-text");
    $("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text) return;
      try {
        this.#pending.set(send(text), text);
        field.value = "";
        notices.clear("chat");
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error;
        notices.show("chat", {
          kind: "warning",
          title: "The message was not sent",
          text: error.message,
        });
      }
    });
  }

  /** @param {import("../../clients/js/types.d.ts").Chat} message */
  add({ client_id, member_id, name, text, sent_at }) {
    this.#pending.delete(client_id ?? "");
    const own = this.#isOwn(member_id);
    const time = make("time", {
      text: clockTime(sent_at).slice(0, 5),
      datetime: new Date(sent_at * 1000).toISOString(),
    });
    const head = make(
      "p",
      { class: "chat-head" },
      make("span", { class: "chat-name", text: own ? "You" : name }),
      time,
    );
    const item = make(
      "li",
      { class: "chat" },
      head,
      make("p", { class: "chat-text", dir: "auto", text }),
    );
    item.toggleAttribute("data-own", own);
    this.#list.append(item);
    while (this.#list.childElementCount > MOST_SHOWN) this.#list.firstElementChild.remove();
    $("chat-empty").hidden = true;
    if (own) this.#stick.toEnd();
    else this.#stick.follow();
    if ($("chat-view").hidden && !own) this.#showUnread(this.#unread + 1);
  }

  /** A message came back refused: give the text back. */
  refused() {
    const field = $("chat-text");
    const [last] = [...this.#pending.values()].slice(-1);
    this.#pending.clear();
    if (last && !field.value) field.value = last;
  }

  opened() {
    this.#showUnread(0);
    this.#stick.follow();
  }

  #showUnread(count) {
    this.#unread = count;
    const badge = $("unread");
    badge.hidden = count === 0;
    badge.replaceChildren(
      String(count),
      make("span", { class: "vh", text: count === 1 ? " unread message" : " unread messages" }),
    );
  }
}
