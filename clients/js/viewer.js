/** Watches a broadcast of the room: whoever's is wanted, from its beginning, again after a loss. */

import { Backoff } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { configurationOf, PeerLink } from "./peer-link.js";
import { LEFT, ProblemError, problem } from "./problems.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./types.d.ts").WatchEnded} WatchEnded
 * @typedef {import("./index.d.ts").ViewerState} ViewerState
 * @typedef {import("./room.js").Room} Room
 */

const BLOCKED =
  "No media came through. A firewall may block UDP between this device and the server.";
/** A watch that lasted so long was good: waits begin anew. */
const STABLE_MS = 5000;
/** The room tells what a member broadcasts a moment after (or before) its media ends. */
const NEWS_S = 2;

const GONE = problem("connection_lost", "Connection lost", "The connection to the server was lost.", {
  retryable: true,
});

/** @type {ViewerState} */
const OFF = { state: "off", memberId: null, stream: null, problem: null, retryInS: null, ended: null };

export class Viewer extends Emitter {
  /** @type {ViewerState} */
  #state = OFF;
  /** What is to be watched; null: nothing. @type {{memberId: string | null} | null} */
  #wanted = null;
  /** Whose broadcast is watched, or tried. @type {string | null} */
  #memberId = null;
  /** @type {PeerLink | null} */
  #link = null;
  /** @type {any} */
  #timer = null;
  #liveSince = 0;
  /** Trying again cannot help until this member's broadcast begins anew. @type {string | null} */
  #hopeless = null;
  #backoff;
  /** @type {(() => void)[]} */
  #offs;

  /** @param {Room} room */
  constructor(room) {
    super();
    const { session } = room;
    this.room = room;
    this.environment = session.environment;
    this.#backoff = new Backoff({ firstS: 1, capS: 10, random: this.environment.random });
    this.#offs = [
      room.on("members", () => this.#look()),
      session.on("watch.ended", (message) => this.#ended(message)),
      session.on("welcome", () => this.#anew()),
      session.on("state", ({ state }) => state !== "open" && this.#disconnected()),
      this.environment.watchWake(() => this.#timer !== null && this.#anew()),
    ];
  }

  /** @returns {ViewerState} */
  get state() {
    return this.#state;
  }

  /**
   * Watches a member's broadcast, or whoever's there is (null), now or as soon as it begins.
   * @param {string | null} [memberId]
   */
  watch(memberId = null) {
    if (this.#wanted && this.#wanted.memberId === memberId) return;
    this.#wanted = { memberId };
    this.#hopeless = null;
    this.#backoff.reset();
    this.#drop();
    this.#set({ state: "waiting", memberId });
    this.#look();
  }

  /** Watches nothing any more. */
  stop() {
    if (!this.#wanted) return;
    this.#wanted = null;
    this.#drop();
    this.#memberId = null;
    this.#set({ state: "off" });
  }

  /** Tries again at once, also what seemed hopeless. */
  retry() {
    this.#hopeless = null;
    this.#backoff.reset();
    this.#anew();
  }

  close() {
    this.stop();
    for (const off of this.#offs.splice(0)) off();
  }

  // ---- whose -----------------------------------------------------------------------------------

  /** Whose broadcast to watch now: null where there is none, "" where it is one's own. */
  #target() {
    const { members, memberId: own } = this.room.state;
    const wanted = this.#wanted?.memberId ?? null;
    const broadcasts = (/** @type {string} */ id) => Boolean(members.get(id)?.broadcast);
    if (wanted !== null) {
      if (wanted === own) return "";
      return broadcasts(wanted) ? wanted : null;
    }
    const mine = own !== null && broadcasts(own);
    if (mine && this.#state.state === "own") return ""; // as the others stay with it
    if (this.#memberId !== null && broadcasts(this.#memberId)) return this.#memberId;
    const other = [...members.keys()].find((id) => id !== own && broadcasts(id));
    return other ?? (mine ? "" : null);
  }

  /** Does what the newest state of the room asks for. */
  #look() {
    if (!this.#wanted || this.room.session.state.state !== "open") return;
    const target = this.#target();
    if (target !== this.#hopeless) this.#hopeless = null;
    if (target === null) return this.#nobody();
    if (target === "") {
      this.#drop();
      this.#memberId = null;
      return this.#set({ state: "own", memberId: this.room.state.memberId });
    }
    if (target === this.#hopeless) return;
    if (target === this.#memberId && (this.#link || this.#timer !== null)) return;
    if (target !== this.#memberId) this.#backoff.reset();
    this.#begin(target);
  }

  #nobody() {
    const watched = this.#memberId;
    this.#drop();
    this.#memberId = null;
    if (watched === null && this.#state.state === "waiting") return;
    const memberId = watched ?? this.#wanted?.memberId ?? null;
    const left = watched !== null && !this.room.state.members.has(watched);
    const ended = this.#state.ended ?? (watched === null ? null : left ? "left" : "ended");
    this.#set({ state: "waiting", memberId, ended });
  }

  /** Looks at once, whatever it waits for. */
  #anew() {
    this.#drop();
    this.#look();
  }

  // ---- the connection --------------------------------------------------------------------------

  async #begin(/** @type {string} */ memberId) {
    const { room } = this;
    const { session } = room;
    this.#drop();
    this.#memberId = memberId;
    const link = new PeerLink({
      environment: this.environment,
      configuration: configurationOf(
        /** @type {import("./types.d.ts").Welcome} */ (session.welcome),
        session.rtcConfiguration,
      ),
      ask: (sdp) => this.#ask(sdp, memberId),
      trickle: (candidate) => session.tell({ type: "watch.candidate", ...candidate }),
      onLost: (reason) => this.#failed(link, reason),
      unreachable: BLOCKED,
    });
    this.#link = link;
    const again = this.#state.memberId === memberId;
    this.#set({ state: "connecting", memberId, problem: again ? this.#state.problem : null });
    /** @type {MediaStream | null} */
    let stream = null;
    link.pc.ontrack = ({ track, streams }) => {
      stream ??= streams[0] ?? new MediaStream();
      if (!stream.getTracks().includes(track)) stream.addTrack(track);
    };
    for (const kind of ["audio", "video"]) link.pc.addTransceiver(kind, { direction: "recvonly" });
    try {
      await link.connect();
    } catch (error) {
      this.#failed(link, problemOf(error));
      return;
    }
    if (this.#link !== link) return;
    this.#liveSince = this.environment.now();
    this.#set({ state: "live", memberId, stream });
  }

  async #ask(/** @type {string} */ sdp, /** @type {string} */ memberId) {
    const offer = { type: "watch.offer", sdp, member_id: memberId };
    const answer = await this.room.session.request(offer);
    return /** @type {any} */ (answer).sdp;
  }

  /** The server ended what it sent. */
  #ended(/** @type {WatchEnded} */ { member_id, reason, detail, retry_after_s }) {
    if (member_id !== this.#memberId || !this.#link) return;
    const over = reason === "ended" || reason === "left";
    const why = problem(`broadcast_${reason}`, "The broadcast was interrupted", detail ?? "", {
      retryable: true,
      retry_after_s: retry_after_s ?? (over ? NEWS_S : null),
    });
    if (!over) return this.#failed(this.#link, why);
    this.#drop();
    this.#set({ state: "waiting", memberId: member_id, ended: reason });
    this.#lookLater(why);
  }

  #failed(/** @type {PeerLink} */ link, /** @type {Problem} */ reason) {
    if (this.#link !== link) return; // it was stopped on purpose
    const lasted = this.#state.state === "live" && this.environment.now() - this.#liveSince;
    if (lasted && lasted > STABLE_MS) this.#backoff.reset();
    const memberId = this.#memberId;
    this.#drop();
    if (reason.retryable || reason.code === "no_broadcast") {
      this.#set({ state: "connecting", memberId, problem: reason });
      this.#lookLater(reason);
    } else {
      this.#hopeless = memberId;
      this.#set({ state: "failed", memberId, problem: reason });
    }
  }

  #lookLater(/** @type {Problem} */ reason) {
    const waitS = this.#backoff.next(reason.retry_after_s ?? 0);
    this.#timer = this.environment.setTimeout(() => this.#anew(), waitS * 1000);
    if (this.#state.state === "connecting") this.#set({ ...this.#state, retryInS: waitS });
  }

  /** What was watched was sent to the session that is gone. */
  #disconnected() {
    if (!this.#wanted || this.#state.state === "off") return;
    const memberId = this.#memberId ?? this.#state.memberId;
    this.#drop();
    this.#set({ state: "connecting", memberId, problem: GONE });
  }

  /** Ends the connection, and the wait for one. */
  #drop() {
    this.environment.clearTimeout(this.#timer);
    this.#timer = null;
    const link = this.#link;
    this.#link = null;
    if (!link) return;
    link.close(new ProblemError(LEFT));
    this.room.session.tell({ type: "watch.stop" });
  }

  #set(/** @type {Partial<ViewerState>} */ change) {
    const next = { ...OFF, ...change };
    const same = Object.entries(next).every(([key, value]) => /** @type {any} */ (this.#state)[key] === value);
    if (same) return;
    this.#state = next;
    this.emit("state", next);
  }
}

/** WebRTC's own errors (DOMException) may be passing ones, so they are tried again. */
function problemOf(/** @type {unknown} */ error) {
  if (error instanceof ProblemError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  return problem("media_failed", "WebRTC failed", detail, { retryable: true });
}
