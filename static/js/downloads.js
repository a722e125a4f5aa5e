/** Copying and downloading the transcript. */

import { formatTranscript } from "../../clients/js/index.js";
import { $, copyText, make, say } from "./dom.js";

const TYPES = { vtt: "text/vtt", srt: "application/x-subrip", txt: "text/plain", json: "application/json" };

export class Downloads {
  #session;
  #isOwn;
  #room;
  #notices;

  /**
   * @param {import("../../clients/js/index.js").MediaSession} session
   * @param {(memberId: string) => boolean} isOwn
   * @param {string} room
   * @param {import("./notices.js").Notices} notices
   */
  constructor(session, isOwn, room, notices) {
    this.#session = session;
    this.#isOwn = isOwn;
    this.#room = room;
    this.#notices = notices;
    this.#setUpMenu();
    $("copy-transcript").addEventListener("click", () => this.#copy());
  }

  /** There is something to copy and download. */
  enable() {
    $("copy-transcript").disabled = false;
    $("download").disabled = false;
  }

  async #copy() {
    const done = await copyText(formatTranscript(this.#session.captions, "txt"));
    say(done ? "Transcript copied" : "The transcript could not be copied");
    const label = $("copy-transcript").querySelector("span");
    label.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => (label.textContent = "Copy"), 2000);
  }

  #setUpMenu() {
    const button = $("download");
    const list = $("download-list");
    const open = (shown) => {
      list.hidden = !shown;
      button.setAttribute("aria-expanded", String(shown));
    };
    button.addEventListener("click", () => {
      open(list.hidden);
      if (!list.hidden) list.querySelector("button").focus();
    });
    list.parentElement.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !list.hidden) {
        open(false);
        button.focus();
      }
    });
    list.parentElement.addEventListener("focusout", ({ relatedTarget }) => {
      if (!list.parentElement.contains(relatedTarget)) open(false);
    });
    for (const item of list.querySelectorAll("button")) {
      item.addEventListener("click", async () => {
        open(false);
        button.focus();
        await this.#save(item.dataset.format);
      });
    }
  }

  async #save(format) {
    const text = await this.#transcript(format);
    const url = URL.createObjectURL(new Blob([text], { type: `${TYPES[format]};charset=utf-8` }));
    const link = make("a", { href: url, download: `captions-${this.#room}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    say("Transcript downloaded");
  }

  /**
   * The server's transcript is the better one: it has what was said while this page was away. But
   * it holds one session; where others spoke too, or we came back, the page has the whole.
   */
  async #transcript(format) {
    const { captions } = this.#session;
    const speakers = new Set(captions.entries.map(({ caption }) => caption.member_id));
    const [only] = speakers;
    const [sessionId, ...others] = this.#session.sessionIds;
    if (speakers.size === 1 && this.#isOwn(only) && sessionId && others.length === 0) {
      try {
        const text = await this.#session.fetchTranscript(format, { sessionId });
        this.#notices.clear("download");
        return text;
      } catch (error) {
        this.#notices.show("download", {
          kind: "info",
          title: "The server's transcript could not be fetched",
          text: `The file holds what this page has shown. (${error.message})`,
        });
      }
    }
    return formatTranscript(captions, format);
  }
}
