"""The session protocol's messages as frozen dataclasses; docs/protocol.md explains each.

The server's definitions are pydantic models in another package; a test compares the two, so they
cannot drift. Unknown fields and unknown message types from a newer server are ignored. Those of
rooms are in `room_types`, `room_commands` and `room_events`.
"""

import dataclasses
import json
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal, TypedDict

from mediaserver_client.errors import ProtocolError
from mediaserver_client.room_commands import RoomClientMessage
from mediaserver_client.room_events import RoomServerMessage
from mediaserver_client.room_types import MAX_CHAT_CHARACTERS as MAX_CHAT_CHARACTERS
from mediaserver_client.room_types import Chat as Chat
from mediaserver_client.room_types import Grants, RoomRole
from mediaserver_client.video_types import VideoOpen, VideoSource
from mediaserver_client.watching import WatchClientMessage, WatchServerMessage
from mediaserver_client.wire import from_json as from_json

Task = Literal["transcribe", "translate"]
"""`translate` gives English, whatever is spoken."""
Encoding = Literal["linear16", "mulaw", "opus", "container"]
MAX_AUDIO_MESSAGE_BYTES = 1024 * 1024


# ---- what the client sends -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """How a track is captioned."""

    language: str | None = None
    """ISO 639-1 code of what is spoken; None detects it."""
    task: Task = "transcribe"
    interim: bool = True
    """Whether partial captions are wanted."""
    endpointing_ms: int = 500
    """Silence that ends an utterance, 10 to 5000."""


class OptionChanges(TypedDict, total=False):
    """Those of `CaptionOptions` that shall change."""

    language: str | None
    task: Task
    interim: bool
    endpointing_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A WebRTC offer. This client does not send it; it is here for those who add WebRTC."""

    TYPE: ClassVar = "offer"
    sdp: str
    options: CaptionOptions = CaptionOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trickled ICE candidate; None is end-of-candidates."""

    TYPE: ClassVar = "candidate"
    candidate: str | None = None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioStart:
    """Begin to publish audio as binary messages; answered by `AudioStarted`."""

    TYPE: ClassVar = "audio.start"
    encoding: Encoding = "linear16"
    sample_rate_hz: int = 16000
    channels: int = 1
    options: CaptionOptions = CaptionOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioStop:
    """End the audio; remaining finals come, then `TrackEnded`."""

    TYPE: ClassVar = "audio.stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Change how this member's tracks are captioned, from the next utterance on."""

    TYPE: ClassVar = "configure"
    options: CaptionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize:
    """Turn all audio received so far into finals now; answered by `Finalized`."""

    TYPE: ClassVar = "finalize"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSend:
    """Say something to the room."""

    TYPE: ClassVar = "chat.send"
    text: str
    id: str | None = None
    reply_to: str | None = None
    """Message id."""
    mentions: tuple[str, ...] = ()
    """Member ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Liveness; answered by `Pong` with the same `id`."""

    TYPE: ClassVar = "ping"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """End the session in good order."""

    TYPE: ClassVar = "leave"


ClientMessage = (
    Offer
    | Candidate
    | AudioStart
    | AudioStop
    | Configure
    | Finalize
    | ChatSend
    | Ping
    | Leave
    | WatchClientMessage
    | VideoOpen
    | RoomClientMessage
)


def encode(message: ClientMessage) -> str:
    """Return `message` as the JSON text that goes over the wire."""
    return json.dumps({"type": message.TYPE, **dataclasses.asdict(message)}, ensure_ascii=False)


# ---- what the server sends -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of a caption. A final word never changes; words become final left to right."""

    text: str
    start_s: float
    end_s: float
    probability: float
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The whole utterance as known now. Replaces an earlier caption of the same `caption_id`."""

    TYPE: ClassVar = "caption"
    seq: int | None
    """Of the room's log; None while it may still change, and where it is told at once."""
    track_id: str
    caption_id: str
    speaker: str
    member_id: str
    start_s: float
    """Seconds from the first sample that was published (also after a reconnect)."""
    end_s: float
    language: str
    task: Task
    text: str
    words: tuple[Word, ...]
    final: bool
    """The utterance is complete and changes no more."""
    started_at: float | None = None
    """When the utterance began, Unix seconds of the server's clock."""

    @property
    def final_text(self) -> str:
        """The words that will not change."""
        return " ".join(word.text for word in self.words if word.final)

    @property
    def tentative_text(self) -> str:
        """The words that may still change."""
        return " ".join(word.text for word in self.words if not word.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """Somebody began to speak on a track."""

    TYPE: ClassVar = "speech.started"
    track_id: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """One entry of RTCConfiguration.iceServers."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The first message of a connection."""

    TYPE: ClassVar = "welcome"
    protocol: int = 1
    session_id: str
    room: str
    member_id: str
    name: str
    role: RoomRole
    grants: Grants
    log_id: str
    """Names the room's log, in which `seq` counts."""
    seq: int
    """What follows happened after this event."""
    resume_secret: str
    """Proves that a connection with `resume` is this member's."""
    expires_at: float | None = None
    """When the credentials expire, Unix seconds."""
    ice_servers: tuple[IceServer, ...] = ()
    ping_interval_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to `Offer`."""

    TYPE: ClassVar = "answer"
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioStarted:
    """Binary messages are taken as audio of this track from now on."""

    TYPE: ClassVar = "audio.started"
    track_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackStarted:
    """A member of the room began to publish."""

    TYPE: ClassVar = "track.started"
    seq: int | None = None
    track_id: str
    member_id: str
    speaker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackEnded:
    """A track ended; all its finals have been sent."""

    TYPE: ClassVar = "track.ended"
    seq: int | None = None
    track_id: str
    reason: str = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """All audio received before `Finalize` is final now."""

    TYPE: ClassVar = "finalized"
    track_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How the connection and its captions do, once a second."""

    TYPE: ClassVar = "metrics"
    at: float
    audio_kbps: float
    video_kbps: float
    jitter_ms: float
    packets_lost: int
    loss_ratio: float
    round_trip_ms: float | None
    caption_delay_ms: float | None
    queue_depth_s: float
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to `Ping`."""

    TYPE: ClassVar = "pong"
    id: str
    server_time: float
    seq: int | None = None
    """Of the last event of the room that one was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A change in how well captions work. `paused`: the audio is kept and captioned later."""

    TYPE: ClassVar = "status"
    captions: Literal["live", "catching_up", "paused"]
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    retry_after_s: float | None = None
    instance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMessage:
    """Something that was sent could not be done; the connection goes on unless closed next."""

    TYPE: ClassVar = "error"
    problem: Problem
    in_reply_to: str | None = None


ServerMessage = (
    Welcome
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
    | WatchServerMessage
    | VideoSource
    | RoomServerMessage
    | ErrorMessage
)

_KINDS = {kind.TYPE: kind for kind in typing.get_args(ServerMessage)}


def decode(text: str) -> ServerMessage | None:
    """Turn a text message into its type; None for a type that this client does not know.

    Raises ProtocolError for what is no message at all.
    """
    try:
        data = json.loads(text)
    except ValueError:
        raise ProtocolError("the server sent text that is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ProtocolError("the server sent JSON that is not a message (no `type`)")
    kind = _KINDS.get(data["type"])
    return None if kind is None else typing.cast(ServerMessage, from_json(kind, data))
