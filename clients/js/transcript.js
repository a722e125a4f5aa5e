/** Transcripts from the captions that a client has seen, for when the server cannot be asked. */

/**
 * @typedef {import("./index.d.ts").CaptionEntry} CaptionEntry
 * @typedef {import("./index.d.ts").TranscriptFormat} TranscriptFormat
 * @typedef {{start: number, end: number, speaker: string, text: string}} Cue
 */

/** @type {readonly TranscriptFormat[]} */
export const TRANSCRIPT_FORMATS = Object.freeze(["vtt", "srt", "txt", "json"]);

const LINE_CHARACTERS = 42;
const CUE_CHARACTERS = 2 * LINE_CHARACTERS;
const CUE_S = 7;

/**
 * Writes the finals of `store` as WebVTT, SubRip, text or JSON.
 * @param {import("./captions.js").CaptionStore} store
 * @param {TranscriptFormat} format
 */
export function formatTranscript(store, format) {
  const finals = store.entries.filter(({ caption }) => caption.final);
  const shifts = shiftsOf(store, finals);
  const shiftOf = (/** @type {CaptionEntry} */ entry) => shifts.get(entry.caption.track_id) ?? 0;
  const several = new Set(finals.map(({ caption }) => caption.speaker)).size > 1;
  const cues = finals
    .flatMap((entry) => cuesOf(entry, shiftOf(entry)))
    .sort((a, b) => a.start - b.start);
  switch (format) {
    case "vtt":
      return ["WEBVTT\n", ...cues.map(vttCue)].join("\n");
    case "srt":
      return cues.map((cue, index) => srtCue(cue, index, several)).join("\n");
    case "txt":
      return finals.map((entry) => textLine(entry, shiftOf(entry), several)).join("");
    case "json":
      return `${JSON.stringify({ captions: finals.map(({ caption }) => caption) }, null, 2)}\n`;
    default:
      throw new TypeError(`no transcript format ${JSON.stringify(format)}`);
  }
}

/**
 * Each track counts from its own beginning; this puts all onto one time line that starts with the
 * first of them.
 * @param {import("./captions.js").CaptionStore} store
 * @param {readonly CaptionEntry[]} finals
 */
function shiftsOf(store, finals) {
  const origins = new Map();
  for (const { caption } of finals) {
    origins.set(caption.track_id, store.originOf(caption.track_id) ?? 0);
  }
  const first = Math.min(...origins.values());
  return new Map([...origins].map(([track, origin]) => [track, origin - first]));
}

/** @returns {Cue[]} */
function cuesOf(/** @type {CaptionEntry} */ { caption }, /** @type {number} */ shift) {
  const { speaker } = caption;
  if (caption.words.length === 0) {
    return [
      { start: caption.start_s + shift, end: caption.end_s + shift, speaker, text: caption.text },
    ];
  }
  /** @type {Cue[]} */
  const cues = [];
  for (const word of caption.words) {
    const cue = cues.at(-1);
    const full =
      !cue ||
      cue.text.length + 1 + word.text.length > CUE_CHARACTERS ||
      word.end_s + shift - cue.start > CUE_S;
    if (full) {
      const [start, end] = [word.start_s + shift, word.end_s + shift];
      cues.push({ start, end, speaker, text: word.text });
    } else {
      cue.text += ` ${word.text}`;
      cue.end = word.end_s + shift;
    }
  }
  return cues;
}

/** @returns {string} */
function clock(/** @type {number} */ seconds, /** @type {"." | ","} */ point) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const two = (/** @type {number} */ value) => String(Math.floor(value)).padStart(2, "0");
  const fraction = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}${point}${fraction}`;
}

function lines(/** @type {string} */ text) {
  if (text.length <= LINE_CHARACTERS) return text;
  const middle = text.length / 2;
  let best = -1;
  for (let at = text.indexOf(" "); at >= 0; at = text.indexOf(" ", at + 1)) {
    if (best < 0 || Math.abs(at - middle) < Math.abs(best - middle)) best = at;
  }
  return best < 0 ? text : `${text.slice(0, best)}\n${text.slice(best + 1)}`;
}

function vttCue(/** @type {Cue} */ { start, end, speaker, text }) {
  const escape = (/** @type {string} */ raw) =>
    raw.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const voice = speaker ? `<v ${escape(speaker).replace(/\s+/g, " ")}>` : "";
  return `${clock(start, ".")} --> ${clock(end, ".")}\n${voice}${escape(lines(text))}\n`;
}

function srtCue(
  /** @type {Cue} */ { start, end, speaker, text },
  /** @type {number} */ index,
  /** @type {boolean} */ several,
) {
  const said = lines(several && speaker ? `${speaker}: ${text}` : text);
  return `${index + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${said}\n`;
}

function textLine(
  /** @type {CaptionEntry} */ { caption },
  /** @type {number} */ shift,
  /** @type {boolean} */ several,
) {
  const speaker = several && caption.speaker ? `${caption.speaker}: ` : "";
  return `[${clock(caption.start_s + shift, ".").slice(0, 8)}] ${speaker}${caption.text}\n`;
}
