/** Uploads of this page: one after the other, also while one is in a room. */

import { ProblemError } from "../../clients/js/index.js";
import { titleOfFile } from "./units.js";

const RATE_OVER_MS = 8000;

/** One file on its way. */
class Entry {
  /** @type {"waiting" | "uploading" | "failed"} */
  state = "waiting";
  videoId = "";
  sentBytes = 0;
  /** Why it failed, or stands still for now. */
  problem = null;
  controller = new AbortController();
  #samples = [];

  constructor(file, title) {
    this.file = file;
    this.title = title;
    this.sizeBytes = file.size;
  }

  moved({ videoId, sentBytes, problem }) {
    this.videoId = videoId;
    this.sentBytes = sentBytes;
    this.problem = problem;
    const now = performance.now();
    this.#samples.push([now, sentBytes]);
    while (now - this.#samples[0][0] > RATE_OVER_MS) this.#samples.shift();
  }

  /** Seconds to go, by how it went lately; null while nobody can tell. */
  get leftS() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || last[0] - first[0] < 1000 || last[1] <= first[1]) return null;
    return ((this.sizeBytes - last[1]) * (last[0] - first[0])) / (last[1] - first[1]) / 1000;
  }
}

export class Uploads {
  /** Oldest first. @type {Entry[]} */
  entries = [];
  #videos;
  #notices;
  #listeners = new Set();
  #running = false;

  /**
   * @param {import("../../clients/js/index.js").VideosApi} videos
   * @param {import("./notices.js").Notices} notices
   */
  constructor(videos, notices) {
    this.#videos = videos;
    this.#notices = notices;
    window.addEventListener("beforeunload", (event) => this.#running && event.preventDefault());
  }

  /**
   * Calls `listener` with each change: ("changed", entry), ("done", entry, info), ("gone", entry).
   * Returns the function that takes it away.
   */
  watch(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  add(files) {
    for (const file of files) {
      const known = this.entries.find((entry) => isSame(entry.file, file));
      if (known?.state === "failed") this.resume(known);
      if (known) continue;
      const entry = new Entry(file, titleOfFile(file.name) || file.name);
      this.entries.push(entry);
      this.#tell("changed", entry);
    }
    this.#run();
  }

  /** What failed goes on, from where it is. */
  resume(entry) {
    Object.assign(entry, { state: "waiting", problem: null, controller: new AbortController() });
    this.#notices.clear("upload");
    this.#tell("changed", entry);
    this.#run();
  }

  /** Stops it, and drops what the server has of it. */
  async cancel(entry) {
    entry.controller.abort();
    this.#drop(entry, "gone");
    if (entry.videoId) await this.#remove(entry.videoId);
  }

  async #remove(videoId) {
    try {
      await this.#videos.remove(videoId);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error; // the server drops it by itself, later
    }
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      const entry = this.entries.find(({ state }) => state === "waiting");
      if (!entry) break;
      await this.#upload(entry);
    }
    this.#running = false;
  }

  async #upload(entry) {
    entry.state = "uploading";
    this.#tell("changed", entry);
    const { signal } = entry.controller;
    let late = "";
    const onProgress = (progress) => {
      if (signal.aborted && !entry.videoId) late = progress.videoId;
      if (signal.aborted) return;
      entry.moved(progress);
      this.#tell("changed", entry);
    };
    try {
      const info = await this.#videos.upload(entry.file, { title: entry.title, signal, onProgress });
      this.#drop(entry, "done", info);
      this.#tellElsewhere("info", `Uploaded: ${info.title}`, "It is being prepared; then it is in the library.");
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (!signal.aborted) this.#failed(entry, error);
      else if (late) await this.#remove(late);
    }
  }

  #failed(entry, error) {
    Object.assign(entry, { state: "failed", problem: error.problem });
    this.#tell("changed", entry);
    this.#tellElsewhere("warning", `Not uploaded: ${entry.title}`, error.message, [["Try again", () => this.resume(entry)]]);
  }

  /** On the start screen its row says so. */
  #tellElsewhere(kind, title, text, buttons = []) {
    if (document.getElementById("videos-card")) return;
    this.#notices.show("upload", { kind, title, text, buttons });
  }

  #drop(entry, what, info = null) {
    this.entries = this.entries.filter((other) => other !== entry);
    this.#tell(what, entry, info);
  }

  #tell(what, entry, info) {
    for (const listener of this.#listeners) listener(what, entry, info);
  }
}

function isSame(one, other) {
  return one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;
}
