/** One message of the chat as an element. All that people wrote is text. */

import { clockTime, icon, make } from "./dom.js";

/**
 * @typedef {import("../../clients/js/types.d.ts").Chat} Chat
 * @typedef {object} Context
 * @property {(memberId: string) => boolean} isOwn
 * @property {(memberId: string) => string} nameOf
 * @property {(memberId: string) => number} colourOf
 * @property {(id: string) => Chat | undefined} find
 * @property {string | null} memberId
 * @property {boolean} mayReact
 * @property {(message: Chat, emoji: string, on: boolean) => void} react
 * @property {(message: Chat, button: HTMLElement) => void} more
 * @property {(id: string) => void} jump
 */

/** @param {Chat} message @param {Context} context @param {boolean} grouped the head is left out */
export function messageElement(message, context, grouped) {
  const own = context.isOwn(message.member_id);
  const forMe = context.memberId !== null && message.mentions.includes(context.memberId);
  const item = make("li", { class: "chat", data: { id: message.id } });
  item.toggleAttribute("data-own", own);
  item.toggleAttribute("data-grouped", grouped);
  item.toggleAttribute("data-for-me", forMe && !own);
  const more = make("button", {
    type: "button",
    class: "button button-icon button-bare chat-more",
    "aria-label": `Actions for the message of ${own ? "yours" : message.name}`,
    "aria-haspopup": "menu",
    "aria-expanded": "false",
  });
  more.append(icon("more"));
  more.addEventListener("click", () => context.more(message, more));
  const text = make("p", { class: "chat-text", dir: "auto" }, ...mentioned(message, context));
  if (message.edited_at !== null && message.edited_at !== undefined) {
    text.append(make("span", { class: "chat-edited", text: " (edited)" }));
  }
  const body = make("div", { class: "chat-body" });
  if (message.reply_to) body.append(quote(message.reply_to, context));
  body.append(text);
  item.append(head(message, context, own), make("div", { class: "chat-row" }, body, more));
  const reactions = reactionRow(message, context);
  if (reactions) item.append(reactions);
  return item;
}

function head(message, context, own) {
  const time = make("time", {
    text: clockTime(message.sent_at).slice(0, 5),
    datetime: new Date(message.sent_at * 1000).toISOString(),
  });
  const name = make("span", {
    class: `chat-name who-${context.colourOf(message.member_id)}`,
    dir: "auto",
    text: own ? "You" : message.name,
  });
  return make("p", { class: "chat-head" }, name, time);
}

function quote(id, context) {
  const answered = context.find(id);
  const button = make("button", { type: "button", class: "chat-quote", "aria-label": "Show the message that this answers" });
  if (answered) {
    button.append(
      make("span", { class: "chat-quote-name", text: context.isOwn(answered.member_id) ? "You" : answered.name }),
      make("span", { class: "chat-quote-text", dir: "auto", text: answered.text.slice(0, 120) }),
    );
  } else {
    button.append(make("span", { class: "chat-quote-text", text: "A message that is gone" }));
    button.disabled = true;
  }
  button.addEventListener("click", () => context.jump(id));
  return button;
}

/** The text, with the names of those who are mentioned standing out. */
function mentioned(message, context) {
  const names = [...new Set(message.mentions.map((id) => `@${context.nameOf(id)}`))]
    .filter((name) => message.text.includes(name))
    .sort((a, b) => b.length - a.length);
  if (names.length === 0) return [message.text];
  const pattern = new RegExp(`(${names.map(escaped).join("|")})`);
  return message.text
    .split(pattern)
    .filter(Boolean)
    .map((part) => (names.includes(part) ? make("span", { class: "mention", text: part }) : part));
}

function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function reactionRow(message, context) {
  const entries = Object.entries(message.reactions ?? {}).filter(([, who]) => who.length > 0);
  if (entries.length === 0) return null;
  const row = make("div", { class: "chat-reactions" });
  for (const [emoji, who] of entries) {
    const mine = context.memberId !== null && who.includes(context.memberId);
    const names = who.map((id) => (context.isOwn(id) ? "you" : context.nameOf(id))).join(", ");
    const button = make(
      "button",
      {
        type: "button",
        class: "reaction",
        "aria-pressed": String(mine),
        "aria-label": `${emoji} ${who.length}, from ${names}`,
        title: names,
        data: { emoji },
      },
      make("span", { class: "reaction-emoji", text: emoji }),
      make("span", { text: String(who.length) }),
    );
    button.disabled = !context.mayReact;
    button.addEventListener("click", () => context.react(message, emoji, !mine));
    row.append(button);
  }
  return row;
}
