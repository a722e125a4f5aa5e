/** Adding a video of the server to the room's queue: a dialog with all that are ready. */

import { ProblemError } from "../../clients/js/index.js";
import { $, icon, make, say, sentence } from "./dom.js";
import { clock } from "./units.js";

const PAGE = 100;
/** More than this is not listed; the newest are. */
const MOST = 1000;

export class LibraryPicker {
  #room;
  #videos;
  #access;
  #allowed = false;
  /** Rises with each opening: what belongs to an older one is dropped. */
  #opening = 0;
  /** @type {import("../../clients/js/index.js").VideoInfo[]} */
  #list = [];

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("../../clients/js/index.js").VideosApi} videos
   * @param {import("./access.js").Access} access
   */
  constructor(room, videos, access) {
    this.#room = room;
    this.#videos = videos;
    this.#access = access;
    room.session.on("welcome", () => this.#offer());
    $("queue-library").addEventListener("click", () => this.#open());
    $("library-close").addEventListener("click", () => $("library-dialog").close());
    $("library-dialog").addEventListener("close", () => (this.#opening += 1));
    $("library-search").addEventListener("input", () => this.#render());
  }

  /** The button is there for who may see the library. */
  async #offer() {
    this.#allowed = (await this.#access.scopes()).has("videos");
    $("queue-library").hidden = !this.#allowed;
    if (this.#allowed) {
      $("queue-empty").textContent = "Nothing in the queue. Pick a video from the library, or add the address of one (MP4, WebM, HLS).";
    }
  }

  async #open() {
    const opening = (this.#opening += 1);
    this.#list = [];
    $("library-search").value = "";
    $("library-error").textContent = "";
    $("library").replaceChildren();
    this.#say("Looking…");
    $("library-dialog").showModal();
    $("library-search").focus();
    try {
      let after = null;
      do {
        const { videos, next } = await this.#videos.list({ after, limit: PAGE });
        if (opening !== this.#opening) return;
        this.#list.push(...videos.filter(({ state }) => state === "ready"));
        after = next;
        this.#render();
      } while (after !== null && this.#list.length < MOST);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (opening !== this.#opening) return;
      this.#say("");
      $("library-error").textContent = sentence(error.message);
    }
  }

  #render() {
    const words = $("library-search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ title }) => words.every((word) => title.toLocaleLowerCase().includes(word));
    const found = this.#list.filter(fits);
    $("library").replaceChildren(...found.map((info) => this.#row(info)));
    if (found.length > 0) this.#say("");
    else this.#say(this.#list.length > 0 ? "No title has these words." : "No videos yet. They are uploaded on the start page.");
  }

  #row(info) {
    const button = make(
      "button",
      { type: "button", class: "library-row" },
      icon(info.width === null ? "sound-only" : "film"),
      make("span", { class: "library-title", dir: "auto", text: info.title }),
      make("span", { class: "library-length", text: clock(info.duration_s ?? 0) }),
    );
    button.addEventListener("click", () => this.#add(info, button));
    return make("li", {}, button);
  }

  async #add({ video_id, title }, button) {
    button.disabled = true;
    try {
      await this.#room.add({ kind: "vod", video_id });
      $("library-dialog").close();
      say(`Added: ${title}`);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      button.disabled = false;
      $("library-error").textContent = sentence(error.message);
    }
  }

  #say(words) {
    $("library-empty").hidden = !words;
    $("library-empty").textContent = words;
  }
}
