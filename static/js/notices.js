/** Messages above the page. Each has a key: a newer one of the same key takes its place. */

import { $, icon, make } from "./dom.js";

const KINDS = {
  error: ["error", "Error: "],
  warning: ["warning", "Warning: "],
  info: ["info", "Note: "],
};

export class Notices {
  #region = $("notices");
  #shown = new Map();

  /**
   * Shows a notice. `buttons` are [label, action] pairs.
   * @param {string} key
   * @param {{kind: "error" | "warning" | "info", title: string, text?: string,
   *   buttons?: [string, () => void][]}} notice
   */
  show(key, { kind, title, text = "", buttons = [] }) {
    const before = this.#shown.get(key);
    const content = JSON.stringify([kind, title, text]);
    if (before?.content === content) return;
    const [symbol, prefix] = KINDS[kind];
    const dismiss = make("button", {
      type: "button",
      class: "button button-icon",
      "aria-label": `Dismiss: ${title}`,
    });
    dismiss.append(icon("close"));
    dismiss.addEventListener("click", () => this.clear(key));
    const element = make(
      "div",
      { class: "notice", role: kind === "error" ? "alert" : "status", data: { kind, key } },
      icon(symbol),
      make(
        "div",
        { class: "notice-text" },
        make("p", { class: "notice-title" }, make("span", { class: "vh", text: prefix }), title),
        ...(text ? [make("p", { text })] : []),
      ),
      make(
        "div",
        { class: "notice-buttons" },
        ...buttons.map(([label, action]) => {
          const button = make("button", { type: "button", class: "button button-small", text: label });
          button.addEventListener("click", action);
          return button;
        }),
        dismiss,
      ),
    );
    this.#region.hidden = false;
    if (before) before.element.replaceWith(element);
    else this.#region.append(element);
    this.#shown.set(key, { element, content });
  }

  clear(...keys) {
    for (const key of keys) {
      const shown = this.#shown.get(key);
      if (!shown) continue;
      const hadFocus = shown.element.contains(document.activeElement);
      shown.element.remove();
      this.#shown.delete(key);
      if (hadFocus) $("content").focus();
    }
    this.#region.hidden = this.#shown.size === 0;
  }
}
