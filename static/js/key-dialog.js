/** Asks for the API key when the server wants one. */

import { $ } from "./dom.js";
import { storeKey } from "./preferences.js";

export class KeyDialog {
  #dialog = $("key-dialog");
  #session;
  #notices;

  /**
   * @param {import("../../clients/js/index.js").MediaSession} session
   * @param {import("./notices.js").Notices} notices
   */
  constructor(session, notices) {
    this.#session = session;
    this.#notices = notices;
    $("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const key = $("key").value.trim();
      if (!key) return;
      storeKey(key);
      session.apiKey = key;
      this.#dialog.close();
      session.connect().catch(() => {}); // the connection view shows why
    });
    $("key-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#remind());
    session.on("welcome", () => notices.clear("key"));
  }

  /** @param {boolean} wrong whether a key was given and refused */
  ask(wrong) {
    if (wrong) storeKey(null);
    this.#notices.clear("key");
    $("key").value = "";
    if (!this.#dialog.open) this.#dialog.showModal();
    $("key").focus();
    $("key-error").textContent = wrong ? "That key was not accepted." : "";
  }

  /** The dialog was put away without a key: the way back stays open. */
  #remind() {
    if (this.#session.state.state !== "closed") return;
    this.#notices.show("key", {
      kind: "warning",
      title: "Not connected",
      text: "This server needs an API key.",
      buttons: [["Enter key", () => this.ask(false)]],
    });
  }
}
