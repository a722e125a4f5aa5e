/** How long to wait before the next attempt. Pure: chance comes in as an argument. */

export class Backoff {
  #attempt = 0;

  /**
   * @param {object} [options]
   * @param {number} [options.firstS] the longest first wait, in seconds
   * @param {number} [options.factor] growth from one wait to the next
   * @param {number} [options.capS] no wait is longer, except when the server asks for it
   * @param {() => number} [options.random] in [0, 1)
   */
  constructor({ firstS = 0.5, factor = 2, capS = 15, random = Math.random } = {}) {
    this.firstS = firstS;
    this.factor = factor;
    this.capS = capS;
    this.random = random;
  }

  /** How many waits were handed out since the last `reset`. */
  get attempt() {
    return this.#attempt;
  }

  /**
   * Returns the next wait in seconds: exponential, half of it by chance, so that the clients of a
   * server that went away do not all come back at one moment.
   * @param {number} [atLeastS] what the server asked for (Retry-After)
   */
  next(atLeastS = 0) {
    const ceiling = Math.min(this.capS, this.firstS * this.factor ** this.#attempt);
    this.#attempt += 1;
    const wait = ceiling / 2 + (ceiling / 2) * this.random();
    return atLeastS > wait ? atLeastS + (ceiling / 2) * this.random() : wait;
  }

  /** Begins again with the shortest wait: the connection has proved to be good. */
  reset() {
    this.#attempt = 0;
  }
}
