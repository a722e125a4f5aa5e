"""The session protocol: JSON on ``WS /ws`` and on the data channels `captions`, `chat`, `metrics`.

A client connects to ``/ws?room=NAME`` and is greeted with `welcome`. From then on it receives the
room's captions and chat. To publish it either sends `offer` (WebRTC; captions then also come over
the data channel) or `audio.start` followed by binary messages (see `AudioStart`). All times are
seconds of media time (from the first sample of that track) unless a name says otherwise.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from mediaserver.kernel.errors import BadInput, TooLarge
from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.chat import Chat as Chat
from mediaserver.protocol.chat import ChatSend as ChatSend
from mediaserver.protocol.languages import LANGUAGES
from mediaserver.protocol.problems import ErrorMessage
from mediaserver.protocol.room_commands import RoomClientMessage
from mediaserver.protocol.room_events import RoomServerMessage
from mediaserver.protocol.rooms import MAX_CHAT_CHARACTERS as MAX_CHAT_CHARACTERS
from mediaserver.protocol.rooms import MAX_NAME_CHARACTERS as MAX_NAME_CHARACTERS
from mediaserver.protocol.rooms import Grants, RoomRole
from mediaserver.protocol.rooms import RoomName as RoomName
from mediaserver.protocol.videos import VideoOpen, VideoSource
from mediaserver.protocol.watching import WatchClientMessage, WatchServerMessage

MAX_CLIENT_MESSAGE_BYTES = 64 * 1024
"""A text message over this closes the connection with 1009; offers and audio have their own."""
MAX_OFFER_MESSAGE_BYTES = 256 * 1024
MAX_AUDIO_MESSAGE_BYTES = 1024 * 1024


def _known_language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"{code} is not a language that can be captioned")
    return code


Task = Literal["transcribe", "translate"]
"""`translate` gives English, whatever is spoken."""
Encoding = Literal["linear16", "mulaw", "opus", "container"]
"""`opus` is one raw Opus packet a message; `container` is any file format PyAV reads (Ogg, WebM,
WAV, MP3, FLAC, …), cut anywhere."""
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$"), AfterValidator(_known_language)]
"""ISO 639-1 (a few: 639-3) code of a language that Whisper knows."""


# ---- what clients send ---------------------------------------------------------------------


class CaptionOptions(Inbound):
    """How a track is captioned. Every field has a default that suits live speech."""

    language: Language | None = None
    """ISO 639-1 code of what is spoken; null detects it and latches a track to it."""
    task: Task = "transcribe"
    interim: bool = True
    """Whether partial captions are wanted."""
    endpointing_ms: Annotated[int, Field(ge=10, le=5000)] = 500
    """Silence that ends an utterance (`speech_final`)."""


class Offer(Inbound):
    """A WebRTC offer (the first, or a renegotiation). Answered by `answer`."""

    type: Literal["offer"]
    sdp: Annotated[str, Field(max_length=200_000)]
    options: CaptionOptions = CaptionOptions()


class Candidate(Inbound):
    """A trickled ICE candidate (RFC 8838); `candidate` "" or null is end-of-candidates."""

    type: Literal["candidate"]
    candidate: Annotated[str, Field(max_length=1000)] | None = None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class AudioStart(Inbound):
    """Begin to publish audio as binary messages; answered by `audio.started`."""

    type: Literal["audio.start"]
    encoding: Encoding = "linear16"
    sample_rate_hz: Annotated[int, Field(ge=8000, le=192_000)] = 16000
    """Of `linear16` and `mulaw`; ignored for the others."""
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    """Mixed down to one."""
    options: CaptionOptions = CaptionOptions()


class AudioStop(Inbound):
    """End the audio; remaining finals come, then `track.ended`."""

    type: Literal["audio.stop"]


class Configure(Inbound):
    """Change how this member's tracks are captioned, from the next utterance on."""

    type: Literal["configure"]
    options: CaptionOptions


class Finalize(Inbound):
    """Turn all audio received so far into finals now; answered by `finalized`."""

    type: Literal["finalize"]


class Ping(Inbound):
    """Liveness and round-trip time; answered by `pong` with the same `id`."""

    type: Literal["ping"]
    id: Annotated[str, Field(max_length=64)] = ""


class Leave(Inbound):
    """End the session in good order: finals are delivered, then the server closes with 1000."""

    type: Literal["leave"]


ClientMessage = Annotated[
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
    | RoomClientMessage,
    Field(discriminator="type"),
]
_client_message: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


# ---- what the server sends -----------------------------------------------------------------


class WordMessage(Wire):
    """One word of a caption."""

    text: str
    """As written, with punctuation, without surrounding spaces."""
    start_s: float
    end_s: float
    probability: float
    """0 to 1."""
    final: bool
    """A final word never changes; words become final from left to right."""


class Caption(Wire):
    """The whole utterance as known now. Replaces an earlier caption of the same `caption_id`."""

    type: Literal["caption"] = "caption"
    seq: int | None
    """Rising within the room; null while the caption is of the moment, and where it is told at once
    by the instance that the speaker is connected to."""
    track_id: str
    caption_id: str
    """One an utterance."""
    speaker: str
    """The publisher's name."""
    member_id: str
    start_s: float
    end_s: float
    language: str
    task: Task
    text: str
    words: tuple[WordMessage, ...]
    final: bool
    """The utterance is complete: all its words are final, and no more come."""
    started_at: float | None = None
    """When the utterance began, Unix seconds of the server's clock."""


class SpeechStarted(Wire):
    """Somebody began to speak on a track."""

    type: Literal["speech.started"] = "speech.started"
    track_id: str
    at_s: float


class IceServer(Wire):
    """One entry of RTCConfiguration.iceServers."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


class Welcome(Wire):
    """The first message on ``/ws``."""

    type: Literal["welcome"] = "welcome"
    protocol: int = 1
    session_id: str
    """Also names the transcript: ``/api/v1/sessions/{session_id}/transcript.vtt``."""
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
    """Proves that a connection with `resume` is this member's; for nobody else."""
    expires_at: float | None = None
    """When the credentials expire, Unix seconds: send `auth` before, or be closed with 4401."""
    ice_servers: tuple[IceServer, ...] = ()
    ping_interval_s: float = 2.0
    """Send `ping` this often; a member silent for 5 s is taken for gone."""


class Answer(Wire):
    """The answer to `offer`; it holds all candidates (the server does not trickle out)."""

    type: Literal["answer"] = "answer"
    sdp: str


class AudioStarted(Wire):
    """Binary messages are taken as audio of this track from now on."""

    type: Literal["audio.started"] = "audio.started"
    track_id: str


class TrackStarted(Wire):
    """A member of the room began to publish."""

    type: Literal["track.started"] = "track.started"
    seq: int | None = None
    """As of captions."""
    track_id: str
    member_id: str
    speaker: str


class TrackEnded(Wire):
    """A track ended; all its finals have been sent."""

    type: Literal["track.ended"] = "track.ended"
    seq: int | None = None
    """As of captions."""
    track_id: str
    reason: str = "ended"
    """`ended`, `left`, `lost` (connection), `failed` (an `error` came before)."""


class Finalized(Wire):
    """All audio received before `finalize` is final now."""

    type: Literal["finalized"] = "finalized"
    track_id: str | None = None


class Metrics(Wire):
    """Once a second on the `metrics` channel (and on /ws for members without one)."""

    type: Literal["metrics"] = "metrics"
    at: float
    """Unix seconds."""
    audio_kbps: float
    video_kbps: float
    jitter_ms: float
    packets_lost: int
    """Since the start."""
    loss_ratio: float
    """Over the last second, 0 to 1."""
    round_trip_ms: float | None
    caption_delay_ms: float | None
    """From the end of the newest final word in the audio to its sending; null before the first."""
    queue_depth_s: float
    """Audio received that is not transcribed yet."""
    dropped: int
    """Messages and chunks dropped for this member since the start."""


class Pong(Wire):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"
    id: str
    server_time: float
    """Unix seconds."""
    seq: int | None = None
    """Of the last event of the room that you were told, whichever way."""


class Status(Wire):
    """A change in how well captions work that the user should know of."""

    type: Literal["status"] = "status"
    captions: Literal["live", "catching_up", "paused"]
    """`paused`: no speech worker; the audio is kept and captioned when one is back."""
    detail: str = ""


ServerMessage = Annotated[
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
    | ErrorMessage,
    Field(discriminator="type"),
]


def parse_client_message(text: str | bytes) -> ClientMessage:
    """Turn a text message into its type. Raises BadInput or TooLarge, with what is wrong."""
    size = len(text)
    if size > MAX_OFFER_MESSAGE_BYTES:
        raise TooLarge(f"a message of {size} bytes; the limit is {MAX_CLIENT_MESSAGE_BYTES}")
    if size > MAX_CLIENT_MESSAGE_BYTES:
        _only_offers(text)
    try:
        return _client_message.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise BadInput(
            f"{where}: {first['msg'].removeprefix('Value error, ')}; "
            "docs/protocol.md lists the messages",
            code="bad_message",
        ) from None
    except ValueError:  # lone surrogates and the like
        raise BadInput("the message is not valid UTF-8 JSON", code="bad_message") from None


def _only_offers(text: str | bytes) -> None:
    try:
        kind = from_json(text)["type"]
    except (ValueError, TypeError, KeyError):
        kind = None
    if kind not in ("offer", "watch.offer"):
        raise TooLarge(
            f"a message of {len(text)} bytes; the limit is {MAX_CLIENT_MESSAGE_BYTES}, and "
            f"{MAX_OFFER_MESSAGE_BYTES} for an offer"
        )
