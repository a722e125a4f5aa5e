import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Room } from "../room.js";
import { MediaSession } from "../session.js";
import { Viewer } from "../viewer.js";
import { fakeWorld, FakeStream, settled } from "./fakes.js";

const URL_ = "http://127.0.0.1:8080/ws";
const BOTH = { audio: true, video: true };

function member(id, name, broadcast = null) {
  return { member_id: id, name, role: "member", kind: "local", joined_at: 1, broadcast };
}

const [ANN, BEN, CLEO] = [member("m_1", "Ann"), member("m_2", "Ben"), member("m_3", "Cleo")];

function snapshot(...members) {
  const playback = { epoch: 0, seq: 0, item_id: null, playing: false, position_s: 0, rate: 1, anchor_s: 0 };
  return {
    type: "room.snapshot", seq: 5, log_id: "L1", room: { room: "r", settings: {} },
    members: [ANN, ...members], queue: [], playback,
  };
}

/** Ann (`m_1`) is in the room, with `members` beside her. */
async function joined(...members) {
  const world = fakeWorld();
  const session = new MediaSession(URL_, { room: "r", environment: world.environment });
  const room = new Room(session);
  const viewer = new Viewer(room);
  const seen = [];
  viewer.on("state", ({ state }) => seen.push(state));
  const connecting = session.connect();
  world.sockets[0].accept();
  await connecting;
  world.sockets[0].say(snapshot(...members));
  const here = {
    world, session, room, viewer, seen,
    get socket() {
      return world.sockets.at(-1);
    },
    get peer() {
      return world.peers.at(-1);
    },
    get offer() {
      return here.socket.sentOf("watch.offer").at(-1);
    },
    /** Lets time pass while the session is well. */
    async pass(ms) {
      for (let left = ms; left > 0; left -= 1000) {
        here.socket.say({ type: "pong", id: "x" });
        await world.time.advance(Math.min(left, 1000));
      }
    },
    seq: 5,
    tell: (about) => here.event({ type: "member.updated", member: about }),
    event: (message) => here.socket.say({ seq: (here.seq += 1), ...message }),
  };
  return here;
}

async function answered(here, stream = new FakeStream("audio", "video")) {
  await settled();
  const { id, member_id } = here.offer;
  here.socket.say({ type: "watch.answer", sdp: "answer", member_id, in_reply_to: id });
  await settled();
  here.peer.bring(stream);
  here.peer.become("connected");
  await settled();
  return stream;
}

function refuse(here, problem) {
  const title = problem.code;
  here.socket.say({ type: "error", problem: { title, detail: "", ...problem }, in_reply_to: here.offer.id });
}

describe("watching a broadcast", () => {
  it("receives only, trickles after the offer, and gives the stream when media flows", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    const stream = await answered(here);
    assert.deepEqual(here.peer.transceivers.map(({ init }) => init.direction), ["recvonly", "recvonly"]);
    assert.deepEqual(here.peer.transceivers.map(({ receiver }) => receiver.track.kind), ["audio", "video"]);
    const order = here.socket.sent.map(({ type }) => type).filter((type) => type.startsWith("watch."));
    assert.deepEqual(order, ["watch.offer", "watch.candidate"]);
    assert.equal(here.offer.member_id, "m_2");
    assert.deepEqual(here.peer.remoteDescription, { type: "answer", sdp: "answer" });
    assert.deepEqual(here.seen, ["waiting", "connecting", "live"]);
    assert.equal(here.viewer.state.stream, stream);
  });

  it("waits for the broadcast to begin, and begins with it", async () => {
    const here = await joined(BEN);
    here.viewer.watch("m_2");
    assert.equal(here.viewer.state.state, "waiting");
    assert.equal(here.viewer.state.memberId, "m_2");
    await here.pass(60_000);
    assert.equal(here.world.peers.length, 0);
    here.tell({ ...BEN, broadcast: BOTH });
    await answered(here);
    assert.equal(here.viewer.state.state, "live");
  });

  it("takes whoever broadcasts, stays with them, and goes over to the next", async () => {
    const here = await joined(BEN, { ...CLEO, broadcast: BOTH });
    here.viewer.watch();
    await answered(here);
    assert.equal(here.viewer.state.memberId, "m_3");
    here.tell({ ...BEN, broadcast: BOTH });
    assert.equal(here.world.peers.length, 1, "Cleo is still live");
    here.tell(CLEO);
    await answered(here);
    assert.equal(here.viewer.state.memberId, "m_2");
    assert.equal(here.world.peers[0].closed, true);
  });

  it("never asks for one's own broadcast", async () => {
    const here = await joined();
    here.viewer.watch("m_1");
    here.tell({ ...ANN, broadcast: BOTH });
    assert.equal(here.viewer.state.state, "own");
    here.viewer.watch();
    assert.equal(here.viewer.state.state, "own");
    here.event({ type: "member.joined", member: { ...BEN, broadcast: BOTH } });
    assert.equal(here.viewer.state.state, "own", "the others stay with it too");
    here.tell(ANN);
    await answered(here);
    assert.equal(here.viewer.state.memberId, "m_2");
    here.tell({ ...ANN, broadcast: BOTH });
    assert.equal(here.viewer.state.state, "live");
    assert.equal(here.world.peers.length, 1);
  });

  it("stops: nothing flows, and the server is told", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await answered(here);
    here.viewer.stop();
    assert.equal(here.peer.closed, true);
    assert.equal(here.socket.sentOf("watch.stop").length, 1);
    assert.equal(here.viewer.state.stream, null);
    here.tell({ ...BEN, broadcast: { audio: true, video: false } });
    await here.pass(60_000);
    assert.equal(here.world.peers.length, 1);
  });
});

describe("the end of a broadcast", () => {
  const ended = (reason, more = {}) => ({
    type: "watch.ended", member_id: "m_2", reason, detail: "", retry_after_s: null, ...more,
  });

  it("is told, whichever message comes first, and a new one is watched again", async () => {
    for (const early of [true, false]) {
      const here = await joined({ ...BEN, broadcast: BOTH });
      here.viewer.watch("m_2");
      await answered(here);
      if (early) here.socket.say(ended("ended"));
      here.tell(BEN);
      if (!early) here.socket.say(ended("ended"));
      const { state, ended: why, stream } = here.viewer.state;
      assert.deepEqual([state, why, stream], ["waiting", "ended", null]);
      await here.pass(30_000);
      assert.equal(here.world.peers.length, 1, "nobody broadcasts: nothing is asked");
      here.tell({ ...BEN, broadcast: BOTH });
      await answered(here);
      assert.equal(here.viewer.state.state, "live");
      assert.equal(here.viewer.state.ended, null);
    }
  });

  it("says when the member left", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await answered(here);
    here.event({ type: "member.left", member_id: "m_2", reason: "left" });
    assert.equal(here.viewer.state.ended, "left");
    assert.equal(here.viewer.state.memberId, "m_2");
  });

  it("tries again after a loss, no sooner than the server says, with growing waits", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await answered(here);
    here.socket.say(ended("lost", { retry_after_s: 3 }));
    assert.equal(here.viewer.state.state, "connecting");
    assert.ok(here.viewer.state.retryInS >= 3);
    await here.pass(2900);
    assert.equal(here.world.peers.length, 1);
    const waits = [];
    for (let n = 0; n < 4; n += 1) {
      await here.pass(here.viewer.state.retryInS * 1000 + 1);
      refuse(here, { code: "relay_unreachable", status: 503, retryable: true });
      await settled();
      waits.push(here.viewer.state.retryInS);
    }
    assert.equal(here.world.peers.length, 5);
    for (let n = 1; n < waits.length; n += 1) assert.ok(waits[n] > waits[n - 1], String(waits));
    await here.pass(waits.at(-1) * 1000 + 1);
    await answered(here);
    assert.equal(here.viewer.state.state, "live");
  });

  it("passes over the end of what is not watched any more", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH }, { ...CLEO, broadcast: BOTH });
    here.viewer.watch("m_3");
    await answered(here);
    here.socket.say(ended("lost"));
    assert.equal(here.viewer.state.state, "live");
  });
});

describe("what cannot be watched", () => {
  it("fails for good where trying again cannot help, until it begins anew or one asks", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await settled();
    refuse(here, { code: "codec_unsupported", status: 422, retryable: false });
    await settled();
    assert.equal(here.viewer.state.state, "failed");
    assert.equal(here.viewer.state.problem.code, "codec_unsupported");
    here.tell({ ...BEN, name: "Benno", broadcast: BOTH });
    await here.pass(60_000);
    assert.equal(here.world.peers.length, 1);
    here.viewer.retry();
    await settled();
    assert.equal(here.world.peers.length, 2);
    refuse(here, { code: "codec_unsupported", status: 422, retryable: false });
    await settled();
    here.tell(BEN);
    here.tell({ ...BEN, broadcast: { audio: true, video: false } });
    await answered(here);
    assert.equal(here.viewer.state.state, "live");
  });

  it("asks again when the room's news was older than the server's", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await settled();
    refuse(here, { code: "no_broadcast", status: 404, retryable: false });
    await settled();
    assert.equal(here.viewer.state.state, "connecting");
    here.tell(BEN);
    assert.equal(here.viewer.state.state, "waiting");
    await here.pass(30_000);
    assert.equal(here.world.peers.length, 1);
  });

  it("gives up a connection that does not come up, and one that breaks", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await settled();
    here.socket.say({ type: "watch.answer", sdp: "a", member_id: "m_2", in_reply_to: here.offer.id });
    await here.pass(16_000);
    assert.equal(here.world.peers[0].closed, true);
    assert.equal(here.viewer.state.problem.code, "media_unreachable");
    await here.pass(here.viewer.state.retryInS * 1000 + 1);
    await answered(here);
    here.peer.become("failed");
    assert.equal(here.viewer.state.state, "connecting");
    assert.equal(here.viewer.state.stream, null);
  });
});

describe("a lost session", () => {
  it("shows nothing frozen, and watches again when the session is back", async () => {
    const here = await joined({ ...BEN, broadcast: BOTH });
    here.viewer.watch("m_2");
    await answered(here);
    here.socket.drop();
    await settled();
    assert.equal(here.viewer.state.state, "connecting");
    assert.equal(here.viewer.state.stream, null);
    assert.equal(here.world.peers[0].closed, true);
    for (let n = 0; here.world.sockets.length === 1 && n < 100; n += 1) await here.world.time.advance(100);
    here.socket.accept({ session_id: "s_2" });
    here.socket.say(snapshot({ ...BEN, broadcast: BOTH }));
    await answered(here);
    assert.equal(here.viewer.state.state, "live");
    assert.equal(here.socket.sentOf("watch.offer").length, 1);
  });
});
