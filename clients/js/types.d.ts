// Generated from mediaserver/protocol/messages.py; do not edit. To renew it:
//   python -m mediaserver.protocol.export typescript clients/js/types.d.ts

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
  /** Rising within the room. */
  readonly seq: number;
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
}

/** Say something to the room. */
export interface ChatSend {
  readonly type: "chat.send";
  readonly text: string;
  /** The client's own id, returned in `chat` so that it can tell its own message. */
  readonly id?: string | null;
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

/** The answer to `ping`. */
export interface Pong {
  readonly type: "pong";
  readonly id: string;
  /** Unix seconds. */
  readonly server_time: number;
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
  readonly retry_after_s: number | null;
  /** The request or session id, to find it in the logs. */
  readonly instance: string | null;
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
  readonly track_id: string;
  /** `ended`, `left`, `lost` (connection), `failed` (an `error` came before). */
  readonly reason: string;
}

/** A member of the room began to publish. */
export interface TrackStarted {
  readonly type: "track.started";
  readonly track_id: string;
  readonly member_id: string;
  readonly speaker: string;
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
  | Leave;

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
  | ErrorMessage;
