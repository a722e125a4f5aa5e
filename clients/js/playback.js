/** Playback states and steps, for sync.js. Pure. */

/** Two players this near show (about) the same. */
export const EXACT_S = 0.05;

/**
 * @typedef {import("./index.d.ts").PlaybackState} PlaybackState
 * @typedef {import("./index.d.ts").PlaybackStep} Step
 */

/**
 * Where playback is at a time of the shared clock, seconds of the item.
 * @param {PlaybackState} state
 * @param {number} sharedS
 */
export function positionAt(state, sharedS) {
  if (!state.playing) return state.position_s;
  return state.position_s + Math.max(0, sharedS - state.anchor_s) * state.rate;
}

/** @type {Omit<Step, "wakeS">} */
const NOTHING = {
  load: null,
  pause: false,
  seekToS: null,
  rate: null,
  play: false,
  ready: null,
  ended: null,
};

/**
 * A step that does `what` and nothing else.
 * @param {number} wakeS
 * @param {Partial<Step>} [what]
 * @returns {Step}
 */
export function stepOf(wakeS, what = {}) {
  return { ...NOTHING, ...what, wakeS };
}

/**
 * Whether `state` comes after `known`.
 * @param {PlaybackState} state
 * @param {PlaybackState} known
 */
export function isNewer(state, known) {
  return state.epoch > known.epoch || (state.epoch === known.epoch && state.seq > known.seq);
}

/**
 * Whether a player that follows `known` need not land for `state`.
 * @param {PlaybackState} known
 * @param {PlaybackState} state
 */
export function goesOn(known, state) {
  if (known.epoch !== state.epoch || known.item_id !== state.item_id) return false;
  if (!(known.playing && state.playing)) {
    return known.playing === state.playing && known.position_s === state.position_s;
  }
  if (known.anchor_s === state.anchor_s) return known.position_s === state.position_s;
  // Another rate from the anchor on: the same place at that moment.
  const offS = Math.abs(positionAt(known, state.anchor_s) - state.position_s);
  return known.anchor_s < state.anchor_s && offS < EXACT_S;
}
