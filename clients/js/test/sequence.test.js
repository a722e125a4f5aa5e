import assert from "node:assert/strict";
import { test } from "node:test";

import { Sequence } from "../sequence.js";

const welcome = { type: "welcome", log_id: "log_1", seq: 4 };
const snapshot = (seq, logId = "log_1") => ({ type: "room.snapshot", log_id: logId, seq });
const chat = (seq) => ({ type: "chat", seq, id: `c${seq}` });
const queue = (seq) => ({ type: "queue", seq, items: [] });

function begun() {
  const sequence = new Sequence();
  sequence.take(welcome);
  sequence.take(snapshot(4));
  return sequence;
}

const seqs = (messages) => messages.map(({ seq }) => seq);

test("events of two ways are given out in order, each once", () => {
  const sequence = begun();
  assert.deepEqual(seqs(sequence.take(queue(6))), []);
  assert.deepEqual(seqs(sequence.take(queue(8))), []);
  assert.deepEqual(sequence.gap, { logId: "log_1", seq: 4 });
  assert.deepEqual(seqs(sequence.take(chat(5), true)), [5, 6]);
  assert.deepEqual(seqs(sequence.take(chat(5), true)), []);
  assert.deepEqual(seqs(sequence.take(chat(7), true)), [7, 8]);
  assert.deepEqual(seqs(sequence.take(queue(8))), []);
  assert.equal(sequence.gap, null);
});

test("what has no number passes at once, also while something is missing", () => {
  const sequence = begun();
  sequence.take(queue(6));
  const caption = { type: "caption", seq: null, caption_id: "t.0" };
  assert.deepEqual(sequence.take(caption, true), [caption]);
  const ack = { type: "ack", id: "1", seq: 9 };
  assert.deepEqual(sequence.take(ack), [ack]);
  assert.deepEqual(sequence.gap, { logId: "log_1", seq: 4 });
});

test("what belongs to a snapshot follows it, and counts no further", () => {
  const sequence = begun();
  assert.deepEqual(seqs(sequence.take(chat(2))), [2]);
  assert.deepEqual(seqs(sequence.take(chat(3))), [3]);
  assert.deepEqual(seqs(sequence.take(chat(3), true)), [], "late, over a channel");
  assert.deepEqual(seqs(sequence.take(chat(5))), [5]);
});

test("a pong tells that something is missing although nothing came after it", () => {
  const sequence = begun();
  sequence.take({ type: "pong", id: "1", seq: 4 });
  assert.equal(sequence.gap, null);
  sequence.take({ type: "pong", id: "2", seq: 5 });
  assert.deepEqual(sequence.gap, { logId: "log_1", seq: 4 });
  sequence.take({ type: "pong", id: "3", seq: null });
  assert.deepEqual(seqs(sequence.take(chat(5), true)), [5]);
  assert.equal(sequence.gap, null);
});

test("what is told again fills the gap, and nothing is given out twice", () => {
  const sequence = begun();
  sequence.take(queue(6));
  assert.deepEqual(seqs(sequence.take(chat(5), true)), [5, 6]); // late, while it was asked for
  sequence.take(queue(8));
  const resumed = { type: "room.resumed", seq: 4, count: 4 };
  assert.deepEqual(sequence.take(resumed), [resumed]);
  const again = [chat(5), queue(6), chat(7), queue(8)].flatMap((m) => sequence.take(m));
  assert.deepEqual(seqs(again), [7, 8]);
});

test("after a connection was lost it goes on where nothing was missing", () => {
  const sequence = begun();
  sequence.take(queue(6));
  sequence.take({ ...welcome, seq: 7 });
  assert.equal(sequence.gap, null);
  sequence.take({ type: "room.resumed", seq: 4, count: 3 });
  const again = [chat(5), queue(6), chat(7)].flatMap((m) => sequence.take(m));
  assert.deepEqual(seqs(again), [5, 6, 7]);
});

test("a snapshot of another log begins anew", () => {
  const sequence = begun();
  sequence.take(queue(6));
  assert.equal(sequence.take(snapshot(1, "log_2")).length, 1);
  assert.equal(sequence.gap, null);
  assert.deepEqual(seqs(sequence.take(queue(2))), [2]);
});

test("a snapshot of the same log keeps what is newer", () => {
  const sequence = begun();
  sequence.take(chat(9), true);
  assert.deepEqual(seqs(sequence.take(snapshot(8))), [8, 9]);
});

test("what never comes is given up", () => {
  const sequence = begun();
  sequence.take(queue(8));
  sequence.take(queue(6));
  assert.deepEqual(seqs(sequence.giveUp()), [6, 8]);
  assert.equal(sequence.gap, null);
  assert.deepEqual(seqs(sequence.take(queue(9))), [9]);
  sequence.take({ type: "pong", id: "1", seq: 11 });
  assert.deepEqual(seqs(sequence.giveUp()), []);
  assert.deepEqual(seqs(sequence.take(queue(12))), [12]);
});
