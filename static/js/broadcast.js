/** Start, stop and mute: from the chosen source to a published stream, and back. */

import { ProblemError } from "../../clients/js/index.js";
import { capture, captureBarrier, CaptureError } from "./capture.js";
import { $, say } from "./dom.js";
import { Level } from "./level.js";

const NEVER_HEARD_S = 8;
const NO_LONGER_HEARD_S = 20;
const HINT = "Your speech becomes captions, and the room can watch and hear you live.";
const NOTICES = ["capture", "camera", "silence", "media"];

export class Broadcast {
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {Level | null} */
  #level = null;
  #muted = false;
  #busy = false;
  #heardAt = 0;
  #everHeard = false;
  #wakeLock = null;
  #barrier = "";

  constructor({ session, setup, stage, notices, figures }) {
    Object.assign(this, { session, setup, stage, notices, figures });
    $("start").addEventListener("click", () => (this.#stream ? this.stop() : this.start()));
    $("mute").addEventListener("click", () => this.#mute(!this.#muted));
    session.on("publishing", ({ state, problem }) => {
      if (state === "off" && problem && this.#stream) this.#release();
      this.#render();
    });
    session.on("state", ({ state }) => {
      if (state === "closed" && this.#stream) this.#release();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#stream) this.#stayAwake();
    });
    this.#render();
  }

  /** Whether one may speak here; who may not is told why. @param {string} barrier "" allows it */
  allow(barrier) {
    if (barrier === this.#barrier) return;
    this.#barrier = barrier;
    if (barrier && this.#stream) {
      this.notices.show("capture", { kind: "warning", title: "You are not heard any more", text: barrier });
      this.stop();
    }
    this.#render();
  }

  async start() {
    if (this.#busy || this.#barrier) return;
    this.#setBusy(true, "Starting…");
    this.notices.clear(...NOTICES);
    try {
      const { stream, missing } = await capture(this.setup.devices);
      this.#take(stream);
      if (missing) {
        this.notices.show("camera", { kind: "warning", title: missing.title, text: `${missing.message} Captions go on with the microphone alone.` });
      }
      this.#setBusy(false);
      await this.session.publish(stream);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#setBusy(false);
    }
  }

  async stop() {
    if (this.#busy) return;
    this.#setBusy(true, "Finishing…");
    this.#release();
    try {
      await this.session.unpublish();
    } finally {
      this.#setBusy(false);
    }
  }

  #failed(error) {
    if (error instanceof CaptureError) {
      this.notices.show("capture", {
        kind: "error",
        title: error.title,
        text: error.message,
        buttons: [["Try again", () => this.start()]],
      });
    } else if (error instanceof ProblemError) {
      this.#release(); // the connection view shows the problem
    } else {
      this.#release();
      throw error;
    }
  }

  #take(stream) {
    this.#stream = stream;
    this.#muted = false;
    this.#heardAt = performance.now();
    this.#everHeard = false;
    this.#level = Level.of(stream, (level, dead) => this.#hear(level, dead));
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => this.#ended(track, stream));
    }
    this.stage.show(stream, { mirror: this.setup.source === "camera" });
    this.figures.show(true);
    this.setup.refreshDevices();
    this.setup.live(true);
    this.#stayAwake();
    this.#render();
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#level?.close();
    this.#level = null;
    this.#wakeLock?.release().catch(() => {});
    this.#wakeLock = null;
    this.notices.clear("silence");
    this.stage.show(null);
    this.setup.live(false);
    this.figures.show(false);
    this.#render();
  }

  /** The device went away, or the browser's own "Stop sharing" was pressed. */
  #ended(track, stream) {
    if (this.#stream !== stream) return;
    if (track.kind === "video" && this.setup.source === "camera") return; // speech goes on
    if (this.setup.source !== "tab") {
      this.notices.show("capture", {
        kind: "error",
        title: "The microphone is gone",
        text: "It was unplugged or taken by the system.",
        buttons: [["Start again", () => this.start()]],
      });
    }
    this.stop();
  }

  #hear(level, dead) {
    this.stage.level(this.#muted ? 0 : level);
    const now = performance.now();
    const tab = this.setup.source === "tab";
    const patience = !this.#everHeard ? NEVER_HEARD_S : tab ? Infinity : NO_LONGER_HEARD_S;
    if (!dead || this.#muted) {
      this.#heardAt = now;
      this.#everHeard ||= !dead;
      this.notices.clear("silence");
    } else if (now - this.#heardAt > patience * 1000) {
      this.#heardAt = Infinity; // told once
      this.notices.show("silence", {
        kind: "warning",
        title: tab ? "The shared tab is silent" : "No sound comes from the microphone",
        text: tab
          ? "Play something in it, and see that the tab is not muted."
          : "See that it is not muted, and that the right one is chosen.",
      });
    }
  }

  #mute(on) {
    this.#muted = on;
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !on;
    say(on ? "Muted" : "Unmuted");
    this.#render();
  }

  async #stayAwake() {
    try {
      this.#wakeLock = await navigator.wakeLock?.request("screen");
    } catch {
      // a low battery, or a hidden page: the screen may sleep
    }
  }

  #setBusy(busy, text = "") {
    this.#busy = busy;
    this.#render(text);
  }

  #render(text = "") {
    const on = this.#stream !== null;
    const start = $("start");
    start.toggleAttribute("data-on", on);
    start.toggleAttribute("aria-busy", this.#busy);
    $("start-text").textContent = text || (on ? "Stop captions" : "Start captions");
    $("start-icon").setAttribute("href", on ? "#i-stop" : "#i-mic");
    $("dock-hint").hidden = on;
    $("dock-hint").textContent = this.#barrier || HINT;
    start.disabled = captureBarrier() !== null || (this.#barrier !== "" && !on);
    $("mute").disabled = !on;
    $("mute").setAttribute("aria-pressed", String(on && this.#muted));
    $("mute-text").textContent = on && this.#muted ? "Unmute" : "Mute";
    $("mute-icon").setAttribute("href", on && this.#muted ? "#i-mic-off" : "#i-mic");
    this.stage.badges({ live: on && this.session.publishing === "live", muted: on && this.#muted });
  }
}
