/**
 * Playing a live HLS stream, which has no position that a room could share: everybody starts and
 * stops together, each as near to the newest picture as the stream allows. Pure.
 */

/** Who is further behind than at the beginning, by more than this, seeks to the newest. */
const LATE_S = 15;
/** After a pause already by this. */
const RESUME_LATE_S = 2;
const LOOK_S = 0.5;
const SOON_S = 0.05;

/**
 * @typedef {import("./index.d.ts").PlaybackState} PlaybackState
 * @typedef {import("./index.d.ts").PlaybackStep} Step
 */

export class LiveEdge {
  /** How far behind the newest picture the player plays by itself; null: not known yet. */
  #gapS = /** @type {number | null} */ (null);
  #reported = /** @type {number | null} */ (null);

  /**
   * Returns what to do at local time `nowS`.
   * @param {number} nowS
   * @param {number} sharedS
   * @param {PlaybackState} state
   * @param {{positionS: number, edgeS: number, paused: boolean, ready: boolean}} player `edgeS`: the
   *   newest position that it may seek to
   * @returns {Step}
   */
  step(nowS, sharedS, state, player) {
    const { positionS, edgeS, paused, ready } = player;
    if (ready) this.#gapS ??= Math.max(0, edgeS - positionS);
    const step = {
      load: null, pause: false, seekToS: /** @type {number | null} */ (null), rate: 1, play: false,
      ready: this.#report(sharedS, state, ready), ended: null, wakeS: nowS + LOOK_S,
    };
    const untilS = state.anchor_s - sharedS;
    if (!state.playing || untilS > 0) {
      const wakeS = state.playing ? nowS + Math.min(Math.max(untilS, SOON_S), LOOK_S) : step.wakeS;
      return { ...step, pause: !paused, wakeS };
    }
    const gapS = this.#gapS;
    if (gapS === null || !ready) return { ...step, play: paused };
    const late = edgeS - positionS - gapS > (paused ? RESUME_LATE_S : LATE_S);
    return { ...step, seekToS: late ? edgeS - gapS : null, play: paused };
  }

  /** @param {number} sharedS @param {PlaybackState} state @param {boolean} ready */
  #report(sharedS, { epoch, wait_until_s: untilS }, ready) {
    if (!ready || untilS == null || sharedS >= untilS || this.#reported === epoch) return null;
    this.#reported = epoch;
    return epoch;
  }
}
