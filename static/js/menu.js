/** One menu for the whole page: opened at a button, worked by arrow keys, closed by Escape. */

import { $, make } from "./dom.js";

const GAP_PX = 6;
let opener = null;

/**
 * Opens a menu at `button`. Entries: [label, action, {danger, pressed}].
 * @param {HTMLElement} button
 * @param {[string, () => void, object?][]} entries
 * @param {{label?: string, emoji?: [string, () => void, string][]}} [options] `emoji`: a row on top
 */
export function openMenu(button, entries, { label = "Actions", emoji = [] } = {}) {
  const menu = $("menu");
  if (opener === button) return closeMenu();
  closeMenu(false);
  opener = button;
  button.setAttribute("aria-expanded", "true");
  menu.setAttribute("aria-label", label);
  const item = (text, action, attributes) => {
    const made = make("button", { type: "button", role: "menuitem", tabindex: "-1", text, ...attributes });
    made.addEventListener("click", () => {
      closeMenu();
      action();
    });
    return made;
  };
  const row = emoji.map(([symbol, action, name]) =>
    item(symbol, action, { class: "menu-emoji", "aria-label": name }),
  );
  menu.replaceChildren(
    ...(row.length ? [make("div", { class: "menu-row", role: "group", "aria-label": "React" }, ...row)] : []),
    ...entries.map(([text, action, { danger } = {}]) =>
      item(text, action, { class: danger ? "menu-danger" : "" }),
    ),
  );
  menu.hidden = false;
  place(menu, button);
  menu.querySelector("button")?.focus({ preventScroll: true });
}

export function closeMenu(back = true) {
  const menu = $("menu");
  if (!opener) return;
  const button = opener;
  opener = null;
  menu.hidden = true;
  button.setAttribute("aria-expanded", "false");
  if (back && button.isConnected) button.focus();
}

export function setUpMenu() {
  const menu = $("menu");
  menu.addEventListener("keydown", (event) => {
    const items = [...menu.querySelectorAll("button")];
    const at = items.indexOf(document.activeElement);
    const to = {
      ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1,
      Home: 0, End: items.length - 1,
    };
    if (event.key === "Escape" || event.key === "Tab") {
      if (event.key === "Escape") event.preventDefault();
      closeMenu();
    } else if (event.key in to) {
      event.preventDefault();
      items[(to[event.key] + items.length) % items.length].focus();
    }
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (opener && !menu.contains(target) && !opener.contains(target)) closeMenu(false);
  });
  window.addEventListener("resize", () => closeMenu(false));
  document.addEventListener("scroll", followOpener, { capture: true, passive: true });
}

/** The button was scrolled: the menu stays beside it while it is in sight. */
function followOpener() {
  if (!opener) return;
  const { top, bottom } = opener.getBoundingClientRect();
  if (bottom < 0 || top > innerHeight) closeMenu(false);
  else place($("menu"), opener);
}

function place(menu, button) {
  const at = button.getBoundingClientRect();
  const box = menu.getBoundingClientRect();
  const below = at.bottom + GAP_PX + box.height <= innerHeight;
  const top = below ? at.bottom + GAP_PX : Math.max(GAP_PX, at.top - GAP_PX - box.height);
  const left = Math.min(Math.max(GAP_PX, at.right - box.width), innerWidth - box.width - GAP_PX);
  menu.style.top = `${top}px`;
  menu.style.left = `${left}px`;
}
