/** The connection that sends a stream and receives the server's data channels. */

import { parseMessage } from "./connection.js";
import { PeerLink, unreachable } from "./peer-link.js";
import { ProblemError, problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").ClientMessage} ClientMessage
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./types.d.ts").CaptionOptions} CaptionOptions
 */

const ANSWER_TIMEOUT_MS = 10_000;
const VIDEO_BITS_PER_S = 1_200_000;
const BLOCKED =
  "No media could be sent. A firewall may block UDP between this device and the server.";

export class Peer {
  #link;
  /** @type {{resolve: (sdp: string) => void, reject: (error: Error) => void} | null} */
  #awaitingAnswer = null;

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
    this.onLost = onLost;
    this.#link = new PeerLink({
      environment,
      configuration,
      ask: (sdp) => this.#ask(sdp),
      trickle: (candidate) => send({ type: "candidate", ...candidate }),
      onLost: (reason) => this.onLost(reason),
      unreachable: BLOCKED,
    });
    const { pc } = this.#link;
    // The server can only open its channels when the offer has a place for them.
    pc.createDataChannel("client", { negotiated: true, id: 100 });
    pc.ondatachannel = ({ channel }) => {
      channel.onmessage = ({ data }) => {
        const message = parseMessage(data);
        if (message && !this.#link.closed) onMessage(message);
      };
    };
  }

  /** Sends `stream`; resolves when media flows. Rejects with ProblemError. @param {MediaStream} stream */
  async start(stream) {
    for (const track of stream.getTracks()) this.#add(track, stream);
    await this.#link.connect();
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
      await this.#link.negotiate();
    }
  }

  /** Ends a kind for good: whoever watches is told at once. */
  async end(/** @type {"audio" | "video"} */ kind) {
    const { pc } = this.#link;
    const found = pc.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
    if (!found) return;
    found.direction = "inactive";
    await found.sender.replaceTrack(null);
    await this.#link.negotiate();
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
    const error = new ProblemError(problem("cancelled", "Stopped", "Publishing was stopped."));
    this.#awaitingAnswer?.reject(error);
    this.#link.close(error);
  }

  #senderOf(/** @type {"audio" | "video"} */ kind) {
    const found = this.#link.pc.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
    return found?.sender;
  }

  #add(/** @type {MediaStreamTrack} */ track, /** @type {MediaStream} */ stream) {
    const sendEncodings = track.kind === "video" ? [{ maxBitrate: VIDEO_BITS_PER_S }] : undefined;
    const init = { direction: /** @type {const} */ ("sendonly"), streams: [stream] };
    this.#link.pc.addTransceiver(track, sendEncodings ? { ...init, sendEncodings } : init);
  }

  /** @returns {Promise<string>} the answer */
  async #ask(/** @type {string} */ sdp) {
    const timer = this.environment.setTimeout(
      () => this.refused(unreachable("The server did not answer the offer.")),
      ANSWER_TIMEOUT_MS,
    );
    const answer = new Promise((resolve, reject) => (this.#awaitingAnswer = { resolve, reject }));
    this.send({ type: "offer", sdp, options: this.captionOptions() });
    try {
      return await answer;
    } finally {
      this.#awaitingAnswer = null;
      this.environment.clearTimeout(timer);
    }
  }
}
