/** The queue: what is watched next, by whom it was added, and a form to add. Titles are text. */

import { ProblemError } from "../../clients/js/index.js";
import { $, icon, make, say } from "./dom.js";
import { clock, titleOfFile } from "./units.js";

const HLS = /\.m3u8$/i;

export class QueueView {
  #room;
  #notices;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./notices.js").Notices} notices
   */
  constructor(room, notices) {
    this.#room = room;
    this.#notices = notices;
    room.on("queue", () => this.#render());
    room.on("playback", () => this.#render());
    room.on("grants", () => this.#render());
    room.on("members", () => this.#render());
    $("queue-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    $("queue-live").addEventListener("click", () =>
      this.#send(room.add({ kind: "live", title: "Whoever is live" }), "Added to the queue"),
    );
    $("queue-url").addEventListener("input", () => ($("queue-error").textContent = ""));
    this.#render();
  }

  async #add() {
    const text = $("queue-url").value.trim();
    let url;
    try {
      url = new URL(text);
    } catch {
      $("queue-error").textContent = "That is no address. It begins with https://";
      return;
    }
    const kind = HLS.test(url.pathname) ? "hls" : "mp4";
    const title = $("queue-title").value.trim() || titleOf(url);
    const done = await this.#send(this.#room.add({ kind, url: url.href, title }), `Added: ${title}`, (error) => {
      $("queue-error").textContent = error.message;
    });
    if (!done) return;
    $("queue-form").reset();
    $("queue-url").focus();
  }

  /** Says what was done; shows what was refused. */
  async #send(command, done, refused = null) {
    try {
      await command;
      if (done) say(done);
      return true;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (error.code === "stale") return false;
      if (refused) refused(error);
      else this.#notices.show("queue", { kind: "warning", title: error.problem.title, text: error.message });
      return false;
    }
  }

  #render() {
    const { queue, playback, grants } = this.#room.state;
    const may = grants?.can_control ?? false;
    const list = $("queue");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset : null;
    list.replaceChildren(...queue.map((item, index) => this.#row(item, index, queue.length, playback, may)));
    $("queue-empty").hidden = queue.length > 0;
    $("queue-form").hidden = !may;
    $("queue-live").hidden = queue.some(({ kind, member_id }) => kind === "live" && !member_id);
    $("queue-locked").hidden = may;
    const count = $("queue-count");
    count.hidden = queue.length === 0;
    count.replaceChildren(String(queue.length), make("span", { class: "vh", text: queue.length === 1 ? " item" : " items" }));
    if (!focused?.item) return;
    const back = [...list.querySelectorAll(`[data-item="${CSS.escape(focused.item)}"]`)];
    (back.find(({ dataset, disabled }) => dataset.what === focused.what && !disabled) ?? back.find(({ disabled }) => !disabled))?.focus();
  }

  #row(item, index, count, playback, may) {
    const now = playback?.item_id === item.item_id;
    const button = (what, symbol, label, action, disabled = false) => {
      const made = make("button", {
        type: "button",
        class: "button button-icon button-bare",
        "aria-label": `${label}: ${item.title}`,
        title: label,
        data: { item: item.item_id, what },
      });
      made.append(icon(symbol));
      made.disabled = disabled;
      made.addEventListener("click", action);
      return made;
    };
    const room = this.#room;
    const id = item.item_id;
    const buttons = [
      ...(now ? [] : [button("play", "play", "Play now", () => this.#send(room.control("item", { item_id: id, base: null })))]),
      button("up", "up", "Move up", () => this.#send(room.move(id, index - 1), `Moved up: ${item.title}`), index === 0),
      button("down", "down", "Move down", () => this.#send(room.move(id, index + 1), `Moved down: ${item.title}`), index === count - 1),
      button("remove", "close", "Remove", () => this.#send(room.remove(id), `Removed: ${item.title}`)),
    ];
    const length = item.duration_s ? clock(item.duration_s) : "";
    const detail = [now ? (playback.playing ? "Playing now" : "Now") : "", length, KINDS[item.kind], `from ${room.state.nameOf(item.added_by)}`];
    return make(
      "li",
      { class: "queue-row", ...(now ? { "aria-current": "true" } : {}) },
      make(
        "div",
        { class: "queue-about" },
        make("p", { class: "queue-title", dir: "auto", text: item.title }),
        make("p", { class: "queue-detail", text: detail.filter(Boolean).join(" · ") }),
      ),
      ...(may ? [make("div", { class: "queue-tools" }, ...buttons)] : []),
    );
  }
}

const KINDS = { mp4: "", hls: "stream", vod: "", live: "live" };

/** A file's name as a title: "big-film.mp4" is "big film". */
function titleOf(url) {
  const last = url.pathname.split("/").filter(Boolean).at(-1) ?? url.hostname;
  let name = last;
  try {
    name = decodeURIComponent(last);
  } catch {
    // not UTF-8: as it stands
  }
  return titleOfFile(name) || url.hostname;
}
