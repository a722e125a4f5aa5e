import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { CaptionStore } from "../captions.js";
import { caption } from "./fakes.js";

const NOW = 1_700_000_000;
const texts = (store) => store.entries.map((entry) => entry.caption.text);

describe("CaptionStore", () => {
  it("adds a caption, then replaces it by the next of the same id", () => {
    const store = new CaptionStore();
    const first = store.apply(caption("a", "good mor"), NOW);
    assert.equal(first.kind, "added");
    const second = store.apply(caption("a", "good morning all"), NOW + 1);
    assert.equal(second.kind, "changed");
    assert.deepEqual(texts(store), ["good morning all"]);
    assert.equal(store.get("a").caption.text, "good morning all");
  });

  it("passes over a message that came already, over the other transport", () => {
    const store = new CaptionStore();
    const message = caption("a", "hello");
    assert.ok(store.apply(message, NOW));
    assert.equal(store.apply(message, NOW), null);
    assert.equal(store.apply({ ...message }, NOW), null);
    assert.equal(store.entries.length, 1);
  });

  it("passes over a message that is older than what is shown", () => {
    const store = new CaptionStore();
    const old = caption("a", "hell");
    store.apply(caption("a", "hello there"), NOW);
    assert.equal(store.apply(old, NOW), null);
    assert.deepEqual(texts(store), ["hello there"]);
  });

  it("never changes a complete caption", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "it is done", { final: true }), NOW);
    assert.equal(store.apply(caption("a", "it was done", { final: true }), NOW), null);
    assert.deepEqual(texts(store), ["it is done"]);
  });

  it("never changes a final word, whatever a later message says", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "we met on Monday", { finals: 3 }), NOW);
    const change = store.apply(caption("a", "she met on Tuesday morning", { finals: 4 }), NOW);
    assert.equal(change.entry.caption.text, "we met on Tuesday morning");
    assert.deepEqual(change.newlyFinal.map((word) => word.text), ["Tuesday"]);
    assert.deepEqual(
      change.entry.caption.words.map((word) => word.final),
      [true, true, true, true, false],
    );
  });

  it("keeps a final word that a later message leaves out", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "one two", { finals: 2 }), NOW);
    const change = store.apply(caption("a", "one", { final: true }), NOW);
    assert.equal(change.entry.caption.text, "one two");
  });

  it("tells which words became final", () => {
    const store = new CaptionStore();
    assert.deepEqual(store.apply(caption("a", "a b c", { finals: 1 }), NOW).newlyFinal.length, 1);
    const change = store.apply(caption("a", "a b c d", { final: true }), NOW);
    assert.deepEqual(change.newlyFinal.map((word) => word.text), ["b", "c", "d"]);
  });

  it("takes a caption away that turned out to be no speech, for good", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "uh"), NOW);
    const change = store.apply(caption("a", "", { final: true }), NOW);
    assert.equal(change.kind, "removed");
    assert.deepEqual(texts(store), []);
    assert.equal(store.apply(caption("a", "uh huh"), NOW), null);
  });

  it("does not show a caption that never had a word", () => {
    const store = new CaptionStore();
    assert.equal(store.apply(caption("a", "", { final: true }), NOW), null);
    assert.equal(store.entries.length, 0);
  });

  it("orders one track's captions by media time, however they arrive", () => {
    const store = new CaptionStore();
    store.apply(caption("b", "second", { start_s: 10 }), NOW + 12);
    const change = store.apply(caption("a", "first", { start_s: 1 }), NOW + 13);
    assert.equal(change.index, 0);
    assert.deepEqual(texts(store), ["first", "second"]);
  });

  it("orders the captions of several tracks by when they were said", () => {
    const store = new CaptionStore();
    // Ann's track began at NOW, Ben's 100 s later; Ben speaks first, Ann's caption is the later.
    store.apply(caption("a1", "one", { start_s: 0 }), NOW + 1);
    store.apply(caption("b1", "two", { track_id: "t2", start_s: 0 }), NOW + 101);
    store.apply(caption("a2", "three", { start_s: 110 }), NOW + 111);
    store.apply(caption("b2", "four", { track_id: "t2", start_s: 20 }), NOW + 121);
    assert.deepEqual(texts(store), ["one", "two", "three", "four"]);
  });

  it("keeps a caption's place on the clock once it is shown", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "late", { start_s: 0 }), NOW + 9);
    const { startedAt } = store.get("a");
    store.apply(caption("b", "quick", { start_s: 20 }), NOW + 21);
    store.apply(caption("a", "late no more", { start_s: 0 }), NOW + 22);
    assert.equal(store.get("a").startedAt, startedAt);
  });

  it("takes the server's word for when an old caption was said", () => {
    const store = new CaptionStore();
    const message = caption("a", "an hour ago", { start_s: 5, final: true, started_at: NOW - 3600 });
    assert.equal(store.apply(message, NOW).entry.startedAt, NOW - 3600);
    assert.equal(store.originOf("t1"), NOW - 3605);
  });

  it("goes on after the server restarted and counts from one again", () => {
    const store = new CaptionStore();
    store.apply(caption("a", "before", { seq: 900, final: true }), NOW);
    store.apply(caption("b", "after", { seq: 1, track_id: "t2" }), NOW + 60);
    assert.deepEqual(texts(store), ["before", "after"]);
  });

  it("keeps within its limit and counts what it let go", () => {
    const store = new CaptionStore({ limit: 3 });
    for (let n = 0; n < 10; n += 1) {
      store.apply(caption(`c${n}`, `number ${n}`, { start_s: n * 2, final: true }), NOW + n * 2);
    }
    assert.deepEqual(texts(store), ["number 7", "number 8", "number 9"]);
    assert.equal(store.dropped, 7);
    assert.equal(store.get("c0"), undefined);
  });

  it("ends in the same state whichever of two transports was faster", () => {
    const messages = [
      caption("a", "so", {}),
      caption("a", "so it", { finals: 1 }),
      caption("a", "so it goes", { finals: 2 }),
      caption("b", "indeed", { start_s: 9 }),
      caption("a", "so it goes.", { final: true }),
      caption("b", "indeed.", { start_s: 9, final: true }),
    ];
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    for (let round = 0; round < 200; round += 1) {
      const store = new CaptionStore();
      const both = [...messages, ...messages].sort(() => random() - 0.5);
      for (const message of both) store.apply(message, NOW);
      assert.deepEqual(texts(store), ["so it goes.", "indeed."]);
    }
  });
});
