/** Hands a session its messages in the room's order, and asks for those that got lost on the way. */

import { Sequence } from "./sequence.js";

/**
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 */

/** One way may be slower than the other; what takes longer than this is asked for. */
const LATE_MS = 500;
const ANSWER_MS = 3000;

export class InOrder {
  #sequence = new Sequence();
  /** @type {any} */
  #timer = null;
  #asked = -1;

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
    if (message.type === "welcome") this.#asked = -1;
    for (const due of this.#sequence.take(message, byChannel)) this.deliver(due);
    if (this.#timer === null && this.#sequence.gap) this.#wait(LATE_MS);
  }

  /** The connection is gone: what is missing is told after the next welcome. */
  stop() {
    this.environment.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #wait(/** @type {number} */ ms) {
    const from = this.#sequence.gap?.seq;
    this.#timer = this.environment.setTimeout(() => this.#look(from), ms);
  }

  #look(/** @type {number | undefined} */ from) {
    this.#timer = null;
    const gap = this.#sequence.gap;
    if (!gap) return;
    if (gap.seq !== from) return this.#wait(LATE_MS); // it goes on, and something else is late
    if (this.#asked < gap.seq) {
      this.#asked = gap.seq;
      this.send({ type: "room.resume", log_id: gap.logId, seq: gap.seq });
      return this.#wait(ANSWER_MS);
    }
    for (const due of this.#sequence.giveUp()) this.deliver(due);
  }
}
