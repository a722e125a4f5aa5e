/** The theme button: the system's theme until somebody chooses. */

import { $ } from "./dom.js";
import { store } from "./preferences.js";

export function setUpTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = $("theme");
  const show = () => {
    root.dataset.shown = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    button.setAttribute("aria-pressed", String(root.dataset.shown === "dark"));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = root.dataset.shown === "dark" ? "light" : "dark";
    store("theme", root.dataset.theme);
    show();
  });
  dark.addEventListener("change", show);
  show();
}
