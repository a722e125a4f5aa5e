/** Emoji that float over the picture, from everybody. */

import { $, make } from "./dom.js";

const MOST_AT_ONCE = 40;
const SHOWN_MS = 3200;

/** @param {import("../../clients/js/index.js").Room} room */
export function setUpReactions(room) {
  const place = $("floating");
  for (const button of $("reactbar").querySelectorAll("button")) {
    button.addEventListener("click", () => room.react(button.dataset.emoji));
  }
  room.on("grants", ({ grants }) => {
    for (const button of $("reactbar").querySelectorAll("button")) button.disabled = !grants.can_react;
  });
  room.on("reaction", ({ memberId, emoji }) => {
    if (place.childElementCount >= MOST_AT_ONCE) place.firstElementChild.remove();
    const own = memberId === room.state.memberId;
    const float = make(
      "div",
      { class: "float" },
      make("span", { class: "float-emoji", text: emoji }),
      make("span", { class: "float-name", text: own ? "You" : room.state.nameOf(memberId) }),
    );
    float.style.left = `${8 + Math.random() * 78}%`;
    place.append(float);
    setTimeout(() => float.remove(), SHOWN_MS);
  });
}
