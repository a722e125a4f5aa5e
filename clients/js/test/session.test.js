import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { MediaSession } from "../session.js";
import { caption, fakeWorld, FakeStream, settled } from "./fakes.js";

const URL_ = "http://127.0.0.1:8080/ws";

function session(world, options = {}) {
  const made = new MediaSession(URL_, { room: "r", environment: world.environment, ...options });
  made.seen = [];
  made.on("state", ({ state, retryInS }) => made.seen.push(retryInS === null ? state : "waiting"));
  return made;
}

async function opened(world, options) {
  const made = session(world, options);
  const welcomed = made.connect();
  world.sockets.at(-1).accept();
  await welcomed;
  return made;
}

async function live(world, ...kinds) {
  const made = await opened(world);
  const stream = new FakeStream(...(kinds.length ? kinds : ["audio"]));
  const published = made.publish(stream);
  await settled();
  world.sockets.at(-1).say({ type: "answer", sdp: "answer" });
  await settled();
  world.peers.at(-1).become("connected");
  await published;
  return made;
}

/** Lets time pass until the client tries again. */
async function nextSocket(world) {
  const before = world.sockets.length;
  for (let n = 0; world.sockets.length === before && n < 200; n += 1) await world.time.advance(100);
  assert.equal(world.sockets.length, before + 1);
}

describe("connecting", () => {
  it("asks for room and name in the URL, and shows the key as a subprotocol only", async () => {
    const world = fakeWorld();
    await opened(world, { room: "a-b", name: "Ann & Co", apiKey: "k".repeat(20) });
    const [socket] = world.sockets;
    assert.equal(socket.url, "ws://127.0.0.1:8080/ws?room=a-b&name=Ann+%26+Co");
    assert.deepEqual(socket.protocols, ["token", "k".repeat(20)]);
  });

  it("stops with the server's problem when a key is needed", async () => {
    const body = { code: "key_needed", status: 401, title: "Unauthorized", detail: "a key", retryable: false };
    const answer = async () =>
      new Response(JSON.stringify(body), {
        status: 401,
        headers: { "content-type": "application/problem+json" },
      });
    const world = fakeWorld({ answer });
    const made = session(world);
    const connecting = assert.rejects(made.connect(), { code: "key_needed" });
    world.sockets[0].drop(1006);
    await connecting;
    assert.equal(made.state.state, "closed");
    assert.equal(made.state.problem.status, 401);
    assert.equal(world.requests[0].url, "http://127.0.0.1:8080/ws?room=r");
    await world.time.advance(60_000);
    assert.equal(world.sockets.length, 1);
  });

  it("does not even ask with a key that cannot be sent", async () => {
    const world = fakeWorld();
    await assert.rejects(session(world, { apiKey: "späce key" }).connect(), { code: "unauthorized" });
    assert.equal(world.sockets.length, 0);
  });

  it("keeps trying while the server is away, and is open when it is back", async () => {
    const world = fakeWorld();
    const made = session(world);
    const connecting = made.connect();
    world.sockets[0].drop();
    await world.time.advance(1000);
    world.sockets[1].drop();
    await world.time.advance(2000);
    world.sockets[2].accept();
    assert.equal((await connecting).session_id, "s_1");
    assert.deepEqual(made.seen, [
      "connecting", "waiting", "reconnecting", "waiting", "reconnecting", "open",
    ]);
  });

  it("gives up a server that accepts and then says nothing", async () => {
    const world = fakeWorld();
    const made = session(world);
    made.connect().catch(() => {});
    world.sockets[0].readyState = 1;
    world.sockets[0].onopen();
    await world.time.advance(10_001);
    assert.equal(made.state.state, "reconnecting");
    assert.equal(world.sockets[0].readyState, 3);
    made.close();
  });

  it("fails at once when told not to come back", async () => {
    const world = fakeWorld();
    const connecting = session(world, { reconnect: false }).connect();
    world.sockets[0].drop();
    await assert.rejects(connecting, { code: "unreachable" });
  });
});

describe("staying connected", () => {
  it("pings as often as the welcome says and measures the round trip", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const trips = [];
    made.on("roundtrip", (ms) => trips.push(ms));
    const [socket] = world.sockets;
    await world.time.advance(25);
    socket.say({ type: "pong", id: socket.sentOf("ping")[0].id, server_time: 0 });
    assert.deepEqual(trips, [25]);
    await world.time.advance(3000);
    assert.equal(socket.sentOf("ping").length, 2);
  });

  it("notices a server that went silent and comes back", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    await world.time.advance(8100);
    assert.equal(made.state.state, "reconnecting");
    assert.equal(made.state.problem.code, "connection_lost");
    await world.time.advance(1000);
    world.sockets[1].accept({ session_id: "s_2" });
    await settled();
    assert.equal(made.state.state, "open");
    assert.deepEqual(made.sessionIds, ["s_1", "s_2"]);
  });

  it("waits longer after each failure and briefly again after a good connection", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const waits = [];
    made.on("state", ({ retryInS }) => retryInS !== null && waits.push(retryInS));
    for (let n = 0; n < 4; n += 1) {
      world.sockets.at(-1).drop();
      await nextSocket(world);
    }
    for (let n = 1; n < waits.length; n += 1) assert.ok(waits[n] > waits[n - 1], String(waits));
    world.sockets.at(-1).accept();
    await world.time.advance(5500);
    world.sockets.at(-1).drop();
    await settled();
    assert.ok(waits.at(-1) <= 0.5, String(waits));
  });

  it("waits as long as a full server asks", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const overloaded = { code: "overloaded", status: 503, title: "Overloaded", detail: "full", retryable: true, retry_after_s: 12 };
    world.sockets[0].say({ type: "error", problem: overloaded });
    world.sockets[0].drop(1013);
    await settled();
    assert.equal(made.state.problem.detail, "full");
    assert.ok(made.state.retryInS >= 12);
  });

  it("does not come back after the server ended the session for good", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    world.sockets[0].drop(4403, "no longer invited");
    await settled();
    assert.equal(made.state.state, "closed");
    assert.equal(made.state.problem.detail, "no longer invited");
  });

  it("tries at once when the network returns or the user asks", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    world.sockets[0].drop();
    await settled();
    world.wake();
    await settled();
    assert.equal(world.sockets.length, 2);
    world.sockets[1].drop();
    await settled();
    made.retryNow();
    await settled();
    assert.equal(world.sockets.length, 3);
  });

  it("checks after sleep whether the connection still lives", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    world.wake();
    assert.equal(world.sockets[0].sentOf("ping").length, 2);
    await world.time.advance(3100);
    assert.equal(made.state.state, "reconnecting");
  });
});

describe("messages", () => {
  it("tells each caption once, whichever way it came", async () => {
    const world = fakeWorld();
    const made = await live(world);
    const heard = [];
    made.on("caption", (message) => heard.push(message.text));
    const message = caption("x", "hello all", { final: true });
    const send = world.peers[0].openChannel("captions");
    send(message);
    world.sockets[0].say(message);
    assert.deepEqual(heard, ["hello all"]);
  });

  it("tells each chat message once", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const heard = [];
    made.on("chat", ({ text }) => heard.push(text));
    const message = { type: "chat", seq: 1, id: "c1", client_id: null, member_id: "m", name: "B", text: "hi", sent_at: 1 };
    world.sockets[0].say(message);
    world.sockets[0].say(message);
    assert.deepEqual(heard, ["hi"]);
  });

  it("gives refusals as errors with the server's code", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const errors = [];
    made.on("error", ({ error, inReplyTo }) => errors.push([error.code, inReplyTo]));
    const problem = { code: "bad_message", status: 400, title: "", detail: "too long", retryable: false };
    world.sockets[0].say({ type: "error", problem, in_reply_to: "chat.send" });
    assert.deepEqual(errors, [["bad_message", "chat.send"]]);
  });

  it("is not harmed by what is no message", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    for (const data of ["{", "[]", "null", "7", new ArrayBuffer(3), '{"type":5}', '{"type":"new"}']) {
      world.sockets[0].onmessage({ data });
    }
    assert.equal(made.state.state, "open");
  });

  it("refuses to chat without a connection", () => {
    assert.throws(() => session(fakeWorld()).sendChat("hi"), { code: "not_connected" });
  });

  it("resolves finalize when the server has said so", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const done = made.finalize();
    assert.equal(world.sockets[0].sentOf("finalize").length, 1);
    world.sockets[0].say({ type: "finalized", track_id: null });
    await done;
  });

  it("does not wait for ever for finals", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const failed = assert.rejects(made.finalize(), { code: "timeout" });
    for (let n = 0; n < 6; n += 1) {
      await world.time.advance(2000);
      world.sockets[0].say({ type: "pong", id: "x", server_time: 0 });
    }
    await failed;
  });
});

describe("publishing", () => {
  it("sends the offer before its candidates, with the caption options", async () => {
    const world = fakeWorld();
    const made = await opened(world, { options: { language: "es" } });
    made.publish(new FakeStream("audio")).catch(() => {});
    await settled();
    const types = world.sockets[0].sent.map(({ type }) => type).filter((type) => type !== "ping");
    assert.deepEqual(types, ["offer", "candidate"]);
    assert.deepEqual(world.sockets[0].sentOf("offer")[0].options, { language: "es" });
    made.close();
  });

  it("takes the ICE servers from the welcome", async () => {
    const world = fakeWorld();
    const made = session(world);
    const welcomed = made.connect();
    const turn = { urls: ["turn:t"], username: "u", credential: "p" };
    world.sockets[0].accept({ ice_servers: [turn, { urls: ["stun:s"], username: null, credential: null }] });
    await welcomed;
    made.publish(new FakeStream("audio")).catch(() => {});
    await settled();
    assert.deepEqual(world.peers[0].configuration.iceServers, [turn, { urls: ["stun:s"] }]);
    made.close();
  });

  it("publishes again after the connection was lost", async () => {
    const world = fakeWorld();
    const made = await live(world);
    world.sockets[0].drop();
    await settled();
    assert.equal(made.publishing, "connecting");
    assert.ok(world.peers[0].closed);
    await world.time.advance(1000);
    world.sockets[1].accept({ session_id: "s_2" });
    await settled();
    world.sockets[1].say({ type: "answer", sdp: "again" });
    await settled();
    world.peers[1].become("connected");
    await settled();
    assert.equal(made.publishing, "live");
  });

  it("makes a new peer when only the media connection was lost", async () => {
    const world = fakeWorld();
    const made = await live(world);
    world.peers[0].become("disconnected");
    for (let n = 0; n < 3; n += 1) {
      await world.time.advance(2000);
      world.sockets[0].say({ type: "pong", id: "x", server_time: 0 });
    }
    assert.equal(world.sockets.length, 1);
    assert.equal(world.peers.length, 2);
    assert.equal(world.sockets[0].sentOf("offer").length, 2);
    made.close();
  });

  it("waits for a server that still holds the peer before", async () => {
    const world = fakeWorld();
    const made = await live(world);
    world.peers[0].become("failed");
    await settled();
    await world.time.advance(1100);
    const problem = { code: "ice_restart", status: 422, title: "", detail: "", retryable: false };
    world.sockets[0].say({ type: "error", problem, in_reply_to: "offer" });
    await settled();
    assert.equal(made.publishing, "connecting");
    await world.time.advance(2100);
    world.sockets[0].say({ type: "answer", sdp: "answer" });
    await settled();
    world.peers[2].become("connected");
    await settled();
    assert.equal(made.publishing, "live");
    made.close();
  });

  it("does not mind a short disturbance", async () => {
    const world = fakeWorld();
    const made = await live(world);
    world.peers[0].become("disconnected");
    await world.time.advance(2000);
    world.peers[0].become("connected");
    await world.time.advance(3500);
    assert.equal(made.publishing, "live");
    assert.equal(world.peers.length, 1);
    made.close();
  });

  it("tells the server's reason when it refuses the offer", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const failed = assert.rejects(made.publish(new FakeStream("audio")), { code: "unsupported_media" });
    await settled();
    const problem = { code: "unsupported_media", status: 415, title: "", detail: "no codec", retryable: false };
    world.sockets[0].say({ type: "error", problem, in_reply_to: "offer" });
    await failed;
    assert.equal(made.publishing, "off");
    assert.ok(world.peers[0].closed);
    assert.equal(made.state.state, "open");
  });

  it("gives up media that never connects, with the reason, and stays in the room", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const failed = assert.rejects(made.publish(new FakeStream("audio")), { code: "media_unreachable" });
    for (let n = 0; n < 60; n += 1) {
      await world.time.advance(2000);
      world.sockets[0].say({ type: "pong", id: "x", server_time: 0 });
      const { sent } = world.sockets[0];
      if (sent.findLast(({ type }) => type === "offer" || type === "candidate")) {
        world.sockets[0].say({ type: "answer", sdp: "answer" });
      }
    }
    await failed;
    assert.equal(world.peers.length, 5);
    assert.equal(made.publishing, "off");
    assert.equal(made.state.state, "open");
  });

  it("swaps tracks without a new offer, and offers anew for a kind that was not there", async () => {
    const world = fakeWorld();
    globalThis.MediaStream ??= FakeStream;
    const made = await live(world);
    const other = new FakeStream("audio");
    await made.publish(other);
    assert.equal(world.peers[0].transceivers[0].sender.track, other.tracks[0]);
    assert.equal(world.sockets[0].sentOf("offer").length, 1);
    const adding = made.publish(new FakeStream("audio", "video"));
    await settled();
    world.sockets[0].say({ type: "answer", sdp: "more" });
    await adding;
    assert.equal(world.sockets[0].sentOf("offer").length, 2);
    assert.equal(world.peers.length, 1);
    made.close();
  });

  it("waits for the finals before it stops", async () => {
    const world = fakeWorld();
    const made = await live(world);
    const stopping = made.unpublish();
    await world.time.advance(300);
    assert.equal(world.peers[0].transceivers[0].sender.track, null);
    assert.equal(world.peers[0].closed, false);
    world.sockets[0].say({ type: "finalized", track_id: "t1" });
    await stopping;
    assert.ok(world.peers[0].closed);
    assert.equal(made.publishing, "off");
    assert.equal(made.state.state, "open");
  });

  it("stops while it is still connecting", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const failed = assert.rejects(made.publish(new FakeStream("audio")), { code: "cancelled" });
    await settled();
    await made.unpublish();
    await failed;
    assert.equal(made.publishing, "off");
  });
});

describe("leaving", () => {
  it("waits for the server to deliver and close", async () => {
    const world = fakeWorld();
    const made = await live(world);
    const leaving = made.leave();
    await settled();
    assert.equal(world.sockets[0].sentOf("leave").length, 1);
    assert.equal(world.peers[0].closed, false);
    world.sockets[0].say(caption("z", "the last words", { final: true }));
    world.sockets[0].drop(1000);
    await leaving;
    assert.equal(made.state.state, "closed");
    assert.equal(made.state.problem, null);
    assert.equal(made.captions.entries.at(-1).caption.text, "the last words");
  });

  it("does not wait for ever", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    const leaving = made.leave();
    await world.time.advance(5001);
    await leaving;
    assert.equal(made.state.state, "closed");
  });

  it("ends the attempts to come back", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    world.sockets[0].drop();
    await settled();
    await made.leave();
    await world.time.advance(60_000);
    assert.equal(world.sockets.length, 1);
    assert.equal(made.state.state, "closed");
  });

  it("can connect again", async () => {
    const world = fakeWorld();
    const made = await opened(world);
    made.close();
    await settled();
    const again = made.connect();
    world.sockets[1].accept({ session_id: "s_9" });
    assert.equal((await again).session_id, "s_9");
  });
});

describe("transcripts", () => {
  it("asks the server for the session's, with the key in a header", async () => {
    const world = fakeWorld({ answer: async () => new Response("WEBVTT\n") });
    const made = await opened(world, { apiKey: "k".repeat(16) });
    assert.equal(await made.fetchTranscript("vtt"), "WEBVTT\n");
    assert.equal(world.requests[0].url, "http://127.0.0.1:8080/api/v1/sessions/s_1/transcript.vtt");
    assert.equal(world.requests[0].init.headers["X-API-Key"], "k".repeat(16));
  });
});
