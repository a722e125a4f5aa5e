import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { CaptionStore } from "../captions.js";
import { formatTranscript } from "../transcript.js";
import { caption } from "./fakes.js";

const NOW = 1_700_000_000;

function store(...captions) {
  const made = new CaptionStore();
  for (const [message, at] of captions) made.apply(message, at);
  return made;
}

const one = () => store([caption("a", "Good morning.", { start_s: 1, final: true }), NOW + 3]);
const two = () =>
  store(
    [caption("a", "Good morning.", { start_s: 0, final: true }), NOW + 2],
    [caption("b", "And to you.", { track_id: "t2", speaker: "Ben", final: true }), NOW + 63],
  );

describe("formatTranscript", () => {
  it("writes WebVTT with the speaker as a voice", () => {
    assert.equal(
      formatTranscript(one(), "vtt"),
      "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n<v Ann>Good morning.\n",
    );
  });

  it("writes SubRip, numbered, with commas", () => {
    assert.equal(
      formatTranscript(one(), "srt"),
      "1\n00:00:01,000 --> 00:00:02,500\nGood morning.\n",
    );
  });

  it("names the speakers in SubRip and text when there are several", () => {
    assert.match(formatTranscript(two(), "srt"), /\nBen: And to you\.\n/);
    assert.equal(
      formatTranscript(two(), "txt"),
      "[00:00:00] Ann: Good morning.\n[00:01:00] Ben: And to you.\n",
    );
  });

  it("leaves out what is not final", () => {
    const made = store([caption("a", "maybe"), NOW]);
    assert.equal(formatTranscript(made, "txt"), "");
    assert.equal(formatTranscript(made, "vtt"), "WEBVTT\n");
    assert.deepEqual(JSON.parse(formatTranscript(made, "json")).captions, []);
  });

  it("cuts long captions into cues of two lines, at word times", () => {
    const text = Array.from({ length: 40 }, (_, n) => `word${n}`).join(" ");
    const message = caption("a", text, { final: true });
    const words = message.words.map((word, n) => ({ ...word, start_s: n / 4, end_s: n / 4 + 0.2 }));
    const vtt = formatTranscript(store([{ ...message, words }, NOW]), "vtt");
    const cues = vtt.split("\n\n").slice(1);
    assert.ok(cues.length >= 3);
    for (const cue of cues) {
      const lines = cue.trim().split("\n").slice(1);
      assert.ok(lines.length <= 2);
      for (const line of lines) assert.ok(line.replace("<v Ann>", "").length <= 45, line);
    }
    assert.equal(vtt.match(/word\d+/g).length, 40);
  });

  it("escapes what WebVTT would take for markup", () => {
    const made = store([caption("a", "a<b>&c", { speaker: "<x>", final: true }), NOW]);
    assert.match(formatTranscript(made, "vtt"), /<v &lt;x&gt;>a&lt;b&gt;&amp;c/);
  });

  it("writes hours", () => {
    const made = store([caption("a", "late", { start_s: 3725.25, final: true }), NOW + 3726.25]);
    assert.match(formatTranscript(made, "vtt"), /01:02:05\.250 --> 01:02:05\.750/);
  });

  it("refuses a format that it does not know", () => {
    assert.throws(() => formatTranscript(one(), "docx"), /docx/);
  });
});
