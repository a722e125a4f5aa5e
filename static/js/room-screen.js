/** The room: one session, the views that show it, the controls that change it. */

import { MediaSession, ProblemError, Room } from "../../clients/js/index.js";
import { Broadcast } from "./broadcast.js";
import { captureBarrier } from "./capture.js";
import { ChatView } from "./chat-view.js";
import { ConnectionView } from "./connection-view.js";
import { $, say } from "./dom.js";
import { Downloads } from "./downloads.js";
import { FiguresView } from "./figures-view.js";
import { LibraryPicker } from "./library-picker.js";
import { LiveOffers } from "./live-offers.js";
import { LiveView } from "./live-view.js";
import { PeopleView } from "./people-view.js";
import { PlayerView } from "./player-view.js";
import { recall, store, storeVisit } from "./preferences.js";
import { QueueView } from "./queue-view.js";
import { setUpReactions } from "./reactions.js";
import { setUpInvite, setUpRoomSettings } from "./room-dialogs.js";
import { showRoom } from "./rooms.js";
import { setUpScreen } from "./screen.js";
import { fillLanguages, Setup } from "./setup.js";
import { Sound } from "./sound.js";
import { Stage } from "./stage.js";
import { StageNote } from "./stage-note.js";
import { setUpTabs } from "./tabs.js";
import { TranscriptView } from "./transcript-view.js";

const SIZES = [75, 100, 125, 150, 175, 200];
const COLOURS = 6;
const NARROW = matchMedia("(width < 920px)");

/**
 * Shows the room and joins it.
 * @param {{room: string, name: string, invitation?: string | null, token?: string | null,
 *   place?: object | null, account: import("../../clients/js/index.js").Account,
 *   api: import("../../clients/js/index.js").RoomsApi, signIn: import("./sign-in.js").SignIn,
 *   notices: import("./notices.js").Notices, videos: import("../../clients/js/index.js").VideosApi,
 *   access: import("./access.js").Access, first?: object}} visit `first`: what a new room watches
 */
export function enterRoom(visit) {
  const { room: roomName, name, invitation, token, place, account, api, signIn, notices } = visit;
  showRoom(roomName);
  for (const id of ["room-screen", "room-bar", "connection", "leave"]) $(id).hidden = false;
  $("room-name").textContent = roomName;
  api.token = token ?? null;

  const setup = new Setup(() => session.configure(setup.options));
  const session = new MediaSession(new URL("ws", document.baseURI), {
    room: roomName,
    name: name || setup.name,
    invitation,
    place,
    account,
    api,
    options: setup.options,
  });
  const room = new Room(session);
  const isOwn = (memberId) => memberId === room.state.memberId;
  const colourOf = colours();
  keepVisit(session, { room: roomName, invitation, api });

  const figures = new FiguresView();
  const stage = new Stage(isOwn);
  const transcript = new TranscriptView(isOwn, colourOf);
  const chat = new ChatView(room, api, notices, colourOf);
  const downloads = new Downloads(session, isOwn, roomName, notices);
  const note = new StageNote();
  const sound = new Sound($("player"), $("live"));
  new PlayerView(room, stage, notices, note);
  new QueueView(room, notices);
  new LibraryPicker(room, visit.videos, visit.access);
  if (visit.first) addFirst(room, visit.first, notices);
  const offers = setUpOffers(room, notices, stage);
  const barrier = () => speakingBarrier(room.state);
  new LiveView(room, { stage, note, sound, colourOf, offers, barrier });
  new PeopleView(room, notices, colourOf, (wanted) => rename(room, setup, notices, wanted), offers);
  new ConnectionView(room, notices, (wrong) => signIn.ask(wrong), () => signIn.signedIn);
  const broadcast = new Broadcast({ session, setup, stage, notices, figures });
  room.on("grants", () => broadcast.allow(speakingBarrier(room.state)));
  setUpReactions(room);
  setUpInvite(room, api);
  setUpRoomSettings(room);

  session.on("captions", (change) => {
    transcript.apply(change, session.captions.entries);
    stage.caption(change);
    if (change.entry.caption.final && change.kind !== "removed") downloads.enable();
  });
  session.on("metrics", (metrics) => figures.metrics(metrics, session.publishing === "live"));
  session.on("roundtrip", (ms) => figures.roundTrip(ms));
  session.on("error", ({ error, inReplyTo }) => {
    if (inReplyTo === "offer" || /^c\d+-\d+$/.test(inReplyTo ?? "")) return; // shown where it was asked
    notices.show("refused", { kind: "warning", title: error.problem.title, text: error.message });
  });
  room.on("settings", ({ title }) => {
    $("room-name").textContent = title || roomName;
    $("room-name").title = roomName;
    $("room-title").textContent = title || `Room ${roomName}`;
  });

  const tabs = setUpTabs((view) => {
    if (view === "chat") chat.opened();
    if (view === "transcript") transcript.follow();
  });
  $("stage-add").addEventListener("click", () => {
    tabs.open("queue");
    $("queue-url").focus();
  });
  $("leave").addEventListener("click", () => leave(session));
  document.querySelector(".brand").addEventListener("click", (event) => {
    event.preventDefault();
    leave(session);
  });
  setUpSize(() => transcript.follow());
  setUpScreen($("player"), $("live"));
  setUpAnnouncing(transcript);
  setUpReading(room, notices);
  $("name").addEventListener("change", () => rename(room, setup, notices, setup.name));
  placeSpeaking();
  showBarrier(notices);

  signIn.onSignedIn(() => {
    if (session.state.state === "closed" || session.state.state === "idle") connect(session);
  });
  window.addEventListener("pagehide", () => session.close());
  connect(session);
}

/** Buttons that put a broadcast on: over the empty stage, in the queue, and for one's own. */
function setUpOffers(room, notices, stage) {
  const others = ({ own }) => !own;
  const idleHint = $("stage-hint").textContent;
  const places = [
    { element: $("stage-offers"), shows: others, style: "button-primary" },
    { element: $("queue-offers"), shows: () => true, style: "" },
    { element: $("own-offer"), shows: ({ own }) => own, style: "" },
  ];
  return new LiveOffers(room, notices, places, (offers) => {
    const [first] = offers.filter(others);
    stage.offering = first !== undefined;
    $("stage-add").classList.toggle("button-primary", !first);
    const [title, hint] = first
      ? [`${room.state.nameOf(first.memberId)} is live`, "Everybody in the room watches what you put on."]
      : ["Nothing is playing yet", idleHint];
    $("stage-title").textContent = title;
    $("stage-hint").textContent = hint;
  });
}

/** Puts something into the queue of a room that was made for it. */
function addFirst(room, item, notices) {
  const off = room.session.on("room.snapshot", async () => {
    off();
    try {
      await room.add(item);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      notices.show("queue", { kind: "warning", title: error.problem.title, text: error.message });
    }
  });
}

/** Why one may not speak here; "" where one may. */
function speakingBarrier({ grants, role }) {
  if (!grants || grants.can_publish) return "";
  return role === "listener" ? "Listeners do not speak here." : "A host has muted your microphone.";
}

function connect(session) {
  session.connect().catch((error) => {
    if (!(error instanceof ProblemError)) throw error; // the connection view shows problems
  });
}

async function leave(session) {
  storeVisit(null);
  await Promise.race([session.leave(), new Promise((resolve) => setTimeout(resolve, 1500))]);
  location.assign("./");
}

/** What a reload needs to come back to the same place. */
function keepVisit(session, { room, invitation, api }) {
  const keep = ({ member_id, resume_secret }) =>
    storeVisit({
      room,
      invitation: invitation ?? null,
      token: api.token,
      // without how far the log was seen: a new page needs the whole
      place: { room, memberId: member_id, secret: resume_secret, logId: null, seq: null },
    });
  session.on("welcome", keep);
  session.on("token", () => keep(session.welcome));
  session.on("state", ({ state, problem }) => {
    if (state === "closed" && problem && problem.status !== 401 && problem.status !== 409) storeVisit(null);
  });
}

/** A colour for each person, the same in the chat, the list and the captions. */
function colours() {
  const known = new Map();
  return (memberId) => {
    if (!known.has(memberId)) known.set(memberId, known.size % COLOURS);
    return known.get(memberId);
  };
}

async function rename(room, setup, notices, wanted) {
  const { session } = room;
  store("name", wanted);
  setup.name = wanted;
  if (!wanted || wanted === room.state.me?.name) return;
  session.name = wanted;
  if (session.state.state !== "open") return;
  try {
    await room.update({ name: wanted });
    say(`You are ${room.state.me?.name ?? wanted} now`);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    notices.show("name", { kind: "warning", title: error.problem.title, text: error.message });
  }
}

/** The language that one reads captions in, where they can be had. */
function setUpReading(room, notices) {
  const select = $("reading-language");
  fillLanguages(select, "As spoken");
  select.value = recall("reading", "");
  const show = () => ($("reading-hint").hidden = select.value === "");
  const send = () => {
    if (room.session.state.state !== "open") return;
    if ((room.state.me?.caption_language ?? "") === select.value) return;
    room.update({ caption_language: select.value }).catch((error) => {
      if (!(error instanceof ProblemError)) throw error;
      notices.show("reading", { kind: "warning", title: error.problem.title, text: error.message });
    });
  };
  select.addEventListener("change", () => {
    store("reading", select.value);
    show();
    send();
  });
  room.session.on("room.snapshot", send);
  show();
}

/** On a phone, what belongs to speaking lies under Captions; else beside the panel. */
function placeSpeaking() {
  const place = () => {
    const speak = $("speak");
    if (NARROW.matches) $("speak-here").append(speak);
    else document.querySelector(".left").append(speak);
  };
  NARROW.addEventListener("change", place);
  place();
}

/** Caption size, for the overlay and the transcript alike. */
function setUpSize(onChange) {
  let size = Number(recall("size", "100"));
  if (!SIZES.includes(size)) size = 100;
  const show = () => {
    document.documentElement.style.setProperty("--caption-scale", String(size / 100));
    $("size-output").textContent = `${size} %`;
    $("smaller").disabled = size === SIZES[0];
    $("larger").disabled = size === SIZES.at(-1);
    onChange();
  };
  const step = (by) => {
    size = SIZES[SIZES.indexOf(size) + by] ?? size;
    store("size", String(size));
    show();
    if ($("smaller").disabled) $("larger").focus();
    if ($("larger").disabled) $("smaller").focus();
  };
  $("smaller").addEventListener("click", () => step(-1));
  $("larger").addEventListener("click", () => step(1));
  show();
}

function setUpAnnouncing(transcript) {
  const box = $("announce");
  const show = () => (transcript.announcing = box.checked);
  box.addEventListener("change", show);
  show();
}

function showBarrier(notices) {
  const barrier = captureBarrier();
  if (!barrier) return;
  notices.show("capture", { kind: "warning", title: barrier.title, text: barrier.message });
}
