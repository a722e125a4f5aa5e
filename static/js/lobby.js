/** The start screen: who one is, which rooms there are, a new room, the videos; and the door of one room. */

import { ProblemError } from "../../clients/js/index.js";
import { $, icon, make } from "./dom.js";
import { recall, store } from "./preferences.js";
import { VideosView } from "./videos-view.js";

const REFRESH_MS = 15_000;
const MAX_ROOM_TITLE = 120;

export class Lobby {
  #api;
  #signIn;
  #enter;
  #library;
  /** @type {VideosView | null} */
  #videos = null;
  #begun = false;
  #timer = null;
  #open = false;

  /**
   * @param {import("../../clients/js/index.js").RoomsApi} api
   * @param {import("./sign-in.js").SignIn} signIn
   * @param {{api: import("../../clients/js/index.js").RoomsApi,
   *   videos: import("../../clients/js/index.js").VideosApi, access: import("./access.js").Access,
   *   uploads: import("./uploads.js").Uploads, notices: import("./notices.js").Notices}} library
   * @param {(visit: {room: string, name: string, invitation?: string | null, first?: object}) => void} enter
   */
  constructor(api, signIn, library, enter) {
    this.#api = api;
    this.#library = library;
    this.#signIn = signIn;
    this.#enter = (visit) => {
      this.close();
      enter(visit);
    };
    signIn.onSignedIn(() => this.#open && this.#timer !== null && this.#begin());
  }

  show() {
    this.#open = true;
    $("door").remove();
    $("lobby").hidden = false;
    $("lobby-name").value = recall("name", "") || this.#signIn.name;
    $("lobby-name").addEventListener("input", () => ($("lobby-name-error").textContent = ""));
    $("rooms-refresh").addEventListener("click", () => this.#load());
    $("rooms-sign-in").addEventListener("click", () => this.#signIn.ask());
    $("create-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#create();
    });
    this.#videos = new VideosView(this.#library, (info) => this.#together(info));
    const again = () => (this.#begun ? this.#load() : this.#begin());
    this.#timer = setInterval(() => !document.hidden && again(), REFRESH_MS);
    this.#begin();
  }

  /** The rooms; and the library, where one is let in. */
  async #begin() {
    if (!(await this.#load())) return;
    this.#begun = true;
    await this.#videos.open();
  }

  /** The door of one room: asks for a name. */
  async showDoor({ room, invitation }) {
    this.#open = true;
    $("lobby").remove();
    $("door").hidden = false;
    $("door-name").value = recall("name", "") || this.#signIn.name;
    $("door-title").textContent = invitation ? "You are invited" : "Join the room";
    $("door-text").textContent = `Room ${room}`;
    $("door-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = $("door-name").value.trim();
      if (!name) return;
      store("name", name);
      this.#enter({ room, name, invitation });
    });
    $("door-name").focus();
    if (invitation) return; // the room is not told to who is not in it yet
    const info = await this.#api.get(room).catch(() => null);
    if (!info || !this.#open) return;
    const playing = info.playing ? `, watching “${info.playing}”` : "";
    $("door-text").textContent = `${titleOf(info)}: ${people(info.members)}${playing}`;
  }

  close() {
    this.#open = false;
    clearInterval(this.#timer);
    this.#videos?.close();
    document.getElementById("lobby")?.remove();
    document.getElementById("door")?.remove();
  }

  /** Whether one is let in. */
  async #load() {
    const locked = $("rooms-locked");
    try {
      const rooms = await this.#api.list();
      if (!this.#open) return false;
      locked.hidden = true;
      $("rooms-empty").hidden = rooms.length > 0;
      $("rooms-empty").textContent = "No rooms yet. Make the first one.";
      this.#render(rooms);
      return true;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const needed = [401, 403].includes(error.problem.status);
      locked.hidden = !needed;
      if (needed) clearInterval(this.#timer);
      $("rooms").replaceChildren();
      $("rooms-empty").hidden = needed;
      $("rooms-empty").textContent = `${error.message} Try again in a moment.`;
      return false;
    }
  }

  #render(rooms) {
    const list = $("rooms");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.room : null;
    list.replaceChildren(...rooms.map((info) => this.#row(info)));
    if (focused) list.querySelector(`button[data-room="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(info) {
    const title = titleOf(info);
    const secret = info.settings.visibility === "private";
    const button = make("button", {
      type: "button",
      class: "button button-small",
      text: "Join",
      "aria-label": `Join ${title}`,
      data: { room: info.room },
    });
    button.addEventListener("click", () => {
      const name = this.#name();
      if (name) this.#enter({ room: info.room, name });
    });
    const about = [people(info.members), info.playing ? `watching “${info.playing}”` : ""];
    return make(
      "li",
      { class: "room-row" },
      make(
        "div",
        { class: "room-about" },
        make("p", { class: "room-row-title", dir: "auto" }, ...(secret ? [icon("lock")] : []), title),
        make("p", { class: "room-row-detail", text: about.filter(Boolean).join(", ") }),
      ),
      button,
    );
  }

  /** The name that was given; asks for one where it is missing. */
  #name() {
    const name = $("lobby-name").value.trim();
    if (name) store("name", name);
    else {
      $("lobby-name-error").textContent = "Say who you are first.";
      $("lobby-name").focus();
    }
    return name;
  }

  async #create() {
    const name = this.#name();
    if (!name) return;
    $("create-error").textContent = "";
    try {
      const { room } = await this.#api.create({
        title: $("create-name").value.trim(),
        visibility: $("create-form").elements.visibility.value,
        persistent: $("create-persistent").checked,
      });
      this.#enter({ room, name });
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (error.problem.status === 401) return this.#signIn.ask();
      $("create-error").textContent = error.message;
    }
  }

  /** A new room that watches a video of the library. Rejects with ProblemError. */
  async #together({ video_id, title }) {
    const name = this.#name();
    if (!name) return;
    const { room } = await this.#api.create({ title: title.slice(0, MAX_ROOM_TITLE) });
    this.#enter({ room, name, first: { kind: "vod", video_id } });
  }
}

export function titleOf({ room, settings }) {
  return settings.title || room;
}

function people(count) {
  if (count === 0) return "nobody there now";
  return count === 1 ? "1 person" : `${count} people`;
}
