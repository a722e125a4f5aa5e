/** What is said over the picture: why there is none, or what one waits for, and what to do. */

import { $ } from "./dom.js";

export class StageNote {
  #shown = "";
  #action = () => {};

  constructor() {
    $("stage-note-button").addEventListener("click", () => this.#action());
  }

  /**
   * Shows a note; null shows none. The same words again disturb nobody.
   * @param {{title: string, text: string, button?: string, action?: () => void} | null} note
   */
  show(note) {
    const { title = "", text = "", button = "", action = () => {} } = note ?? {};
    this.#action = action;
    const shown = JSON.stringify([note === null, title, text, button]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    $("stage-note").hidden = note === null;
    $("stage-note-title").textContent = title;
    $("stage-note-text").textContent = text;
    $("stage-note-button").textContent = button;
    $("stage-note-button").hidden = !button;
  }
}
