// Runs before the first paint, so that a chosen theme does not flash: no module, no imports.
(() => {
  const root = document.documentElement;
  let chosen = null;
  try {
    chosen = localStorage.getItem("captions.theme");
  } catch {
    // storage is refused: the system's theme it is
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  root.dataset.shown = root.dataset.theme ?? (dark.matches ? "dark" : "light");
})();
