/** The scrolling transcript, and what a screen reader hears of it. */

import { captionLanguage, finalText } from "./caption-text.js";
import { $, clockTime, make, say, stickToEnd } from "./dom.js";

const MOST_SHOWN = 1000;
const MOST_SPOKEN = 30;
const GROUP_S = 120;
const SENTENCE_END = /[.!?…。！？؟।]["'”’)\]]*$/u;

/**
 * @typedef {import("../../clients/js/index.d.ts").CaptionChange} CaptionChange
 * @typedef {import("../../clients/js/index.d.ts").CaptionEntry} CaptionEntry
 */

export class TranscriptView {
  #list = $("entries");
  #stick;
  /** @type {Map<string, {element: HTMLElement, entry: CaptionEntry}>} */
  #shown = new Map();
  #colourOf;
  #announcer = new Announcer();
  #own = () => false;

  /**
   * @param {(memberId: string) => boolean} isOwn
   * @param {(memberId: string) => number} colourOf
   */
  constructor(isOwn, colourOf) {
    this.#own = isOwn;
    this.#colourOf = colourOf;
    const latest = $("latest");
    this.#stick = stickToEnd($("transcript-scroll"), (atEnd) => (latest.hidden = atEnd));
    latest.addEventListener("click", () => {
      this.#stick.toEnd();
      $("transcript-scroll").focus();
      say("Following the newest captions");
    });
  }

  set announcing(on) {
    this.#announcer.on = on;
  }

  follow() {
    this.#stick.follow();
  }

  /** @param {CaptionChange} change @param {readonly CaptionEntry[]} entries all of them */
  apply(change, entries) {
    const { kind, entry, index } = change;
    const id = entry.caption.caption_id;
    if (kind === "removed") {
      this.#shown.get(id)?.element.remove();
      this.#shown.delete(id);
      this.#regroup(entries, index);
    } else {
      const shown = this.#shown.get(id);
      if (shown) shown.entry = entry;
      else if (kind === "added") this.#insert(entry, entries, index);
      this.#fill(entry);
      this.#announcer.hear(change);
    }
    $("transcript-empty").hidden = this.#shown.size > 0;
    this.#stick.follow();
  }

  #insert(entry, entries, index) {
    const following = entries[index + 1];
    const before = following && this.#shown.get(following.caption.caption_id)?.element;
    const element = make("li", { class: "entry" });
    this.#shown.set(entry.caption.caption_id, { element, entry });
    if (before) before.before(element);
    else this.#list.append(element);
    this.#regroup(entries, index);
    this.#regroup(entries, index + 1);
    while (this.#list.childElementCount > MOST_SHOWN) {
      const oldest = this.#list.firstElementChild;
      this.#shown.delete(oldest.dataset.id);
      oldest.remove();
      $("earlier").hidden = false;
    }
  }

  /** Names the speaker where another one spoke before, or a while has passed. */
  #regroup(entries, index) {
    const entry = entries[index];
    const element = entry && this.#shown.get(entry.caption.caption_id)?.element;
    if (!element) return;
    const before = entries[index - 1];
    const starts =
      !before ||
      before.caption.member_id !== entry.caption.member_id ||
      before.caption.speaker !== entry.caption.speaker ||
      entry.startedAt - before.startedAt > GROUP_S;
    const head = element.querySelector(".entry-who");
    if (starts && !head) element.prepend(this.#head(entry.caption));
    else if (!starts) head?.remove();
  }

  #head({ member_id, speaker }) {
    const name = this.#own(member_id) ? `${speaker} (you)` : speaker;
    return make(
      "p",
      { class: "entry-who" },
      make("span", { class: `who-mark who-${this.#colourOf(member_id)}`, "aria-hidden": "true" }),
      make("span", { text: name }),
    );
  }

  #fill({ caption, startedAt }) {
    const element = this.#shown.get(caption.caption_id)?.element;
    if (!element) return;
    let line = element.querySelector(".entry-line");
    if (!line) {
      element.dataset.id = caption.caption_id;
      const time = make("time", {
        text: clockTime(startedAt),
        datetime: new Date(startedAt * 1000).toISOString(),
      });
      line = make("div", { class: "entry-line" }, time, make("p", { class: "said", dir: "auto" }));
      element.append(line);
    }
    const said = line.lastElementChild;
    const { final, tentative } = finalText(caption);
    const language = captionLanguage(caption);
    if (language) said.lang = language;
    element.toggleAttribute("data-final", caption.final);
    said.replaceChildren(final);
    if (tentative) {
      said.append(
        final ? " " : "",
        make("span", { class: "vh", text: "not final: " }),
        make("span", { class: "tentative", text: tentative }),
      );
    }
  }
}

/** Tells finals to a screen reader, a sentence at a time; never what may still change. */
class Announcer {
  on = true;
  #region = $("spoken");
  /** @type {Map<string, string[]>} */
  #waiting = new Map();
  #lastSpeaker = "";

  /** @param {CaptionChange} change */
  hear({ entry: { caption }, newlyFinal }) {
    const words = this.#waiting.get(caption.caption_id) ?? [];
    for (const word of newlyFinal) {
      words.push(word.text);
      if (SENTENCE_END.test(word.text)) this.#speak(caption, words.splice(0));
    }
    if (caption.final) {
      if (caption.words.length === 0) words.push(caption.text);
      this.#speak(caption, words);
      this.#waiting.delete(caption.caption_id);
    } else {
      this.#waiting.set(caption.caption_id, words);
    }
  }

  #speak(caption, words) {
    if (!this.on || words.length === 0) return;
    const who = caption.speaker === this.#lastSpeaker ? "" : `${caption.speaker}: `;
    this.#lastSpeaker = caption.speaker;
    const text = who + words.join(" ");
    this.#region.append(make("p", { text, lang: captionLanguage(caption) }));
    while (this.#region.childElementCount > MOST_SPOKEN) this.#region.firstElementChild.remove();
  }
}
