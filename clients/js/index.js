/** mediaserver's client: sessions, rooms, broadcasts, videos, captions, transcripts. See README.md and index.d.ts. */

export { Account } from "./account.js";
export { RoomsApi } from "./api.js";
export { Backoff } from "./backoff.js";
export { CaptionStore } from "./captions.js";
export { ClockSync } from "./clock.js";
export { DriftController } from "./drift.js";
export { LANGUAGES, languageName, languageOf, languageTag } from "./languages.js";
export { VideosApi } from "./library.js";
export { MediaPlayer } from "./player.js";
export { ProblemError } from "./problems.js";
export { Room } from "./room.js";
export { RoomState } from "./room-state.js";
export { MediaSession } from "./session.js";
export { PlaybackFollower, positionAt } from "./sync.js";
export { formatTranscript, TRANSCRIPT_FORMATS } from "./transcript.js";
export { Viewer } from "./viewer.js";
