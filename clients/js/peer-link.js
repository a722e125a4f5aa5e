/** One RTCPeerConnection to the server: offer, answer, candidates, and whether it stands. */

import { ProblemError, problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {{candidate: string | null, sdp_mid: string | null, sdp_mline_index: number | null}} Trickled
 */

const CONNECT_TIMEOUT_MS = 15_000;
const DISCONNECTED_MS = 4000;

/**
 * What a connection is made with.
 * @param {import("./types.d.ts").Welcome} welcome
 * @param {RTCConfiguration} more of the page
 * @returns {RTCConfiguration}
 */
export function configurationOf(welcome, more) {
  const iceServers = (welcome.ice_servers ?? []).map(({ urls, username, credential }) => ({
    urls: [...urls],
    ...(username ? { username } : {}),
    ...(credential ? { credential } : {}),
  }));
  return { iceServers, ...more };
}

export class PeerLink {
  /** @type {RTCPeerConnection} */
  pc;
  /** @type {Trickled[] | null} null once the offer is out */
  #held = [];
  /** @type {Promise<unknown>} */
  #negotiation = Promise.resolve();
  #closed = false;
  /** @type {any} */
  #disconnectedTimer = null;
  #wasConnected = false;
  #rejectConnected = (/** @type {Error} */ _error) => {};

  /**
   * @param {object} options
   * @param {import("./environment.js").Environment} options.environment
   * @param {RTCConfiguration} options.configuration
   * @param {(sdp: string) => Promise<string>} options.ask sends an offer; resolves with the answer
   * @param {(candidate: Trickled) => void} options.trickle sends a candidate
   * @param {(problem: Problem) => void} options.onLost after it was connected
   * @param {string} options.unreachable what is said where no media come through
   */
  constructor({ environment, configuration, ask, trickle, onLost, unreachable: detail }) {
    this.environment = environment;
    this.ask = ask;
    this.trickle = trickle;
    this.onLost = onLost;
    this.detail = detail;
    this.pc = new environment.RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
    this.pc.onicecandidate = ({ candidate }) => this.#trickle(candidate);
  }

  get closed() {
    return this.#closed;
  }

  /** Negotiates; resolves when media flows. Rejects with ProblemError. */
  async connect() {
    const connected = this.#connected();
    connected.catch(() => {}); // it is awaited below, after what may fail earlier
    await this.negotiate();
    await connected;
  }

  /** One offer at a time. */
  negotiate() {
    const next = this.#negotiation.then(() => this.#offer());
    this.#negotiation = next.catch(() => {});
    return next;
  }

  /** @param {Error} reason */
  close(reason) {
    if (this.#closed) return;
    this.#closed = true;
    this.environment.clearTimeout(this.#disconnectedTimer);
    this.#rejectConnected(reason);
    this.pc.close();
  }

  async #offer() {
    await this.pc.setLocalDescription(await this.pc.createOffer());
    const answer = this.ask(this.pc.localDescription?.sdp ?? "");
    for (const candidate of this.#held ?? []) this.trickle(candidate);
    this.#held = null;
    await this.pc.setRemoteDescription({ type: "answer", sdp: await answer });
  }

  #trickle(/** @type {RTCIceCandidate | null} */ candidate) {
    const message = {
      candidate: candidate?.candidate ?? null,
      sdp_mid: candidate?.sdpMid ?? null,
      sdp_mline_index: candidate?.sdpMLineIndex ?? null,
    };
    if (this.#held) this.#held.push(message);
    else if (!this.#closed) this.trickle(message);
  }

  /** @returns {Promise<void>} */
  #connected() {
    return new Promise((resolve, reject) => {
      const timer = this.environment.setTimeout(
        () => reject(new ProblemError(unreachable(this.detail))),
        CONNECT_TIMEOUT_MS,
      );
      this.#rejectConnected = (error) => {
        this.environment.clearTimeout(timer);
        reject(error);
      };
      this.pc.onconnectionstatechange = () => {
        const state = this.pc.connectionState;
        if (state === "connected" || state === "failed") this.environment.clearTimeout(timer);
        if (state === "connected") {
          this.#wasConnected = true;
          resolve();
        }
        if (state === "failed") reject(new ProblemError(unreachable(this.detail)));
        this.#watch(state);
      };
    });
  }

  #watch(/** @type {RTCPeerConnectionState} */ state) {
    this.environment.clearTimeout(this.#disconnectedTimer);
    const lost = () => {
      if (this.#wasConnected && !this.#closed) {
        this.onLost(unreachable("The media connection to the server was lost."));
      }
    };
    if (state === "failed") lost();
    if (state === "disconnected") {
      this.#disconnectedTimer = this.environment.setTimeout(lost, DISCONNECTED_MS);
    }
  }
}

export function unreachable(/** @type {string} */ detail) {
  return problem("media_unreachable", "No media connection", detail, { retryable: true });
}
