/** One video of the library, or one on its way there, as a row that changes in place. */

import { $, icon, make, sentence } from "./dom.js";
import { openMenu } from "./menu.js";
import { clock, day, percent, size, span } from "./units.js";

/**
 * @typedef {import("../../clients/js/index.js").VideoInfo} VideoInfo
 * @typedef {"play" | "together" | "link" | "rename" | "remove" | "cancel" | "resume" | "choose"} What
 */

const BUTTONS = {
  play: ["play", "Play"],
  together: ["people", "Watch together"],
  link: ["link", "Copy link"],
  remove: ["close", "Delete"],
  cancel: ["close", "Cancel"],
  resume: ["sync", "Go on"],
  choose: ["upload", "Choose the file"],
};
/** With words beside their sign, where there is room. */
const WORDED = new Set(["together", "resume", "choose"]);

export class VideoRow {
  element;
  /** What it shows: what the server says, and what this page uploads. @type {{info: VideoInfo | null, upload: any}} */
  shown = { info: null, upload: null };
  #title = make("p", { class: "video-title", dir: "auto" });
  #detail = make("p", { class: "video-detail" });
  #bar = make("progress", { class: "video-bar", max: "1" });
  #tools = make("div", { class: "video-tools" });
  #sign = make("span", { class: "video-sign", "aria-hidden": "true" });
  #has = "";
  #act;

  /** @param {(what: What, row: VideoRow) => void} act */
  constructor(act) {
    this.#act = act;
    const about = make("div", { class: "video-about" }, this.#title, this.#detail);
    this.element = make("li", { class: "video" }, this.#sign, about, this.#tools, this.#bar);
  }

  get title() {
    return this.shown.info?.title ?? this.shown.upload?.title ?? "";
  }

  /**
   * @param {VideoInfo | null} info
   * @param {any} upload
   * @param {{manage: boolean, mayResume: boolean}} may
   */
  show(info, upload, may) {
    this.shown = { info, upload };
    const state = upload ? "uploading" : info.state;
    const [detail, bad] = upload ? wordsOfUpload(upload) : wordsOf(info, may);
    text(this.#title, this.title);
    text(this.#detail, detail);
    this.#detail.classList.toggle("video-bad", bad);
    this.element.dataset.state = state;
    this.element.dataset.video = info?.video_id ?? "";
    this.#showSign(info, state);
    this.#showBar(info, upload, state);
    this.#showTools(toolsOf(info, upload, may));
  }

  #showSign(info, state) {
    const name = state === "ready" && info.width === null ? "sound-only" : state === "failed" ? "warning" : "film";
    if (this.#sign.dataset.name === name) return;
    this.#sign.dataset.name = name;
    this.#sign.replaceChildren(icon(name));
  }

  #showBar(info, upload, state) {
    const going = state === "processing" || state === "uploading";
    this.#bar.hidden = !going;
    if (!going) return;
    const value = upload ? upload.sentBytes / upload.sizeBytes : info.progress;
    this.#bar.value = Math.max(0, Math.min(1, value));
    this.#bar.toggleAttribute("data-still", Boolean(upload?.problem) || (state === "uploading" && !upload));
    this.#bar.setAttribute("aria-label", `${state === "uploading" ? "Uploaded" : "Prepared"}: ${this.title}`);
  }

  /** Made anew only where they are others: the focus stays, and an open menu. */
  #showTools(tools) {
    const has = JSON.stringify([tools, this.title]);
    if (has === this.#has) return;
    this.#has = has;
    const focused = this.#tools.contains(document.activeElement) ? document.activeElement.dataset.what : null;
    this.#tools.replaceChildren(...tools.map((what) => (what === "more" ? this.#more() : this.#button(what))));
    if (!focused) return;
    const back = this.#tools.querySelector(`[data-what="${focused}"]`) ?? this.#tools.lastElementChild;
    (back ?? $("content")).focus();
  }

  #button(what) {
    const [symbol, label] = BUTTONS[what];
    const worded = WORDED.has(what);
    const made = make("button", {
      type: "button",
      class: `button ${worded ? "button-small" : "button-icon button-bare"}`,
      "aria-label": `${label}: ${this.title}`,
      title: label,
      data: { what },
    });
    made.append(icon(symbol), ...(worded ? [make("span", { class: "wide-only", text: label })] : []));
    made.addEventListener("click", () => this.#act(what, this));
    return made;
  }

  #more() {
    const made = make("button", {
      type: "button",
      class: "button button-icon button-bare",
      "aria-label": `More: ${this.title}`,
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      data: { what: "more" },
    });
    made.append(icon("more"));
    const ready = () => this.shown.info?.state === "ready";
    made.addEventListener("click", () =>
      openMenu(made, [
        ...(ready() ? [["Copy link", () => this.#act("link", this)]] : []),
        ["Rename", () => this.#act("rename", this)],
        ["Delete", () => this.#act("remove", this), { danger: true }],
      ]),
    );
    return made;
  }
}

function toolsOf(info, upload, { manage, mayResume }) {
  if (upload) return upload.state === "failed" ? ["resume", "cancel"] : ["cancel"];
  if (info.state === "ready") return ["play", "together", manage ? "more" : "link"];
  if (!manage) return [];
  if (info.state === "uploading") return mayResume ? ["choose", "more"] : ["more"];
  return info.state === "failed" ? ["remove"] : ["more"];
}

/** @returns {[string, boolean]} what is said, and whether it is bad news */
function wordsOf(info, { mayResume }) {
  const by = info.owner ? `by ${info.owner}` : "";
  switch (info.state) {
    case "ready": {
      const looks = info.width === null ? "sound only" : `${info.width}×${info.height}`;
      const parts = [clock(info.duration_s ?? 0), looks, by, day(info.created_at)];
      return [parts.filter(Boolean).join(" · "), false];
    }
    case "processing":
      return [info.progress > 0 ? `Being prepared, ${percent(info.progress)}` : "Being prepared", false];
    case "uploading": {
      const done = percent(info.received_bytes / Math.max(1, info.size_bytes));
      if (mayResume) return [`Not finished: ${done} of ${size(info.size_bytes)}. Choose the file again to go on.`, false];
      return [["Being uploaded", by].filter(Boolean).join(" ") + `, ${done} of ${size(info.size_bytes)}`, false];
    }
    default:
      return [sentence(info.problem ?? "it could not be prepared"), true];
  }
}

/** @returns {[string, boolean]} */
function wordsOfUpload({ state, sentBytes, sizeBytes, leftS, problem }) {
  if (state === "failed") return [sentence(problem.detail || problem.title), true];
  if (state === "waiting") return [`Waits for its turn, ${size(sizeBytes)}`, false];
  const sent = `${size(sentBytes, sizeBytes)} of ${size(sizeBytes)}`;
  if (problem) return [`${sent} · ${problem.title}, trying again`, true];
  return [leftS === null ? sent : `${sent} · ${span(leftS)} left`, false];
}

function text(element, wanted) {
  if (element.textContent !== wanted) element.textContent = wanted;
}
