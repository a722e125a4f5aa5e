/**
 * Following a room's playback: what a player has to do now. Pure.
 *
 * `PlaybackFollower` knows the newest `playback` state and the shared clock. Its `step` looks at
 * the player and says what to do: load, pause, seek, play, change the rate, report ready. To come
 * in sync it lands: it seeks to where playback will be when the seek is done, stands still, and
 * plays when the shared position comes by. The Python client's sync.py does the same.
 */

import { CONTROL_S, DriftController, Expected, isPlaying } from "./drift.js";
import { EXACT_S, goesOn, isNewer, positionAt, stepOf } from "./playback.js";

export { positionAt };

/** A player may come to its end this much before the shared position. */
const END_S = 1;
/** A player that stands still and is late by more seeks before it plays. */
const SEEK_FROM_REST_S = 0.5;
/** A player that holds for the start this near its position starts that much sooner or later. */
const PLACED_S = 0.2;
/** A landing that is late by more seeks again, MAX_LANDING_SEEKS times in all. */
const AGAIN_S = 1.5;
const MAX_LANDING_SEEKS = 3;
/** Nobody waits longer than this for the shared position to come by; it seeks back instead. */
const EARLY_S = 2;
/** Players may round rates by so much. */
const ROUNDED = 0.03;
/** A start that takes longer was a stall, and is not learnt from. */
const START_LIMIT_S = 0.6;
/** Refused starts in a row before the player counts as blocked (autoplay needs a gesture). */
const STARTS = 3;
/** Between looks at a player that seeks, so that its seeks are measured well. */
const LANDING_LOOK_S = 0.05;

/**
 * @typedef {import("./index.d.ts").PlaybackState} PlaybackState
 * @typedef {import("./index.d.ts").PlaybackStep} Step
 * @typedef {import("./index.d.ts").PlayerState} PlayerState
 * @typedef {import("./clock.js").ClockSync} ClockSync
 */

/**
 * Keeps one player with the room. `step` at the last step's `wakeS`, and whenever a state comes or
 * the player has loaded, sought, stalled or gone on.
 */
export class PlaybackFollower {
  #clock;
  #drift = new DriftController();
  /** @type {PlaybackState | null} */
  #state = null;
  #seeks = new Expected(0.6, 0.3, 5);
  #starts = new Expected(0.1, 0, START_LIMIT_S);
  #controlS = -Infinity;
  /** A seek is under way since then. @type {number | null} */
  #soughtS = null;
  #landing = true;
  #landingSeeks = 0;
  /** Somebody asked for it: seek for little drift too. */
  #exactly = false;
  /** Told to play when, and from where. @type {{atS: number, fromS: number} | null} */
  #started = null;
  #refused = 0;
  /** `seq` that the player was placed for while paused. @type {number | null} */
  #placed = null;
  /** As the player was told. @type {number | null} */
  #rate = null;
  /** The barrier: its epoch and its end. @type {[number, number] | null} */
  #reported = null;
  /** @type {number | null} */
  #ended = null;

  constructor(/** @type {ClockSync} */ clock) {
    this.#clock = clock;
  }

  get state() {
    return this.#state;
  }

  /** Player less shared position, seconds of the item; null unless it plays. */
  get driftS() {
    return this.#drift.driftS;
  }

  /** Whether the rate is changed to come in sync. */
  get correcting() {
    return this.#drift.correcting;
  }

  /** Whether the player is on its way to the shared position. */
  get landing() {
    return this.#landing;
  }

  /** Whether the player refuses to start (autoplay rules): somebody has to press play. */
  get blocked() {
    return this.#refused >= STARTS;
  }

  /** How long this player's seeks take, as measured. */
  get seekTimeS() {
    return this.#seeks.meanS;
  }

  /** The shared position at local time `nowS`; null while nothing is played. */
  positionS(/** @type {number} */ nowS) {
    if (this.#state === null || this.#state.item_id === null) return null;
    return positionAt(this.#state, this.#clock.sharedS(nowS));
  }

  /**
   * Takes a state; false if it is older than, or the same as, the one that is known. With
   * `snapshot` it is taken in any case: the room's log began anew.
   * @param {PlaybackState} state
   * @param {{snapshot?: boolean}} [options]
   */
  update(state, { snapshot = false } = {}) {
    const known = this.#state;
    if (known && !snapshot) {
      if (!isNewer(state, known)) return false;
      if (goesOn(known, state)) {
        this.#state = state;
        if (state.rate !== known.rate) this.#drift.pause();
        return true;
      }
    }
    this.#state = state;
    this.#landAnew();
    if (snapshot || !known || known.epoch !== state.epoch) this.#reported = this.#ended = null;
    return true;
  }

  /** Lands anew, as exactly as can be: somebody asked for it, or has unblocked the player. */
  resync() {
    this.#landAnew();
    this.#exactly = true;
  }

  #landAnew() {
    this.#drift.forgive();
    this.#exactly = false;
    this.#refused = 0;
    this.#placed = null;
    this.#beginLanding();
  }

  /**
   * Returns what to do at local time `nowS`.
   * @param {number} nowS
   * @param {PlayerState} player
   * @returns {Step}
   */
  step(nowS, player) {
    const state = this.#state;
    if (state === null || state.item_id === null) {
      this.#drift.pause();
      return stepOf(nowS + CONTROL_S, { pause: !player.paused });
    }
    if (player.itemId !== state.item_id) {
      this.#drift.pause();
      this.#soughtS = this.#rate = null;
      return stepOf(nowS + CONTROL_S, { load: state.item_id });
    }
    this.#measureSeek(nowS, player);
    if (!state.playing) return this.#standStill(nowS, player, state);
    if (!this.#clock.synchronised) {
      return stepOf(nowS + LANDING_LOOK_S, { pause: this.#landing && !player.paused });
    }
    if (this.#isOver(nowS, player, state)) return this.#end(nowS, state);
    if (player.paused || this.#landing) return this.#land(nowS, player, state);
    return this.#follow(nowS, player, state);
  }

  // ---- paused, and the end -------------------------------------------------------------------

  /**
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #standStill(nowS, player, state) {
    this.#drift.pause();
    this.#beginLanding();
    const offS = Math.abs(player.positionS - state.position_s);
    const seek = offS > EXACT_S && player.seekable && this.#placed !== state.seq;
    if (player.seekable) this.#placed = state.seq;
    if (seek) this.#soughtS = nowS;
    return stepOf(nowS + CONTROL_S, {
      pause: !player.paused,
      seekToS: seek ? state.position_s : null,
      rate: this.#newRate(player, state.rate),
    });
  }

  /**
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #isOver(nowS, player, state) {
    if (player.durationS == null) return false;
    const restS = player.durationS - positionAt(state, this.#clock.sharedS(nowS));
    // A player that came to its end first would begin again if it were told to play.
    const there = player.positionS >= player.durationS - EXACT_S;
    return restS <= (there ? END_S * state.rate : 0);
  }

  /**
   * @param {number} nowS
   * @param {PlaybackState} state
   */
  #end(nowS, state) {
    this.#drift.pause();
    const first = this.#ended !== state.epoch;
    this.#ended = state.epoch;
    return stepOf(nowS + CONTROL_S, { ended: first ? state.epoch : null });
  }

  // ---- landing -------------------------------------------------------------------------------

  #beginLanding() {
    this.#landing = true;
    this.#landingSeeks = 0;
    this.#started = null;
  }

  /**
   * Stands still at a place ahead, and plays when the shared position comes by.
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #land(nowS, player, state) {
    this.#noticeRefusal(player);
    const pause = !player.paused;
    const soonS = nowS + LANDING_LOOK_S;
    if (this.blocked) return stepOf(nowS + CONTROL_S, { pause });
    if (this.#soughtS !== null) return stepOf(soonS, { pause });
    const rate = this.#newRate(player, state.rate);
    const sharedS = this.#clock.sharedS(nowS);
    const startsS = state.anchor_s + (player.positionS - state.position_s) / state.rate;
    const lateS = sharedS - startsS + (isPlaying(player) ? 0 : this.#starts.meanS);
    if (this.#mustSeek(sharedS, lateS, player, state)) {
      return stepOf(soonS, { pause, seekToS: this.#seekAhead(nowS, player, state), rate });
    }
    if (!player.ready) return stepOf(soonS, { pause, rate });
    const ready = this.#report(sharedS, state);
    if (lateS < -0.0005) {
      return stepOf(nowS + Math.min(-lateS, CONTROL_S), { pause, rate, ready });
    }
    this.#started = { atS: nowS, fromS: player.positionS };
    this.#landing = this.#exactly = false;
    this.#controlS = nowS + CONTROL_S;
    this.#drift.pause();
    return stepOf(this.#controlS, { rate, play: true, ready });
  }

  #noticeRefusal(/** @type {PlayerState} */ player) {
    if (!this.#landing) {
      // It was told to play, and is paused.
      this.#refused += 1;
      this.#beginLanding();
    } else if (this.blocked && !player.paused) {
      this.#refused = 0;
    }
  }

  /**
   * @param {number} sharedS
   * @param {number} lateS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #mustSeek(sharedS, lateS, player, state) {
    if (!player.seekable || this.#landingSeeks >= MAX_LANDING_SEEKS) return false;
    if (sharedS < state.anchor_s && this.#landingSeeks === 0) {
      return Math.abs(player.positionS - state.position_s) > PLACED_S;
    }
    if (lateS < 0) {
      const aheadS = player.positionS - positionAt(state, sharedS);
      return aheadS > (EARLY_S + this.#seeks.likelyS) * state.rate;
    }
    if (this.#landingSeeks > 0) return lateS > AGAIN_S;
    return lateS > (this.#exactly ? EXACT_S : SEEK_FROM_REST_S);
  }

  /**
   * Begins a seek; returns where playback will be when the player is likely done with it.
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #seekAhead(nowS, player, state) {
    this.#soughtS = nowS;
    this.#landingSeeks += 1;
    this.#drift.sought(nowS);
    const aheadS = this.#seeks.likelyS + this.#starts.meanS;
    const toS = positionAt(state, this.#clock.sharedS(nowS) + aheadS);
    return player.durationS == null ? toS : Math.min(toS, player.durationS);
  }

  // ---- playing -------------------------------------------------------------------------------

  /**
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #follow(nowS, player, state) {
    if (player.ready && nowS < this.#controlS - 0.1 * CONTROL_S) return stepOf(this.#controlS);
    this.#controlS = nowS + CONTROL_S;
    this.#measureStart(nowS, player, state);
    const positionS = positionAt(state, this.#clock.sharedS(nowS));
    const correction = this.#drift.step(nowS, positionS, state.rate, player);
    const rate = this.#newRate(player, correction.rate);
    if (!correction.seek) return stepOf(this.#controlS, { rate });
    this.#beginLanding();
    const seekToS = this.#seekAhead(nowS, player, state);
    return stepOf(nowS + LANDING_LOOK_S, { pause: true, seekToS, rate });
  }

  // ---- what is remembered --------------------------------------------------------------------

  /**
   * The rate to set; null where the player was told so and has (about) done it.
   * @param {PlayerState} player
   * @param {number} rate
   */
  #newRate(player, rate) {
    if (this.#rate === rate && Math.abs(player.rate - rate) < ROUNDED) return null;
    this.#rate = rate;
    return rate;
  }

  /**
   * @param {number} sharedS
   * @param {PlaybackState} state
   */
  #report(sharedS, state) {
    const { epoch, wait_until_s: untilS } = state;
    if (untilS == null || sharedS >= untilS) return null;
    if (this.#reported?.[0] === epoch && this.#reported[1] === untilS) return null;
    this.#reported = [epoch, untilS];
    return epoch;
  }

  /**
   * @param {number} nowS
   * @param {PlayerState} player
   */
  #measureSeek(nowS, player) {
    if (this.#soughtS === null || !player.ready || nowS <= this.#soughtS) return;
    this.#seeks.learn(nowS - this.#soughtS);
    this.#soughtS = null;
  }

  /**
   * Learns how long `play` took to move the player, from where it is a moment later.
   * @param {number} nowS
   * @param {PlayerState} player
   * @param {PlaybackState} state
   */
  #measureStart(nowS, player, state) {
    if (this.#started === null || !isPlaying(player)) return;
    const { atS, fromS } = this.#started;
    this.#started = null;
    this.#refused = 0;
    const tookS = nowS - atS - (player.positionS - fromS) / state.rate;
    if (tookS >= 0 && tookS <= START_LIMIT_S) this.#starts.learn(tookS);
  }
}
