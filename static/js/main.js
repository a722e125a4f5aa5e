/** Puts the page together: one session, the views that show it, the controls that change it. */

import { MediaSession } from "../../clients/js/index.js";
import { Broadcast } from "./broadcast.js";
import { captureBarrier } from "./capture.js";
import { ChatView } from "./chat-view.js";
import { ConnectionView } from "./connection-view.js";
import { $, say } from "./dom.js";
import { Downloads } from "./downloads.js";
import { FiguresView } from "./figures-view.js";
import { KeyDialog } from "./key-dialog.js";
import { Notices } from "./notices.js";
import { recall, recallKey, store } from "./preferences.js";
import { setUpRoom } from "./room.js";
import { Setup } from "./setup.js";
import { Stage } from "./stage.js";
import { setUpTabs } from "./tabs.js";
import { setUpTheme } from "./theme.js";
import { TranscriptView } from "./transcript-view.js";

const SIZES = [75, 100, 125, 150, 175, 200];

function start() {
  setUpTheme();
  const room = setUpRoom();
  const notices = new Notices();
  const setup = new Setup(() => session.configure(setup.options));
  const session = new MediaSession(new URL("ws", document.baseURI), {
    room,
    name: setup.name,
    apiKey: recallKey(),
    options: setup.options,
  });
  const sessionOf = new Map();
  const isOwn = (memberId) => sessionOf.has(memberId);
  session.on("welcome", ({ member_id, session_id }) => sessionOf.set(member_id, session_id));

  const figures = new FiguresView();
  const stage = new Stage();
  const transcript = new TranscriptView(isOwn);
  const chat = new ChatView(isOwn, (text) => session.sendChat(text), notices);
  const downloads = new Downloads(session, sessionOf, room, notices);
  const keyDialog = new KeyDialog(session, notices);
  new ConnectionView(session, notices, (wrong) => keyDialog.ask(wrong));
  new Broadcast({ session, setup, stage, notices, figures });

  session.on("captions", (change) => {
    transcript.apply(change, session.captions.entries);
    stage.caption(change);
    if (change.entry.caption.final && change.kind !== "removed") downloads.enable();
  });
  session.on("chat", (message) => chat.add(message));
  session.on("metrics", (metrics) => figures.metrics(metrics, session.publishing === "live"));
  session.on("roundtrip", (ms) => figures.roundTrip(ms));
  session.on("error", ({ error, inReplyTo }) => {
    if (inReplyTo === "offer") return; // shown as a media problem
    if (inReplyTo === "chat.send") chat.refused();
    notices.show("refused", { kind: "warning", title: error.problem.title, text: error.message });
  });

  setUpTabs((view) => (view === "chat" ? chat.opened() : transcript.follow()));
  setUpSize(() => transcript.follow());
  setUpFullScreen();
  setUpAnnouncing(transcript);
  setUpName(session, setup);
  showBarrier(notices);

  window.addEventListener("pagehide", () => session.close());
  window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  session.connect().catch(() => {}); // the connection view shows why
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

function setUpFullScreen() {
  const button = $("fullscreen");
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("stage").requestFullscreen().catch(() => say("Full screen is not allowed here"));
  });
  document.addEventListener("fullscreenchange", () =>
    button.setAttribute("aria-pressed", String(document.fullscreenElement !== null)),
  );
}

function setUpAnnouncing(transcript) {
  const box = $("announce");
  const show = () => (transcript.announcing = box.checked);
  box.addEventListener("change", show);
  show();
}

/** A name belongs to a session: a new name joins anew, while nothing is published. */
function setUpName(session, setup) {
  $("name").addEventListener("change", async () => {
    if (session.name === setup.name) return;
    session.name = setup.name;
    if (session.state.state !== "open" || session.publishing !== "off") return;
    await session.leave();
    await session.connect().catch(() => {});
    say(`You are ${session.welcome?.name ?? setup.name} now`);
  });
}

function showBarrier(notices) {
  const barrier = captureBarrier();
  if (!barrier) return;
  notices.show("capture", { kind: "warning", title: barrier.title, text: barrier.message });
  $("start").disabled = true;
}

start();
