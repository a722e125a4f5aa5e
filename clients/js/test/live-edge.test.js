import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { LiveEdge } from "../live-edge.js";

const PLAYING = { epoch: 3, seq: 1, item_id: "q_1", playing: true, position_s: 0, rate: 1, anchor_s: 100, waiting_for: [], wait_until_s: null };
const at = (positionS, edgeS, more = {}) => ({ positionS, edgeS, paused: true, ready: true, ...more });

describe("LiveEdge", () => {
  it("says once that it is ready, and holds until the start", () => {
    const edge = new LiveEdge();
    const waiting = { ...PLAYING, waiting_for: ["m_1"], wait_until_s: 100 };
    assert.equal(edge.step(0, 95, waiting, at(4, 10, { ready: false })).ready, null);
    const first = edge.step(0, 95, waiting, at(4, 10));
    assert.deepEqual([first.ready, first.play, first.seekToS], [3, false, null]);
    const second = edge.step(0.5, 99.8, waiting, at(4, 10));
    assert.equal(second.ready, null);
    assert.ok(Math.abs(second.wakeS - 0.7) < 1e-9, "looks again at the start");
    assert.equal(edge.step(1, 100.1, waiting, at(4, 10)).play, true);
  });

  it("keeps the distance to the newest that the player chose, after a pause too", () => {
    const edge = new LiveEdge();
    const going = edge.step(0, 101, PLAYING, at(4, 10));
    assert.deepEqual([going.play, going.seekToS], [true, null]);
    assert.equal(edge.step(1, 102, PLAYING, at(5, 14, { paused: false })).seekToS, null, "segments come in lumps");
    const stopped = { ...PLAYING, seq: 2, playing: false };
    assert.equal(edge.step(2, 103, stopped, at(6, 16, { paused: false })).pause, true);
    const again = edge.step(30, 130, { ...PLAYING, seq: 3 }, at(6, 40));
    assert.deepEqual([again.play, again.seekToS], [true, 34]);
  });

  it("comes back to the newest after long stalls, but not while nothing has arrived", () => {
    const edge = new LiveEdge();
    edge.step(0, 101, PLAYING, at(4, 10));
    assert.equal(edge.step(1, 120, PLAYING, at(5, 30, { paused: false, ready: false })).seekToS, null);
    assert.equal(edge.step(1, 120, PLAYING, at(5, 30, { paused: false })).seekToS, 24);
  });
});
