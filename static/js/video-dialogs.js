/** A video played in a dialog, and the link to one. */

import { ProblemError } from "../../clients/js/index.js";
import { $, copyText, say, sentence } from "./dom.js";
import { span } from "./units.js";

/** As long as the server gives addresses for. */
const LINK_S = 3600;
const AGAIN_MS = 10_000;

export class VideoDialogs {
  #videos;
  #base;
  /** What is played. @type {import("../../clients/js/index.js").VideoInfo | null} */
  #playing = null;
  #openedAt = -Infinity;
  #begun = false;

  /**
   * @param {import("../../clients/js/index.js").VideosApi} videos
   * @param {URL} base of the server, as this page reaches it
   */
  constructor(videos, base) {
    this.#videos = videos;
    this.#base = base;
    this.#setUpWatching();
    $("link-close").addEventListener("click", () => $("link-dialog").close());
    $("link-copy").addEventListener("click", () => this.#copy());
  }

  // ---- playing ---------------------------------------------------------------------------------

  play(info) {
    this.#playing = info;
    this.#openedAt = -Infinity;
    const video = $("watch-video");
    $("watch-title").textContent = info.title;
    $("watch-problem").textContent = "";
    video.style.aspectRatio = info.width ? `${info.width} / ${info.height}` : "";
    video.toggleAttribute("data-sound-only", info.width === null);
    $("watch-dialog").showModal();
    video.focus();
    this.#open(0);
  }

  async #open(fromS) {
    const info = this.#playing;
    const video = $("watch-video");
    this.#openedAt = performance.now();
    this.#begun = false;
    try {
      const source = await this.#videos.sign(info.video_id);
      if (this.#playing !== info) return;
      video.src = this.#here(source.url);
      video.currentTime = fromS;
      await video.play();
    } catch (error) {
      if (this.#playing !== info) return;
      if (error instanceof ProblemError) $("watch-problem").textContent = sentence(error.message);
      // else the browser wants a click first, or the element says what is wrong
    }
  }

  /** The page's own way to the server, whatever the server calls itself. */
  #here(url) {
    const { pathname, search } = new URL(url);
    return new URL(pathname.slice(1) + search, this.#base).href;
  }

  #setUpWatching() {
    const [dialog, video] = [$("watch-dialog"), $("watch-video")];
    $("watch-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      this.#playing = null;
      video.removeAttribute("src");
      video.load();
    });
    video.addEventListener("loadedmetadata", () => (this.#begun = true));
    video.addEventListener("error", () => {
      if (!this.#playing || !video.hasAttribute("src")) return;
      const again = this.#begun && performance.now() - this.#openedAt > AGAIN_MS;
      if (again) this.#open(video.currentTime); // its address may have expired
      else $("watch-problem").textContent = "It cannot be played here now. Close this and try again.";
    });
  }

  // ---- the link --------------------------------------------------------------------------------

  async link(info) {
    $("link-url").value = "";
    $("link-error").textContent = "";
    $("link-text").textContent = `“${info.title}”`;
    $("link-dialog").showModal();
    try {
      const { url, expires_at, expires_in } = await this.#videos.sign(info.video_id, { expiresInS: LINK_S });
      $("link-url").value = url;
      const until = new Date(expires_at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      $("link-text").textContent = `“${info.title}”. Playing has to begin by ${until}, in ${span(expires_in)}; it then goes on to the end.`;
      await this.#copy();
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      $("link-error").textContent = sentence(error.message);
    }
  }

  async #copy() {
    const field = $("link-url");
    if (!field.value) return;
    const done = await copyText(field.value);
    say(done ? "Link copied" : "It could not be copied; select it and copy it yourself");
    const words = $("link-copy").querySelector("span");
    words.textContent = done ? "Copied" : "Copy link";
    if (done) setTimeout(() => (words.textContent = "Copy link"), 3000);
    else field.select();
  }
}
