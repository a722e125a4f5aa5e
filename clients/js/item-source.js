/** Where an item's media are; videos of the server are asked for, and asked for anew. */

import { problem, ProblemError } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").QueueItem} QueueItem
 * @typedef {import("./types.d.ts").Problem} Problem
 */

/** At most once in so long is an address asked for anew. */
const AGAIN_MS = 10_000;
const NOWHERE = problem("no_source", "This video cannot be played here", "This page does not know where it is.");
/** Problems of media that another address may mend. */
const MENDED = new Set(["network", "not_found", "refused", "unplayable", "aborted"]);

export class ItemSource {
  #room;
  #given;
  #environment;
  /** The newest address is good until then. */
  #goodUntilMs = Infinity;
  #againMs = -Infinity;
  /** What is being asked for. @type {Promise<string | null> | null} */
  #asked = null;

  /**
   * @param {import("./room.js").Room} room
   * @param {import("./index.d.ts").MediaPlayerOptions["sourceOf"] | null} given by whoever embeds
   *   the player
   */
  constructor(room, given) {
    this.#room = room;
    this.#given = given ?? null;
    this.#environment = room.session.environment;
  }

  /**
   * Tells `found` the item's address, or what is wrong: at once, unless somebody has to be asked.
   * What comes after `stop`, or after the next `find`, is dropped.
   * @param {QueueItem} item
   * @param {(url: string, problem: Problem | null) => void} found
   */
  find(item, found) {
    this.stop();
    this.#goodUntilMs = Infinity;
    const url = this.#urlOf(item);
    if (url === null) found("", NOWHERE);
    else if (typeof url === "string") found(url, null);
    else this.#await(url, found);
  }

  stop() {
    this.#asked = null;
  }

  /** Whether an item's address is asked of the server, which gives it for a while. */
  isAsked(/** @type {QueueItem | null} */ item) {
    return item?.kind === "vod" && this.#given === null;
  }

  /**
   * Whether to ask anew after media failed.
   * @param {QueueItem | null} item
   * @param {Problem} failed
   * @param {boolean} played whether the media had been there
   */
  mayHelp(item, failed, played) {
    const nowMs = this.#environment.now();
    if (!this.isAsked(item) || !MENDED.has(failed.code)) return false;
    if (!played && nowMs < this.#goodUntilMs) return false;
    if (nowMs - this.#againMs < AGAIN_MS) return false;
    this.#againMs = nowMs;
    return true;
  }

  /** @param {QueueItem} item @returns {string | null | Promise<string | null>} null: nobody knows */
  #urlOf(item) {
    if (this.#given) return this.#given(item);
    return item.kind === "vod" ? this.#open(item) : (item.url ?? null);
  }

  async #open(/** @type {QueueItem} */ item) {
    const { url, expires_in } = await this.#room.openItem(item.item_id);
    this.#goodUntilMs = this.#environment.now() + expires_in * 1000;
    return url;
  }

  /** @param {Promise<string | null>} asked @param {(url: string, problem: Problem | null) => void} found */
  async #await(asked, found) {
    this.#asked = asked;
    /** @type {[string, Problem | null]} */
    let answer;
    try {
      const url = await asked;
      answer = url === null ? ["", NOWHERE] : [url, null];
    } catch (error) {
      const detail = error instanceof Error ? error.message : NOWHERE.detail;
      answer = ["", error instanceof ProblemError ? error.problem : { ...NOWHERE, detail, retryable: true }];
    }
    if (asked === this.#asked) found(...answer);
  }
}
