/** The captions of a room as one list. Pure: messages and the time come in as arguments. */

/**
 * @typedef {import("./types.d.ts").Caption} Caption
 * @typedef {import("./types.d.ts").WordMessage} Word
 * @typedef {import("./index.d.ts").CaptionEntry} CaptionEntry
 * @typedef {import("./index.d.ts").CaptionChange} CaptionChange
 */

const REMEMBERED_REMOVALS = 1000;

export class CaptionStore {
  /** @type {CaptionEntry[]} */
  #entries = [];
  /** @type {Map<string, CaptionEntry>} */
  #byId = new Map();
  /** Captions that turned out to be no speech. @type {Set<string>} */
  #removed = new Set();
  /** Where each track began, Unix seconds: the earliest that its captions allow. */
  #origins = new Map();
  #limit;
  #dropped = 0;

  /** @param {{limit?: number}} [options] `limit` captions are kept; the oldest go first */
  constructor({ limit = 20_000 } = {}) {
    this.#limit = limit;
  }

  /** All captions in the order in which they were begun. @returns {readonly CaptionEntry[]} */
  get entries() {
    return this.#entries;
  }

  /** How many captions were let go to keep within the limit. */
  get dropped() {
    return this.#dropped;
  }

  /** @param {string} captionId */
  get(captionId) {
    return this.#byId.get(captionId);
  }

  /** When media time 0 of a track was, in Unix seconds, as well as its captions tell. */
  originOf(/** @type {string} */ trackId) {
    return this.#origins.get(trackId);
  }

  clear() {
    this.#entries = [];
    this.#byId.clear();
    this.#removed.clear();
    this.#origins.clear();
  }

  /**
   * Takes a caption message. Returns what it changed, or null when it is old or known already
   * (the same message may come over the data channel and over the WebSocket).
   * @param {Caption} caption
   * @param {number} receivedAt Unix seconds
   * @returns {CaptionChange | null}
   */
  apply(caption, receivedAt) {
    const known = this.#byId.get(caption.caption_id);
    if (this.#removed.has(caption.caption_id)) return null;
    if (known && !isNewer(caption, known.caption)) return null;
    const merged = known ? keepFinalWords(known.caption, caption) : markFinal(caption);
    const finalBefore = known ? finalCount(known.caption) : 0;
    if (merged.final && merged.text.trim() === "") return this.#remove(merged, known);
    this.#learnOrigin(merged, receivedAt);
    const entry = {
      caption: merged,
      startedAt: known ? known.startedAt : this.#startOf(merged),
    };
    const newlyFinal = merged.words.slice(finalBefore, finalCount(merged));
    this.#byId.set(merged.caption_id, entry);
    if (known) {
      const index = this.#entries.lastIndexOf(known);
      this.#entries[index] = entry;
      return { kind: "changed", entry, index, newlyFinal };
    }
    const index = this.#place(entry);
    this.#entries.splice(index, 0, entry);
    this.#prune();
    return { kind: "added", entry, index: this.#entries.lastIndexOf(entry), newlyFinal };
  }

  /** @returns {CaptionChange | null} */
  #remove(/** @type {Caption} */ caption, /** @type {CaptionEntry | undefined} */ known) {
    this.#removed.add(caption.caption_id);
    if (this.#removed.size > REMEMBERED_REMOVALS) {
      for (const oldest of this.#removed) {
        this.#removed.delete(oldest);
        break;
      }
    }
    if (!known) return null;
    const index = this.#entries.lastIndexOf(known);
    this.#entries.splice(index, 1);
    this.#byId.delete(caption.caption_id);
    return { kind: "removed", entry: known, index, newlyFinal: [] };
  }

  /** The server says when an utterance began; else it is reckoned from the arrival. */
  #learnOrigin(/** @type {Caption} */ caption, /** @type {number} */ receivedAt) {
    const began = caption.started_at;
    const origin = began == null ? receivedAt - caption.end_s : began - caption.start_s;
    const known = this.#origins.get(caption.track_id);
    if (known === undefined || origin < known) this.#origins.set(caption.track_id, origin);
  }

  /** Where a new caption starts; never before an earlier caption of the same track. */
  #startOf(/** @type {Caption} */ caption) {
    const start = this.#origins.get(caption.track_id) + caption.start_s;
    const before = this.#entries.findLast(
      ({ caption: other }) =>
        other.track_id === caption.track_id && other.start_s <= caption.start_s,
    );
    return before ? Math.max(before.startedAt, start) : start;
  }

  #place(/** @type {CaptionEntry} */ entry) {
    let index = this.#entries.length;
    while (index > 0 && follows(this.#entries[index - 1], entry)) index -= 1;
    return index;
  }

  #prune() {
    while (this.#entries.length > this.#limit) {
      const oldest = /** @type {CaptionEntry} */ (this.#entries.shift());
      this.#byId.delete(oldest.caption.caption_id);
      this.#dropped += 1;
    }
  }
}

/** Whether `a` belongs after `b`: by media time within a track, by the clock between tracks. */
function follows(/** @type {CaptionEntry} */ a, /** @type {CaptionEntry} */ b) {
  if (a.caption.track_id === b.caption.track_id) return a.caption.start_s > b.caption.start_s;
  return a.startedAt > b.startedAt;
}

/** How many words at the beginning are final. */
export function finalCount(/** @type {Caption} */ caption) {
  const tentative = caption.words.findIndex((word) => !word.final);
  return tentative < 0 ? caption.words.length : tentative;
}

/** What is of the moment has no `seq`; then it is newer unless fewer of its words are final. */
function isNewer(/** @type {Caption} */ caption, /** @type {Caption} */ known) {
  if (known.final) return false;
  if (caption.final) return true;
  if (caption.seq !== null && known.seq !== null) return caption.seq > known.seq;
  return finalCount(caption) >= finalCount(known);
}

/** A complete caption has final words only. @returns {Caption} */
function markFinal(/** @type {Caption} */ caption) {
  if (!caption.final || caption.words.every((word) => word.final)) return caption;
  return { ...caption, words: caption.words.map((word) => ({ ...word, final: true })) };
}

/**
 * Final words never change, whatever a later message says of them.
 * @returns {Caption}
 */
function keepFinalWords(/** @type {Caption} */ before, /** @type {Caption} */ next) {
  const kept = before.words.slice(0, finalCount(before));
  const same = kept.every((word, index) => next.words[index]?.text === word.text);
  const words = [...kept, ...next.words.slice(kept.length)];
  const text = same ? next.text : words.map((word) => word.text).join(" ");
  return markFinal({ ...next, words, text });
}
