/** The stage: one's own picture, or the sound as a wave, and the captions over it. */

import { languageName } from "../../clients/js/index.js";
import { captionLanguage, finalText } from "./caption-text.js";
import { $, make } from "./dom.js";

const OVERLAY_S = 8;
const BARS = 72;

export class Stage {
  #stage = $("stage");
  #video = $("preview");
  #wave = $("wave");
  #overlay = $("overlay");
  #text = $("overlay-text");
  #levels = new Array(BARS).fill(0);
  #hideTimer = null;
  /** The captions on show, at most two. @type {Map<string, import("../../clients/js/index.d.ts").CaptionEntry>} */
  #lines = new Map();
  #several = false;
  #publishing = false;
  #live = false;
  #heard = false;
  #speakers = new Set();
  #media = false;
  #own = false;
  #offering = false;
  #isOwn;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {(memberId: string) => boolean} isOwn */
  constructor(isOwn) {
    this.#isOwn = isOwn;
  }

  /** Whether the room watches something; one's own picture is small then. */
  set media(on) {
    if (this.#media === on) return;
    this.#media = on;
    this.#mode();
  }

  /** Whether what the room watches is one's own broadcast; one's own picture is large then. */
  set own(on) {
    if (this.#own === on) return;
    this.#own = on;
    this.#mode();
  }

  /** Whether there is something to put on, though captions are being read. */
  set offering(on) {
    this.#offering = on;
    this.#mode();
  }

  /** Shows a stream; null shows the hint. */
  show(stream, { mirror = false } = {}) {
    const hasVideo = Boolean(stream?.getVideoTracks().length);
    this.#video.srcObject = hasVideo ? stream : null;
    this.#video.hidden = !hasVideo;
    this.#video.toggleAttribute("data-mirror", mirror && hasVideo);
    this.#wave.hidden = !stream || hasVideo;
    this.#levels.fill(0);
    this.#publishing = Boolean(stream);
    this.#heard = false;
    this.#mode();
  }

  badges({ live, muted }) {
    this.#live = live;
    $("badge-live").hidden = !live;
    $("badge-muted").hidden = !muted;
    this.#mode();
  }

  /** Draws the sound as bars that wander to the left; still ones where motion is unwelcome. */
  level(value) {
    if (this.#wave.hidden) return;
    if (this.#still.matches) this.#levels.fill(value);
    else {
      this.#levels.shift();
      this.#levels.push(value);
    }
    this.#draw();
  }

  #draw() {
    const canvas = this.#wave;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    if (canvas.width !== Math.round(width)) canvas.width = width;
    if (canvas.height !== Math.round(height)) canvas.height = height;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(canvas).color;
    const step = width / BARS;
    const bar = Math.max(2, step * 0.45);
    this.#levels.forEach((value, index) => {
      const size = Math.max(bar, value * height * 0.95);
      context.globalAlpha = 0.3 + (0.7 * index) / BARS;
      context.beginPath();
      context.roundRect(index * step, (height - size) / 2, bar, size, bar / 2);
      context.fill();
    });
  }

  /** @param {import("../../clients/js/index.d.ts").CaptionChange} change */
  caption({ kind, entry }) {
    const { caption } = entry;
    this.#heard = true;
    this.#speakers.add(caption.member_id);
    this.#several = this.#speakers.size > 1 || !this.#isOwn(caption.member_id);
    if (kind === "removed") this.#lines.delete(caption.caption_id);
    else this.#lines.set(caption.caption_id, entry);
    while (this.#lines.size > 2) this.#lines.delete(this.#lines.keys().next().value);
    if (caption.language) this.#showLanguage(caption);
    this.#renderOverlay();
    clearTimeout(this.#hideTimer);
    this.#hideTimer = setTimeout(() => {
      this.#lines.clear();
      this.#renderOverlay();
    }, OVERLAY_S * 1000);
  }

  /** What is spoken (perhaps detected), and that it is translated. */
  #showLanguage({ language, task }) {
    const english = task === "translate" && language !== "en" ? " → English" : "";
    $("badge-language").textContent = languageName(language) + english;
  }

  #renderOverlay() {
    const lines = [...this.#lines.values()].map(({ caption }) => {
      const { final, tentative } = finalText(caption);
      const line = make("p", { class: "overlay-line", lang: captionLanguage(caption), dir: "auto" });
      if (this.#several) {
        line.append(make("span", { class: "overlay-who", text: `${caption.speaker}: ` }));
      }
      line.append(final);
      if (tentative) {
        line.append(final ? " " : "", make("span", { class: "tentative", text: tentative }));
      }
      return line;
    });
    this.#text.replaceChildren(...lines);
    this.#overlay.hidden = lines.length === 0;
    this.#mode();
  }

  #mode() {
    const reading = this.#lines.size > 0;
    const mode = this.#publishing ? "live" : reading ? "reading" : "idle";
    this.#stage.dataset.mode = this.#own ? "own" : this.#media ? "media" : mode;
    $("badge-language").hidden = !reading || !$("badge-language").textContent;
    $("listening").hidden = !this.#live || this.#heard || this.#media;
    $("stage-empty").hidden = this.#publishing || this.#media || (reading && !this.#offering);
  }
}
