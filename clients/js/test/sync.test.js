import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

import { ClockSync, PlaybackFollower } from "../index.js";

/** Made by benchmarks/sync_vectors.py with the Python client, which describes the calls. */
const VECTORS = JSON.parse(readFileSync(new URL("./vectors/sync.json", import.meta.url), "utf8"));

const rounded = (value) => (typeof value === "number" ? Math.round(value * 1e6) / 1e6 : value);

/** Answers as the vectors have them, for a call of them. */
function answer(clock, follower, [what, ...given]) {
  switch (what) {
    case "ping":
      return [clock.ping(given[0]), clock.nextPingS];
    case "pong": {
      const taken = clock.pong(...given.slice(0, 4));
      const told = [clock.offsetS, clock.uncertaintyS, clock.roundTripS];
      return [...given.slice(0, 4), taken, ...told];
    }
    case "restart":
      clock.restart(given[0]);
      return given;
    case "update":
      return [given[0], given[1], follower.update(given[0], { snapshot: given[1] })];
    case "resync":
      follower.resync();
      return [];
    case "step": {
      const [itemId, positionS, paused, ready, rate, seekable, durationS] = given[1];
      const player = { itemId, positionS, paused, ready, rate, seekable, durationS };
      const s = follower.step(given[0], player);
      const step = [s.wakeS, s.load, s.pause, s.seekToS, s.rate, s.play, s.ready, s.ended];
      return [given[0], given[1], step, follower.driftS, follower.blocked];
    }
    default:
      throw new Error(`no call ${what}`);
  }
}

/** Deeply equal, numbers to a few microseconds. */
function assertNear(real, expected, where) {
  if (typeof expected === "number" && typeof real === "number") {
    assert.ok(Math.abs(real - expected) < 3e-6, `${where}: ${real}, expected ${expected}`);
  } else if (Array.isArray(expected)) {
    assert.equal(real?.length, expected.length, where);
    expected.forEach((one, index) => assertNear(real[index], one, `${where}[${index}]`));
  } else {
    assert.deepEqual(real, expected, where);
  }
}

describe("The clock and the follower", () => {
  for (const [name, calls] of Object.entries(VECTORS)) {
    it(`answer as the Python client does: ${name}`, () => {
      const clock = new ClockSync();
      const follower = new PlaybackFollower(clock);
      calls.forEach((call, index) => {
        const real = answer(clock, follower, call).map(rounded);
        assertNear(real, call.slice(1), `call ${index}, ${call[0]}`);
      });
      assert.ok(calls.length > 20);
    });
  }

  it("know nothing before the first exchange", () => {
    const clock = new ClockSync();
    assert.equal(clock.synchronised, false);
    assert.equal(clock.uncertaintyS, Infinity);
    assert.equal(clock.nextPingS, -Infinity);
    assert.equal(new PlaybackFollower(clock).positionS(1), null);
  });
});

describe("Who comes to a pause", () => {
  it("is placed as soon as it can seek, and once", () => {
    const follower = new PlaybackFollower(new ClockSync());
    follower.update({ epoch: 1, seq: 1, item_id: "q", playing: false, position_s: 42, rate: 1, anchor_s: 0 });
    const player = { itemId: "q", positionS: 0, paused: true, ready: false, rate: 1, seekable: false, durationS: null };
    const seeks = [player, { ...player, seekable: true }, { ...player, seekable: true }];
    assert.deepEqual(seeks.map((each, index) => follower.step(100 + index, each).seekToS), [null, 42, null]);
  });
});
