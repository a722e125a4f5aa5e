/** Which room: from the URL, or a new one that is then put there, so that the link leads back. */

import { $, copyText, say } from "./dom.js";

const ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"; // nothing that is mistaken for another

/** Makes a name that nobody guesses: 12 characters, 59 bits. */
export function newRoom() {
  const bytes = crypto.getRandomValues(new Uint32Array(12));
  const letters = [...bytes].map((value) => ALPHABET[value % ALPHABET.length]).join("");
  return `${letters.slice(0, 4)}-${letters.slice(4, 8)}-${letters.slice(8)}`;
}

/** Makes a name that the server takes of whatever stands in the URL. */
export function roomOf(asked) {
  const name = (asked ?? "")
    .trim()
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 64);
  return name || newRoom();
}

export function setUpRoom() {
  const url = new URL(location.href);
  const room = roomOf(url.searchParams.get("room"));
  if (url.searchParams.get("room") !== room) {
    url.searchParams.set("room", room);
    history.replaceState(null, "", url);
  }
  $("room-name").textContent = room;
  $("room-name").title = room;
  const button = $("copy-link");
  button.addEventListener("click", async () => {
    const done = await copyText(location.href);
    say(done ? "Link copied" : "The link could not be copied; it is in the address bar");
    const label = button.querySelector(".wide-only");
    label.textContent = done ? "Copied" : "See address bar";
    setTimeout(() => (label.textContent = "Copy link"), 2000);
  });
  return room;
}
