/** What the connection is doing: the pill, the notices, the words for a screen reader. */

import { $, say, sentence } from "./dom.js";

const CONNECTION = "connection";
const STATUS = "status";
const MEDIA = "media";
const ROOM = "room-status";

export class ConnectionView {
  #session;
  #notices;
  #askWho;
  #known;
  #countdown = null;
  #captions = "live";
  #wasOpen = false;
  #text = "";
  #away = false;
  #room;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./notices.js").Notices} notices
   * @param {(wrong: boolean) => void} askWho asks people to sign in
   * @param {() => boolean} known whether somebody is signed in
   */
  constructor(room, notices, askWho, known) {
    const { session } = room;
    this.#room = room;
    this.#session = session;
    this.#notices = notices;
    this.#askWho = askWho;
    this.#known = known;
    session.on("state", (state) => this.#state(state));
    session.on("publishing", ({ problem }) => this.#publishing(problem));
    session.on("status", (status) => this.#status(status));
    room.on("status", ({ state, detail }) => this.#roomStatus(state === "away", detail));
    room.on("settings", () => this.#render());
    window.addEventListener("offline", () => this.#render());
    window.addEventListener("online", () => this.#render());
  }

  #state(state) {
    clearInterval(this.#countdown);
    if (state.state === "open") {
      if (this.#wasOpen) say("Connected again");
      this.#wasOpen = true;
      this.#captions = "live";
      this.#away = false;
      this.#notices.clear(CONNECTION, STATUS, ROOM);
    }
    if (state.state === "reconnecting") this.#reconnecting(state);
    if (state.state === "closed" && state.problem) this.#closed(state.problem);
    this.#render();
  }

  #reconnecting({ retryInS, problem }) {
    const publishing = this.#session.publishing !== "off";
    this.#notices.clear(STATUS);
    const meanwhile = publishing
      ? " What you say until then is not captioned; it goes on by itself."
      : "";
    this.#notices.show(CONNECTION, {
      kind: "error",
      title: problem.title,
      text: `${sentence(problem.detail)} Connecting again…${meanwhile}`,
      buttons: [["Try now", () => this.#session.retryNow()]],
    });
    if (retryInS === null) return;
    let left = Math.ceil(retryInS);
    this.#countdown = setInterval(() => {
      left -= 1;
      this.#render(left);
    }, 1000);
  }

  #closed(problem) {
    if (problem.status === 401) {
      this.#notices.clear(CONNECTION);
      this.#askWho(this.#known());
      return;
    }
    this.#notices.show(CONNECTION, {
      kind: "error",
      title: problem.title,
      text: sentence(problem.detail),
      buttons: [["Connect again", () => this.#session.connect().catch(() => {})]],
    });
  }

  #publishing(problem) {
    if (this.#session.publishing === "live") this.#notices.clear(MEDIA);
    else if (problem && this.#session.publishing === "connecting") {
      this.#notices.show(MEDIA, {
        kind: "warning",
        title: problem.title,
        text: `${sentence(problem.detail)} Trying again…`,
      });
    } else if (problem && this.#session.state.state === "open") {
      this.#notices.show(MEDIA, {
        kind: "error",
        title: problem.title,
        text: sentence(problem.detail),
      });
    }
    this.#render();
  }

  #status({ captions, detail }) {
    this.#captions = captions;
    if (captions === "paused") {
      this.#notices.show(STATUS, {
        kind: "warning",
        title: "Captions are paused",
        text: `The speech service is away. What is said is kept and captioned when it is back. ${sentence(detail)}`.trim(),
      });
    } else if (captions === "live") {
      this.#notices.clear(STATUS);
    } else {
      this.#notices.show(STATUS, {
        kind: "info",
        title: "Captions are catching up",
        text: sentence(detail) || "They come a little later for a moment.",
      });
    }
    this.#render();
  }

  /** The room has lost the other instances. */
  #roomStatus(away, detail) {
    this.#away = away;
    if (away) {
      this.#notices.show(ROOM, {
        kind: "warning",
        title: "Chat and playback wait for a moment",
        text: `The room has lost touch with its other servers; captions go on. ${sentence(detail)}`.trim(),
      });
    } else this.#notices.clear(ROOM);
    this.#render();
  }

  #render(left = null) {
    const [kind, text] = this.#words(left);
    $("connection").dataset.state = kind;
    $("connection-text").textContent = text;
    const spoken = text.replace(/\s*in \d+ s$/, "…");
    if (spoken !== this.#text && this.#text) say(spoken);
    this.#text = spoken;
    const live = this.#session.publishing === "live";
    const title = this.#room.state.settings?.title || this.#session.room;
    document.title = `${live ? "● " : ""}${title} · Watch together`;
  }

  /** @returns {[string, string]} */
  #words(left) {
    const { state, retryInS } = this.#session.state;
    if (state === "reconnecting") {
      if (!navigator.onLine) return ["lost", "Offline"];
      if (retryInS === null) return ["busy", "Reconnecting…"];
      const seconds = Math.max(1, left ?? Math.ceil(retryInS));
      return ["lost", `Reconnecting in ${seconds} s`];
    }
    if (state === "idle" || state === "connecting") return ["connecting", "Connecting…"];
    if (state === "closed") return ["lost", "Not connected"];
    if (this.#away) return ["slow", "Room is paused"];
    if (this.#captions === "paused") return ["slow", "Captions paused"];
    if (this.#session.publishing === "connecting") return ["busy", "Starting…"];
    if (this.#captions === "catching_up") return ["slow", "Catching up"];
    if (this.#session.publishing === "live") return ["live", "Live"];
    return ["open", "Connected"];
  }
}
