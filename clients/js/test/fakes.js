/** A world in virtual time: timers, sockets and peers that tests drive by hand. */

export class VirtualTime {
  #now = 0;
  #timers = [];
  #count = 0;

  now = () => this.#now;

  setTimeout = (callback, ms) => {
    const timer = { at: this.#now + ms, order: (this.#count += 1), callback };
    this.#timers.push(timer);
    return timer;
  };

  clearTimeout = (timer) => {
    this.#timers = this.#timers.filter((other) => other !== timer);
  };

  tick = (intervalMs, callback) => {
    let timer;
    const again = () => {
      timer = this.setTimeout(again, intervalMs);
      callback();
    };
    timer = this.setTimeout(again, intervalMs);
    return () => this.clearTimeout(timer);
  };

  /** Lets `ms` pass; all that becomes due runs, in order. */
  async advance(ms) {
    const until = this.#now + ms;
    await settled();
    for (;;) {
      const due = this.#timers
        .filter(({ at }) => at <= until)
        .sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.#now = due.at;
      this.clearTimeout(due);
      due.callback();
      await settled();
    }
    this.#now = until;
  }
}

/** Lets everything that is already decided happen. */
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** The server's end is `accept`, `say` and `drop`; what the client sent is in `sent`. */
export class FakeSocket {
  readyState = 0;
  sent = [];
  closedWith = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code, reason) {
    this.readyState = 3;
    this.closedWith = { code, reason };
  }

  accept(welcome = {}) {
    this.readyState = 1;
    this.onopen?.();
    this.say({ type: "welcome", ...WELCOME, ...welcome });
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  drop(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  sentOf(type) {
    return this.sent.filter((message) => message.type === type);
  }
}

export const WELCOME = {
  protocol: 1,
  session_id: "s_1",
  room: "r",
  member_id: "m_1",
  name: "Ann",
  ice_servers: [],
  ping_interval_s: 2,
};

/** An environment whose sockets are listed in `sockets`; `answer` is what HTTP says to a probe. */
export function fakeWorld({ answer = () => Promise.reject(new TypeError("no network")) } = {}) {
  const time = new VirtualTime();
  const sockets = [];
  const peers = [];
  const world = { time, sockets, peers, wake: () => {}, requests: [] };
  world.environment = {
    WebSocket: class extends FakeSocket {
      constructor(url, protocols) {
        super(url, protocols);
        sockets.push(this);
      }
    },
    RTCPeerConnection: class extends FakePeerConnection {
      constructor(configuration) {
        super(configuration);
        peers.push(this);
      }
    },
    fetch: async (url, init) => {
      world.requests.push({ url, init });
      return answer(url, init);
    },
    setTimeout: time.setTimeout,
    clearTimeout: time.clearTimeout,
    now: time.now,
    wallTime: () => 1_700_000_000 + time.now() / 1000,
    random: () => 0.5,
    tick: time.tick,
    watchWake: (callback) => {
      world.wake = callback;
      return () => (world.wake = () => {});
    },
  };
  return world;
}

/** As much of RTCPeerConnection as the client touches; `become` is what the network does. */
export class FakePeerConnection {
  connectionState = "new";
  localDescription = null;
  remoteDescription = null;
  closed = false;
  transceivers = [];
  #offers = 0;

  constructor(configuration) {
    this.configuration = configuration;
  }

  createDataChannel(label, options) {
    return { label, ...options };
  }

  addTransceiver(trackOrKind, init) {
    const track = typeof trackOrKind === "string" ? null : trackOrKind;
    const kind = track?.kind ?? trackOrKind;
    const sender = {
      track,
      replaceTrack: async (next) => {
        sender.track = next;
      },
    };
    this.transceivers.push({ sender, receiver: { track: { kind } }, init });
  }

  getTransceivers() {
    return this.transceivers;
  }

  async createOffer() {
    return { type: "offer", sdp: `offer ${(this.#offers += 1)}` };
  }

  async setLocalDescription(description) {
    this.localDescription = description;
    this.onicecandidate?.({
      candidate: { candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host", sdpMid: "0", sdpMLineIndex: 0 },
    });
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
  }

  /** The server sends the stream's tracks. */
  bring(stream) {
    for (const track of stream.getTracks()) this.ontrack?.({ track, streams: [stream] });
  }

  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  /** The server opens a data channel; returns the function that sends over it. */
  openChannel(label) {
    const channel = { label };
    this.ondatachannel?.({ channel });
    return (message) => channel.onmessage({ data: JSON.stringify(message) });
  }

  close() {
    this.closed = true;
    this.connectionState = "closed";
  }
}

export class FakeStream {
  constructor(...kinds) {
    this.tracks = kinds.map((kind) => ({ kind, id: `${kind}-${Math.random()}` }));
  }

  getTracks() {
    return this.tracks;
  }

  getAudioTracks() {
    return this.tracks.filter(({ kind }) => kind === "audio");
  }

  getVideoTracks() {
    return this.tracks.filter(({ kind }) => kind === "video");
  }
}

let nextSeq = 0;

/** A caption message; `text` is split into words, of which the first `finals` are final. */
export function caption(id, text, { finals = 0, final = false, ...rest } = {}) {
  const words = text.split(" ").filter(Boolean);
  const start = rest.start_s ?? 0;
  return {
    type: "caption",
    seq: (nextSeq += 1),
    track_id: "t1",
    caption_id: id,
    speaker: "Ann",
    member_id: "m_1",
    start_s: start,
    end_s: start + words.length,
    language: "en",
    task: "transcribe",
    text,
    words: words.map((word, index) => ({
      text: word,
      start_s: start + index,
      end_s: start + index + 0.5,
      probability: 0.9,
      final: final || index < finals,
    })),
    final,
    ...rest,
  };
}

/** As much of a media element as the player touches; `seconds` are what it has played. */
export class FakeElement extends EventTarget {
  paused = true;
  currentTime = 0;
  playbackRate = 1;
  duration = NaN;
  readyState = 0;
  seeking = false;
  error = null;
  src = "";
  refuses = false;
  seekable = { length: 0, end: () => this.duration };

  load() {
    this.currentTime = 0;
    this.paused = true;
    this.readyState = 0;
    this.duration = NaN;
    this.seekable.length = 0;
    this.error = null;
  }

  removeAttribute() {
    this.src = "";
  }

  hasAttribute() {
    return this.src !== "";
  }

  canPlayType() {
    return "";
  }

  arrive(duration = 100) {
    this.readyState = 4;
    this.duration = duration;
    this.seekable.length = 1;
    this.dispatchEvent(new Event("loadedmetadata"));
    this.dispatchEvent(new Event("canplay"));
  }

  fail(code) {
    this.error = { code };
    this.dispatchEvent(new Event("error"));
  }

  pause() {
    this.paused = true;
  }

  async play() {
    if (this.refuses) throw Object.assign(new Error("no"), { name: "NotAllowedError" });
    this.paused = false;
  }
}
