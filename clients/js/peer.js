/** One RTCPeerConnection that sends a stream and receives the server's data channels. */

import { parseMessage } from "./connection.js";
import { ProblemError, problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").ClientMessage} ClientMessage
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./types.d.ts").CaptionOptions} CaptionOptions
 */

const ANSWER_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 15_000;
const DISCONNECTED_MS = 4000;
const VIDEO_BITS_PER_S = 600_000;

export class Peer {
  /** @type {RTCPeerConnection} */
  #pc;
  /** @type {{resolve: (sdp: string) => void, reject: (error: Error) => void} | null} */
  #awaitingAnswer = null;
  /** @type {ClientMessage[] | null} null once the offer is out */
  #heldCandidates = [];
  /** @type {Promise<unknown>} */
  #negotiation = Promise.resolve();
  #closed = false;
  /** @type {any} */
  #disconnectedTimer = null;
  #wasConnected = false;
  #rejectStart = (/** @type {Error} */ _error) => {};

  /**
   * @param {object} options
   * @param {import("./environment.js").Environment} options.environment
   * @param {RTCConfiguration} options.configuration
   * @param {() => CaptionOptions} options.captionOptions
   * @param {(message: ClientMessage) => void} options.send
   * @param {(message: ServerMessage) => void} options.onMessage
   * @param {(problem: Problem) => void} options.onLost after it was connected
   */
  constructor({ environment, configuration, captionOptions, send, onMessage, onLost }) {
    this.environment = environment;
    this.captionOptions = captionOptions;
    this.send = send;
    this.onMessage = onMessage;
    this.onLost = onLost;
    this.#pc = new environment.RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
    // The server can only open its channels when the offer has a place for them.
    this.#pc.createDataChannel("client", { negotiated: true, id: 100 });
    this.#pc.ondatachannel = ({ channel }) => {
      channel.onmessage = ({ data }) => {
        const message = parseMessage(data);
        if (message && !this.#closed) this.onMessage(message);
      };
    };
    this.#pc.onicecandidate = ({ candidate }) => this.#trickle(candidate);
  }

  /** Sends `stream`; resolves when media flows. Rejects with ProblemError. @param {MediaStream} stream */
  async start(stream) {
    for (const track of stream.getTracks()) this.#add(track, stream);
    const connected = this.#connected();
    connected.catch(() => {}); // it is awaited below, after what may fail earlier
    await this.#negotiate();
    await connected;
  }

  /** Sends `track` in place of what was sent of this kind; null sends nothing. */
  async setTrack(
    /** @type {"audio" | "video"} */ kind,
    /** @type {MediaStreamTrack | null} */ track,
  ) {
    const sender = this.#senderOf(kind);
    if (sender) await sender.replaceTrack(track);
    else if (track) {
      this.#add(track, new MediaStream([track]));
      await this.#negotiate();
    }
  }

  /** @param {string} sdp */
  answered(sdp) {
    this.#awaitingAnswer?.resolve(sdp);
  }

  /** The server refused the offer. @param {Problem} reason */
  refused(reason) {
    this.#awaitingAnswer?.reject(new ProblemError(reason));
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.environment.clearTimeout(this.#disconnectedTimer);
    const error = new ProblemError(problem("cancelled", "Stopped", "Publishing was stopped."));
    this.#awaitingAnswer?.reject(error);
    this.#rejectStart(error);
    this.#pc.close();
  }

  #senderOf(/** @type {"audio" | "video"} */ kind) {
    return this.#pc.getTransceivers().find(({ receiver }) => receiver.track.kind === kind)?.sender;
  }

  #add(/** @type {MediaStreamTrack} */ track, /** @type {MediaStream} */ stream) {
    const sendEncodings = track.kind === "video" ? [{ maxBitrate: VIDEO_BITS_PER_S }] : undefined;
    const init = { direction: /** @type {const} */ ("sendonly"), streams: [stream] };
    this.#pc.addTransceiver(track, sendEncodings ? { ...init, sendEncodings } : init);
  }

  /** One offer at a time. */
  #negotiate() {
    const next = this.#negotiation.then(() => this.#offer());
    this.#negotiation = next.catch(() => {});
    return next;
  }

  async #offer() {
    await this.#pc.setLocalDescription(await this.#pc.createOffer());
    const sdp = this.#pc.localDescription?.sdp ?? "";
    const answer = this.#answer();
    this.send({ type: "offer", sdp, options: this.captionOptions() });
    for (const candidate of this.#heldCandidates ?? []) this.send(candidate);
    this.#heldCandidates = null;
    await this.#pc.setRemoteDescription({ type: "answer", sdp: await answer });
  }

  /** @returns {Promise<string>} */
  async #answer() {
    const timer = this.environment.setTimeout(
      () => this.refused(unreachable("The server did not answer the offer.")),
      ANSWER_TIMEOUT_MS,
    );
    try {
      return await new Promise((resolve, reject) => {
        this.#awaitingAnswer = { resolve, reject };
      });
    } finally {
      this.#awaitingAnswer = null;
      this.environment.clearTimeout(timer);
    }
  }

  #trickle(/** @type {RTCIceCandidate | null} */ candidate) {
    /** @type {ClientMessage} */
    const message = {
      type: "candidate",
      candidate: candidate?.candidate ?? null,
      sdp_mid: candidate?.sdpMid ?? null,
      sdp_mline_index: candidate?.sdpMLineIndex ?? null,
    };
    if (this.#heldCandidates) this.#heldCandidates.push(message);
    else if (!this.#closed) this.send(message);
  }

  /** @returns {Promise<void>} */
  #connected() {
    return new Promise((resolve, reject) => {
      this.#rejectStart = reject;
      const detail =
        "No media could be sent. A firewall may block UDP between this device and the server.";
      const timer = this.environment.setTimeout(
        () => reject(new ProblemError(unreachable(detail))),
        CONNECT_TIMEOUT_MS,
      );
      this.#pc.onconnectionstatechange = () => {
        const state = this.#pc.connectionState;
        if (state === "connected" || state === "failed") this.environment.clearTimeout(timer);
        if (state === "connected") {
          this.#wasConnected = true;
          resolve();
        }
        if (state === "failed") reject(new ProblemError(unreachable(detail)));
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

function unreachable(/** @type {string} */ detail) {
  return problem("media_unreachable", "No media connection", detail, { retryable: true });
}
