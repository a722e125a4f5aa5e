/** The room's live broadcast: the picture and the sound, who it is by, and why there is none. */

import { Viewer } from "../../clients/js/index.js";
import { $, say, sentence } from "./dom.js";
import { offersOf } from "./live-offers.js";

const LOOK_MS = 1000;
/** Looks in a row without a new picture: what stands still is not shown. */
const STILL = 5;

export class LiveView {
  viewer;
  #room;
  #stage;
  #note;
  #sound;
  #barrier;
  #colourOf;
  #offers;
  #video = $("live");
  /** The item that is on. @type {string | null} */
  #itemId = null;
  /** Paused, for this person only. */
  #paused = false;
  #frames = 0;
  #still = 0;
  #looking = null;
  #said = "";

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {{stage: import("./stage.js").Stage, note: import("./stage-note.js").StageNote,
   *   sound: import("./sound.js").Sound, colourOf: (memberId: string) => number,
   *   offers: import("./live-offers.js").LiveOffers, barrier: () => string}} page barrier: why one
   *   may not broadcast here, "" where one may
   */
  constructor(room, { stage, note, sound, colourOf, offers, barrier }) {
    this.#room = room;
    this.#stage = stage;
    this.#note = note;
    this.#sound = sound;
    this.#colourOf = colourOf;
    this.#offers = offers;
    this.#barrier = barrier;
    this.viewer = new Viewer(room);
    this.viewer.on("state", (state) => this.#viewing(state));
    for (const type of ["playback", "queue"]) room.on(type, () => this.#item());
    for (const type of ["members", "grants"]) room.on(type, () => this.#render());
    room.session.on("publishing", () => this.#render());
    sound.onChange(() => this.#soundButton());
    this.#video.addEventListener("resize", () => this.#render()); // the picture has come
    this.#video.addEventListener("click", () => this.#unsilence());
    $("live-sound").addEventListener("click", () => this.#unsilence());
    $("play").addEventListener("click", () => this.#on && this.#pause(!this.#paused));
    this.#item();
  }

  /** The live item that is on, if any. */
  get #on() {
    const { item } = this.#room.state;
    return item?.kind === "live" ? item : null;
  }

  /** Another item, or the same one. */
  #item() {
    const item = this.#on;
    if (item?.item_id !== this.#itemId) this.#paused = false;
    this.#itemId = item?.item_id ?? null;
    this.#watch();
    this.#render();
  }

  #watch() {
    const item = this.#on;
    if (item && !this.#paused) this.viewer.watch(item.member_id ?? null);
    else this.viewer.stop();
  }

  /** There is no position that the room could share, so each one pauses alone. */
  #pause(on) {
    this.#paused = on;
    this.#watch();
    this.#render();
    if (on) say("Paused, for you only");
  }

  // ---- the element -----------------------------------------------------------------------------

  #viewing({ state, stream }) {
    const video = this.#video;
    if (video.srcObject !== stream) {
      video.srcObject = stream;
      if (!stream) this.#sound.silence(video, false);
    }
    clearInterval(this.#looking);
    this.#still = this.#frames = 0;
    if (state === "live") {
      this.#looking = setInterval(() => this.#look(), LOOK_MS);
      this.#play();
    }
    this.#render();
  }

  /** With sound if the browser lets us; else without, until somebody taps. */
  async #play() {
    const video = this.#video;
    const stream = video.srcObject;
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || video.srcObject !== stream) return;
      this.#sound.silence(video, true);
      await video.play().catch(() => {}); // the note stays: a tap starts it
    }
    this.#render();
  }

  #unsilence() {
    if (!this.#sound.silenced(this.#video)) return;
    this.#sound.on();
    this.#play();
  }

  /** Notices a picture that stands still. A hidden page draws none. */
  #look() {
    if (document.visibilityState !== "visible") return;
    const { totalVideoFrames: frames } = this.#video.getVideoPlaybackQuality();
    this.#still = frames === this.#frames ? this.#still + 1 : 0;
    this.#frames = frames;
    if (this.#still === 0 || this.#still === STILL) this.#render();
  }

  // ---- what is shown ---------------------------------------------------------------------------

  #render() {
    const item = this.#on;
    const { state, memberId } = this.viewer.state;
    const own = item !== null && state === "own" && !this.#paused;
    const publishing = this.#room.session.publishing;
    this.#stage.own = own && publishing !== "off";
    $("playbar").toggleAttribute("data-live", item !== null);
    $("play").hidden = own; // one's own broadcast is ended, not paused
    $("badge-watched").hidden = state !== "live";
    const video = this.#video;
    const picture = state === "live" && video.videoWidth > 0 && this.#sends("video") && this.#still < STILL;
    video.hidden = state !== "live";
    $("live-calm").hidden = state !== "live" || picture;
    this.#soundButton();
    if (!item) return;
    const name = memberId === null ? "" : this.#room.state.nameOf(memberId);
    if (state === "live") this.#by(name, memberId);
    this.#bar(own ? publishing : state);
    this.#note.show(this.#noteNow(name));
  }

  /** Whether who is watched sends this kind of media. */
  #sends(kind) {
    const member = this.#room.state.members.get(this.viewer.state.memberId ?? "");
    return member?.broadcast?.[kind] ?? true;
  }

  #by(name, memberId) {
    $("badge-watched-who").textContent = name;
    this.#video.setAttribute("aria-label", `${name}, live`);
    $("calm-badge").textContent = [...name][0]?.toUpperCase() ?? "";
    $("calm-badge").className = `calm-badge who-${this.#colourOf(memberId)}`;
    $("calm-name").textContent = name;
    const waits = this.#still < STILL ? "The picture is on its way" : "The picture has stopped; the sound goes on";
    $("calm-hint").textContent = this.#sends("video") ? waits : "Sound only";
    const told = `${name} is live`;
    if (this.#said !== told + this.#itemId) say(told);
    this.#said = told + this.#itemId;
  }

  #soundButton() {
    const silenced = this.viewer.state.state === "live" && this.#sound.silenced(this.#video);
    $("live-sound").hidden = !silenced;
  }

  #bar(state) {
    const [kind, text] = this.#paused ? ["idle", "Paused for you"] : BAR[state] ?? ["busy", ""];
    $("drift").dataset.state = kind;
    $("drift").dataset.ms = "";
    $("drift-text").textContent = text;
    const label = this.#paused ? "Watch again" : "Pause, for you only";
    $("play").setAttribute("aria-label", label);
    $("play-icon").setAttribute("href", this.#paused ? "#i-play" : "#i-pause");
  }

  #noteNow(name) {
    if (this.#paused) {
      const text = "The broadcast goes on without you.";
      return { title: "Paused, for you only", text, button: "Watch again", action: () => this.#pause(false) };
    }
    const { state, problem, ended } = this.viewer.state;
    if (state === "own") return this.#ownNote();
    if (state === "waiting") return this.#waitingNote(name, ended);
    if (state === "failed") {
      const again = { button: "Try again", action: () => this.viewer.retry() };
      return { title: "The broadcast cannot be shown here", text: sentence(problem.detail), ...again };
    }
    if (state !== "connecting") return null;
    const whom = name ? ` to ${name}` : "";
    if (!problem) return { title: `Connecting${whom}…`, text: "" };
    return { title: `Connecting${whom} again…`, text: sentence(problem.detail) };
  }

  #waitingNote(name, ended) {
    const text = "It starts here by itself.";
    if (!ended) return { title: name ? `Waiting for ${name} to go live…` : "Waiting for the broadcast to begin…", text };
    const title = (ENDS[ended] ?? ENDS.ended)(name || "The broadcaster");
    const [other] = offersOf(this.#room).filter(({ own }) => !own);
    const offer = other && { button: other.label, action: () => this.#offers.watch(other.memberId) };
    return { title, text: "Should it begin again, it starts here by itself.", ...offer };
  }

  #ownNote() {
    const { publishing } = this.#room.session;
    if (publishing === "live") return null;
    if (publishing === "connecting") return { title: "Your broadcast begins…", text: "" };
    const barrier = this.#barrier();
    if (barrier) return { title: "You cannot broadcast here", text: barrier };
    const text = "Microphone, camera or a tab: the room gets what you chose under “Your captions”.";
    return { title: "The room waits for you", text, button: "Go live", action: () => $("start").click() };
  }
}

/** What the bar says: kind and text. Own broadcasts: by how publishing is. */
const BAR = {
  live: ["good", "Live"],
  connecting: ["busy", "Connecting"],
  waiting: ["idle", "Waiting"],
  failed: ["off", "Not shown here"],
  off: ["idle", "Not live yet"],
};

/** Why nothing is watched any more. */
const ENDS = {
  ended: (name) => `${name}’s broadcast has ended`,
  left: (name) => `${name} has left`,
  lost: (name) => `${name}’s connection was lost`,
};
