/**
 * Puts a video into a media element: a file, HLS by hls.js (which is asked for only then), or HLS
 * that the browser plays itself. Says plainly why something cannot be played.
 *
 * Apple's browsers begin with their own player. Elsewhere hls.js comes first: it says what failed,
 * and live streams go on (docs/playback.md has what was measured); the browser's own player is for
 * streams whose server does not let pages read them, as it needs no leave.
 */

import { MIXED, explain, ofStatus, securedUrl, unplayable } from "./diagnosis.js";
import { problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./index.d.ts").HlsLibrary} HlsLibrary
 */

/** @typedef {"file" | "native" | "hls.js"} Way */

const HLS = "application/vnd.apple.mpegurl";
const APPLE = /^Apple/.test(globalThis.navigator?.vendor ?? "");
/** hls.js keeps so much of what has been played. */
const BACK_BUFFER_S = 30;
const DAMAGED = unplayable("decode", "The video is damaged, or this browser cannot decode it.");
const CODEC = unplayable("codec", "This browser cannot decode it. H.264 with AAC plays everywhere.");
const NO_PLAYLIST = unplayable("not_a_video", "The address leads to no HLS playlist.");
const NO_HLS = problem(
  "no_hls",
  "This browser cannot play HLS itself",
  "Safari and newer Chrome and Edge can; or add the video as MP4.",
);
/** `error` of a media element: its codes. */
const REASONS = /** @type {Record<number, Problem>} */ ({
  1: unplayable("aborted", "Loading was stopped."),
  2: unplayable("network", "The connection to the video's server failed."),
  3: DAMAGED,
  4: unplayable("unplayable", "The address leads to nothing that this browser can play, or its server does not allow it."),
});

export class MediaLoader {
  /** What plays it: the element itself (`file`, `native`), or `hls.js`. */
  how = /** @type {Way | null} */ (null);
  #element;
  #environment;
  #library;
  #failed;
  #onError = () => this.#elementFailed();
  /** @type {any} */
  #hls = null;
  #given = "";
  #url = "";
  /** Rises with each load: what belongs to an older one is dropped. */
  #load = 0;
  #recovered = false;
  /** What can be tried yet. @type {Way[]} */
  #ways = [];

  /**
   * @param {HTMLMediaElement} element
   * @param {import("./environment.js").Environment} environment
   * @param {(() => Promise<HlsLibrary>) | null} library gets hls.js; null: there is none
   * @param {(problem: Problem) => void} failed what was loaded last cannot be played
   */
  constructor(element, environment, library, failed) {
    this.#element = element;
    this.#environment = environment;
    this.#library = library;
    this.#failed = failed;
    element.addEventListener("error", this.#onError);
  }

  /**
   * Loads a video. A problem is returned where that is known at once, else told to `failed`.
   * @param {"file" | "hls"} kind
   * @param {string} url
   * @returns {Problem | null}
   */
  load(kind, url) {
    this.unload();
    this.#given = url;
    this.#url = securedUrl(url);
    this.#ways = kind === "file" ? ["file"] : this.#waysOfHls();
    if (this.#ways.length === 0) return NO_HLS;
    this.#next(NO_HLS);
    return null;
  }

  #waysOfHls() {
    /** @type {Way[]} */
    const ways = this.#library === null ? [] : ["hls.js"];
    if (this.#element.canPlayType(HLS)) ways.splice(APPLE ? 0 : 1, 0, "native");
    return ways;
  }

  /** Tries another way. @param {Problem} otherwise what is wrong where there is none left */
  #next(otherwise) {
    const way = this.#ways.shift();
    if (way === "hls.js") this.#playByLibrary(otherwise);
    else if (way) this.#playNatively(way);
    else if (otherwise === NO_HLS) this.#fail(NO_HLS);
    else this.#explain(otherwise);
  }

  unload() {
    this.#load += 1;
    this.#dropLibrary();
    this.how = null;
    this.#recovered = false;
    if (!this.#element.hasAttribute("src")) return;
    this.#element.removeAttribute("src");
    this.#element.load();
  }

  close() {
    this.unload();
    this.#element.removeEventListener("error", this.#onError);
  }

  #playNatively(/** @type {Way} */ how) {
    this.#dropLibrary();
    this.how = how;
    this.#element.src = this.#url;
    this.#element.load();
  }

  /** @param {Problem} otherwise what is wrong where hls.js is not to be had */
  async #playByLibrary(otherwise) {
    const load = this.#load;
    const library = await this.#library?.().catch(() => null);
    if (load !== this.#load) return;
    if (!library?.Hls.isSupported()) return this.#next(otherwise);
    const { Hls, workerPath } = library;
    this.how = "hls.js";
    const hls = new Hls({ workerPath, backBufferLength: BACK_BUFFER_S, liveDurationInfinity: true });
    this.#hls = hls;
    hls.on("hlsError", (_event, data) => {
      if (data.fatal && load === this.#load) this.#libraryFailed(data);
    });
    hls.loadSource(this.#url);
    hls.attachMedia(this.#element);
  }

  #elementFailed() {
    const { error } = this.#element;
    if (this.how === null || !error || !this.#element.hasAttribute("src")) return;
    const said = REASONS[error.code] ?? REASONS[4];
    if (this.how === "hls.js") this.#recover();
    else this.#next(said);
  }

  /** @param {import("./index.d.ts").HlsErrorData} data */
  #libraryFailed({ type, details, response }) {
    if (/codec/i.test(details)) this.#fail(CODEC);
    else if (details === "manifestParsingError") this.#fail(NO_PLAYLIST);
    else if (type === "mediaError") this.#recover();
    else if (response && response.code >= 400) this.#fail(ofStatus(response.code));
    else this.#next(REASONS[2]); // it may not be read, or is out of reach
  }

  #dropLibrary() {
    this.#hls?.destroy();
    this.#hls = null;
  }

  /** hls.js may go on once with a new decoder. */
  #recover() {
    if (this.#recovered) return this.#fail(DAMAGED);
    this.#recovered = true;
    this.#hls?.recoverMediaError();
  }

  /** @param {Problem} otherwise where the video's server does not say more */
  async #explain(otherwise) {
    const load = this.#load;
    const kind = this.how === "file" ? "file" : "hls";
    const found = await explain(this.#url, kind, otherwise, this.#environment.fetch);
    if (load === this.#load) this.#fail(found);
  }

  #fail(/** @type {Problem} */ failed) {
    const upgraded = this.#url.startsWith("https:") && this.#given.startsWith("http:");
    this.unload();
    this.#failed(upgraded ? MIXED : failed);
  }
}
