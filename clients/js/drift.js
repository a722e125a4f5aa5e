/**
 * Keeping a player at the shared position while it plays. Pure.
 *
 * Small drift is corrected by the rate, large drift by a seek. How long this player's seeks and
 * starts take is measured, and allowed for. The Python client's drift.py does the same.
 */

/** Between two looks at the player. */
export const CONTROL_S = 0.5;
/** Correction begins above this drift, and ends below LEAVE_S: seconds of the viewer's time. */
const ENTER_S = 0.03;
const LEAVE_S = 0.008;
/** The rate is changed by no more than this share, in steps of CORRECTION_STEP. */
const MAX_CORRECTION = 0.05;
const CORRECTION_STEP = 0.01;
/** A correction takes about this long, where MAX_CORRECTION allows it. */
const CORRECT_IN_S = 2;
/** Drift above this is corrected by a seek. */
const SEEK_S = 1;
/** A seek that landed off by less is finished by rate. */
const MISSED_S = 1.5;
/** Between two seeks; twice as long after each one that did not bring the player in sync. */
const MIN_SEEK_GAP_S = 5;
const MAX_SEEK_GAP_S = 60;
/** A reading off by more than this tells of a stall or a skip, not of noise. */
const JUMP_S = 0.15;
/** Readings after a start, a stall or a jump before anything is corrected. */
const READINGS = 3;
/** Weight of a new reading against what was expected. */
const GAIN = 0.3;

/** @typedef {import("./index.d.ts").PlayerState} PlayerState */

/** Whether pictures move. */
export function isPlaying(/** @type {PlayerState} */ player) {
  return player.ready && !player.paused;
}

/** A running estimate of how long something takes, and of how much that varies (seconds). */
export class Expected {
  #maxS;

  /**
   * @param {number} meanS
   * @param {number} deviationS
   * @param {number} maxS
   */
  constructor(meanS, deviationS, maxS) {
    this.meanS = meanS;
    this.deviationS = deviationS;
    this.#maxS = maxS;
  }

  /** It seldom takes longer. */
  get likelyS() {
    return this.meanS + 2 * this.deviationS;
  }

  /** Takes a measurement; one below zero or beyond the maximum counts as that. */
  learn(/** @type {number} */ tookS) {
    const errorS = Math.min(Math.max(tookS, 0), this.#maxS) - this.meanS;
    this.deviationS += 0.25 * (Math.abs(errorS) - this.deviationS);
    this.meanS += 0.3 * errorS;
  }
}

/** The control loop of a playing player. `step` about every CONTROL_S. */
export class DriftController {
  /** @type {number | null} */
  #driftS = null;
  #readings = 0;
  #lookedS = 0;
  #factor = 1;
  #seekGapS = MIN_SEEK_GAP_S;
  #noSeekBeforeS = -Infinity;
  /** The last seek has yet to be finished by rate. */
  #missed = false;
  /** Since the last seek. */
  #inSync = true;

  /** Player less shared position, seconds of the item, smoothed; null while not known. */
  get driftS() {
    return this.#driftS;
  }

  /** Whether the rate is changed to correct drift. */
  get correcting() {
    return this.#factor !== 1;
  }

  /** Forgets the drift: the player stands still, stalls or seeks. */
  pause() {
    this.#driftS = null;
    this.#readings = 0;
    this.#factor = 1;
  }

  /** Notes that a seek was begun. */
  sought(/** @type {number} */ nowS) {
    this.pause();
    if (!this.#inSync) this.#seekGapS = Math.min(2 * this.#seekGapS, MAX_SEEK_GAP_S);
    this.#missed = true;
    this.#inSync = false;
    this.#noSeekBeforeS = nowS + this.#seekGapS;
  }

  /** Begins anew with seeks: another item, another position, or somebody asked for it. */
  forgive() {
    this.pause();
    this.#missed = false;
    this.#inSync = true;
    this.#seekGapS = MIN_SEEK_GAP_S;
    this.#noSeekBeforeS = -Infinity;
  }

  /**
   * Returns what to do at local time `nowS`, when playback is at `sharedPositionS` and `rate` is
   * the shared rate. A player that stalls is left alone until it plays again.
   * @param {number} nowS
   * @param {number} sharedPositionS
   * @param {number} rate
   * @param {PlayerState} player
   * @returns {{rate: number, seek: boolean}}
   */
  step(nowS, sharedPositionS, rate, player) {
    if (!isPlaying(player)) {
      if (this.#readings > 0) this.#missed = false; // it came to play: this is a new stall
      this.pause();
      return { rate, seek: false };
    }
    const driftS = this.#read(nowS, player.positionS - sharedPositionS, player.rate - rate);
    const lateS = -driftS / rate;
    if (this.#readings < READINGS) return { rate: rate * this.#factor, seek: false };
    if (Math.abs(lateS) < ENTER_S) {
      this.#missed = false;
      this.#inSync = true;
      this.#seekGapS = MIN_SEEK_GAP_S;
    }
    const limitS = this.#missed ? MISSED_S : SEEK_S;
    if (Math.abs(lateS) > limitS && player.seekable && nowS >= this.#noSeekBeforeS) {
      return { rate, seek: true };
    }
    this.#factor = this.#nextFactor(lateS);
    return { rate: rate * this.#factor, seek: false };
  }

  /**
   * Blends a reading with what was expected from the last one and the player's rate.
   * @param {number} nowS
   * @param {number} measuredS
   * @param {number} relativeRate
   */
  #read(nowS, measuredS, relativeRate) {
    let driftS = measuredS;
    if (this.#driftS === null) {
      this.#readings = 1;
    } else {
      const expectedS = this.#driftS + relativeRate * (nowS - this.#lookedS);
      const errorS = measuredS - expectedS;
      if (Math.abs(errorS) > JUMP_S) {
        this.#readings = 1;
      } else {
        this.#readings += 1;
        driftS = expectedS + Math.max(GAIN, 1 / this.#readings) * errorS;
      }
    }
    this.#driftS = driftS;
    this.#lookedS = nowS;
    return driftS;
  }

  #nextFactor(/** @type {number} */ lateS) {
    const correction = this.#factor - 1;
    const sizeS = Math.abs(lateS);
    if (correction === 0) return sizeS > ENTER_S ? 1 + correctionOf(lateS, CORRECT_IN_S) : 1;
    if (sizeS < LEAVE_S || lateS > 0 !== correction > 0) return 1;
    // As much as is left until the next look.
    if (sizeS < Math.abs(correction) * CONTROL_S) return 1 + correctionOf(lateS, CONTROL_S);
    const wanted = correctionOf(lateS, CORRECT_IN_S);
    if (Math.abs(wanted) > Math.abs(correction) + 1.5 * CORRECTION_STEP) return 1 + wanted;
    return this.#factor;
  }
}

/**
 * The change of the rate that makes up for `lateS` in `inS`, in whole steps.
 * @param {number} lateS
 * @param {number} inS
 */
function correctionOf(lateS, inS) {
  const steps = Math.floor(Math.abs(lateS) / inS / CORRECTION_STEP + 0.5);
  const bounded = Math.min(Math.max(steps, 1), Math.round(MAX_CORRECTION / CORRECTION_STEP));
  return Math.sign(lateS) * bounded * CORRECTION_STEP;
}
