/**
 * The shared clock, from exchanges with the server. Pure: the local time comes in as an argument.
 *
 * A `clock.ping` leaves at local time t0; the server's clock says t1 when it comes and t2 when the
 * `clock.pong` leaves; that arrives at local time t3. A message takes no less than no time, so what
 * the shared clock is ahead of the local one lies between t2 - t3 and t1 - t0, whatever the delays
 * were, and however different there and back. The intervals of many exchanges all hold the truth,
 * so their intersection does (Marzullo): it shrinks with every fast message in either direction,
 * while the sample with the least round trip stays as wrong as its two ways differ. An older
 * interval is widened by what the two clocks may have drifted since. The Python client's clock.py
 * does the same.
 */

/** Newest exchanges that are kept. */
const SAMPLES = 64;
/** Exchanges at the start, or after a clock jumped. */
const BURST = 24;
const BURST_INTERVAL_S = 0.08;
/** Between exchanges later on. */
const INTERVAL_S = 2;
/** The same while the uncertainty is below CALM_UNCERTAINTY_S. */
const CALM_INTERVAL_S = 5;
const CALM_UNCERTAINTY_S = 0.005;
/** From so many exchanges on the clock is good for starting playback. */
const ENOUGH = 8;
/** How much two clocks may drift apart, seconds a second. */
const DRIFT = 100e-6;
/** Intervals that miss each other by more tell of a clock that was set, not of noise. */
const JUMP_S = 0.01;
/** A pong later than that is of no use. */
const LOST_S = 10;

/** @typedef {{atS: number, lowS: number, highS: number, roundTripS: number}} Sample */

export class ClockSync {
  /** @type {Sample[]} */
  #samples = [];
  /** @type {number[]} */
  #asked = [];
  #burst = BURST;
  #nextS = -Infinity;
  #offsetS = 0;
  #uncertaintyS = Infinity;

  /** Whether playback may be started by this clock. */
  get synchronised() {
    return this.#samples.length >= ENOUGH;
  }

  /** Shared less local time; 0 before the first exchange. */
  get offsetS() {
    return this.#offsetS;
  }

  /** The offset is off by no more than this; infinite before the first exchange. */
  get uncertaintyS() {
    return this.#uncertaintyS;
  }

  /** The longest round trip of the newest ENOUGH exchanges: what a start has to allow for. */
  get roundTripS() {
    return this.#samples
      .slice(-ENOUGH)
      .reduce((longest, sample) => Math.max(longest, sample.roundTripS), 0);
  }

  /** Local time when the next ping is due. */
  get nextPingS() {
    return this.#nextS;
  }

  /** The shared clock at a local time. */
  sharedS(/** @type {number} */ localS) {
    return localS + this.#offsetS;
  }

  /** The local time at which the shared clock shows `sharedS`. */
  localS(/** @type {number} */ sharedS) {
    return sharedS - this.#offsetS;
  }

  /** Notes that a ping leaves now; returns its t0. */
  ping(/** @type {number} */ nowS) {
    this.#asked.push(nowS);
    if (this.#asked.length > SAMPLES) this.#asked.shift();
    if (this.#burst > 0) this.#burst -= 1;
    if (this.#burst > 0) this.#nextS = nowS + BURST_INTERVAL_S;
    else if (this.#uncertaintyS <= CALM_UNCERTAINTY_S) this.#nextS = nowS + CALM_INTERVAL_S;
    else this.#nextS = nowS + INTERVAL_S;
    return nowS;
  }

  /**
   * Takes an answer that arrived at local time t3; false if it is of no use: not asked for, come
   * twice or too late, or contradicting itself.
   * @param {number} t0
   * @param {number} t1
   * @param {number} t2
   * @param {number} t3
   */
  pong(t0, t1, t2, t3) {
    const index = this.#asked.indexOf(t0);
    if (index < 0) return false;
    this.#asked.splice(index, 1);
    if (!(t0 <= t3 && t3 <= t0 + LOST_S && t2 >= t1)) return false;
    const sample = { atS: t0, lowS: t2 - t3, highS: t1 - t0, roundTripS: t3 - t0 - (t2 - t1) };
    if (sample.lowS > sample.highS + JUMP_S) return false; // a clock was set between t0 and t3
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    let [lowS, highS] = this.#bounds(t3);
    if (lowS > highS + JUMP_S) {
      this.#samples = [sample];
      [lowS, highS] = [sample.lowS, sample.highS];
      this.#burst = BURST;
      this.#nextS = t3;
    }
    this.#offsetS = (lowS + highS) / 2;
    this.#uncertaintyS = Math.abs(highS - lowS) / 2;
    return true;
  }

  /** Asks quickly again: after a reconnect, or when the machine slept. Keeps what is known. */
  restart(/** @type {number} */ nowS) {
    this.#asked = [];
    this.#burst = BURST;
    this.#nextS = nowS;
  }

  /** @returns {[number, number]} */
  #bounds(/** @type {number} */ nowS) {
    let [lowS, highS] = [-Infinity, Infinity];
    for (const sample of this.#samples) {
      const slackS = DRIFT * (nowS - sample.atS);
      lowS = Math.max(lowS, sample.lowS - slackS);
      highS = Math.min(highS, sample.highS + slackS);
    }
    return [lowS, highS];
  }
}
