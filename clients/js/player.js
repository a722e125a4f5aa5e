/** Keeps a media element with its room: the clock's messages, the follower's steps, the reports. */

import { ClockSync } from "./clock.js";
import { Emitter } from "./emitter.js";
import { ItemSource } from "./item-source.js";
import { LiveEdge } from "./live-edge.js";
import { MediaLoader } from "./loader.js";
import { problem } from "./problems.js";
import { PlaybackFollower } from "./sync.js";

/**
 * @typedef {import("./types.d.ts").QueueItem} QueueItem
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./index.d.ts").PlayerSync} PlayerSync
 * @typedef {import("./room.js").Room} Room
 */

const EVENTS = [
  "loadedmetadata", "durationchange", "canplay", "canplaythrough", "seeked", "waiting", "stalled", "playing",
  "pause", "play", "ended",
];
/** A hidden page's timers are slow; the worker's clock looks in between. */
const LOOK_MS = 250;
const REPORT_S = 2;
/** Between looks at a player that cannot play. */
const IDLE_S = 0.5;
const LIVE = problem("live", "A live broadcast", "It has no position to follow; a Viewer shows it.");

export class MediaPlayer extends Emitter {
  clock = new ClockSync();
  follower = new PlaybackFollower(this.clock);
  /** What is loaded, or was tried. @type {QueueItem | null} */
  item = null;
  /** Why the item cannot be played here. @type {Problem | null} */
  problem = null;
  #loader;
  #source;
  /** The item's media were there. */
  #begun = false;
  /** They are loaded once more, from another address. */
  #again = false;
  #loadedId = /** @type {string | null} */ (null);
  /** What is loaded is a live stream. @type {LiveEdge | null} */
  #edge = null;
  #wakeS = -Infinity;
  /** @type {any} */
  #timer = null;
  #reportedS = -Infinity;
  #refused = false;
  /** The epoch whose start need not wait for us. @type {number | null} */
  #excused = null;
  #closed = false;
  /** @type {(() => void)[]} */
  #offs = [];

  /**
   * @param {Room} room
   * @param {HTMLMediaElement} element
   * @param {import("./index.d.ts").MediaPlayerOptions} [options]
   */
  constructor(room, element, { sourceOf, hls = null } = {}) {
    super();
    this.room = room;
    this.element = element;
    const { session } = room;
    this.environment = session.environment;
    this.#source = new ItemSource(room, sourceOf);
    this.#loader = new MediaLoader(element, this.environment, hls, (found) => this.#failed(found));
    this.#offs.push(
      session.on("welcome", () => this.#connected()),
      session.on("clock.pong", ({ t0, t1, t2 }) => {
        this.clock.pong(t0, t1, t2, this.#nowS());
        this.#step();
      }),
      room.on("playback", ({ state, snapshot }) => {
        this.follower.update(state, { snapshot });
        this.#step();
      }),
      room.on("queue", () => this.#step()),
      this.environment.tick(LOOK_MS, () => this.#look()),
      this.environment.watchWake(() => this.clock.restart(this.#nowS())),
    );
    this.#listen("loadedmetadata", () => this.#begin());
    for (const type of EVENTS) this.#listen(type, () => this.#step());
    this.#listen("ended", () => this.#streamEnded());
  }

  /** How well the player follows. @returns {PlayerSync} */
  get sync() {
    const { follower, clock } = this;
    const state = follower.state;
    const shared = clock.sharedS(this.#nowS());
    return {
      driftS: follower.driftS,
      correcting: follower.correcting,
      landing: follower.landing,
      blocked: this.blocked,
      buffering: this.buffering,
      live: this.live,
      synchronised: clock.synchronised,
      uncertaintyS: clock.uncertaintyS,
      roundTripS: clock.roundTripS,
      waitingFor: state?.wait_until_s != null && shared < state.wait_until_s ? state.waiting_for : [],
    };
  }

  /** Whether the browser wants a gesture first: call `unblock` from a click. */
  get blocked() {
    return this.#refused || this.follower.blocked;
  }

  /** Whether the item plays, but this player has run out of data. */
  get buffering() {
    const { state } = this.follower;
    return Boolean(state?.playing) && !this.problem && this.#loadedId !== null && !this.#isReady();
  }

  /** Whether it is a live stream: everybody is at its newest, and there is no shared position. */
  get live() {
    return this.#edge !== null;
  }

  /** What plays it: `file`, `native` (the browser's own HLS) or `hls.js`; null: nothing. */
  get playedBy() {
    return this.#loader.how;
  }

  /** Whether one can seek in it: some servers hand out whole files only. */
  get seekable() {
    const { readyState, seekable } = this.element;
    return readyState >= 1 && seekable.length > 0 && seekable.end(seekable.length - 1) > 0;
  }

  /** The shared position now, seconds; null while nothing, or something live, is played. */
  get positionS() {
    return this.live ? null : this.follower.positionS(this.#nowS());
  }

  /** Seconds; null while it is not known. */
  get durationS() {
    const { duration } = this.element;
    if (this.live) return null;
    if (this.#loadedId !== null && Number.isFinite(duration)) return duration;
    return this.item?.duration_s ?? null;
  }

  /** All these resolve when the room has taken it, and reject with ProblemError. */
  play() {
    return this.room.control("play");
  }

  /** Stops where the picture is that one sees. */
  pause() {
    const here = this.#loadedId !== null && !this.follower.landing && !this.problem && !this.live;
    return this.room.control("pause", here ? { position_s: this.element.currentTime } : {});
  }

  seek(/** @type {number} */ positionS) {
    return this.room.control("seek", { position_s: Math.max(0, positionS) });
  }

  setRate(/** @type {number} */ rate) {
    return this.room.control("rate", { rate });
  }

  /** Lands anew at the shared position. */
  resync() {
    this.clock.restart(this.#nowS());
    this.follower.resync();
    this.#step();
  }

  /** To be called from a click: the browser lets the element play from then on. */
  async unblock() {
    try {
      await this.element.play();
    } catch {
      return; // still refused
    }
    this.#refused = false;
    this.resync();
  }

  /** Tries again to load what failed. */
  retry() {
    this.#loadedId = null;
    this.problem = null;
    this.#step();
  }

  close() {
    this.#closed = true;
    this.environment.clearTimeout(this.#timer);
    for (const off of this.#offs.splice(0)) off();
    this.#unload();
    this.#loader.close();
  }

  // ---- the loop --------------------------------------------------------------------------------

  #nowS() {
    return this.environment.now() / 1000;
  }

  #connected() {
    this.clock.restart(this.#nowS());
    // What could not be asked for, or had, without the server.
    if (this.problem?.retryable && this.#source.isAsked(this.item)) this.retry();
    else this.#step();
  }

  #look() {
    const nowS = this.#nowS();
    if (nowS >= this.#wakeS || nowS >= this.clock.nextPingS) this.#step();
  }

  #step() {
    if (this.#closed) return;
    const nowS = this.#nowS();
    this.#ping(nowS);
    const step = this.#atTheEdge(nowS) ?? this.follower.step(nowS, this.#player());
    this.#do(step);
    if (this.problem) this.#waitNotForMe(nowS);
    this.#report(nowS);
    const wakeS = this.problem ? Math.max(step.wakeS, nowS + IDLE_S) : step.wakeS;
    this.#wakeS = Math.min(wakeS, this.clock.nextPingS);
    this.environment.clearTimeout(this.#timer);
    const waitMs = Math.max(1, (this.#wakeS - this.#nowS()) * 1000);
    this.#timer = this.environment.setTimeout(() => this.#step(), waitMs);
    this.emit("sync", this.sync);
  }

  #ping(/** @type {number} */ nowS) {
    if (nowS < this.clock.nextPingS || this.room.session.state.state !== "open") return;
    this.#tell({ type: "clock.ping", t0: this.clock.ping(nowS) });
  }

  #player() {
    const { element } = this;
    return {
      itemId: this.#loadedId,
      positionS: element.currentTime,
      paused: element.paused,
      ready: this.#isReady(),
      rate: element.playbackRate,
      seekable: this.seekable,
      durationS: Number.isFinite(element.duration) ? element.duration : null,
    };
  }

  /** What to do where a live stream plays; null where none does. */
  #atTheEdge(/** @type {number} */ nowS) {
    const { element, follower } = this;
    const { state } = follower;
    if (state === null || state.item_id !== this.#loadedId || this.problem) return null;
    if (this.item?.kind === "hls" && element.duration === Infinity) this.#edge ??= new LiveEdge();
    if (this.#edge === null || !this.clock.synchronised) return null;
    const { seekable, currentTime: positionS, paused } = element;
    const edgeS = seekable.length > 0 ? seekable.end(seekable.length - 1) : positionS;
    const player = { positionS, edgeS, paused, ready: this.#isReady() };
    return this.#edge.step(nowS, this.clock.sharedS(nowS), state, player);
  }

  #streamEnded() {
    const { state } = this.follower;
    if (this.live && state?.playing) this.#ended(state.epoch);
  }

  #isReady() {
    const { element } = this;
    return !this.problem && !element.seeking && element.readyState >= 3;
  }

  #do(/** @type {import("./index.d.ts").PlaybackStep} */ step) {
    const { element } = this;
    if (this.follower.state?.item_id == null) this.#unload();
    if (step.load !== null) return this.#load(step.load);
    if (this.problem) return;
    if (step.pause) element.pause();
    if (step.seekToS !== null) element.currentTime = step.seekToS;
    if (step.rate !== null) element.playbackRate = step.rate;
    if (step.play && !this.#refused) element.play().catch((error) => this.#playRefused(error));
    if (step.ready !== null) this.#tell({ type: "playback.ready", epoch: step.ready });
    if (step.ended !== null) this.#ended(step.ended);
  }

  #playRefused(/** @type {Error} */ error) {
    if (error.name !== "NotAllowedError") return; // a pause came between, or it cannot be played
    this.#refused = true;
    this.#step();
  }

  /** This player will not play the item: the others need not wait for it. */
  #waitNotForMe(/** @type {number} */ nowS) {
    const { state } = this.follower;
    if (state?.wait_until_s == null || state.epoch === this.#excused) return;
    if (state.item_id !== this.#loadedId || this.clock.sharedS(nowS) >= state.wait_until_s) return;
    this.#excused = state.epoch;
    this.#tell({ type: "playback.ready", epoch: state.epoch });
  }

  /** Everybody says so; the first one counts. */
  #ended(/** @type {number} */ epoch) {
    if (!this.room.state.grants?.can_control) return;
    const base = { epoch, seq: this.follower.state?.seq ?? 0 };
    this.room.control("next", { base, ended: true }).catch(() => {});
  }

  #report(/** @type {number} */ nowS) {
    const { driftS } = this.follower;
    if (nowS - this.#reportedS < REPORT_S || !this.clock.synchronised) return;
    this.#reportedS = nowS;
    this.#tell({
      type: "playback.report",
      drift_ms: Math.round((driftS ?? 0) * 1e4) / 10,
      round_trip_ms: Math.round(this.clock.roundTripS * 1e4) / 10,
      buffering: this.buffering,
    });
  }

  #tell(/** @type {any} */ message) {
    this.room.session.tell(message);
  }

  // ---- loading ---------------------------------------------------------------------------------

  #load(/** @type {string} */ itemId) {
    const item = this.room.state.queue.find(({ item_id }) => item_id === itemId) ?? null;
    if (item === null) return; // the queue comes in the next message
    this.#unload();
    this.item = item;
    this.#loadedId = itemId;
    if (item.kind === "live") this.problem = LIVE;
    else this.#find(item);
    this.emit("item", { item, problem: this.problem });
  }

  /** Puts the item's media into the element, now or when it is known where they are. */
  #find(/** @type {QueueItem} */ item) {
    let atOnce = true;
    this.#source.find(item, (url, wrong) => {
      const found = wrong ?? this.#loader.load(item.kind === "hls" ? "hls" : "file", url);
      if (atOnce) this.problem = found;
      else if (found) this.#giveUp(found);
      else this.#step();
    });
    atOnce = false;
  }

  /** The media are there, perhaps anew: to where the others are. */
  #begin() {
    if (this.#again) this.follower.resync();
    this.#again = false;
    this.#begun = true;
  }

  #unload() {
    if (this.item === null && this.#loadedId === null) return;
    const had = this.item;
    this.item = this.problem = this.#loadedId = this.#edge = null;
    this.#begun = this.#again = false;
    this.#source.stop();
    this.#loader.unload();
    if (had && this.follower.state?.item_id == null) this.emit("item", { item: null, problem: null });
  }

  #failed(/** @type {Problem} */ found) {
    const { item } = this;
    if (item === null || !this.#source.mayHelp(item, found, this.#begun)) return this.#giveUp(found);
    this.#begun = false;
    this.#again = true;
    this.follower.resync();
    this.#find(item);
    this.#step();
  }

  #giveUp(/** @type {Problem} */ found) {
    this.problem = found;
    this.emit("item", { item: this.item, problem: found });
    this.#step();
  }

  #listen(/** @type {string} */ type, /** @type {() => void} */ listener) {
    this.element.addEventListener(type, listener);
    this.#offs.push(() => this.element.removeEventListener(type, listener));
  }
}
