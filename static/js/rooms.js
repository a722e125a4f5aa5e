/** Which room the address asks for, and what a room may be called. */

/** Makes a name that the server takes of whatever stands in the address; "" where nothing is left. */
export function roomOf(asked) {
  return (asked ?? "")
    .trim()
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 64);
}

/**
 * Reads the address: `?room=NAME`, or an invitation's `#room=NAME&invitation=TOKEN`.
 * @returns {{room: string, invitation: string | null}} room is "" where none is asked for
 */
export function askedFor(href) {
  const url = new URL(href);
  const behind = new URLSearchParams(url.hash.slice(1));
  const invitation = behind.get("invitation");
  const room = roomOf((invitation && behind.get("room")) || url.searchParams.get("room"));
  return { room, invitation: room ? invitation : null };
}

/** Puts the room into the address, so that a reload leads back, and the token out of it. */
export function showRoom(room) {
  const url = new URL(location.href);
  if (url.searchParams.get("room") === room && !url.hash) return;
  const entered = url.searchParams.get("room") !== room && !url.hash;
  url.searchParams.set("room", room);
  url.hash = "";
  if (entered && !askedFor(location.href).room) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

/** The room's plain address. */
export function addressOf(room) {
  const url = new URL("./", document.baseURI);
  url.searchParams.set("room", room);
  return url.href;
}
