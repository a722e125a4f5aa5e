/** How loud what is watched is, for oneself only: one volume for films and for broadcasts. */

import { $ } from "./dom.js";
import { recall, store } from "./preferences.js";

const UNMUTED = 0.5;

export class Sound {
  #videos;
  #off = false;
  #volume = 1;
  /** Those that the browser lets start only without sound. @type {Set<HTMLMediaElement>} */
  #silenced = new Set();
  #onChange = () => {};

  /** @param {...HTMLMediaElement} videos */
  constructor(...videos) {
    this.#videos = videos;
    const known = Number(recall("volume", "100"));
    this.#volume = known >= 0 && known <= 100 ? known / 100 : 1;
    $("sound").addEventListener("click", () => (this.#silent ? this.on() : this.#mute()));
    $("volume").addEventListener("input", () => {
      this.#volume = Number($("volume").value) / 100;
      store("volume", $("volume").value);
      this.#off = false;
      this.#silenced.clear();
      this.#apply();
    });
    this.#apply();
  }

  /** Whether the browser keeps `video` silent until somebody asks for its sound. */
  silenced(video) {
    return this.#silenced.has(video);
  }

  /** Notes that the browser refuses `video`'s sound, or that it is not asked for any more. */
  silence(video, on) {
    if (on === this.#silenced.has(video)) return;
    if (on) this.#silenced.add(video);
    else this.#silenced.delete(video);
    this.#apply();
  }

  /** To be called from a click: the browser lets the sound be heard from then on. */
  on() {
    this.#off = false;
    this.#silenced.clear();
    if (this.#volume === 0) this.#volume = UNMUTED;
    this.#apply();
  }

  /** @param {() => void} listener after each change */
  onChange(listener) {
    this.#onChange = listener;
  }

  get #silent() {
    return this.#off || this.#volume === 0 || this.#silenced.size > 0;
  }

  #mute() {
    this.#off = true;
    this.#apply();
  }

  #apply() {
    for (const video of this.#videos) {
      video.volume = this.#volume;
      video.muted = this.#off || this.#silenced.has(video);
    }
    const silent = this.#silent;
    const volume = $("volume");
    $("sound").setAttribute("aria-pressed", String(silent));
    $("sound-icon").setAttribute("href", silent ? "#i-volume-off" : "#i-volume");
    volume.value = String(this.#off || this.#silenced.size > 0 ? 0 : Math.round(this.#volume * 100));
    volume.setAttribute("aria-valuetext", silent ? "off" : `${volume.value} %`);
    this.#onChange();
  }
}
