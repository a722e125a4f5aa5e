import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Account } from "../account.js";
import { RoomsApi } from "../api.js";
import { MediaPlayer } from "../player.js";
import { Room } from "../room.js";
import { MediaSession } from "../session.js";
import { FakeElement, fakeWorld, settled } from "./fakes.js";

const URL_ = "http://127.0.0.1:8080/ws";
const ALL = { can_chat: true, can_control: true, can_react: true, can_subscribe: true };
const ANN = { member_id: "m_1", name: "Ann", role: "host", kind: "local", joined_at: 1 };
const BEN = { member_id: "m_2", name: "Ben", role: "member", kind: "guest", joined_at: 2 };
const ITEM = { item_id: "q_1", kind: "mp4", url: "http://films.test/a.mp4", title: "A", added_by: "m_1" };
const PAUSED = { epoch: 1, seq: 1, item_id: "q_1", playing: false, position_s: 0, rate: 1, anchor_s: 0 };

const WELCOMED = { role: "host", grants: ALL, log_id: "L1", seq: 5, resume_secret: "s3cret" };

function snapshot(more = {}) {
  const settings = { title: "T", slow_mode_s: 0, visibility: "public" };
  return {
    type: "room.snapshot", seq: 5, log_id: "L1", room: { room: "r", settings },
    members: [ANN], queue: [], playback: { ...PAUSED, item_id: null }, ...more,
  };
}

function json(body, status = 200) {
  const type = status < 400 ? "application/json" : "application/problem+json";
  return new Response(JSON.stringify(body), { status, headers: { "content-type": type } });
}

function refused(status, code) {
  return json({ code, status, title: code, detail: code, retryable: false }, status);
}

/** A server that gives out tickets T1, T2, …; `joins` are the bodies that it was asked with. */
function ticketWorld({ token } = {}) {
  const joins = [];
  const world = fakeWorld({
    answer: async (url, { body, headers }) => {
      joins.push({ url, headers, ...JSON.parse(body) });
      return json({ ticket: `T${joins.length}`, room: "r", role: null, grants: ALL, token });
    },
  });
  return { ...world, joins };
}

async function joined(world, options = {}) {
  const session = new MediaSession(URL_, { room: "r", name: "Ann", tickets: true, environment: world.environment, ...options });
  const room = new Room(session);
  const connecting = session.connect();
  await settled();
  const socket = world.sockets.at(-1);
  socket.accept(WELCOMED);
  await connecting;
  socket.say(snapshot());
  return { room, session, socket };
}

async function nextSocket(world) {
  const before = world.sockets.length;
  for (let n = 0; world.sockets.length === before && n < 200; n += 1) await world.time.advance(100);
  return world.sockets.at(-1);
}

describe("joining by ticket", () => {
  it("asks for a ticket, with the invitation, and opens the socket with it", async () => {
    const world = ticketWorld({ token: "guest-token" });
    const { socket, session } = await joined(world, { invitation: "inv" });
    assert.deepEqual(world.joins[0].invitation, "inv");
    assert.equal(world.joins[0].url, "http://127.0.0.1:8080/api/v1/rooms/r/join");
    assert.equal(socket.url, "ws://127.0.0.1:8080/ws?ticket=T1&refuse=close");
    assert.equal(session.place.memberId, "m_1");
    socket.drop(1006);
    await nextSocket(world);
    assert.equal(world.joins[1].invitation, undefined, "the invitation is spent once");
    assert.equal(world.joins[1].headers.Authorization, "Bearer guest-token");
    session.close();
  });

  it("comes back to its place, after what it saw", async () => {
    const world = ticketWorld();
    const { socket, session, room } = await joined(world);
    socket.say({ type: "member.joined", seq: 6, member: BEN });
    socket.drop(1006);
    const url = new URL((await nextSocket(world)).url);
    assert.equal(url.searchParams.get("ticket"), "T2");
    assert.equal(url.searchParams.get("resume"), "L1:6");
    assert.equal(url.searchParams.get("member"), "m_1");
    assert.equal(url.searchParams.get("secret"), "s3cret");
    world.sockets.at(-1).accept({ ...WELCOMED, seq: 9 });
    world.sockets.at(-1).drop(1006); // before what was missed came
    const again = new URL((await nextSocket(world)).url);
    assert.equal(again.searchParams.get("resume"), "L1:6");
    assert.equal(room.state.members.size, 2);
    session.close();
  });

  it("asks for everything where the connection broke before it was told how things stand", async () => {
    const world = ticketWorld();
    const session = new MediaSession(URL_, { room: "r", name: "Ann", tickets: true, environment: world.environment });
    const connecting = session.connect();
    await settled();
    world.sockets[0].accept(WELCOMED);
    await connecting;
    world.sockets[0].drop(1006);
    const url = new URL((await nextSocket(world)).url);
    assert.equal(url.searchParams.get("resume"), null);
    assert.equal(url.searchParams.get("member"), "m_1");
    session.close();
  });

  it("puts what is out of order right, and asks for what got lost on the way", async () => {
    const world = ticketWorld();
    const { socket, session, room } = await joined(world);
    socket.say({ type: "queue", seq: 7, items: [ITEM] });
    assert.equal(room.state.queue.length, 0, "an event before it is missing");
    await world.time.advance(600);
    const [asked, ...more] = socket.sentOf("room.resume");
    assert.deepEqual([asked.log_id, asked.seq, more], ["L1", 5, []]);
    socket.say({ type: "room.resumed", seq: 5, count: 2 });
    socket.say({ type: "member.joined", seq: 6, member: BEN });
    socket.say({ type: "queue", seq: 7, items: [ITEM] });
    assert.deepEqual([room.state.members.size, room.state.queue.length], [2, 1]);
    socket.say({ type: "queue", seq: 9, items: [] });
    await world.time.advance(600);
    assert.equal(socket.sentOf("room.resume").length, 2);
    for (let second = 0; second < 9; second += 1) {
      assert.equal(room.state.queue.length, 1);
      socket.say({ type: "pong", id: "x", seq: 9 });
      await world.time.advance(1000);
    }
    assert.equal(socket.sentOf("room.resume").length, 4);
    assert.equal(room.state.queue.length, 0, "what does not come is gone without");
    session.close();
  });

  it("says why it is refused, without the help of a probe", async () => {
    const world = fakeWorld({ answer: async () => refused(403, "banned") });
    const session = new MediaSession(URL_, { room: "r", tickets: true, environment: world.environment });
    await assert.rejects(session.connect(), { code: "banned" });
    assert.equal(world.sockets.length, 0);
  });

  it("asks for a new ticket when its credentials have expired, and stays away when sent away", async () => {
    const world = ticketWorld();
    const { socket, session } = await joined(world);
    socket.drop(4401);
    const next = await nextSocket(world);
    assert.match(next.url, /ticket=T2/);
    next.accept(WELCOMED);
    next.drop(4403, "you were sent away by a host");
    await world.time.advance(60_000);
    assert.equal(world.sockets.length, 2);
    assert.equal(session.state.problem.detail, "you were sent away by a host");
  });
});

describe("commands", () => {
  it("resolve with their ack and reject with their error, by id", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    const one = room.say("hello", { replyTo: "c_1", mentions: ["m_2"] });
    const two = room.edit("c_9", "x");
    const [chat] = socket.sentOf("chat.send");
    const [edit] = socket.sentOf("chat.edit");
    assert.deepEqual([chat.reply_to, chat.mentions], ["c_1", ["m_2"]]);
    socket.say({ type: "error", in_reply_to: edit.id, problem: { code: "no_message", title: "t", detail: "d" } });
    socket.say({ type: "ack", id: chat.id, seq: 6 });
    assert.equal((await one).seq, 6);
    await assert.rejects(two, { code: "no_message" });
  });

  it("fail when the connection is lost, or nothing is said", async () => {
    const world = ticketWorld();
    const { room, socket, session } = await joined(world);
    const lost = assert.rejects(room.say("a"), { code: "connection_lost" });
    socket.drop(1006);
    await lost;
    await assert.rejects(room.say("b"), { code: "not_connected" });
    (await nextSocket(world)).accept(WELCOMED);
    const late = assert.rejects(room.say("c"), { code: "timeout" });
    const pongs = world.time.tick(1000, () => world.sockets.at(-1).say({ type: "pong", id: "x" }));
    await world.time.advance(10_001);
    await late;
    pongs();
    session.close();
  });

  it("carry the state that they were decided on", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    socket.say({ type: "playback", seq: 6, state: { ...PAUSED, epoch: 3, seq: 8 } });
    room.control("seek", { position_s: 9 }).catch(() => {});
    const [sent] = socket.sentOf("playback.command");
    assert.deepEqual([sent.action, sent.position_s, sent.base], ["seek", 9, { epoch: 3, seq: 8 }]);
    room.session.close();
  });
});

describe("the room's state", () => {
  it("follows members, queue, settings and grants", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    const came = [];
    const went = [];
    room.on("came", ({ name }) => came.push(name));
    room.on("went", ({ member, reason }) => went.push([member.name, reason]));
    socket.say({ type: "member.joined", seq: 6, member: BEN });
    socket.say({ type: "member.updated", seq: 7, member: { ...BEN, name: "Benno" } });
    socket.say({ type: "member.left", seq: 8, member_id: "m_2", reason: "kicked" });
    socket.say({ type: "queue", seq: 9, items: [ITEM] });
    socket.say({ type: "playback", seq: 10, state: PAUSED });
    socket.say({ type: "grants", role: "listener", grants: { can_chat: false } });
    assert.deepEqual(came, ["Ben"]);
    assert.deepEqual(went, [["Benno", "kicked"]]);
    assert.equal(room.state.nameOf("m_2"), "Benno", "a name is remembered");
    assert.equal(room.state.item.title, "A");
    assert.deepEqual([room.state.role, room.state.grants.can_chat], ["listener", false]);
  });

  it("keeps the chat with edits, reactions and deletions; a snapshot begins anew", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    const kinds = [];
    room.on("chat", ({ kind }) => kinds.push(kind));
    const chat = { type: "chat", seq: 6, id: "c_1", member_id: "m_2", name: "Ben", text: "a", sent_at: 1, mentions: [], reactions: {} };
    socket.say(chat);
    socket.say({ ...chat, seq: 7, id: "c_2" });
    socket.say({ type: "chat.edited", seq: 8, message_id: "c_1", text: "b", edited_at: 2 });
    socket.say({ type: "chat.reacted", seq: 9, message_id: "c_1", reactions: { "👍": ["m_1"] } });
    socket.say({ type: "chat.deleted", seq: 10, message_id: "c_2", by: "m_1" });
    socket.say({ type: "chat.edited", seq: 11, message_id: "unknown", text: "b", edited_at: 2 });
    assert.deepEqual(kinds, ["added", "added", "changed", "changed", "removed"]);
    assert.deepEqual([...room.state.chat.values()].map(({ text, reactions }) => [text, reactions]), [["b", { "👍": ["m_1"] }]]);
    socket.say(snapshot());
    assert.equal(room.state.chat.size, 0);
    socket.say(chat); // told again after the snapshot
    assert.equal(room.state.chat.get("c_1").text, "a");
  });

  it("forgets who is writing after a while, and when the message comes", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    const told = [];
    room.on("typing", (typing) => told.push(typing.join()));
    socket.say({ type: "member.typing", member_id: "m_2", typing: true });
    await world.time.advance(6001);
    socket.say({ type: "member.typing", member_id: "m_2", typing: true });
    socket.say({ type: "chat", seq: 6, id: "c", member_id: "m_2", name: "Ben", text: "a", sent_at: 1, mentions: [], reactions: {} });
    assert.deepEqual(told, ["m_2", "", "m_2", ""]);
  });

  it("tells that one writes no more often than needed", async () => {
    const world = ticketWorld();
    const { room, socket } = await joined(world);
    for (let key = 0; key < 20; key += 1) room.isTyping();
    room.isTyping(false);
    room.isTyping(false);
    assert.deepEqual(socket.sentOf("typing").map(({ typing }) => typing), [true, false]);
  });
});

describe("Account", () => {
  function accountWorld(script) {
    const asked = [];
    const world = fakeWorld({
      answer: async (url, init) => {
        const what = new URL(url).pathname.split("/").at(-1);
        asked.push({ what, headers: init.headers, body: init.body && JSON.parse(init.body) });
        return script[what](asked.filter((other) => other.what === what).length);
      },
    });
    const account = new Account(URL_, { environment: world.environment });
    return { world, account, asked };
  }
  const granted = (n) => json({ access_token: `A${n}`, token_type: "Bearer", expires_in_s: 900 });

  it("keeps the token in memory, asks for a cookie, and renews before it expires", async () => {
    const { world, account, asked } = accountWorld({ login: granted, refresh: (n) => granted(n + 10) });
    const tokens = [];
    account.on("token", (token) => tokens.push(token));
    await account.login("ann", "pw");
    assert.deepEqual(asked[0].body, { name: "ann", password: "pw", cookie: true });
    assert.equal(await account.token(), "A1");
    await world.time.advance(841_000);
    assert.deepEqual(tokens, ["A1", "A11"]);
    account.close();
  });

  it("shares one refresh among all who ask", async () => {
    const { account, asked } = accountWorld({ refresh: granted });
    await Promise.all([account.refresh(), account.refresh(), account.refresh()]);
    assert.equal(asked.length, 1);
    account.close();
  });

  it("is signed out when the cookie is not good any more, not when the server is away", async () => {
    const { account } = accountWorld({
      login: granted,
      refresh: (n) => (n === 1 ? json({ code: "redis_down", status: 503, detail: "", retryable: true }, 503) : refused(401, "invalid_grant")),
    });
    await account.login("ann", "pw");
    await assert.rejects(account.refresh(), { code: "redis_down" });
    assert.equal(account.signedIn, true);
    assert.equal(await account.resume(), false);
    assert.equal(account.signedIn, false);
    account.close();
  });

  it("hands new tokens to its open sessions in band", async () => {
    const { world, account } = accountWorld({
      login: granted,
      refresh: (n) => granted(n + 10),
      join: () => json({ ticket: "T", room: "r", grants: ALL }),
    });
    await account.login("ann", "pw");
    const api = new RoomsApi(URL_, { account, environment: world.environment });
    const { socket, session } = await joined(world, { account, api });
    await account.refresh();
    assert.deepEqual(socket.sentOf("auth").map(({ token }) => token), ["A11"]);
    session.close();
    account.close();
  });
});

describe("MediaPlayer", () => {
  async function watching() {
    const world = ticketWorld();
    const party = await joined(world);
    const element = new FakeElement();
    const player = new MediaPlayer(party.room, element);
    const { socket } = party;
    const shared = () => 5000 + world.time.now() / 1000;
    const send = socket.send;
    socket.send = function (text) {
      send.call(this, text);
      const { type, t0 } = JSON.parse(text);
      if (type === "clock.ping") queueMicrotask(() => this.say({ type: "clock.pong", t0, t1: shared(), t2: shared() }));
    };
    const run = world.time.tick(10, () => {
      if (!element.paused) element.currentTime += 0.01 * element.playbackRate;
    });
    const end = () => {
      run();
      player.close();
      party.session.close();
    };
    socket.say({ type: "queue", seq: 6, items: [ITEM] });
    socket.say({ type: "playback", seq: 7, state: PAUSED });
    return { world, ...party, element, player, shared, end };
  }

  it("loads, says that it is ready, starts with the others and stays in sync", async () => {
    const { world, socket, element, player, shared, end } = await watching();
    await world.time.advance(3000);
    assert.equal(element.src, ITEM.url);
    element.arrive();
    const anchor = shared() + 8;
    const playing = { ...PAUSED, epoch: 2, seq: 2, playing: true, anchor_s: anchor, waiting_for: ["m_1"], wait_until_s: anchor };
    socket.say({ type: "playback", seq: 8, state: playing });
    await world.time.advance(200);
    assert.deepEqual(socket.sentOf("playback.ready").map(({ epoch }) => epoch), [2]);
    assert.deepEqual(player.sync.waitingFor, ["m_1"]);
    assert.equal(element.paused, true);
    socket.say({ type: "playback", seq: 9, state: { ...playing, seq: 3, anchor_s: shared() + 0.5, waiting_for: [], wait_until_s: null } });
    await world.time.advance(8000);
    assert.equal(element.paused, false);
    assert.ok(Math.abs(element.currentTime - player.positionS) < 0.06, `${element.currentTime} at ${player.positionS}`);
    assert.ok(Math.abs(player.sync.driftS) < 0.06);
    assert.ok(socket.sentOf("playback.report").length >= 2);
    end();
  });

  it("waits for a click where the browser refuses to start, then joins", async () => {
    const { world, socket, element, player, shared, end } = await watching();
    await world.time.advance(3000);
    element.arrive();
    element.refuses = true;
    socket.say({ type: "playback", seq: 8, state: { ...PAUSED, seq: 2, playing: true, anchor_s: shared() } });
    await world.time.advance(2000);
    assert.equal(player.sync.blocked, true);
    element.refuses = false;
    await player.unblock();
    await world.time.advance(3000);
    assert.equal(player.sync.blocked, false);
    assert.ok(Math.abs(element.currentTime - player.positionS) < 0.1);
    end();
  });

  it("says plainly that HLS cannot be played here, and asks for no more of it", async () => {
    const { world, socket, element, player, end } = await watching();
    const hls = { ...ITEM, item_id: "q_2", kind: "hls", url: "http://films.test/a.m3u8" };
    socket.say({ type: "queue", seq: 8, items: [ITEM, hls] });
    socket.say({ type: "playback", seq: 9, state: { ...PAUSED, epoch: 2, seq: 5, item_id: "q_2" } });
    await world.time.advance(1000);
    assert.equal(player.problem.code, "no_hls");
    assert.equal(element.src, "");
    const until = { waiting_for: ["m_1"], wait_until_s: 6000 };
    socket.say({ type: "playback", seq: 10, state: { ...PAUSED, ...until, epoch: 3, seq: 6, item_id: "q_2", playing: true } });
    await world.time.advance(1000);
    assert.deepEqual(socket.sentOf("playback.ready").map(({ epoch }) => epoch), [3], "nobody need wait");
    end();
  });

  it("tells that an item has ended, once an epoch", async () => {
    const { world, socket, element, shared, end } = await watching();
    await world.time.advance(3000);
    element.arrive(2);
    socket.say({ type: "playback", seq: 8, state: { ...PAUSED, seq: 2, playing: true, anchor_s: shared() } });
    await world.time.advance(6000);
    const ended = socket.sentOf("playback.command").filter(({ ended: yes }) => yes);
    assert.deepEqual(ended.map(({ action, base }) => [action, base.epoch]), [["next", 1]]);
    end();
  });
});
