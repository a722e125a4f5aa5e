// Generated from mediaserver/protocol/messages.py; do not edit. To renew it:
//   python -m mediaserver.protocol.export typescript clients/js/types.d.ts

/** A command was done. */
export interface Ack {
  readonly type: "ack";
  readonly id: string;
  /** Of the event that it caused, if any. */
  readonly seq: number | null;
}

/** The answer to `offer`; it holds all candidates (the server does not trickle out). */
export interface Answer {
  readonly type: "answer";
  readonly sdp: string;
}

/** Begin to publish audio as binary messages; answered by `audio.started`. */
export interface AudioStart {
  readonly type: "audio.start";
  readonly encoding?: "linear16" | "mulaw" | "opus" | "container";
  /** Of `linear16` and `mulaw`; ignored for the others. */
  readonly sample_rate_hz?: number;
  /** Mixed down to one. */
  readonly channels?: number;
  readonly options?: CaptionOptions;
}

/** Binary messages are taken as audio of this track from now on. */
export interface AudioStarted {
  readonly type: "audio.started";
  readonly track_id: string;
}

/** End the audio; remaining finals come, then `track.ended`. */
export interface AudioStop {
  readonly type: "audio.stop";
}

/** A newer token for this connection, before the old one expires (close code 4401). */
export interface Authenticate {
  readonly id?: string | null;
  readonly type: "auth";
  readonly token: string;
}

/** What a member sends for the others to see and hear. */
export interface BroadcastInfo {
  readonly audio: boolean;
  readonly video: boolean;
}

/** A trickled ICE candidate (RFC 8838); `candidate` "" or null is end-of-candidates. */
export interface Candidate {
  readonly type: "candidate";
  readonly candidate?: string | null;
  readonly sdp_mid?: string | null;
  readonly sdp_mline_index?: number | null;
}

/** The whole utterance as known now. Replaces an earlier caption of the same `caption_id`. */
export interface Caption {
  readonly type: "caption";
  /**
   * Rising within the room; null while the caption is of the moment, and where it is told at once
   * by the instance that the speaker is connected to.
   */
  readonly seq: number | null;
  readonly track_id: string;
  /** One an utterance. */
  readonly caption_id: string;
  /** The publisher's name. */
  readonly speaker: string;
  readonly member_id: string;
  readonly start_s: number;
  readonly end_s: number;
  readonly language: string;
  readonly task: "transcribe" | "translate";
  readonly text: string;
  readonly words: readonly WordMessage[];
  /** The utterance is complete: all its words are final, and no more come. */
  readonly final: boolean;
  /** When the utterance began, Unix seconds of the server's clock. */
  readonly started_at: number | null;
}

/** How a track is captioned. Every field has a default that suits live speech. */
export interface CaptionOptions {
  /** ISO 639-1 code of what is spoken; null detects it and latches a track to it. */
  readonly language?: string | null;
  readonly task?: "transcribe" | "translate";
  /** Whether partial captions are wanted. */
  readonly interim?: boolean;
  /** Silence that ends an utterance (`speech_final`). */
  readonly endpointing_ms?: number;
}

/** Somebody said something. Show `name` and `text` as text, never as markup. */
export interface Chat {
  readonly type: "chat";
  readonly seq: number;
  readonly id: string;
  readonly client_id: string | null;
  readonly member_id: string;
  readonly name: string;
  readonly text: string;
  /** Unix seconds. */
  readonly sent_at: number;
  /** Id of the message that this answers. */
  readonly reply_to: string | null;
  /** Member ids. */
  readonly mentions: readonly string[];
  /** Unix seconds of the last change. */
  readonly edited_at: number | null;
  /** Emoji to member ids. */
  readonly reactions: Readonly<Record<string, readonly string[]>>;
}

/** Delete a message: one's own, or anybody's with `can_moderate`. */
export interface ChatDelete {
  readonly id?: string | null;
  readonly type: "chat.delete";
  readonly message_id: string;
}

/** A message was deleted. */
export interface ChatDeleted {
  readonly type: "chat.deleted";
  readonly seq: number;
  readonly message_id: string;
  /** Member id. */
  readonly by: string;
}

/** Change a message of one's own, within ten minutes. */
export interface ChatEdit {
  readonly id?: string | null;
  readonly type: "chat.edit";
  readonly message_id: string;
  readonly text: string;
}

/** A message was changed. */
export interface ChatEdited {
  readonly type: "chat.edited";
  readonly seq: number;
  readonly message_id: string;
  readonly text: string;
  readonly edited_at: number;
}

/** Put an emoji to a message, or take it back. */
export interface ChatReact {
  readonly id?: string | null;
  readonly type: "chat.react";
  readonly message_id: string;
  readonly emoji: string;
  readonly on?: boolean;
}

/** A message's reactions, all of them. */
export interface ChatReacted {
  readonly type: "chat.reacted";
  readonly seq: number;
  readonly message_id: string;
  /** Emoji to member ids. */
  readonly reactions: Readonly<Record<string, readonly string[]>>;
}

/** Say something to the room. Answered by `ack` once it is kept, if it has an `id`. */
export interface ChatSend {
  readonly type: "chat.send";
  readonly text: string;
  /**
   * The client's own id, returned in `chat`. Sent again within ten minutes, it is not doubled.
   */
  readonly id?: string | null;
  /** Message id. */
  readonly reply_to?: string | null;
  /** Member ids. */
  readonly mentions?: readonly string[];
}

/** A clock exchange; answered at once by `clock.pong`. */
export interface ClockPing {
  readonly type: "clock.ping";
  /** The client's own clock, seconds, any origin. */
  readonly t0: number;
}

/** The answer to `clock.ping`: all in seconds. */
export interface ClockPong {
  readonly type: "clock.pong";
  readonly t0: number;
  /** Shared clock when the ping came. */
  readonly t1: number;
  /** Shared clock when this left. */
  readonly t2: number;
}

/** Change how this member's tracks are captioned, from the next utterance on. */
export interface Configure {
  readonly type: "configure";
  readonly options: CaptionOptions;
}

/** An error on a WebSocket or data channel. The connection goes on unless it is closed next. */
export interface ErrorMessage {
  readonly type: "error";
  readonly problem: Problem;
  /** The `type` (or `id`, if it had one) of the client's message that caused it. */
  readonly in_reply_to: string | null;
}

/** Turn all audio received so far into finals now; answered by `finalized`. */
export interface Finalize {
  readonly type: "finalize";
}

/** All audio received before `finalize` is final now. */
export interface Finalized {
  readonly type: "finalized";
  readonly track_id: string | null;
}

/** What you may do from now on. */
export interface Granted {
  readonly type: "grants";
  readonly role: "host" | "cohost" | "member" | "listener";
  readonly grants: Grants;
}

/** What a member may do in its room. Denied unless said otherwise. */
export interface Grants {
  readonly room_join: boolean;
  /** Change, close and invite; moderate; hand roles out. */
  readonly room_admin: boolean;
  /** Send audio and video. */
  readonly can_publish: boolean;
  /** Receive captions, chat and events. */
  readonly can_subscribe: boolean;
  readonly can_publish_data: boolean;
  /** Playback and the queue. */
  readonly can_control: boolean;
  readonly can_chat: boolean;
  readonly can_react: boolean;
  /** Kick, ban, mute, delete others' chat. */
  readonly can_moderate: boolean;
  /** Not in the list of members. */
  readonly hidden: boolean;
}

/** One entry of RTCConfiguration.iceServers. */
export interface IceServer {
  readonly urls: readonly string[];
  readonly username: string | null;
  readonly credential: string | null;
}

/** End the session in good order: finals are delivered, then the server closes with 1000. */
export interface Leave {
  readonly type: "leave";
}

/** Send a member away and keep its account, key or guest token out. Needs `can_moderate`. */
export interface MemberBan {
  readonly id?: string | null;
  readonly type: "member.ban";
  readonly member_id: string;
  readonly reason?: string;
  /** Null: for as long as the room is there. */
  readonly duration_s?: number | null;
}

/** Somebody in the room. */
export interface MemberInfo {
  readonly member_id: string;
  readonly name: string;
  readonly role: "host" | "cohost" | "member" | "listener";
  readonly kind: "user" | "key" | "guest" | "local" | "whip";
  /** Unix seconds. */
  readonly joined_at: number;
  readonly chat_muted: boolean;
  readonly publish_muted: boolean;
  readonly caption_language: string;
  /** What can be watched (`watch.offer`); null while nothing is sent. */
  readonly broadcast: BroadcastInfo | null;
}

/** Somebody came. */
export interface MemberJoined {
  readonly type: "member.joined";
  readonly seq: number;
  readonly member: MemberInfo;
}

/** Send a member away; it may come back. Needs `can_moderate`. */
export interface MemberKick {
  readonly id?: string | null;
  readonly type: "member.kick";
  readonly member_id: string;
  readonly reason?: string;
}

/** Somebody went. */
export interface MemberLeft {
  readonly type: "member.left";
  readonly seq: number;
  readonly member_id: string;
  readonly reason: "left" | "lost" | "kicked" | "banned" | "expired";
}

/** Take a member's chat, its audio and video, or both, or give them back. `can_moderate`. */
export interface MemberMute {
  readonly id?: string | null;
  readonly type: "member.mute";
  readonly member_id: string;
  readonly chat?: boolean | null;
  readonly publish?: boolean | null;
}

/** Give a member another role. `host` hands the room over. Needs `room_admin`. */
export interface MemberRole {
  readonly id?: string | null;
  readonly type: "member.role";
  readonly member_id: string;
  readonly role: "host" | "cohost" | "member" | "listener";
}

/** Change what others see of oneself, and one's own choices; what is null stays. */
export interface MemberUpdate {
  readonly id?: string | null;
  readonly type: "member.update";
  readonly name?: string | null;
  /** Captions are wanted in this language where they can be had; "" is as spoken. */
  readonly caption_language?: "af" | "am" | "ar" | "as" | "az" | "ba" | "be" | "bg" | "bn" | "bo" | "br" | "bs" | "ca" | "cs" | "cy" | "da" | "de" | "el" | "en" | "es" | "et" | "eu" | "fa" | "fi" | "fo" | "fr" | "gl" | "gu" | "ha" | "haw" | "he" | "hi" | "hr" | "ht" | "hu" | "hy" | "id" | "is" | "it" | "ja" | "jw" | "ka" | "kk" | "km" | "kn" | "ko" | "la" | "lb" | "ln" | "lo" | "lt" | "lv" | "mg" | "mi" | "mk" | "ml" | "mn" | "mr" | "ms" | "mt" | "my" | "ne" | "nl" | "nn" | "no" | "oc" | "pa" | "pl" | "ps" | "pt" | "ro" | "ru" | "sa" | "sd" | "si" | "sk" | "sl" | "sn" | "so" | "sq" | "sr" | "su" | "sv" | "sw" | "ta" | "te" | "tg" | "th" | "tk" | "tl" | "tr" | "tt" | "uk" | "ur" | "uz" | "vi" | "yi" | "yo" | "zh" | "" | null;
}

/** Somebody's name, role, mutes, caption language or broadcast changed. */
export interface MemberUpdated {
  readonly type: "member.updated";
  readonly seq: number;
  readonly member: MemberInfo;
}

/** Once a second on the `metrics` channel (and on /ws for members without one). */
export interface Metrics {
  readonly type: "metrics";
  /** Unix seconds. */
  readonly at: number;
  readonly audio_kbps: number;
  readonly video_kbps: number;
  readonly jitter_ms: number;
  /** Since the start. */
  readonly packets_lost: number;
  /** Over the last second, 0 to 1. */
  readonly loss_ratio: number;
  readonly round_trip_ms: number | null;
  /**
   * From the end of the newest final word in the audio to its sending; null before the first.
   */
  readonly caption_delay_ms: number | null;
  /** Audio received that is not transcribed yet. */
  readonly queue_depth_s: number;
  /** Messages and chunks dropped for this member since the start. */
  readonly dropped: number;
}

/** A WebRTC offer (the first, or a renegotiation). Answered by `answer`. */
export interface Offer {
  readonly type: "offer";
  readonly sdp: string;
  readonly options?: CaptionOptions;
}

/** Liveness and round-trip time; answered by `pong` with the same `id`. */
export interface Ping {
  readonly type: "ping";
  readonly id?: string;
}

/** The state that a command was decided on; a newer one refuses the command (`stale`). */
export interface PlaybackBase {
  readonly epoch: number;
  readonly seq: number;
}

/** Control playback. Needs `can_control`. */
export interface PlaybackCommand {
  readonly id?: string | null;
  readonly type: "playback.command";
  readonly action: "play" | "pause" | "seek" | "rate" | "next" | "item";
  /** Null: whatever the state is. */
  readonly base?: PlaybackBase | null;
  /** For `seek`, and where `play` and `pause` happened at the sender; else computed. */
  readonly position_s?: number | null;
  readonly rate?: number | null;
  readonly item_id?: string | null;
  /** Of `next`: the item came to its end (ignored if it did so already). */
  readonly ended?: boolean;
}

/** Playback changed, or is told to who joined. */
export interface PlaybackMessage {
  readonly type: "playback";
  readonly seq: number;
  readonly state: PlaybackState;
  /** Member id; null where the server did it (barrier, end of an item). */
  readonly by: string | null;
}

/** This member's player has the item and can start at the state's position. */
export interface PlaybackReady {
  readonly type: "playback.ready";
  readonly epoch: number;
  readonly ready?: boolean;
}

/** How well this member follows; at most once a second. */
export interface PlaybackReport {
  readonly type: "playback.report";
  /** Player less shared position. */
  readonly drift_ms: number;
  readonly round_trip_ms: number;
  readonly buffering?: boolean;
}

/** What is played. At shared time t, while playing: position_s + (t - anchor_s) x rate. */
export interface PlaybackState {
  /** Rises with every change of the item or start over: what is ready is ready for an epoch. */
  readonly epoch: number;
  /** Rises with every change. */
  readonly seq: number;
  readonly item_id: string | null;
  readonly playing: boolean;
  readonly position_s: number;
  readonly rate: number;
  /** Shared clock (`clock.pong`), Unix seconds. May lie a little ahead: all start together. */
  readonly anchor_s: number;
  /** Members that the start waits for. */
  readonly waiting_for: readonly string[];
  /** Shared clock: then it starts without them. */
  readonly wait_until_s: number | null;
}

/** The answer to `ping`. */
export interface Pong {
  readonly type: "pong";
  readonly id: string;
  /** Unix seconds. */
  readonly server_time: number;
  /** Of the last event of the room that you were told, whichever way. */
  readonly seq: number | null;
}

/** An error as RFC 9457 section 3 has it, with our `code` and `retryable`. */
export interface Problem {
  /** ``urn:mediaserver:problem:`` and the code. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** What happened and what to do. */
  readonly detail: string;
  /** Stable, for programs. */
  readonly code: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  readonly retry_after_s?: number | null;
  /** The request or session id, to find it in the logs. */
  readonly instance?: string | null;
}

/** Put an item into the queue. Needs `can_control`. */
export interface QueueAdd {
  readonly id?: string | null;
  readonly type: "queue.add";
  readonly item: QueueItemNew;
  /** Place; null is the end. */
  readonly at?: number | null;
}

/** An item of the queue. */
export interface QueueItem {
  readonly item_id: string;
  readonly kind: "vod" | "hls" | "mp4" | "live";
  readonly url: string | null;
  readonly video_id: string | null;
  readonly member_id: string | null;
  readonly title: string;
  readonly duration_s: number | null;
  /** Member id. */
  readonly added_by: string;
}

/** Something to watch together. */
export interface QueueItemNew {
  readonly kind: "vod" | "hls" | "mp4" | "live";
  /** Of `hls` and `mp4`. */
  readonly url?: string | null;
  /** Of `vod`: a video of this server. */
  readonly video_id?: string | null;
  /** Of `live`: whose broadcast; null is whoever broadcasts. */
  readonly member_id?: string | null;
  readonly title?: string;
  readonly duration_s?: number | null;
}

/** The queue as it is now. */
export interface QueueMessage {
  readonly type: "queue";
  readonly seq: number;
  readonly items: readonly QueueItem[];
  readonly by: string | null;
}

/** Move an item to another place. */
export interface QueueMove {
  readonly id?: string | null;
  readonly type: "queue.move";
  readonly item_id: string;
  readonly to: number;
}

/** Take an item out of the queue. */
export interface QueueRemove {
  readonly id?: string | null;
  readonly type: "queue.remove";
  readonly item_id: string;
}

/** Let an emoji float over the player. */
export interface React {
  readonly type: "react";
  readonly emoji: string;
}

/** An emoji floats over the player. */
export interface Reaction {
  readonly type: "reaction";
  readonly member_id: string;
  readonly emoji: string;
}

/** PATCH /api/v1/rooms/{room}; what is null stays. */
export interface RoomChange {
  readonly title?: string | null;
  readonly visibility?: "public" | "private" | null;
  readonly persistent?: boolean | null;
  readonly slow_mode_s?: number | null;
  readonly everyone_controls?: boolean | null;
}

/** Close the room for all. Needs `room_admin`. */
export interface RoomCloseCommand {
  readonly id?: string | null;
  readonly type: "room.close";
}

/** The room is closed; the server closes the connection with 4410. */
export interface RoomClosed {
  readonly type: "room.closed";
  readonly seq: number;
  readonly reason: string;
}

/** A room as the list shows it. */
export interface RoomInfo {
  readonly room: string;
  readonly settings: RoomSettings;
  /** Unix seconds. */
  readonly created_at: number;
  /** Of those who are not hidden. */
  readonly members: number;
  /** Title of the current item. */
  readonly playing: string | null;
}

/**
 * Something is missing: tell all that happened after `seq` again, over the WebSocket.
 *
 * Answered by `room.resumed`, or `room.snapshot` where that is too long ago.
 */
export interface RoomResume {
  readonly type: "room.resume";
  readonly log_id: string;
  /** The last event up to which nothing is missing. */
  readonly seq: number;
}

/** What was missed follows over the WebSocket: `count` events. */
export interface RoomResumed {
  readonly type: "room.resumed";
  /** The last event that the client said it saw. */
  readonly seq: number;
  readonly count: number;
}

/** What a room's host sets. */
export interface RoomSettings {
  readonly title: string;
  /** `private`: joined by invitation or room token only, and not listed. */
  readonly visibility: "public" | "private";
  /** Stays when empty; others are gone ten minutes after the last member left. */
  readonly persistent: boolean;
  /** Seconds between a member's chat messages; 0 is off. Hosts and co-hosts are exempt. */
  readonly slow_mode_s: number;
  /** Whether members control playback and the queue, or hosts and co-hosts alone. */
  readonly everyone_controls: boolean;
}

/** How things stand in the room at `seq`; chat and captions so far follow as messages. */
export interface RoomSnapshot {
  readonly type: "room.snapshot";
  readonly seq: number;
  /** The log that `seq` counts in; a new one where the old one was lost. */
  readonly log_id: string;
  readonly room: RoomInfo;
  readonly members: readonly MemberInfo[];
  readonly queue: readonly QueueItem[];
  readonly playback: PlaybackState;
}

/** Whether the room is connected to the other instances. */
export interface RoomStatus {
  readonly type: "room.status";
  /**
   * `away`: Redis is not there. Captions go on among the members of this instance; chat,
   * playback and joining wait.
   */
  readonly state: "live" | "away";
  readonly detail: string;
}

/** Event `seq` is what you were told before without its number. */
export interface RoomTold {
  readonly type: "room.told";
  readonly seq: number;
}

/** Change the room's settings. Needs `room_admin`. */
export interface RoomUpdate {
  readonly id?: string | null;
  readonly type: "room.update";
  readonly change: RoomChange;
}

/** The room's settings changed. */
export interface RoomUpdated {
  readonly type: "room.updated";
  readonly seq: number;
  readonly settings: RoomSettings;
}

/** How requests after the first one are let in, once the URL itself has expired. */
export interface SegmentAuth {
  /** The first answer sets a cookie for this video's addresses alone. */
  readonly mode: "cookie";
  readonly name: string;
  readonly path: string;
  /** Seconds from its being set. */
  readonly expires_in: number;
}

/** Where a video's media are, for a while. */
export interface SignedPlayback {
  readonly provider: "local";
  readonly video_id: string;
  readonly title: string;
  readonly duration_s: number;
  readonly content_type: string;
  /**
   * Signed. By HTTP it is absolute; in a room it is relative to the server that one talks to.
   */
  readonly url: string;
  /** The path that was signed. */
  readonly manifest_path: string;
  /** Which key. */
  readonly kid: string;
  /** Unix seconds. */
  readonly expires_at: number;
  readonly expires_in: number;
  /** Seconds; from then on a URL that is to be given to somebody is better asked for anew. */
  readonly refresh_after: number;
  readonly segment_auth: SegmentAuth;
  readonly captions: readonly string[];
  readonly storyboard: string | null;
  readonly drm: string | null;
  /** The last four are there for packaged videos; this server's are single files so far. */
  readonly alternates: readonly string[];
}

/** Somebody is writing, or stopped. */
export interface SomebodyTyping {
  readonly type: "member.typing";
  readonly member_id: string;
  readonly typing: boolean;
}

/** Somebody began to speak on a track. */
export interface SpeechStarted {
  readonly type: "speech.started";
  readonly track_id: string;
  readonly at_s: number;
}

/** A change in how well captions work that the user should know of. */
export interface Status {
  readonly type: "status";
  /** `paused`: no speech worker; the audio is kept and captioned when one is back. */
  readonly captions: "live" | "catching_up" | "paused";
  readonly detail: string;
}

/** A track ended; all its finals have been sent. */
export interface TrackEnded {
  readonly type: "track.ended";
  /** As of captions. */
  readonly seq: number | null;
  readonly track_id: string;
  /** `ended`, `left`, `lost` (connection), `failed` (an `error` came before). */
  readonly reason: string;
}

/** A member of the room began to publish. */
export interface TrackStarted {
  readonly type: "track.started";
  /** As of captions. */
  readonly seq: number | null;
  readonly track_id: string;
  readonly member_id: string;
  readonly speaker: string;
}

/** Whether one is writing; forgotten after 6 s. */
export interface Typing {
  readonly type: "typing";
  readonly typing?: boolean;
}

/** One video. */
export interface VideoInfo {
  readonly video_id: string;
  readonly title: string;
  readonly state: "uploading" | "processing" | "ready" | "failed";
  /** Unix seconds. */
  readonly created_at: number;
  /** The name of whoever uploaded it. */
  readonly owner: string;
  /** Of the uploaded file, as its uploader said. */
  readonly size_bytes: number;
  readonly received_bytes: number;
  /** 0 to 1: of what the state says is going on; 1 once it is ready. */
  readonly progress: number;
  readonly duration_s: number | null;
  readonly width: number | null;
  /** Pixels as they are shown; null where there are no pictures. */
  readonly height: number | null;
  /** Of what is played: ``video/mp4``, ``video/webm``, ``audio/mp4``, ``audio/webm``. */
  readonly content_type: string | null;
  /** Why it failed, for people. */
  readonly problem: string | null;
}

/** GET /api/videos: the newest first. */
export interface VideoList {
  readonly videos: readonly VideoInfo[];
  /** What to ask with as `after` for those that follow; null where there are no more. */
  readonly next: string | null;
}

/**
 * Where the media of an item of kind `vod` are, for this member. Needs `can_subscribe`.
 *
 * Answered by `video.source`, or by `error`.
 */
export interface VideoOpen {
  readonly id?: string | null;
  readonly type: "video.open";
  readonly item_id: string;
}

/** The answer to `video.open`. */
export interface VideoSource {
  readonly type: "video.source";
  readonly id: string | null;
  readonly item_id: string;
  readonly source: SignedPlayback;
}

/** The answer to `watch.offer`; it holds all candidates (the server does not trickle out). */
export interface WatchAnswer {
  readonly type: "watch.answer";
  readonly sdp: string;
  /** Whose broadcast it is. */
  readonly member_id: string;
  /** The offer's `id`. */
  readonly in_reply_to: string | null;
}

/** A trickled ICE candidate of the newest `watch.offer`; "" or null is end-of-candidates. */
export interface WatchCandidate {
  readonly type: "watch.candidate";
  readonly candidate?: string | null;
  readonly sdp_mid?: string | null;
  readonly sdp_mline_index?: number | null;
}

/** What was watched is over, and so is the connection that carried it. */
export interface WatchEnded {
  readonly type: "watch.ended";
  readonly member_id: string;
  /**
   * `ended`: the member broadcasts no more (or may not). `left`: it left the room. `lost`: it or
   * its instance fell silent. `replaced`: it broadcasts anew, over another connection. `failed`: the
   * viewer's own connection broke, or could not be made.
   */
  readonly reason: "ended" | "left" | "lost" | "replaced" | "failed";
  /** For people. */
  readonly detail: string;
  /** Offer again after so long; null: not before the member broadcasts (again). */
  readonly retry_after_s: number | null;
}

/**
 * Watch a member's broadcast. Answered by `watch.answer` or `error`. Needs `can_subscribe`.
 *
 * A new offer takes the place of the watch before, of which nothing more is told.
 */
export interface WatchOffer {
  readonly type: "watch.offer";
  /** What the answer refers to. */
  readonly id?: string | null;
  /** An RTCPeerConnection's own offer: at most one audio and one video section, `recvonly`. */
  readonly sdp: string;
  /** Null is whoever broadcasts, but not oneself. */
  readonly member_id?: string | null;
}

/** Watch no more. Nothing is told of it; without a watch it does nothing. */
export interface WatchStop {
  readonly type: "watch.stop";
}

/** The first message on ``/ws``. */
export interface Welcome {
  readonly type: "welcome";
  readonly protocol: number;
  /** Also names the transcript: ``/api/v1/sessions/{session_id}/transcript.vtt``. */
  readonly session_id: string;
  readonly room: string;
  readonly member_id: string;
  readonly name: string;
  readonly role: "host" | "cohost" | "member" | "listener";
  readonly grants: Grants;
  /** Names the room's log, in which `seq` counts. */
  readonly log_id: string;
  /** What follows happened after this event. */
  readonly seq: number;
  /** Proves that a connection with `resume` is this member's; for nobody else. */
  readonly resume_secret: string;
  /** When the credentials expire, Unix seconds: send `auth` before, or be closed with 4401. */
  readonly expires_at: number | null;
  readonly ice_servers: readonly IceServer[];
  /** Send `ping` this often; a member silent for 5 s is taken for gone. */
  readonly ping_interval_s: number;
}

/** One word of a caption. */
export interface WordMessage {
  /** As written, with punctuation, without surrounding spaces. */
  readonly text: string;
  readonly start_s: number;
  readonly end_s: number;
  /** 0 to 1. */
  readonly probability: number;
  /** A final word never changes; words become final from left to right. */
  readonly final: boolean;
}

export type ClientMessage =
  | Offer
  | Candidate
  | AudioStart
  | AudioStop
  | Configure
  | Finalize
  | ChatSend
  | Ping
  | Leave
  | WatchOffer
  | WatchCandidate
  | WatchStop
  | VideoOpen
  | ChatEdit
  | ChatDelete
  | ChatReact
  | Typing
  | React
  | ClockPing
  | PlaybackCommand
  | PlaybackReady
  | PlaybackReport
  | QueueAdd
  | QueueRemove
  | QueueMove
  | MemberUpdate
  | MemberRole
  | MemberMute
  | MemberKick
  | MemberBan
  | RoomUpdate
  | RoomCloseCommand
  | RoomResume
  | Authenticate;

export type ServerMessage =
  | Welcome
  | Answer
  | AudioStarted
  | TrackStarted
  | TrackEnded
  | Caption
  | SpeechStarted
  | Finalized
  | Chat
  | Metrics
  | Pong
  | Status
  | WatchAnswer
  | WatchEnded
  | VideoSource
  | RoomSnapshot
  | RoomResumed
  | RoomTold
  | RoomUpdated
  | RoomClosed
  | RoomStatus
  | MemberJoined
  | MemberUpdated
  | MemberLeft
  | Granted
  | ChatEdited
  | ChatDeleted
  | ChatReacted
  | SomebodyTyping
  | Reaction
  | PlaybackMessage
  | QueueMessage
  | ClockPong
  | Ack
  | ErrorMessage;
