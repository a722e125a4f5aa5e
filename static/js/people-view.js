/** Who is here, what they may do, and what hosts may do about it. Names are text. */

import { ProblemError } from "../../clients/js/index.js";
import { ask } from "./confirm.js";
import { $, icon, make, say } from "./dom.js";
import { offersOf } from "./live-offers.js";
import { openMenu } from "./menu.js";

const ROLES = { host: "Host", cohost: "Co-host", member: "Member", listener: "Listener" };
const RANK = { host: 3, cohost: 2, member: 1, listener: 0 };
const KINDS = { guest: "guest", key: "program", whip: "broadcast" };

export class PeopleView {
  #room;
  #notices;
  #colourOf;
  #rename;
  #watch;

  /**
   * @param {import("../../clients/js/index.js").Room} room
   * @param {import("./notices.js").Notices} notices
   * @param {(memberId: string) => number} colourOf
   * @param {(name: string) => Promise<void>} rename
   * @param {import("./live-offers.js").LiveOffers} offers
   */
  constructor(room, notices, colourOf, rename, offers) {
    this.#room = room;
    this.#notices = notices;
    this.#colourOf = colourOf;
    this.#rename = rename;
    this.#watch = (memberId) => offers.watch(memberId);
    for (const type of ["members", "speakers", "grants", "queue", "playback"]) room.on(type, () => this.#render());
    room.on("came", (member) => say(`${member.name} came`));
    room.on("went", ({ member, reason }) => {
      const how = { kicked: "was sent away", banned: "was banned" }[reason] ?? "left";
      say(`${member.name} ${how}`);
    });
  }

  #render() {
    const { state } = this.#room;
    const list = $("people");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.member : null;
    const speaking = new Set(state.tracks.values());
    const members = [...state.members.values()].sort(
      (a, b) => RANK[b.role] - RANK[a.role] || a.joined_at - b.joined_at,
    );
    list.replaceChildren(...members.map((member) => this.#row(member, speaking.has(member.member_id))));
    const count = $("people-count");
    count.hidden = members.length === 0;
    count.replaceChildren(String(members.length), make("span", { class: "vh", text: members.length === 1 ? " person" : " people" }));
    if (focused) list.querySelector(`button[data-member="${CSS.escape(focused)}"]`)?.focus();
    $("room-settings").hidden = !state.grants?.room_admin;
  }

  #row(member, speaking) {
    const { state } = this.#room;
    const own = member.member_id === state.memberId;
    const marks = [];
    const mark = (symbol, text) => {
      const made = make("span", { class: "person-mark", title: text }, icon(symbol), make("span", { class: "vh", text }));
      marks.push(made);
      return made;
    };
    const { broadcast } = member;
    if (broadcast) mark("live", broadcast.video ? "live with picture" : "live with sound").dataset.live = "";
    else if (speaking) mark("mic", "on air");
    if (member.publish_muted) mark("mic-off", "microphone muted by a host");
    if (member.chat_muted) mark("chat-off", "chat muted by a host");
    const about = [ROLES[member.role], KINDS[member.kind] ?? ""].filter(Boolean).join(" · ");
    const name = make("span", { class: "person-name", dir: "auto", text: member.name });
    const row = make(
      "li",
      { class: "person", data: { member: member.member_id, role: member.role } },
      make("span", { class: `person-badge who-${this.#colourOf(member.member_id)}`, "aria-hidden": "true", text: initial(member.name) }),
      make(
        "div",
        { class: "person-about" },
        make("p", { class: "person-line" }, name, ...(own ? [make("span", { class: "person-you", text: "you" })] : []), ...marks),
        make("p", { class: "person-role", text: about }),
      ),
    );
    const offer = offersOf(this.#room).find(({ memberId }) => memberId === member.member_id);
    const entries = own ? this.#own(member) : this.#others(member);
    if (offer) entries.unshift([offer.label, () => this.#watch(member.member_id)]);
    if (entries.length > 0) {
      const button = make("button", {
        type: "button",
        class: "button button-icon button-bare",
        "aria-label": own ? "Actions for yourself" : `Actions for ${member.name}`,
        "aria-haspopup": "menu",
        "aria-expanded": "false",
        data: { member: member.member_id },
      });
      button.append(icon("more"));
      button.addEventListener("click", () => openMenu(button, entries, { label: own ? "You" : member.name }));
      row.append(button);
    }
    return row;
  }

  #own(member) {
    return [["Change your name", () => this.#askName(member)]];
  }

  async #askName(member) {
    const name = await ask({ title: "Your name", yes: "Change", field: "As others see it", value: member.name });
    if (name && name !== member.name) await this.#rename(name);
  }

  #others(member) {
    const { grants, me } = this.#room.state;
    const room = this.#room;
    const id = member.member_id;
    const { name } = member;
    const entries = [];
    const add = (label, action, done, options) =>
      entries.push([label, () => this.#do(action, done), options]);
    if (grants?.room_admin) {
      if (member.kind !== "whip") {
        entries.push(["Hand the room over", () => this.#handOver(member)]);
      }
      for (const role of ["cohost", "member", "listener"]) {
        if (role !== member.role) {
          add(`Make ${ROLES[role].toLowerCase()}`, () => room.setRole(id, role), `${name} is ${ROLES[role].toLowerCase()} now`);
        }
      }
    }
    const below = me && RANK[member.role] < RANK[me.role];
    if (grants?.can_moderate && below) {
      const { chat_muted: chat, publish_muted: publish } = member;
      add(chat ? "Let write again" : "Mute in the chat", () => room.mute(id, { chat: !chat }), `${name}: chat ${chat ? "on" : "muted"}`);
      add(publish ? "Let speak again" : "Mute microphone", () => room.mute(id, { publish: !publish }), `${name}: microphone ${publish ? "allowed" : "muted"}`);
      entries.push(["Send away…", () => this.#kick(member), { danger: true }]);
      entries.push(["Ban…", () => this.#ban(member), { danger: true }]);
    }
    return entries;
  }

  async #handOver(member) {
    const sure = await ask({
      title: `Hand the room to ${member.name}?`,
      text: "They become host; you stay as co-host. Only they can give it back.",
      yes: "Hand over",
    });
    if (sure) await this.#do(() => this.#room.setRole(member.member_id, "host"), `${member.name} is host now`);
  }

  async #kick(member) {
    const sure = await ask({
      title: `Send ${member.name} away?`,
      text: "They can come back with the link.",
      yes: "Send away",
      danger: true,
    });
    if (sure) await this.#do(() => this.#room.kick(member.member_id), `${member.name} was sent away`);
  }

  async #ban(member) {
    const account = member.kind === "local"
      ? "They have no account on this server, so they are only sent away: make the room private to keep them out."
      : "They cannot come back to this room as long as it is there.";
    const sure = await ask({ title: `Ban ${member.name}?`, text: account, yes: "Ban", danger: true });
    if (sure) await this.#do(() => this.#room.ban(member.member_id), `${member.name} was banned`);
  }

  async #do(action, done) {
    try {
      await action();
      say(done);
      this.#notices.clear("people");
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.#notices.show("people", { kind: "warning", title: error.problem.title, text: error.message });
    }
  }
}

function initial(name) {
  return [...name][0]?.toUpperCase() ?? "?";
}
