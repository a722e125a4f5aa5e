/** Types of mediaserver's client. The messages themselves are in types.d.ts. */

import type {
  Ack,
  AudioStarted,
  Caption,
  CaptionOptions,
  Chat,
  ClientMessage,
  Finalized,
  Grants,
  MemberInfo,
  Metrics,
  PlaybackState,
  Problem,
  QueueItem,
  QueueItemNew,
  RoomChange,
  RoomInfo,
  RoomSettings,
  RoomStatus,
  ServerMessage,
  SignedPlayback,
  SpeechStarted,
  Status,
  TrackEnded,
  TrackStarted,
  VideoInfo,
  VideoList,
  VideoOpen,
  VideoSource,
  WatchAnswer,
  WatchEnded,
  WatchOffer,
  Welcome,
  WordMessage,
} from "./types.d.ts";
import type { Environment } from "./environment.js";

export type * from "./types.d.ts";
export type { Environment };

export type RoomRole = "host" | "cohost" | "member" | "listener";
export type TranscriptFormat = "vtt" | "srt" | "txt" | "json";

/** `connecting` only before the first welcome; `closed` does not come back without `connect()`. */
export interface SessionState {
  readonly state: "idle" | "connecting" | "open" | "reconnecting" | "closed";
  /** Waits since the connection was last good. */
  readonly attempt: number;
  /** How long until the next attempt; null while one is being made, or none will be. */
  readonly retryInS: number | null;
  /** Why the connection was lost or refused; null when all is well or it was left on purpose. */
  readonly problem: Problem | null;
}

/** Whether a stream of this member reaches the server. */
export type PublishingState = "off" | "connecting" | "live";

export interface BackoffOptions {
  /** The longest first wait, in seconds. */
  firstS?: number;
  /** Growth from one wait to the next. */
  factor?: number;
  /** No wait is longer, except when the server asks for it. */
  capS?: number;
  /** In [0, 1). */
  random?: () => number;
}

export interface SessionOptions {
  room?: string | null;
  /** What others see. */
  name?: string;
  /** Sent as a WebSocket subprotocol and as `X-API-Key`, never in a URL. */
  apiKey?: string | null;
  /** Join with a ticket (`POST …/join`), which says in words why somebody is refused. Always so
   * with `account`, `invitation` or `api`. */
  tickets?: boolean;
  /** An invitation's token. */
  invitation?: string | null;
  /** Who is signed in: tickets are asked for, and `auth` is sent, with its tokens. */
  account?: Account | null;
  /** What asks for tickets; made from `account` and `apiKey` if not given. */
  api?: RoomsApi;
  /** `MediaSession.place` of before, to come back to. */
  place?: Place | null;
  /** How this member's speech is captioned. */
  options?: CaptionOptions;
  /** Whether to come back after a lost connection; true if not given. */
  reconnect?: boolean;
  backoff?: BackoffOptions;
  /** Merged into the RTCPeerConnection's configuration. */
  rtcConfiguration?: RTCConfiguration;
  /** How many captions are kept; 20 000 if not given. */
  captionLimit?: number;
  /** Other timers, sockets and the like, for tests and for Node. */
  environment?: Partial<Environment>;
}

/** A caption with its place on the wall clock. */
export interface CaptionEntry {
  readonly caption: Caption;
  /** Unix seconds; it never changes once the caption is shown. */
  readonly startedAt: number;
}

export interface CaptionChange {
  /** `removed`: it turned out to be no speech. */
  readonly kind: "added" | "changed" | "removed";
  readonly entry: CaptionEntry;
  /** Where it is (or was) in `CaptionStore.entries`. */
  readonly index: number;
  /** The words that became final with this change. */
  readonly newlyFinal: readonly WordMessage[];
}

/** What `on` can be told to listen for. */
export interface SessionEvents {
  state: SessionState;
  publishing: { readonly state: PublishingState; readonly problem: Problem | null };
  /** A caption that is new or has changed; it replaces an earlier one of the same `caption_id`. */
  caption: Caption;
  /** The same with its place in the list, and removals. */
  captions: CaptionChange;
  chat: Chat;
  metrics: Metrics;
  status: Status;
  /** Round trip of a ping over the WebSocket, in milliseconds. */
  roundtrip: number;
  /** The server refused a message; the session goes on unless `state` says otherwise. */
  error: { readonly error: ProblemError; readonly inReplyTo: string | null };
  welcome: Welcome;
  /** A guest's room token was renewed. */
  token: string;
  /** Every message, as it came, before the others. */
  message: ServerMessage;
  "track.started": TrackStarted;
  "track.ended": TrackEnded;
  "speech.started": SpeechStarted;
  "audio.started": AudioStarted;
  finalized: Finalized;
  "watch.ended": WatchEnded;
}

export class ProblemError extends Error {
  constructor(problem: Problem);
  readonly problem: Problem;
  /** Stable, for programs. */
  get code(): string;
  get retryable(): boolean;
}

export class Backoff {
  constructor(options?: BackoffOptions);
  /** How many waits were handed out since the last `reset`. */
  get attempt(): number;
  /** The next wait in seconds, at least what the server asked for. */
  next(atLeastS?: number): number;
  reset(): void;
}

export class CaptionStore {
  constructor(options?: { limit?: number });
  /** In the order in which they were begun. */
  get entries(): readonly CaptionEntry[];
  /** How many were let go to keep within the limit. */
  get dropped(): number;
  get(captionId: string): CaptionEntry | undefined;
  /** When media time 0 of a track was (Unix seconds), as well as its captions tell. */
  originOf(trackId: string): number | undefined;
  /** Takes a message; null when it is old or known already. */
  apply(caption: Caption, receivedAt: number): CaptionChange | null;
  clear(): void;
}

export class MediaSession {
  /** `url` of `/ws`: ws:, wss:, http:, https:, or relative to the page. */
  constructor(url: string | URL, options?: SessionOptions);
  /** Makes a session and resolves when the server has welcomed it. */
  static connect(url: string | URL, options?: SessionOptions): Promise<MediaSession>;

  readonly url: string;
  room: string | null;
  name: string;
  apiKey: string | null;
  options: CaptionOptions;
  readonly captions: CaptionStore;
  readonly welcome: Welcome | null;
  /** A reconnect begins a new session on the server; these are all of them, oldest first. */
  readonly sessionIds: readonly string[];
  get state(): SessionState;
  get publishing(): PublishingState;
  /** What is needed to come back to the same place, in another page too; it holds a secret. */
  get place(): Place | null;
  readonly api: RoomsApi | null;

  on<Type extends keyof SessionEvents>(
    type: Type,
    listener: (event: SessionEvents[Type]) => void,
  ): () => void;
  off<Type extends keyof SessionEvents>(
    type: Type,
    listener: (event: SessionEvents[Type]) => void,
  ): void;

  /** Rejects with ProblemError when trying again cannot help. */
  connect(): Promise<Welcome>;
  /** Does not wait any longer for the next attempt. */
  retryNow(): void;
  /** Sends the stream's first audio and video track, again after each reconnect. */
  publish(stream: MediaStream): Promise<void>;
  /** Ends publishing, after what was said so far has become final. */
  unpublish(): Promise<void>;
  /** Changes how this member is captioned, from the next utterance on. */
  configure(options: CaptionOptions): void;
  /** Resolves when everything said so far is final. */
  finalize(): Promise<void>;
  /** Returns the id that comes back as `client_id` of `chat`. */
  sendChat(text: string): string;
  /** Throws ProblemError when there is no connection. */
  send(message: ClientMessage): void;
  /** Sends what is of the moment; false when there is no connection. */
  tell(message: ClientMessage): boolean;
  /** Sends a command; resolves with its `ack`, rejects with ProblemError. */
  request(command: WatchOffer): Promise<WatchAnswer>;
  request(command: VideoOpen): Promise<VideoSource>;
  request(command: ClientMessage): Promise<Ack>;
  /** Leaves in good order: pending finals arrive first. */
  leave(): Promise<void>;
  /** Leaves at once. */
  close(): void;
  /** The server's transcript of a session, the newest if not told otherwise. */
  fetchTranscript(format: TranscriptFormat, options?: { sessionId?: string }): Promise<string>;
  transcriptUrl(format: TranscriptFormat, sessionId: string): string;
}

/** Where somebody is in a room. Without `logId` and `seq` the whole room is told again. */
export interface Place {
  readonly room: string;
  readonly memberId: string;
  readonly secret: string;
  readonly logId: string | null;
  readonly seq: number | null;
}

// ---- accounts, and the routes of rooms -------------------------------------------------------

/** POST /api/v1/auth/login and refresh. */
export interface TokenAnswer {
  readonly access_token: string;
  readonly expires_in_s: number;
  readonly must_change_password?: boolean;
}

/** GET /api/v1/auth/me. */
export interface Principal {
  readonly kind: "user" | "key" | "guest" | "local" | "static";
  readonly id: string;
  readonly name: string;
  readonly role: "admin" | "host" | "member" | null;
  readonly scopes: readonly string[];
}

/** The access token is kept in memory, the refresh token in an HttpOnly cookie. */
export class Account {
  constructor(url: string | URL, options?: { environment?: Partial<Environment> });
  get signedIn(): boolean;
  /** Until it is changed, the account is good for that only. */
  get mustChangePassword(): boolean;
  on(type: "change", listener: (event: { signedIn: boolean }) => void): () => void;
  on(type: "token", listener: (token: string) => void): () => void;
  login(name: string, password: string): Promise<void>;
  /** Signs in by the cookie of an earlier visit; false where there is none that is good. */
  resume(): Promise<boolean>;
  refresh(): Promise<boolean>;
  /** Renewed when it is about to expire; null when nobody is signed in. */
  token(): Promise<string | null>;
  changePassword(current: string, next: string): Promise<void>;
  me(): Promise<Principal>;
  logout(options?: { everywhere?: boolean }): Promise<void>;
  /** Stops renewing. */
  close(): void;
}

export interface ApiOptions {
  account?: Account | null;
  apiKey?: string | null;
  environment?: Partial<Environment>;
}

/** All reject with ProblemError. */
export class RoomsApi {
  constructor(url: string | URL, options?: ApiOptions);
  apiKey: string | null;
  /** A guest's room token, as `join` with an invitation gave it. */
  token: string | null;
  list(): Promise<RoomInfo[]>;
  get(room: string): Promise<RoomInfo>;
  create(settings?: Partial<RoomSettings> & { name?: string }): Promise<RoomInfo>;
  change(room: string, settings: RoomChange): Promise<RoomInfo>;
  close(room: string): Promise<null>;
  invite(
    room: string,
    invitation?: { role?: RoomRole; expires_in_s?: number; max_uses?: number },
  ): Promise<{ id: string; token: string; url: string; role: RoomRole; expires_at: number }>;
  invitations(room: string): Promise<{ id: string; role: RoomRole; expires_at: number }[]>;
  /** Whoever came by it is sent away, unless `keepGuests`. */
  uninvite(room: string, id: string, options?: { keepGuests?: boolean }): Promise<null>;
  /** Guests' tokens that are good, for hosts and co-hosts. */
  tokens(room: string): Promise<
    {
      id: string;
      subject: string;
      name: string;
      role: RoomRole;
      grants: Grants;
      created_at: number;
      expires_at: number;
      invitation_id: string | null;
      members: string[];
    }[]
  >;
  /** Its holder is sent away. */
  revokeToken(room: string, id: string): Promise<null>;
  /** A guest's later token; sessions do it by themselves. */
  renew(room: string): Promise<{ token: string; id: string; expires_at: number }>;
  /** Older messages. */
  chat(
    room: string,
    page?: { before?: string; limit?: number },
  ): Promise<{ messages: Chat[]; more: boolean }>;
  join(
    room: string,
    options?: { name?: string; invitation?: string | null },
  ): Promise<{ ticket: string; room: string; role: RoomRole | null; grants: Grants }>;
}

// ---- the videos of the server ------------------------------------------------------------------

/** How an upload gets on. */
export interface UploadProgress {
  readonly videoId: string;
  readonly sentBytes: number;
  readonly sizeBytes: number;
  /** Why it stands still, while it does; it goes on by itself. */
  readonly problem: Problem | null;
  /** How long until the next attempt; null while it goes on. */
  readonly retryInS: number | null;
}

export interface UploadOptions {
  /** The file's name if not given. */
  title?: string;
  onProgress?: (progress: UploadProgress) => void;
  /** Stops it (code `aborted`). What the server has stays there for a day, to go on with. */
  signal?: AbortSignal;
  /** Of the waits after a lost connection. */
  backoff?: BackoffOptions;
}

/** The library; the scope `videos` reads it, `videos:manage` changes it. All reject with
 * ProblemError. */
export class VideosApi {
  /** `api` says where the server is and who asks. */
  constructor(api: RoomsApi);
  /** The newest first; `next` of a list is the next one's `after`. */
  list(page?: { after?: string | null; limit?: number }): Promise<VideoList>;
  get(videoId: string): Promise<VideoInfo>;
  rename(videoId: string, title: string): Promise<VideoInfo>;
  /** Also while it is uploaded or prepared. */
  remove(videoId: string): Promise<void>;
  /** An absolute address to play it at, without credentials; playing must begin in time. */
  sign(
    videoId: string,
    options?: { expiresInS?: number; subject?: string },
  ): Promise<SignedPlayback>;
  /** Resolves when the server has all of it and begins to prepare it. After a lost connection, and
   * after a reload (the same file given again), it goes on where it was. */
  upload(file: Blob, options?: UploadOptions): Promise<VideoInfo>;
  /** Whether its upload was begun in this browser, and goes on if the file is given again. */
  mayResume(videoId: string): boolean;
}

// ---- a room ----------------------------------------------------------------------------------

/** What a member knows of its room. */
export class RoomState {
  readonly memberId: string | null;
  readonly role: RoomRole | null;
  readonly grants: Grants | null;
  readonly settings: RoomSettings | null;
  readonly members: ReadonlyMap<string, MemberInfo>;
  readonly queue: readonly QueueItem[];
  readonly playback: PlaybackState | null;
  readonly chat: ReadonlyMap<string, Chat>;
  /** Live tracks: track id to member id. */
  readonly tracks: ReadonlyMap<string, string>;
  readonly away: boolean;
  get me(): MemberInfo | undefined;
  get item(): QueueItem | null;
  /** Of who is, or was, here. */
  nameOf(memberId: string): string;
}

export interface RoomEvents {
  members: ReadonlyMap<string, MemberInfo>;
  came: MemberInfo;
  went: { readonly member: MemberInfo; readonly reason: string };
  grants: { readonly role: RoomRole; readonly grants: Grants };
  settings: RoomSettings;
  queue: { readonly items: readonly QueueItem[]; readonly by: string | null };
  playback: {
    readonly state: PlaybackState;
    readonly by: string | null;
    readonly snapshot: boolean;
  };
  /** `reset`: the chat begins anew; its messages follow. */
  chat:
    | { readonly kind: "reset" }
    | { readonly kind: "added" | "changed" | "removed"; readonly message: Chat };
  /** Member ids of who is writing. */
  typing: readonly string[];
  reaction: { readonly memberId: string; readonly emoji: string };
  speakers: ReadonlyMap<string, string>;
  status: RoomStatus;
  closed: string;
}

/** A room over a session; what returns a promise resolves with the server's `ack`. */
export class Room {
  constructor(session: MediaSession);
  static join(url: string | URL, options: SessionOptions): Promise<Room>;
  readonly session: MediaSession;
  readonly state: RoomState;
  get typing(): readonly string[];
  on<Type extends keyof RoomEvents>(
    type: Type,
    listener: (event: RoomEvents[Type]) => void,
  ): () => void;
  say(
    text: string,
    options?: { replyTo?: string | null; mentions?: string[]; id?: string },
  ): Promise<Ack>;
  edit(messageId: string, text: string): Promise<Ack>;
  delete(messageId: string): Promise<Ack>;
  reactTo(messageId: string, emoji: string, on?: boolean): Promise<Ack>;
  isTyping(typing?: boolean): void;
  react(emoji: string): void;
  add(item: QueueItemNew, at?: number): Promise<Ack>;
  remove(itemId: string): Promise<Ack>;
  move(itemId: string, to: number): Promise<Ack>;
  /** Where the media of an item of kind `vod` are: an address that is good for some minutes, for
   * whoever begins to play by then. */
  openItem(itemId: string): Promise<SignedPlayback>;
  control(
    action: "play" | "pause" | "seek" | "rate" | "next" | "item",
    more?: { position_s?: number; rate?: number; item_id?: string; base?: null },
  ): Promise<Ack>;
  update(change: { name?: string; caption_language?: string }): Promise<Ack>;
  setRole(memberId: string, role: RoomRole): Promise<Ack>;
  mute(memberId: string, what: { chat?: boolean; publish?: boolean }): Promise<Ack>;
  kick(memberId: string, reason?: string): Promise<Ack>;
  ban(memberId: string, options?: { reason?: string; durationS?: number | null }): Promise<Ack>;
  change(change: RoomChange): Promise<Ack>;
  closeForAll(): Promise<Ack>;
  leave(): Promise<void>;
}

/** What a Viewer does now. */
export interface ViewerState {
  /** `own`: it is one's own broadcast, which does not come back. `waiting`: for it to begin.
   * `failed`: trying again cannot help until it begins anew, or `retry` is called. */
  readonly state: "off" | "own" | "waiting" | "connecting" | "live" | "failed";
  /** Whose broadcast it is about; null while nobody broadcasts who might be meant. */
  readonly memberId: string | null;
  /** Picture and sound, while `live`. */
  readonly stream: MediaStream | null;
  /** Why it failed, or is connected again. */
  readonly problem: Problem | null;
  /** How long until the next attempt; null while one is being made, or none will be. */
  readonly retryInS: number | null;
  /** Why what was watched before is over, while `waiting`. */
  readonly ended: WatchEnded["reason"] | null;
}

/** Watches a broadcast of the room, from its beginning, and again after a loss. */
export class Viewer {
  constructor(room: Room);
  get state(): ViewerState;
  on(type: "state", listener: (state: ViewerState) => void): () => void;
  /** A member's broadcast, or (null) whoever's there is: it stays with whom it found. Nobody gets
   * their own. */
  watch(memberId?: string | null): void;
  stop(): void;
  /** Tries again at once. */
  retry(): void;
  close(): void;
}

export interface PlayerSync {
  /** Player less shared position; null while it does not follow. */
  readonly driftS: number | null;
  readonly correcting: boolean;
  readonly landing: boolean;
  /** The browser wants a gesture: call `unblock` from a click. */
  readonly blocked: boolean;
  readonly buffering: boolean;
  /** A live stream plays: everybody is at its newest, and nobody drifts. */
  readonly live: boolean;
  readonly synchronised: boolean;
  readonly uncertaintyS: number;
  readonly roundTripS: number;
  /** Whom the start waits for. */
  readonly waitingFor: readonly string[];
}

/** As much of hls.js' ERROR event as is looked at. */
export interface HlsErrorData {
  readonly type: string;
  readonly details: string;
  readonly fatal: boolean;
  readonly response?: { readonly code: number };
}

/** As much of an instance of hls.js as is used. */
export interface HlsInstance {
  on(event: "hlsError", listener: (event: string, data: HlsErrorData) => void): void;
  loadSource(url: string): void;
  attachMedia(element: HTMLMediaElement): void;
  recoverMediaError(): void;
  destroy(): void;
}

/** hls.js, as a page gives it. */
export interface HlsLibrary {
  readonly Hls: {
    new (config: object): HlsInstance;
    isSupported(): boolean;
  };
  /** Of `hls.worker.js`; without it the work is done in the page's own thread. */
  readonly workerPath?: string;
}

export interface MediaPlayerOptions {
  /** Where an item's media are; null: nowhere that this page knows. By default its `url`, and for
   * videos of the server what `Room.openItem` says, asked anew where that is not good any more. */
  sourceOf?: (item: QueueItem) => string | null | Promise<string | null>;
  /** Gets hls.js, for browsers that do not play HLS themselves, or fail to. Asked when needed. */
  hls?: (() => Promise<HlsLibrary>) | null;
}

/** Keeps a media element where its room is. */
export class MediaPlayer {
  constructor(
    room: Room,
    element: HTMLMediaElement,
    options?: MediaPlayerOptions,
  );
  readonly clock: ClockSync;
  readonly follower: PlaybackFollower;
  readonly item: QueueItem | null;
  readonly problem: Problem | null;
  get sync(): PlayerSync;
  get blocked(): boolean;
  /** Whether it is a live stream, which has no shared position. */
  get live(): boolean;
  /** Whether one can seek in it: where its server hands out whole files only, nobody can. */
  get seekable(): boolean;
  /** What plays it: the element, its own HLS, or hls.js. */
  get playedBy(): "file" | "native" | "hls.js" | null;
  get positionS(): number | null;
  get durationS(): number | null;
  on(type: "sync", listener: (sync: PlayerSync) => void): () => void;
  on(
    type: "item",
    listener: (event: { item: QueueItem | null; problem: Problem | null }) => void,
  ): () => void;
  play(): Promise<Ack>;
  pause(): Promise<Ack>;
  seek(positionS: number): Promise<Ack>;
  setRate(rate: number): Promise<Ack>;
  resync(): void;
  unblock(): Promise<void>;
  retry(): void;
  close(): void;
}

// ---- the shared playback clock (docs/playback.md): pure, no timers, sockets or elements ------

/** The shared clock, from `clock.ping` and `clock.pong`; local times are seconds of any origin. */
export class ClockSync {
  /** Whether playback may be started by this clock. */
  get synchronised(): boolean;
  /** Shared less local time; 0 before the first exchange. */
  get offsetS(): number;
  /** The offset is off by no more than this; infinite before the first exchange. */
  get uncertaintyS(): number;
  /** The longest round trip of the newest exchanges. */
  get roundTripS(): number;
  /** Local time when the next ping is due; -Infinity before the first. */
  get nextPingS(): number;
  sharedS(localS: number): number;
  localS(sharedS: number): number;
  /** Notes that a ping leaves now; returns its t0. */
  ping(nowS: number): number;
  /** Takes an answer that arrived at local time t3; false if it is of no use. */
  pong(t0: number, t1: number, t2: number, t3: number): boolean;
  /** Asks quickly again: after a reconnect, or when the machine slept. */
  restart(nowS: number): void;
}

/** A player as it is now. Of a media element: see docs/playback.md. */
export interface PlayerState {
  /** What is loaded. */
  readonly itemId: string | null;
  readonly positionS: number;
  /** Told to stand still. */
  readonly paused: boolean;
  /** Has data to go on from here: neither loading, nor seeking, nor out of data. */
  readonly ready: boolean;
  /** As the player has it, which may be rounded. */
  readonly rate: number;
  readonly seekable: boolean;
  /** Of the item, once it is known. */
  readonly durationS?: number | null;
}

/** What to do now, in this order; null and false mean: leave it. */
export interface PlaybackStep {
  /** Load this item (paused); look again when the player has it. */
  readonly load: string | null;
  readonly pause: boolean;
  readonly seekToS: number | null;
  readonly rate: number | null;
  readonly play: boolean;
  /** Report `playback.ready` for this epoch. */
  readonly ready: number | null;
  /** The item of this epoch has come to its end: ask for the next one. */
  readonly ended: number | null;
  /** Local time of the next step, if nothing happens before. */
  readonly wakeS: number;
}

/** The control loop of a playing player: the rate within 5 %, or a seek. */
export class DriftController {
  /** Player less shared position, seconds of the item, smoothed; null while not known. */
  get driftS(): number | null;
  get correcting(): boolean;
  pause(): void;
  sought(nowS: number): void;
  forgive(): void;
  step(
    nowS: number,
    sharedPositionS: number,
    rate: number,
    player: PlayerState,
  ): { rate: number; seek: boolean };
}

/** Keeps one player with the room. */
export class PlaybackFollower {
  constructor(clock: ClockSync);
  get state(): PlaybackState | null;
  /** Player less shared position, seconds of the item; null unless it plays. */
  get driftS(): number | null;
  /** Whether the rate is changed to come in sync. */
  get correcting(): boolean;
  /** Whether the player is on its way to the shared position. */
  get landing(): boolean;
  /** Whether the player refuses to start (autoplay rules): somebody has to press play. */
  get blocked(): boolean;
  /** How long this player's seeks take, as measured. */
  get seekTimeS(): number;
  /** The shared position; null while nothing is played. */
  positionS(nowS: number): number | null;
  /** Takes a state; false if it is old. With `snapshot` it is taken in any case. */
  update(state: PlaybackState, options?: { snapshot?: boolean }): boolean;
  /** Lands anew: the resync button, or after a gesture that unblocks the player. */
  resync(): void;
  /** At the last step's `wakeS`, after `update`, and at each event of the player. */
  step(nowS: number, player: PlayerState): PlaybackStep;
}

/** Where playback is at a time of the shared clock, seconds of the item. */
export function positionAt(state: PlaybackState, sharedS: number): number;

export const TRANSCRIPT_FORMATS: readonly TranscriptFormat[];
/** Writes the finals in `store` as a transcript, without the server. */
export function formatTranscript(store: CaptionStore, format: TranscriptFormat): string;

/** Whisper's languages: code to English name. */
export const LANGUAGES: Readonly<Record<string, string>>;
export function languageName(code: string): string;
/** Whisper's code for a BCP 47 tag (en-US: en); null if there is none. */
export function languageOf(tag: string): string | null;
/** The BCP 47 tag for Whisper's code, for `lang` and `Intl`. */
export function languageTag(code: string): string;

export type { ServerMessage };
