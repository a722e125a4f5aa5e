/** Puts a room's events into their order, whichever way each of them came. Pure. */

/**
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 */

/** Events that wait for an earlier one; beyond, the earlier one is given up. */
const MOST_AHEAD = 2000;

/**
 * Events come over the WebSocket and over data channels, each way in order. `take` gives every
 * event out once, in the order of the room's log, and holds back what comes too early; what has no
 * number passes at once.
 */
export class Sequence {
  /** All events up to this one were given out; null before the first connection. */
  #seq = /** @type {number | null} */ (null);
  /** The log that it counts in. */
  #logId = /** @type {string | null} */ (null);
  /** The newest snapshot's; what is older belongs to the snapshot. */
  #snapshot = -1;
  /** The newest event that the server told of. */
  #told = -1;
  /** @type {Map<number, ServerMessage>} */
  #ahead = new Map();

  /** Where one is, to ask for what is missing; null while nothing is. */
  get gap() {
    if (this.#seq === null || this.#logId === null) return null;
    const missing = this.#ahead.size > 0 || this.#told > this.#seq;
    return missing ? { logId: this.#logId, seq: this.#seq } : null;
  }

  /**
   * Returns what to do now, in order.
   * @param {ServerMessage} message
   * @param {boolean} [byChannel] whether it came over a data channel
   * @returns {ServerMessage[]}
   */
  take(message, byChannel = false) {
    switch (message.type) {
      case "welcome":
        this.#begin(message.log_id);
        return [message];
      case "room.snapshot":
        if (message.log_id !== this.#logId) this.#begin(message.log_id);
        this.#seq = this.#snapshot = message.seq;
        return [message, ...this.#next()];
      case "room.resumed":
        this.#seq = Math.max(this.#seq ?? -1, message.seq);
        return [message, ...this.#next()];
      case "pong":
        if (typeof message.seq === "number") this.#told = Math.max(this.#told, message.seq);
        return [message];
      case "ack":
        return [message];
    }
    const seq = "seq" in message ? message.seq : null;
    if (typeof seq !== "number" || this.#seq === null) return [message];
    if (seq <= this.#seq) return seq <= this.#snapshot && !byChannel ? [message] : [];
    this.#ahead.set(seq, message);
    return this.#ahead.size > MOST_AHEAD ? this.giveUp() : this.#next();
  }

  /** What is missing does not come: goes on without it. Returns what to do now, in order. */
  giveUp() {
    const rest = [...this.#ahead].sort(([a], [b]) => a - b);
    this.#ahead.clear();
    this.#seq = Math.max(this.#seq ?? -1, this.#told, ...rest.slice(-1).map(([seq]) => seq));
    return rest.map(([, message]) => message);
  }

  #begin(/** @type {string} */ logId) {
    this.#logId = logId;
    this.#seq = null;
    this.#snapshot = this.#told = -1;
    this.#ahead.clear();
  }

  #next() {
    /** @type {ServerMessage[]} */
    const due = [];
    for (const seq of this.#ahead.keys()) {
      if (seq <= /** @type {number} */ (this.#seq)) this.#ahead.delete(seq);
    }
    let message;
    while ((message = this.#ahead.get(/** @type {number} */ (this.#seq) + 1))) {
      this.#seq = /** @type {number} */ (this.#seq) + 1;
      this.#ahead.delete(this.#seq);
      due.push(message);
    }
    return due;
  }
}
