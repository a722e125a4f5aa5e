/** Small things that every part of the page needs from the document. */

const SVG = "http://www.w3.org/2000/svg";

/** Returns the element of that id; one that is missing is a mistake in index.html. */
export function $(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/** Makes an element. Children that are strings become text, never markup. */
export function make(tag, { text, class: className, data = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Makes one of the icons of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A server's words as a sentence: a capital first, a point last. */
export function sentence(text) {
  if (!text) return "";
  const first = text[0].toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** Shows a wall-clock time as the reader's own clocks do. */
export function clockTime(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
}

/** Says something once to a screen reader; what was said just before is not cut off. */
export function say(text) {
  const said = make("p", { text });
  $("say").append(said);
  setTimeout(() => said.remove(), 5000);
}

/** Puts text onto the clipboard; false where the browser does not let us. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "vh", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy"); // the only way on pages without HTTPS
    area.remove();
    before?.focus();
    return done;
  }
}

/** Keeps a scrolling element at its end while the reader is there. */
export function stickToEnd(scroller, onChange = () => {}) {
  let atEnd = true;
  const near = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  scroller.addEventListener("scroll", () => {
    const now = near();
    if (now !== atEnd) onChange((atEnd = now));
  });
  const follow = () => {
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  };
  new ResizeObserver(follow).observe(scroller);
  return {
    follow,
    toEnd() {
      atEnd = true;
      onChange(true);
      follow();
    },
  };
}
