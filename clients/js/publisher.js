/** Keeps a stream published: a new peer after each loss, until it is told to stop. */

import { Backoff } from "./backoff.js";
import { Peer } from "./peer.js";
import { ProblemError, problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./index.d.ts").PublishingState} PublishingState
 */

const MOST_ATTEMPTS = 4;
/** What the server says while it has not noticed yet that the peer before is gone. */
const PEER_BEFORE = new Set(["ice_restart", "dtls_restart", "sections_changed", "peer_closed"]);

export class Publisher {
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {Peer | null} */
  #peer = null;
  /** @type {PublishingState} */
  #state = "off";
  /** @type {(() => Peer) | null} null while there is no session */
  #makePeer = null;
  /** @type {any} */
  #retryTimer = null;
  #backoff;
  /** @type {{resolve: () => void, reject: (error: Error) => void}[]} */
  #waiters = [];

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {(state: PublishingState, problem: Problem | null) => void} onState
   */
  constructor(environment, onState) {
    this.environment = environment;
    this.onState = onState;
    this.#backoff = new Backoff({ firstS: 1, capS: 10, random: environment.random });
  }

  get state() {
    return this.#state;
  }

  /** Whether a stream is to be published, now or when there is a session again. */
  get wanted() {
    return this.#stream !== null;
  }

  /** A session began: publish what is wanted. @param {() => Peer} makePeer */
  attach(makePeer) {
    this.#makePeer = makePeer;
    this.#backoff.reset();
    if (this.#stream) this.#begin();
  }

  /** The session is gone; what is wanted stays wanted. */
  detach() {
    this.#makePeer = null;
    this.#drop();
    if (this.#stream) this.#setState("connecting", null);
  }

  /** Publishes `stream`; resolves when media flows. @param {MediaStream} stream */
  async publish(stream) {
    this.#stream = stream;
    const peer = this.#peer;
    if (peer && this.#state === "live") {
      await peer.setTrack("audio", stream.getAudioTracks()[0] ?? null);
      await peer.setTrack("video", stream.getVideoTracks()[0] ?? null);
      return;
    }
    /** @type {Promise<void>} */
    const live = new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
    this.#setState("connecting", null);
    if (this.#makePeer && !peer && this.#retryTimer === null) {
      this.#backoff.reset();
      this.#begin();
    }
    await live;
  }

  /** Sends nothing any more, though the peer stays: what was said is still to become final. */
  async silence() {
    if (this.#state !== "live" || !this.#peer) return;
    await this.#peer.setTrack("audio", null);
    this.#peer.end("video").catch(() => {}); // the peer's own end comes soon
  }

  stop(/** @type {Problem | null} */ reason = null) {
    this.#stream = null;
    this.#drop();
    this.#setState("off", reason);
  }

  answered(/** @type {string} */ sdp) {
    this.#peer?.answered(sdp);
  }

  refused(/** @type {Problem} */ reason) {
    this.#peer?.refused(reason);
  }

  async #begin() {
    const stream = this.#stream;
    if (!stream || !this.#makePeer) return;
    const peer = this.#makePeer();
    this.#peer = peer;
    peer.onLost = (reason) => this.#failed(peer, reason);
    this.#setState("connecting", null);
    try {
      await peer.start(stream);
    } catch (error) {
      this.#failed(peer, problemOf(error));
      return;
    }
    if (this.#peer !== peer) return;
    this.#backoff.reset();
    this.#setState("live", null);
    if (this.#stream !== stream && this.#stream) await this.publish(this.#stream);
  }

  #failed(/** @type {Peer} */ peer, /** @type {Problem} */ reason) {
    if (this.#peer !== peer) return; // it was stopped on purpose
    this.#drop();
    const passing = reason.retryable || PEER_BEFORE.has(reason.code);
    if (!passing || this.#backoff.attempt >= MOST_ATTEMPTS) {
      this.stop(reason);
      return;
    }
    this.#setState("connecting", reason);
    const waitS = this.#backoff.next(reason.retry_after_s ?? 0);
    this.#retryTimer = this.environment.setTimeout(() => {
      this.#retryTimer = null;
      this.#begin();
    }, waitS * 1000);
  }

  #drop() {
    this.environment.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    const peer = this.#peer;
    this.#peer = null;
    peer?.close();
  }

  #setState(/** @type {PublishingState} */ state, /** @type {Problem | null} */ reason) {
    const waiters = state === "connecting" ? [] : this.#waiters.splice(0);
    if (state !== this.#state || reason) {
      this.#state = state;
      this.onState(state, reason);
    }
    for (const { resolve, reject } of waiters) {
      if (state === "live") resolve();
      else reject(new ProblemError(reason ?? STOPPED));
    }
  }
}

const STOPPED = problem("cancelled", "Stopped", "Publishing was stopped.");

/** WebRTC's own errors (DOMException) may be passing ones, so they are tried again. */
function problemOf(/** @type {unknown} */ error) {
  if (error instanceof ProblemError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  return problem("media_failed", "WebRTC failed", detail, { retryable: true });
}
