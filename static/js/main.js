/** The page begins: the start screen, the door of a room, or straight back into one. */

import { Account, RoomsApi, VideosApi } from "../../clients/js/index.js";
import { Access } from "./access.js";
import { setUpConfirm } from "./confirm.js";
import { Lobby } from "./lobby.js";
import { setUpMenu } from "./menu.js";
import { Notices } from "./notices.js";
import { recall, recallKey, recallVisit } from "./preferences.js";
import { enterRoom } from "./room-screen.js";
import { askedFor } from "./rooms.js";
import { SignIn } from "./sign-in.js";
import { setUpTheme } from "./theme.js";
import { Uploads } from "./uploads.js";

async function start() {
  setUpTheme();
  setUpMenu();
  setUpConfirm();
  const notices = new Notices();
  const account = new Account(document.baseURI);
  const api = new RoomsApi(document.baseURI, { account, apiKey: recallKey() });
  const signIn = new SignIn(account, api, notices);
  const access = new Access(api, signIn);
  const videos = new VideosApi(api);
  const uploads = new Uploads(videos, notices);
  await signIn.resume();

  const enter = (visit) => enterRoom({ ...visit, account, api, signIn, notices, videos, access });
  const lobby = new Lobby(api, signIn, { api, videos, access, uploads, notices }, enter);
  const { room, invitation } = askedFor(location.href);
  const name = recall("name", "");
  const visit = recallVisit(room);
  if (!room) lobby.show();
  else if (invitation || !(name || visit)) lobby.showDoor({ room, invitation });
  else {
    lobby.close();
    enter({ room, name, ...visit });
  }

  // Another address in the same page (the back button, an invitation pasted into the bar).
  window.addEventListener("popstate", () => location.reload());
  window.addEventListener("hashchange", () => askedFor(location.href).invitation && location.reload());
  window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
}

start();
