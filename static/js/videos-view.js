/** The library on the start screen: what there is, uploading, and what may be done with a video. */

import { ProblemError } from "../../clients/js/index.js";
import { ask } from "./confirm.js";
import { $, say, sentence } from "./dom.js";
import { VideoDialogs } from "./video-dialogs.js";
import { VideoRow } from "./video-row.js";

const PAGE = 50;
const MAX_TITLE = 200;
/** Between looks at what is being prepared: longer and longer while nothing changes. */
const LOOK_MS = { first: 1500, factor: 1.25, most: 15_000 };
/** So long without a change, and it is not looked at any more; the page can be reloaded. */
const PATIENCE_MS = 30 * 60_000;

/** @typedef {import("../../clients/js/index.js").VideoInfo} VideoInfo */

export class VideosView {
  #videos;
  #access;
  #uploads;
  #notices;
  #together;
  #dialogs;
  /** The newest first. @type {VideoInfo[]} */
  #list = [];
  #next = null;
  /** By video, or by upload while that has none. @type {Map<unknown, VideoRow>} */
  #rows = new Map();
  #may = { see: false, manage: false };
  #open = false;
  #timer = null;
  #lookMs = LOOK_MS.first;
  #changedAt = 0;
  #offs = [];

  /**
   * @param {object} parts
   * @param {import("../../clients/js/index.js").RoomsApi} parts.api
   * @param {import("../../clients/js/index.js").VideosApi} parts.videos
   * @param {import("./access.js").Access} parts.access
   * @param {import("./uploads.js").Uploads} parts.uploads
   * @param {import("./notices.js").Notices} parts.notices
   * @param {(info: VideoInfo) => Promise<void>} together starts a room with it
   */
  constructor({ api, videos, access, uploads, notices }, together) {
    this.#videos = videos;
    this.#access = access;
    this.#uploads = uploads;
    this.#notices = notices;
    this.#together = together;
    this.#dialogs = new VideoDialogs(videos, api.base);
    this.#setUpUploading();
    $("videos-more").addEventListener("click", () => this.#more());
    this.#offs.push(uploads.watch((what, entry, info) => this.#uploading(what, entry, info)));
    const shown = () => !document.hidden && this.#look();
    document.addEventListener("visibilitychange", shown);
    this.#offs.push(() => document.removeEventListener("visibilitychange", shown));
  }

  /** Shows what there is, to who may see it. Again after somebody has signed in. */
  async open() {
    this.#open = true;
    const scopes = await this.#access.scopes();
    if (!this.#open) return;
    this.#may = { see: scopes.has("videos"), manage: scopes.has("videos:manage") };
    $("videos-card").hidden = !this.#may.see;
    $("videos-upload").hidden = !this.#may.manage;
    if (this.#may.see) await this.#load();
  }

  close() {
    this.#open = false;
    clearTimeout(this.#timer);
    for (const off of this.#offs.splice(0)) off();
  }

  // ---- what there is ---------------------------------------------------------------------------

  async #load() {
    clearTimeout(this.#timer);
    try {
      const { videos, next } = await this.#videos.list({ limit: PAGE });
      if (!this.#open) return;
      this.#take(videos, next);
      this.#render();
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (this.#open && this.#list.length === 0) this.#say(`${sentence(error.message)} Reload the page in a moment.`);
    }
    this.#lookLater();
  }

  /** The first page anew; of what was shown below it, that stays which is older. */
  #take(videos, next) {
    const before = JSON.stringify(this.#list);
    this.#tellOfReady(videos);
    const oldest = videos.at(-1)?.created_at ?? Infinity;
    const known = new Set(videos.map(({ video_id }) => video_id));
    const below = this.#list.filter(({ video_id, created_at }) => created_at <= oldest && !known.has(video_id));
    const goesOn = next !== null && below.length > 0;
    this.#list = goesOn ? [...videos, ...below] : [...videos];
    if (!goesOn) this.#next = next;
    if (JSON.stringify(this.#list) === before) return;
    this.#changedAt = performance.now();
    this.#lookMs = LOOK_MS.first;
  }

  #tellOfReady(videos) {
    for (const { video_id, state, title } of videos) {
      const was = this.#list.find((other) => other.video_id === video_id)?.state;
      if (was !== "processing" || state === "processing") continue;
      say(state === "ready" ? `Ready to watch: ${title}` : `It could not be prepared: ${title}`);
    }
  }

  async #more() {
    try {
      const { videos, next } = await this.#videos.list({ after: this.#next, limit: PAGE });
      const known = new Set(this.#list.map(({ video_id }) => video_id));
      this.#list.push(...videos.filter(({ video_id }) => !known.has(video_id)));
      this.#next = next;
      const [first] = videos;
      this.#render();
      this.#rows.get(first?.video_id)?.element.querySelector("button")?.focus();
    } catch (error) {
      this.#refused(error);
    }
  }

  get #unsettled() {
    const own = new Set(this.#uploads.entries.map(({ videoId }) => videoId));
    return this.#list.some(({ state, video_id }) => state === "processing" || (state === "uploading" && !own.has(video_id)));
  }

  #lookLater() {
    clearTimeout(this.#timer);
    if (!this.#open || !this.#unsettled) return;
    if (performance.now() - this.#changedAt > PATIENCE_MS) return;
    this.#timer = setTimeout(() => this.#look(), this.#lookMs);
    this.#lookMs = Math.min(LOOK_MS.most, this.#lookMs * LOOK_MS.factor);
  }

  #look() {
    if (this.#open && this.#may.see && !document.hidden && this.#unsettled) this.#load();
  }

  // ---- the rows --------------------------------------------------------------------------------

  #render() {
    if (!this.#open) return;
    const known = new Set(this.#list.map(({ video_id }) => video_id));
    const byId = new Map(this.#uploads.entries.filter(({ videoId }) => videoId).map((entry) => [entry.videoId, entry]));
    const shown = [
      ...this.#uploads.entries.filter(({ videoId }) => !known.has(videoId)).reverse().map((entry) => [entry, null, entry]),
      ...this.#list.map((info) => [info.video_id, info, byId.get(info.video_id) ?? null]),
    ];
    const rows = new Map();
    for (const [key, info, upload] of shown) {
      const row = this.#rows.get(key) ?? this.#rows.get(upload) ?? new VideoRow((what, of) => this.#act(what, of));
      const mayResume = info?.state === "uploading" && this.#videos.mayResume(info.video_id);
      row.show(info, upload, { manage: this.#may.manage, mayResume });
      rows.set(key, row);
    }
    this.#rows = rows;
    this.#place([...rows.values()].map(({ element }) => element));
    $("videos-foot").hidden = this.#next === null;
    if (rows.size > 0) this.#say("");
    else this.#say(this.#may.manage ? "No videos yet. Drop one here, or choose one to upload." : "No videos yet. Administrators of this server can upload some.");
  }

  /** Elements that stay are left where they are, so that the focus stays. */
  #place(elements) {
    const list = $("videos");
    const focus = list.contains(document.activeElement) ? document.activeElement : null;
    for (const element of [...list.children]) if (!elements.includes(element)) element.remove();
    elements.forEach((element, index) => {
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    });
    if (focus && !focus.isConnected) ($("videos-upload").hidden ? $("content") : $("videos-upload")).focus();
    else if (focus && document.activeElement !== focus) focus.focus();
  }

  #say(words) {
    $("videos-empty").hidden = !words;
    $("videos-empty").textContent = words;
  }

  // ---- what is done ----------------------------------------------------------------------------

  #act(what, row) {
    const { info, upload } = row.shown;
    const actions = {
      play: () => this.#dialogs.play(info),
      link: () => this.#dialogs.link(info),
      together: () => this.#together(info),
      rename: () => this.#rename(info),
      remove: () => this.#remove(info),
      cancel: () => this.#uploads.cancel(upload),
      resume: () => this.#uploads.resume(upload),
      choose: () => this.#choose(),
    };
    Promise.resolve(actions[what]()).catch((error) => this.#refused(error));
  }

  async #rename({ video_id, title }) {
    const wanted = await ask({ title: "Rename the video", yes: "Rename", field: "Title", value: title, maxLength: MAX_TITLE });
    if (!wanted || wanted === title) return;
    this.#put(await this.#videos.rename(video_id, wanted));
    say(`Renamed: ${wanted}`);
  }

  async #remove({ video_id, title }) {
    const sure = await ask({
      title: "Delete the video?",
      text: `“${title}” is gone for good, also from rooms that have it in their queue.`,
      yes: "Delete",
      danger: true,
    });
    if (!sure) return;
    await this.#videos.remove(video_id);
    this.#list = this.#list.filter((info) => info.video_id !== video_id);
    this.#render();
    say(`Deleted: ${title}`);
  }

  /** What the server says of one video. */
  #put(info) {
    const at = this.#list.findIndex(({ video_id }) => video_id === info.video_id);
    if (at < 0) this.#list.unshift(info);
    else this.#list[at] = info;
    this.#changedAt = performance.now();
    this.#lookMs = LOOK_MS.first;
    this.#render();
    this.#lookLater();
  }

  #refused(error) {
    if (!(error instanceof ProblemError)) throw error;
    this.#notices.show("videos", { kind: "warning", title: error.problem.title, text: sentence(error.message) });
  }

  // ---- uploading -------------------------------------------------------------------------------

  #uploading(what, entry, info) {
    if (what === "done") {
      if (this.#rows.has(entry)) this.#rows.set(info.video_id, this.#rows.get(entry));
      say(`Uploaded: ${info.title}. It is being prepared.`);
      return this.#put(info);
    }
    if (what === "gone") {
      this.#list = this.#list.filter(({ video_id }) => video_id !== entry.videoId);
      say(`Upload cancelled: ${entry.title}`);
    }
    this.#render();
  }

  #choose() {
    $("videos-file").click();
  }

  #add(files) {
    this.#notices.clear("videos");
    this.#uploads.add([...files]);
  }

  #setUpUploading() {
    const [card, input] = [$("videos-card"), $("videos-file")];
    $("videos-upload").addEventListener("click", () => this.#choose());
    input.addEventListener("change", () => {
      this.#add(input.files);
      input.value = "";
    });
    const listen = (type, listener) => {
      window.addEventListener(type, listener);
      this.#offs.push(() => window.removeEventListener(type, listener));
    };
    const wanted = ({ dataTransfer }) => this.#may.manage && dataTransfer?.types.includes("Files");
    const over = (on) => ($("videos-drop").hidden = !on);
    listen("dragover", (event) => {
      if (!wanted(event)) return;
      event.preventDefault(); // else the browser opens the file, and the page is gone
      const here = card.contains(event.target);
      event.dataTransfer.dropEffect = here ? "copy" : "none";
      over(here);
    });
    listen("dragleave", ({ relatedTarget }) => !relatedTarget && over(false));
    listen("dragend", () => over(false));
    listen("drop", (event) => {
      if (!wanted(event)) return;
      event.preventDefault();
      over(false);
      if (card.contains(event.target)) this.#add(event.dataTransfer.files);
    });
  }
}
