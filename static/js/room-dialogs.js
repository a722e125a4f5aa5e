/** Inviting people, and the room's settings. */

import { ProblemError } from "../../clients/js/index.js";
import { ask } from "./confirm.js";
import { $, copyText, say } from "./dom.js";
import { addressOf } from "./rooms.js";

/**
 * @param {import("../../clients/js/index.js").Room} room
 * @param {import("../../clients/js/index.js").RoomsApi} api
 */
export function setUpInvite(room, api) {
  const dialog = $("invite-dialog");
  const name = room.session.room;
  const open = () => {
    $("invite-form").hidden = !room.state.grants?.room_admin;
    $("invite-address").hidden = room.state.settings?.visibility === "private";
    $("invite-result").hidden = true;
    $("invite-error").textContent = "";
    $("room-url").value = addressOf(name);
    dialog.showModal();
  };
  $("invite").addEventListener("click", open);
  $("people-invite").addEventListener("click", open);
  $("invite-close").addEventListener("click", () => dialog.close());
  $("invite-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("invite-error").textContent = "";
    try {
      const { url, token } = await api.invite(name, {
        role: $("invite-role").value,
        expires_in_s: Number($("invite-time").value),
      });
      $("invite-url").value = linkOf(name, token) ?? url;
      $("invite-result").hidden = false;
      $("invite-url").focus();
      $("invite-url").select();
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      $("invite-error").textContent = error.message;
    }
  });
  copies($("invite-copy"), $("invite-url"), "Copy link");
  copies($("address-copy"), $("room-url"), "Copy address");
}

/** The page that one is on leads others here too, whatever the server calls itself. */
function linkOf(room, token) {
  if (!token) return null;
  const url = new URL("./", document.baseURI);
  url.hash = new URLSearchParams({ room, invitation: token }).toString();
  return url.href;
}

function copies(button, field, label) {
  button.addEventListener("click", async () => {
    const done = await copyText(field.value);
    say(done ? "Link copied" : "It could not be copied; select it and copy it yourself");
    if (!done) field.select();
    const text = button.querySelector("span");
    text.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => (text.textContent = label), 2000);
  });
}

/** @param {import("../../clients/js/index.js").Room} room */
export function setUpRoomSettings(room) {
  const dialog = $("room-dialog");
  const closing = $("room-close");
  const send = async (action) => {
    try {
      await action();
      dialog.close();
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      $("room-error").textContent = error.message;
    }
  };
  $("room-settings").addEventListener("click", () => {
    const { settings } = room.state;
    if (!settings) return;
    $("room-error").textContent = "";
    $("set-title").value = settings.title;
    const slow = $("set-slow");
    const known = [...slow.options].some(({ value }) => Number(value) === settings.slow_mode_s);
    if (!known) slow.append(new Option(`A message every ${settings.slow_mode_s} s`, String(settings.slow_mode_s)));
    slow.value = String(settings.slow_mode_s);
    $("set-control").checked = settings.everyone_controls;
    $("set-private").checked = settings.visibility === "private";
    $("set-persistent").checked = settings.persistent;
    dialog.showModal();
    $("set-title").focus();
  });
  $("room-cancel").addEventListener("click", () => dialog.close());
  $("room-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(() =>
      room.change({
        title: $("set-title").value.trim(),
        slow_mode_s: Number($("set-slow").value),
        everyone_controls: $("set-control").checked,
        visibility: $("set-private").checked ? "private" : "public",
        persistent: $("set-persistent").checked,
      }),
    );
  });
  closing.addEventListener("click", async () => {
    dialog.close();
    const sure = await ask({
      title: "Close the room for all?",
      text: "Everybody is sent away; the chat and the queue are gone.",
      yes: "Close the room",
      danger: true,
    });
    if (sure) await send(() => room.closeForAll());
  });
}
