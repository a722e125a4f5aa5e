/** A member's session in a room: connect, publish, captions, chat; it comes back by itself. */

import { Backoff } from "./backoff.js";
import { CaptionStore } from "./captions.js";
import { Commands } from "./commands.js";
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { apiOf, asksForTickets, Entrance, webSocketUrl } from "./entrance.js";
import { standardEnvironment } from "./environment.js";
import { renewGuestToken } from "./guest-token.js";
import { InOrder } from "./in-order.js";
import { Peer } from "./peer.js";
import { configurationOf } from "./peer-link.js";
import { LEFT, LOST, NOT_CONNECTED, ProblemError } from "./problems.js";
import { Publisher } from "./publisher.js";
import { fetchTranscript, transcriptUrl } from "./server-transcript.js";
import { nextEvent, Sleep, within } from "./waiting.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").ServerMessage} ServerMessage
 * @typedef {import("./types.d.ts").ClientMessage} ClientMessage
 * @typedef {import("./types.d.ts").CaptionOptions} CaptionOptions
 * @typedef {import("./index.d.ts").SessionState} SessionState
 */

const STABLE_MS = 5000;
const LEAVE_TIMEOUT_MS = 5000;
const IN_FLIGHT_MS = 250;
const FINALIZE_TIMEOUT_MS = 10_000;
const REMEMBERED_CHATS = 500;

export class MediaSession extends Emitter {
  /** Every caption of the room since the first connect, merged. */
  captions;
  /** The newest welcome; null before the first. @type {import("./types.d.ts").Welcome | null} */
  welcome = null;
  /** The ids of all sessions so far: a reconnect begins a new one. @type {string[]} */
  sessionIds = [];

  /** @type {Connection | null} */
  #connection = null;
  /** @type {SessionState} */
  #state = { state: "idle", attempt: 0, retryInS: null, problem: null };
  /** @type {Promise<void> | null} */
  #running = null;
  #stopped = false;
  /** @type {number | null} */
  #openedAt = null;
  #stopWatching = () => {};
  #publisher;
  #chats = new Set();
  #lastMetricsAt = 0;
  #entrance;
  #commands;
  #sleep;
  #inOrder;
  /** @type {{resolve: (welcome: any) => void, reject: (error: Error) => void}[]} */
  #connectWaiters = [];

  /**
   * @param {string | URL} url of `/ws`, as ws:, wss:, http: or https:, or relative to the page
   * @param {import("./index.d.ts").SessionOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.url = webSocketUrl(url);
    this.room = options.room ?? null;
    this.name = options.name ?? "";
    this.apiKey = options.apiKey ?? null;
    /** @type {CaptionOptions} */
    this.options = options.options ?? {};
    this.reconnect = options.reconnect ?? true;
    this.rtcConfiguration = options.rtcConfiguration ?? {};
    this.environment = standardEnvironment(options.environment);
    this.captions = new CaptionStore({ limit: options.captionLimit });
    this.backoff = new Backoff({ random: this.environment.random, ...options.backoff });
    this.invitation = options.invitation ?? null;
    this.account = options.account ?? null;
    /** Asks for tickets; null where the room is entered by its name. */
    this.api = asksForTickets(options) ? apiOf(this.url, options) : null;
    if (this.api) renewGuestToken(this, this.api, this.environment);
    this.#entrance = new Entrance(this.url, this.api, options.place ?? null);
    this.#commands = new Commands(this.environment);
    this.#sleep = new Sleep(this.environment);
    this.#inOrder = new InOrder(
      this.environment,
      (message) => this.tell(message),
      (message) => this.#receive(message),
    );
    this.account?.on("token", (token) => this.#connection?.send({ type: "auth", token }));
    this.#publisher = new Publisher(this.environment, (state, reason) =>
      this.emit("publishing", { state, problem: reason }),
    );
  }

  /**
   * Makes a session and resolves when the server has welcomed it.
   * @param {string | URL} url
   * @param {import("./index.d.ts").SessionOptions} [options]
   */
  static async connect(url, options) {
    const session = new MediaSession(url, options);
    await session.connect();
    return session;
  }

  get state() {
    return this.#state;
  }

  /** What is needed to come back to the same place, for example after a page was reloaded. */
  get place() {
    return this.#entrance.place;
  }

  get publishing() {
    return this.#publisher.state;
  }

  /** Resolves with the welcome. Rejects with ProblemError when trying again cannot help. */
  connect() {
    if (this.#state.state === "open") return Promise.resolve(this.welcome);
    const welcomed = new Promise((resolve, reject) =>
      this.#connectWaiters.push({ resolve, reject }),
    );
    if (!this.#running) {
      this.#stopped = false;
      this.backoff.reset();
      this.#stopWatching = this.environment.watchWake(() => this.#awake());
      this.#running = this.#run().finally(() => (this.#running = null));
    }
    return welcomed;
  }

  /** Does not wait any longer for the next attempt. */
  retryNow() {
    this.#sleep.wake();
  }

  /**
   * Sends the stream's first audio and first video track; resolves when media flows. After a
   * lost connection it is published again. The stream stays the caller's: stop its tracks yourself.
   * @param {MediaStream} stream
   */
  publish(stream) {
    return this.#publisher.publish(stream);
  }

  /** Ends publishing, after what was said so far has become final. */
  async unpublish() {
    try {
      if (this.publishing === "live") {
        await this.#publisher.silence();
        // The last packets are still on their way.
        await new Promise((resolve) => this.environment.setTimeout(() => resolve(null), IN_FLIGHT_MS));
        await this.finalize();
      }
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error; // the finals will come without it
    } finally {
      this.#publisher.stop();
    }
  }

  /** Changes how this member is captioned, from the next utterance on. */
  configure(/** @type {CaptionOptions} */ options) {
    this.options = { ...this.options, ...options };
    this.#connection?.send({ type: "configure", options: this.options });
  }

  /** Resolves when everything said so far is final. */
  async finalize() {
    this.send({ type: "finalize" });
    await nextEvent(this, "finalized", FINALIZE_TIMEOUT_MS);
  }

  /** Says something to the room; returns the id that comes back as `client_id` in `chat`. */
  sendChat(/** @type {string} */ text) {
    const id = this.#commands.newId();
    this.send({ type: "chat.send", text, id });
    return id;
  }

  /** Sends a message. Throws ProblemError when there is no connection. */
  send(/** @type {ClientMessage} */ message) {
    if (!this.#connection?.send(message)) throw new ProblemError(NOT_CONNECTED);
  }

  /** Sends what is of the moment, if there is a connection. @param {any} message */
  tell(message) {
    return this.#connection?.send(message) ?? false;
  }

  /**
   * Sends a command; resolves with its `ack` (of `watch.offer`: its `watch.answer`; of `video.open`:
   * its `video.source`), rejects with ProblemError.
   * @param {any} command
   * @returns {Promise<any>}
   */
  request(command) {
    const id = command.id ?? this.#commands.newId();
    try {
      this.send({ ...command, id });
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#commands.answer(id);
  }

  /** Leaves in good order: pending finals arrive first (at most some seconds). */
  async leave() {
    const connection = this.#connection;
    this.#stopped = true;
    this.#entrance.place = null;
    if (connection?.send({ type: "leave" })) {
      await within(this.environment, connection.closed, LEAVE_TIMEOUT_MS);
    }
    this.close();
    await this.#running;
  }

  /** Leaves at once, without waiting. */
  close() {
    this.#stopped = true;
    this.#connection?.send({ type: "leave" });
    this.#publisher.stop();
    this.#connection?.abort(LEFT);
    this.#sleep.wake();
  }

  /**
   * Returns the server's transcript of one session (the newest, if not told otherwise).
   * @param {import("./index.d.ts").TranscriptFormat} format
   * @param {{sessionId?: string}} [options]
   */
  async fetchTranscript(format, { sessionId = this.welcome?.session_id } = {}) {
    if (!sessionId) throw new ProblemError(NOT_CONNECTED);
    const url = this.transcriptUrl(format, sessionId);
    return fetchTranscript(this.environment, url, await this.#headers());
  }

  /** @returns {Promise<Record<string, string>>} */
  async #headers() {
    if (this.api) return this.api.headers();
    return this.apiKey ? { "X-API-Key": this.apiKey } : {};
  }

  transcriptUrl(/** @type {string} */ format, /** @type {string} */ sessionId) {
    return transcriptUrl(this.url, format, sessionId);
  }

  async #run() {
    this.#setState("connecting", null, null);
    /** @type {Problem | null} */
    let reason = null;
    while (!this.#stopped) {
      reason = await this.#oneConnection();
      if (this.#stopped || !this.reconnect || !this.#mayComeBack(reason)) break;
      if (this.#wasStable()) this.backoff.reset();
      const waitS = this.backoff.next(reason.retry_after_s ?? 0);
      this.#setState("reconnecting", waitS, reason);
      await this.#sleep.for(waitS * 1000);
      if (!this.#stopped) this.#setState("reconnecting", null, reason);
    }
    this.#stopWatching();
    this.#publisher.stop(this.#stopped ? null : reason);
    const left = this.#stopped || reason === LEFT;
    this.#setState("closed", null, left ? null : reason);
    const error = new ProblemError(reason ?? LEFT);
    for (const { reject } of this.#connectWaiters.splice(0)) reject(error);
  }

  /** Resolves with the reason when the connection is over. */
  async #oneConnection() {
    this.#openedAt = null;
    let url;
    try {
      // Without a ticket the socket is opened at once, within this turn.
      url = this.#entrance.byTicket
        ? await this.#entrance.withTicket(this.room ?? "lobby", this.name, this.invitation)
        : this.#entrance.byName(this.room, this.name);
    } catch (error) {
      if (error instanceof ProblemError) return error.problem;
      throw error;
    }
    if (this.#stopped) return LEFT;
    const connection = new Connection({
      url,
      apiKey: this.#entrance.byTicket ? null : this.apiKey,
      environment: this.environment,
      onMessage: (message) => this.#inOrder.take(message),
      onRoundTrip: (ms) => this.emit("roundtrip", ms),
    });
    this.#connection = connection;
    const reason = await connection.closed;
    this.#connection = null;
    this.#inOrder.stop();
    this.#commands.fail(LOST);
    if (this.#openedAt !== null) this.#publisher.detach();
    return reason;
  }

  /** Expired credentials are renewed with the next ticket. */
  #mayComeBack(/** @type {Problem} */ reason) {
    const expired = reason.status === 401 && this.#openedAt !== null && this.#entrance.byTicket;
    return reason.retryable || expired;
  }

  #wasStable() {
    return this.#openedAt !== null && this.environment.now() - this.#openedAt > STABLE_MS;
  }

  #receive(/** @type {ServerMessage} */ message) {
    this.#entrance.see(message);
    this.#commands.take(message);
    this.emit("message", message);
    switch (message.type) {
      case "welcome":
        return this.#welcomed(message);
      case "answer":
        return this.#publisher.answered(message.sdp);
      case "caption":
        return this.#caption(message);
      case "chat":
        return this.#chat(message);
      case "metrics":
        if (message.at <= this.#lastMetricsAt) return;
        this.#lastMetricsAt = message.at;
        break;
      case "error":
        if (message.in_reply_to === "room.resume") return; // it goes on without
        if (message.in_reply_to === "offer") this.#publisher.refused(message.problem);
        this.emit("error", {
          error: new ProblemError(message.problem),
          inReplyTo: message.in_reply_to,
        });
        return;
    }
    this.emit(message.type, message); // a type that is not known yet is passed on as well
  }

  #welcomed(/** @type {import("./types.d.ts").Welcome} */ welcome) {
    this.welcome = welcome;
    this.sessionIds.push(welcome.session_id);
    this.#openedAt = this.environment.now();
    this.#setState("open", null, null);
    this.emit("welcome", welcome);
    for (const { resolve } of this.#connectWaiters.splice(0)) resolve(welcome);
    this.#publisher.attach(() => this.#makePeer(welcome));
  }

  #makePeer(/** @type {import("./types.d.ts").Welcome} */ welcome) {
    return new Peer({
      environment: this.environment,
      configuration: configurationOf(welcome, this.rtcConfiguration),
      captionOptions: () => this.options,
      send: (message) => this.#connection?.send(message),
      onMessage: (message) => this.#inOrder.take(message, true),
      onLost: () => {},
    });
  }

  #caption(/** @type {import("./types.d.ts").Caption} */ message) {
    const change = this.captions.apply(message, this.environment.wallTime());
    if (!change) return;
    this.emit("captions", change);
    if (change.kind !== "removed") this.emit("caption", change.entry.caption);
  }

  #chat(/** @type {import("./types.d.ts").Chat} */ message) {
    const key = `${message.id} ${message.sent_at}`; // a restarted server counts anew
    if (this.#chats.has(key)) return;
    this.#chats.add(key);
    if (this.#chats.size > REMEMBERED_CHATS) {
      this.#chats.delete(this.#chats.values().next().value);
    }
    this.emit("chat", message);
  }

  #awake() {
    this.#sleep.wake();
    this.#connection?.check();
  }

  #setState(
    /** @type {SessionState["state"]} */ state,
    /** @type {number | null} */ retryInS,
    /** @type {Problem | null} */ reason,
  ) {
    this.#state = { state, attempt: this.backoff.attempt, retryInS, problem: reason };
    this.emit("state", this.#state);
  }
}
