/** The panel's tabs: arrow keys move between them, as the ARIA pattern says. */

import { $ } from "./dom.js";

const NAMES = ["chat", "people", "queue", "transcript"];

/** @param {(view: "chat" | "people" | "queue" | "transcript") => void} onOpen */
export function setUpTabs(onOpen) {
  const tabs = NAMES.map((name) => $(`tab-${name}`));
  const select = (chosen) => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !selected;
    }
    onOpen(NAMES[tabs.indexOf(chosen)]);
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 };
      if (!(event.key in to)) return;
      event.preventDefault();
      const next = tabs[(to[event.key] + tabs.length) % tabs.length];
      next.focus();
      select(next);
    });
  }
  return { open: (name) => select($(`tab-${name}`)) };
}
