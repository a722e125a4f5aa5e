import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { MediaPlayer } from "../player.js";
import { Room } from "../room.js";
import { MediaSession } from "../session.js";
import { FakeElement, fakeWorld, settled } from "./fakes.js";

const GRANTS = { can_chat: true, can_control: true, can_react: true, can_subscribe: true };
const ANN = { member_id: "m_1", name: "Ann", role: "host", kind: "local", joined_at: 1 };
const FILM = { item_id: "q_1", kind: "vod", video_id: "v_1", title: "Film", duration_s: 100, added_by: "m_1" };
const SONG = { ...FILM, item_id: "q_2", video_id: "v_2", title: "Song" };
const PAUSED = { epoch: 1, seq: 1, item_id: "q_1", playing: false, position_s: 0, rate: 1, anchor_s: 0 };
const EXPIRES_S = 300;

function source(item, n = 1) {
  const url = `/media/videos/${item.video_id}/play.mp4?exp=${n}`;
  return { provider: "local", video_id: item.video_id, url, expires_in: EXPIRES_S };
}

const addressOf = (item, n = 1) => `http://127.0.0.1:8080/media/videos/${item.video_id}/play.mp4?exp=${n}`;

async function party({ answer = async () => new Response("", { status: 410 }), ...options } = {}) {
  const world = fakeWorld({ answer });
  const session = new MediaSession("http://127.0.0.1:8080/ws", { room: "r", name: "Ann", environment: world.environment });
  const room = new Room(session);
  const element = new FakeElement();
  const player = new MediaPlayer(room, element, options);
  const problems = [];
  player.on("item", ({ problem }) => problem && problems.push(problem.code));
  const shared = () => 5000 + world.time.now() / 1000;
  const connecting = session.connect();
  await settled();
  /** The server's end of the newest connection: its clock, and the room as it is. */
  const welcome = (playback = PAUSED) => {
    const socket = world.sockets.at(-1);
    const send = socket.send;
    socket.send = function (text) {
      send.call(this, text);
      const { type, t0 } = JSON.parse(text);
      if (type === "clock.ping") queueMicrotask(() => this.say({ type: "clock.pong", t0, t1: shared(), t2: shared() }));
    };
    socket.accept({ role: "host", grants: GRANTS, log_id: "L1", seq: 5, resume_secret: "s" });
    socket.say({ type: "room.snapshot", seq: 5, log_id: "L1", room: { room: "r", settings: {} }, members: [ANN], queue: [FILM, SONG], playback });
    return socket;
  };
  const socket = welcome();
  await connecting;
  const run = world.time.tick(10, () => {
    if (!element.paused) element.currentTime += 0.01 * element.playbackRate;
  });
  const opens = () => world.sockets.flatMap((each) => each.sentOf("video.open"));
  const give = (item, n) => world.sockets.at(-1).say({ type: "video.source", id: opens().at(-1).id, item_id: item.item_id, source: source(item, n) });
  const refuse = (code, retryable) =>
    world.sockets.at(-1).say({ type: "error", in_reply_to: opens().at(-1).id, problem: { code, title: code, detail: code, status: 400, retryable } });
  const end = () => {
    run();
    player.close();
    session.close();
  };
  return { world, session, room, element, player, problems, shared, socket, welcome, opens, give, refuse, end };
}

/** A party whose film has played for some seconds. */
async function playing(options) {
  const made = await party(options);
  const { world, element, shared, socket, give } = made;
  await world.time.advance(3000);
  give(FILM);
  await settled();
  element.arrive();
  socket.say({ type: "playback", seq: 6, state: { ...PAUSED, seq: 2, playing: true, anchor_s: shared() } });
  await world.time.advance(5000);
  assert.equal(element.paused, false);
  return made;
}

describe("Videos of the server in a room", () => {
  it("are opened by the room, and play like any other", async () => {
    const { opens, element, player, end } = await playing();
    assert.deepEqual(opens().map(({ item_id }) => item_id), ["q_1"]);
    assert.equal(element.src, addressOf(FILM));
    assert.ok(Math.abs(element.currentTime - player.positionS) < 0.06);
    assert.equal(player.playedBy, "file");
    end();
  });

  it("are found below the server's own path", async () => {
    const world = fakeWorld();
    const session = new MediaSession("wss://films.test/party/ws", { room: "r", environment: world.environment });
    const room = new Room(session);
    const connecting = session.connect();
    await settled();
    world.sockets[0].accept();
    await connecting;
    const opening = room.openItem("q_1");
    const [{ id }] = world.sockets[0].sentOf("video.open");
    world.sockets[0].say({ type: "video.source", id, item_id: "q_1", source: source(FILM) });
    assert.equal((await opening).url, "https://films.test/party/media/videos/v_1/play.mp4?exp=1");
    session.close();
  });

  it("are dropped where another item came up before they were opened", async () => {
    const { world, socket, element, opens, give, end } = await party();
    await world.time.advance(3000);
    const first = opens().at(-1).id;
    socket.say({ type: "playback", seq: 6, state: { ...PAUSED, epoch: 2, seq: 2, item_id: "q_2" } });
    await world.time.advance(100);
    socket.say({ type: "video.source", id: first, item_id: "q_1", source: source(FILM) });
    await settled();
    assert.equal(element.src, "");
    give(SONG);
    await settled();
    assert.equal(element.src, addressOf(SONG));
    end();
  });

  it("say why they cannot be opened, and are tried again when asked", async () => {
    const { world, element, player, problems, opens, refuse, give, end } = await party();
    await world.time.advance(1000);
    refuse("video_not_ready", true);
    await world.time.advance(2000);
    assert.deepEqual([problems, opens().length], [["video_not_ready"], 1]);
    player.retry();
    give(FILM);
    await settled();
    assert.equal(player.problem, null);
    assert.equal(element.src, addressOf(FILM));
    end();
  });

  it("are opened again when the connection is back", async () => {
    const { world, element, problems, opens, give, welcome, end } = await party();
    await world.time.advance(100);
    world.sockets[0].drop(1006);
    await settled();
    assert.deepEqual(problems, ["connection_lost"]);
    for (let n = 0; world.sockets.length === 1 && n < 100; n += 1) await world.time.advance(100);
    welcome();
    await world.time.advance(500);
    assert.equal(opens().length, 2);
    give(FILM);
    await settled();
    assert.equal(element.src, addressOf(FILM));
    end();
  });

  for (const [code, status] of [[2, 410], [2, 200], [4, 403], [4, 410]]) {
    it(`go on from a new address where the element failed with ${code} and the server says ${status}`, async () => {
      const { world, element, player, problems, opens, give, end } = await playing({ answer: async () => new Response("", { status, headers: { "content-type": "video/mp4" } }) });
      element.fail(code);
      await settled();
      assert.equal(element.src, "");
      assert.equal(opens().length, 2);
      assert.equal(player.buffering, true);
      await world.time.advance(400);
      give(FILM, 2);
      await settled();
      assert.equal(element.src, addressOf(FILM, 2));
      await world.time.advance(300);
      element.arrive();
      await world.time.advance(4000);
      assert.deepEqual(problems, []);
      assert.ok(Math.abs(element.currentTime - player.positionS) < 0.06, `${element.currentTime} at ${player.positionS}`);
      end();
    });
  }

  it("go to where the others stand still, from a new address", async () => {
    const { world, socket, element, give, end } = await playing();
    socket.say({ type: "playback", seq: 7, state: { ...PAUSED, seq: 3, position_s: 42 } });
    await world.time.advance(500);
    element.fail(2);
    await settled();
    give(FILM, 2);
    await world.time.advance(500);
    element.arrive();
    await world.time.advance(500);
    assert.equal(element.currentTime, 42);
    end();
  });

  it("are given up where a new address does not help within ten seconds", async () => {
    const { world, element, player, problems, opens, give, end } = await playing();
    element.fail(2);
    await settled();
    give(FILM, 2);
    await settled();
    element.arrive();
    await world.time.advance(3000);
    element.fail(2);
    await settled();
    assert.deepEqual([problems, opens().length], [["not_found"], 2]);
    player.retry();
    give(FILM, 3);
    await settled();
    element.arrive();
    await world.time.advance(11_000);
    element.fail(2);
    await settled();
    assert.equal(opens().length, 4);
    end();
  });

  it("are not asked for anew where they never were there, unless the address expired", async () => {
    const { world, element, player, problems, opens, give, end } = await party();
    await world.time.advance(3000);
    give(FILM);
    await settled();
    element.fail(4);
    await settled();
    assert.deepEqual([problems, opens().length], [["not_found"], 1]);
    player.retry();
    give(FILM, 2);
    await world.time.advance(EXPIRES_S * 1000 + 100);
    element.fail(4);
    await settled();
    assert.equal(opens().length, 3);
    end();
  });

  it("are not asked for anew where the browser cannot decode them", async () => {
    const { element, problems, opens, end } = await playing({ answer: async () => new Response("", { status: 200, headers: { "content-type": "video/mp4" } }) });
    element.fail(3);
    await settled();
    assert.deepEqual([problems, opens().length], [["decode"], 1]);
    end();
  });

  it("are the embedder's where it says where they are, also later", async () => {
    const sourceOf = async ({ title }) => (title === "Film" ? "http://elsewhere.test/film.mp4" : null);
    const { world, socket, element, problems, opens, end } = await party({ sourceOf });
    await world.time.advance(100);
    assert.equal(element.src, "http://elsewhere.test/film.mp4");
    socket.say({ type: "playback", seq: 6, state: { ...PAUSED, epoch: 2, seq: 2, item_id: "q_2" } });
    await world.time.advance(100);
    assert.deepEqual([problems, opens().length], [["no_source"], 0]);
    end();
  });
});
