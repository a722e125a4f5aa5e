import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Backoff } from "../backoff.js";

describe("Backoff", () => {
  it("doubles the ceiling up to the cap", () => {
    const backoff = new Backoff({ firstS: 1, capS: 8, random: () => 1 });
    assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => backoff.next()), [1, 2, 4, 8, 8, 8]);
  });

  it("spreads waits over the upper half, so that clients do not return together", () => {
    for (const chance of [0, 0.25, 0.999]) {
      const wait = new Backoff({ firstS: 4, random: () => chance }).next();
      assert.ok(wait >= 2 && wait <= 4);
    }
  });

  it("waits at least as long as the server asks, beyond the cap too", () => {
    const backoff = new Backoff({ firstS: 1, capS: 5, random: () => 0.5 });
    assert.ok(backoff.next(30) >= 30);
  });

  it("begins again after a reset", () => {
    const backoff = new Backoff({ firstS: 1, random: () => 1 });
    backoff.next();
    backoff.next();
    assert.equal(backoff.attempt, 2);
    backoff.reset();
    assert.equal(backoff.attempt, 0);
    assert.equal(backoff.next(), 1);
  });
});
