/** The player and its bar: what plays, where, how far off. A live item is the live view's. */

import { MediaPlayer, ProblemError } from "../../clients/js/index.js";
import { $, say } from "./dom.js";
import { hlsLibrary } from "./hls-library.js";
import { clock } from "./units.js";

const SHOW_MS = 400;
const SEEK_STEP_S = 5;
const SETTLE_MS = 350;
const IN_SYNC_MS = 80;

export class PlayerView {
  player;
  #room;
  #stage;
  #notices;
  #lastShown = 0;
  #seeking = false;
  #seekTimer = null;
  #note;
  #sync = null;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./stage.js").Stage} stage
   * @param {import("./notices.js").Notices} notices
   * @param {import("./stage-note.js").StageNote} note
   */
  constructor(room, stage, notices, note) {
    this.#room = room;
    this.#stage = stage;
    this.#notices = notices;
    this.#note = note;
    this.player = new MediaPlayer(room, $("player"), { hls: hlsLibrary });
    this.player.on("sync", (sync) => this.#follow(sync));
    this.player.on("item", () => this.#item());
    room.on("playback", ({ state, by, snapshot }) => this.#told(state, by, snapshot));
    room.on("queue", () => this.#item());
    room.on("grants", () => this.#mayI());
    this.#setUpButtons();
    this.#setUpSeek();
    this.#item();
  }

  get #state() {
    return this.#room.state.playback;
  }

  get #live() {
    return this.#room.state.item?.kind === "live";
  }

  get #mayControl() {
    return this.#room.state.grants?.can_control ?? false;
  }

  /** Sends a command. A `stale` one was overtaken by somebody else's: that is no error. */
  async #control(command) {
    try {
      await command;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (error.code === "stale") return;
      this.#notices.show("playback", { kind: "warning", title: error.problem.title, text: error.message });
    }
  }

  #setUpButtons() {
    const toggle = () => {
      if (this.#live || !this.#mayControl || !this.#state?.item_id) return;
      const { player } = this;
      this.#control(this.#state.playing ? player.pause() : player.play());
    };
    $("play").addEventListener("click", toggle);
    $("player").addEventListener("click", toggle);
    for (const type of ["loadedmetadata", "resize", "emptied"]) {
      $("player").addEventListener(type, () => this.#soundOnly());
    }
    $("next").addEventListener("click", () => this.#control(this.#room.control("next")));
    $("rate").addEventListener("change", () => this.#control(this.player.setRate(Number($("rate").value))));
    $("resync").addEventListener("click", () => {
      this.player.resync();
      this.#render(this.player.sync);
      say("Coming to the shared position");
    });
  }

  #setUpSeek() {
    const seek = $("seek");
    const send = () => {
      clearTimeout(this.#seekTimer);
      this.#seekTimer = setTimeout(async () => {
        await this.#control(this.player.seek(Number(seek.value)));
        this.#seeking = false;
      }, SETTLE_MS);
    };
    seek.addEventListener("input", () => {
      this.#seeking = true;
      this.#showTime(Number(seek.value));
    });
    seek.addEventListener("change", send);
    seek.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!by || seek.disabled) return;
      event.preventDefault();
      this.#seeking = true;
      seek.value = String(Number(seek.value) + by * SEEK_STEP_S);
      this.#showTime(Number(seek.value));
      send();
    });
  }

  #mayI() {
    const may = this.#mayControl;
    for (const id of ["seek", "rate"]) $(id).disabled = !may;
    $("play").disabled = !may && !this.#live;
    $("play").title = may || this.#live ? "" : "The hosts control the playback of this room";
    $("stage-add").hidden = !may;
    this.#next();
  }

  #next() {
    const { queue, playback } = this.#room.state;
    const at = queue.findIndex(({ item_id }) => item_id === playback?.item_id);
    $("next").disabled = !this.#mayControl || at < 0 || at === queue.length - 1;
  }

  /** Another item, or none. */
  #item() {
    const { item } = this.#room.state;
    const { problem } = this.player;
    $("playbar").hidden = item === null;
    this.#stage.media = item !== null;
    $("player").hidden = item === null || item.kind === "live" || problem !== null;
    $("player").setAttribute("aria-label", item ? `The room watches: ${item.title}` : "What the room watches");
    $("now").textContent = item?.title ?? "";
    this.#soundOnly();
    this.#mayI();
    this.#render(this.player.sync);
  }

  /** Sound without pictures has a sign in their place. */
  #soundOnly() {
    const { item, problem } = this.player;
    const video = $("player");
    const only = !video.hidden && !problem && video.readyState >= 1 && video.videoWidth === 0;
    $("sound-only").hidden = !only;
    $("sound-only-title").textContent = item?.title ?? "";
  }

  #told(state, by, snapshot) {
    if (this.#live) return this.#item();
    $("play-icon").setAttribute("href", state.playing ? "#i-pause" : "#i-play");
    $("play").setAttribute("aria-label", state.playing ? "Pause for everyone" : "Play for everyone");
    const rate = [...$("rate").options].find(({ value }) => Number(value) === state.rate);
    if (rate) $("rate").value = rate.value;
    this.#item();
    if (snapshot || by === null || by === this.#room.state.memberId) return;
    if (state.playing !== this.#playing) {
      say(`${this.#room.state.nameOf(by)} ${state.playing ? "started" : "paused"} the playback`);
    }
    this.#playing = state.playing;
  }
  #playing = false;

  #follow(sync) {
    const now = performance.now();
    const urgent = sync.blocked !== this.#sync?.blocked || sync.waitingFor.length !== this.#sync?.waitingFor.length;
    this.#sync = sync;
    if (!urgent && now - this.#lastShown < SHOW_MS) return;
    this.#lastShown = now;
    this.#render(sync);
  }

  #render(sync) {
    if (this.#live) return;
    if ($("playbar").hidden) return this.#note.show(null);
    if (!this.#seeking) {
      const { durationS, positionS } = this.player;
      $("seek").max = String(Math.ceil(durationS ?? Math.max(100, positionS ?? 0)));
      $("seek").value = String(Math.round(Math.min(positionS ?? 0, durationS ?? Infinity)));
      this.#showTime(Math.min(positionS ?? 0, durationS ?? Infinity));
      $("time-all").textContent = durationS === null ? "–:––" : clock(durationS);
    }
    $("playbar").toggleAttribute("data-stream", sync.live);
    const [state, text] = this.#words(sync);
    const drift = $("drift");
    drift.dataset.state = state;
    drift.dataset.ms = sync.driftS === null ? "" : String(Math.round(sync.driftS * 1000));
    if ($("drift-text").textContent !== text) $("drift-text").textContent = text;
    this.#note.show(this.#noteNow(sync));
  }

  #showTime(seconds) {
    $("time-now").textContent = clock(seconds);
    $("seek").setAttribute("aria-valuetext", `${clock(seconds)} of ${$("time-all").textContent}`);
  }

  /** @returns {[string, string]} */
  #words(sync) {
    if (this.player.problem) return ["off", "Not shown here"];
    if (!this.#state?.playing) return ["idle", "Paused"];
    if (sync.waitingFor.length > 0) return ["busy", "Waiting"];
    if (sync.blocked) return ["off", "Not joined"];
    if (!sync.synchronised) return ["busy", "Finding the clock"];
    if (sync.buffering) return ["busy", "Loading"];
    if (sync.live) return ["good", "Live stream"];
    if (sync.driftS === null) return ["busy", "Coming in sync"];
    const ms = Math.round(sync.driftS * 1000);
    if (Math.abs(ms) < IN_SYNC_MS) return ["good", `In sync, ${Math.abs(ms)} ms`];
    const far = Math.abs(ms) < 1000 ? `${Math.abs(ms)} ms` : `${(Math.abs(ms) / 1000).toFixed(1)} s`;
    if (Math.abs(ms) > 1000 && !this.player.seekable) return ["off", `${far} off: its server lets nobody seek`];
    return ["busy", `${far} ${ms < 0 ? "behind" : "ahead"}`];
  }

  /** What is said over the picture. */
  #noteNow(sync) {
    const { problem } = this.player;
    const unblock = () => this.player.unblock();
    if (problem) {
      const again = { button: "Try again", action: () => this.player.retry() };
      return { title: problem.title, text: problem.detail, ...(problem.retryable ? again : {}) };
    }
    if (!this.#state?.playing) return null;
    if (sync.blocked) {
      const text = "Your browser starts the sound only after a click.";
      return { title: "Everybody is watching", text, button: "Click to join the playback", action: unblock };
    }
    const { state } = this.#room;
    const waiting = sync.waitingFor.map((id) => (id === state.memberId ? "you" : state.nameOf(id)));
    if (waiting.length === 0) return null;
    const names = waiting.slice(0, 3).join(", ") + (waiting.length > 3 ? ` and ${waiting.length - 3} more` : "");
    return { title: `Waiting for ${names}`, text: "It starts for all at the same moment." };
  }
}
