/** The start screen: who one is, which rooms there are, a new room; and the door of one room. */

import { ProblemError } from "../../clients/js/index.js";
import { $, icon, make } from "./dom.js";
import { recall, store } from "./preferences.js";

const REFRESH_MS = 15_000;

export class Lobby {
  #api;
  #signIn;
  #enter;
  #timer = null;
  #open = false;

  /**
   * @param {import("../../clients/js/index.js").RoomsApi} api
   * @param {import("./sign-in.js").SignIn} signIn
   * @param {(visit: {room: string, name: string, invitation?: string | null}) => void} enter
   */
  constructor(api, signIn, enter) {
    this.#api = api;
    this.#signIn = signIn;
    this.#enter = (visit) => {
      this.close();
      enter(visit);
    };
    signIn.onSignedIn(() => this.#open && this.#timer !== null && this.#load());
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
    this.#timer = setInterval(() => !document.hidden && this.#load(), REFRESH_MS);
    this.#load();
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
    document.getElementById("lobby")?.remove();
    document.getElementById("door")?.remove();
  }

  async #load() {
    const locked = $("rooms-locked");
    try {
      const rooms = await this.#api.list();
      if (!this.#open) return;
      locked.hidden = true;
      $("rooms-empty").hidden = rooms.length > 0;
      $("rooms-empty").textContent = "No rooms yet. Make the first one.";
      this.#render(rooms);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const needed = [401, 403].includes(error.problem.status);
      locked.hidden = !needed;
      if (needed) clearInterval(this.#timer);
      $("rooms").replaceChildren();
      $("rooms-empty").hidden = needed;
      $("rooms-empty").textContent = `${error.message} Try again in a moment.`;
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
}

export function titleOf({ room, settings }) {
  return settings.title || room;
}

function people(count) {
  if (count === 0) return "nobody there now";
  return count === 1 ? "1 person" : `${count} people`;
}
