/** Who broadcasts, as buttons: one tap puts it on for everybody, or into the queue behind a film. */

import { ProblemError } from "../../clients/js/index.js";
import { icon, make, say } from "./dom.js";

const QUEUED_MS = 3000;
const MOST = 3;

/**
 * What may be put on now. @param {import("../../clients/js/index.js").Room} room
 * @returns {{memberId: string, own: boolean, label: string, later: boolean}[]} later: behind a film
 */
export function offersOf({ state }) {
  if (!state.grants?.can_control) return [];
  const { item, playback, queue } = state;
  const on = (id) => item?.kind === "live" && (item.member_id === id || !item.member_id);
  const later = item !== null && item.kind !== "live" && Boolean(playback?.playing);
  const offers = [];
  for (const { member_id: memberId, name, broadcast } of state.members.values()) {
    if (!broadcast || on(memberId) || (later && queuedOf(queue, memberId))) continue;
    const own = memberId === state.memberId;
    const [now, then] = own
      ? ["Let the room watch you live", "Add your broadcast to the queue"]
      : [`Watch ${name} live`, `Add ${name} live`];
    offers.push({ memberId, own, label: later ? then : now, later });
  }
  return offers;
}

/** Keeps buttons for what may be put on in their places. */
export class LiveOffers {
  #room;
  #notices;
  #places;
  #onChange;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./notices.js").Notices} notices
   * @param {{element: HTMLElement, shows: (offer: {own: boolean}) => boolean, style: string}[]} places
   * @param {(offers: {own: boolean}[]) => void} onChange
   */
  constructor(room, notices, places, onChange) {
    this.#room = room;
    this.#notices = notices;
    this.#places = places;
    this.#onChange = onChange;
    for (const type of ["members", "queue", "playback", "grants"]) room.on(type, () => this.#render());
  }

  /** Puts a member's broadcast on. */
  async watch(memberId) {
    const { state } = this.#room;
    const later = offersOf(this.#room).find((offer) => offer.memberId === memberId)?.later ?? false;
    const first = state.item === null;
    try {
      if (!queuedOf(state.queue, memberId)) {
        const title = `${state.nameOf(memberId)} live`;
        await this.#room.add({ kind: "live", member_id: memberId, title });
      }
      if (later) return say("Added to the queue");
      if (first) return;
      const item = await this.#queued(memberId);
      if (item) await this.#room.control("item", { item_id: item.item_id, base: null });
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (error.code === "stale") return;
      this.#notices.show("queue", { kind: "warning", title: error.problem.title, text: error.message });
    }
  }

  /** The item comes in a message of its own, a moment before or after the answer. */
  #queued(memberId) {
    const find = () => queuedOf(this.#room.state.queue, memberId);
    if (find()) return find();
    return new Promise((resolve) => {
      const done = () => {
        off();
        clearTimeout(timer);
        resolve(find());
      };
      const off = this.#room.on("queue", done);
      const timer = setTimeout(done, QUEUED_MS);
    });
  }

  #render() {
    const offers = offersOf(this.#room);
    for (const { element, shows, style } of this.#places) this.#fill(element, offers.filter(shows), style);
    this.#onChange(offers);
  }

  #fill(element, offers, style) {
    const shown = offers.slice(0, MOST);
    const before = [...element.children].map(({ dataset, textContent }) => dataset.member + textContent);
    element.hidden = shown.length === 0;
    if (JSON.stringify(before) === JSON.stringify(shown.map(({ memberId, label }) => memberId + label))) return;
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.member : null;
    element.replaceChildren(
      ...shown.map(({ memberId, label }) => {
        const button = make("button", { type: "button", class: `button ${style}`, data: { member: memberId } });
        button.append(icon("live"), make("span", { dir: "auto", text: label }));
        button.addEventListener("click", () => this.watch(memberId));
        return button;
      }),
    );
    if (focused) [...element.children].find(({ dataset }) => dataset.member === focused)?.focus();
  }
}

function queuedOf(queue, memberId) {
  return queue.find((item) => item.kind === "live" && item.member_id === memberId);
}
