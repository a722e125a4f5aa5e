/** Hands a session its messages in the room's order, and asks for those that got lost on the way. */

import { Sequence } from "./sequence.js";

/**
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 */

/** One way may be slower than the other; what takes longer than this is asked for. */
const LATE_MS = 500;
const ANSWER_MS = 3000;
/** A server may refuse to tell it again so soon. */
const MOST_ASKED = 3;

export class InOrder {
  #sequence = new Sequence();
  /** @type {any} */
  #timer = null;
  /** The last event before the gap that is waited for. */
  #from = -1;
  /** How often it was asked for. */
  #asked = 0;

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {(message: any) => unknown} send over the WebSocket
   * @param {(message: ServerMessage) => void} deliver
   */
  constructor(environment, send, deliver) {
    this.environment = environment;
    this.send = send;
    this.deliver = deliver;
  }

  /** @param {ServerMessage} message @param {boolean} [byChannel] whether a data channel brought it */
  take(message, byChannel = false) {
    for (const due of this.#sequence.take(message, byChannel)) this.deliver(due);
    const gap = this.#sequence.gap;
    if (!gap) this.stop();
    else if (this.#timer === null || gap.seq !== this.#from) {
      this.#asked = 0;
      this.#wait(gap.seq, LATE_MS);
    }
  }

  /** The connection is gone: what is missing is told after the next welcome. */
  stop() {
    this.environment.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #wait(/** @type {number} */ from, /** @type {number} */ ms) {
    this.stop();
    this.#from = from;
    this.#timer = this.environment.setTimeout(() => this.#look(), ms);
  }

  #look() {
    this.#timer = null;
    const gap = this.#sequence.gap;
    if (!gap) return;
    if (this.#asked < MOST_ASKED) {
      this.#asked += 1;
      this.send({ type: "room.resume", log_id: gap.logId, seq: gap.seq });
      return this.#wait(gap.seq, ANSWER_MS);
    }
    for (const due of this.#sequence.giveUp()) this.deliver(due);
  }
}
