/** mediaserver's client: sessions, captions, transcripts. See README.md and index.d.ts. */

export { Backoff } from "./backoff.js";
export { CaptionStore } from "./captions.js";
export { ClockSync } from "./clock.js";
export { DriftController } from "./drift.js";
export { LANGUAGES, languageName, languageOf, languageTag } from "./languages.js";
export { ProblemError } from "./problems.js";
export { MediaSession } from "./session.js";
export { PlaybackFollower, positionAt } from "./sync.js";
export { formatTranscript, TRANSCRIPT_FORMATS } from "./transcript.js";
