"""Deepgram's live protocol: the messages of ``WS /v1/listen``, named and shaped as Deepgram's.

The client sends audio as binary messages and `ClientMessage`s as text. Times are seconds of audio
since the first sample. `docs/protocol.md` says where this server differs.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.base import Wire
from mediaserver.protocol.problems import Problem

MAX_MESSAGE_BYTES = 1024 * 1024
"""A message over this, audio or text, closes the connection with 1009."""


# ---- what clients send ---------------------------------------------------------------------


class _FromClient(BaseModel):
    """Unlike in our own protocol a further field is no error: these clients are not ours."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KeepAlive(_FromClient):
    """Nothing to say; keeps the connection from being closed after 10 s without audio."""

    type: Literal["KeepAlive"]


class Finalize(_FromClient):
    """Turn all audio received so far into finals; answered by `Results` with `from_finalize`."""

    type: Literal["Finalize"]
    channel: Annotated[int, Field(ge=0)] | None = None
    """Only this channel; all, if left out."""


class CloseStream(_FromClient):
    """No more audio: the remaining finals come, then `Metadata`, then the server closes."""

    type: Literal["CloseStream"]


class Configure(_FromClient):
    """Change formatting: `punctuate` and `smart_format` can be turned on and off."""

    type: Literal["Configure"]
    keyterms: tuple[str, ...] | None = None
    features: dict[str, bool] | None = None


ClientMessage = Annotated[
    KeepAlive | Finalize | CloseStream | Configure, Field(discriminator="type")
]
_client_message: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


def parse_listen_message(text: str) -> ClientMessage:
    """Turn a text message into its type. Raises BadInput."""
    try:
        return _client_message.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadInput(
            f"not a message that is known here ({first['msg']}); text messages are KeepAlive, "
            "Finalize, CloseStream and Configure, and audio is sent as binary messages"
        ) from None
    except ValueError:
        raise BadInput("the message is not valid UTF-8 JSON") from None


# ---- what the server sends -----------------------------------------------------------------


class ListenWord(Wire):
    """One word."""

    word: str
    """In lower case, without punctuation."""
    start: float
    end: float
    confidence: float
    """0 to 1."""
    punctuated_word: str
    """As written, with capitals and punctuation."""
    language: str | None = None
    """Only where the language is detected."""


class Alternative(Wire):
    """What was said. There is always exactly one."""

    transcript: str
    confidence: float
    """Mean of the words'; 0 without words."""
    words: tuple[ListenWord, ...]
    languages: tuple[str, ...] | None = None
    """Only where the language is detected."""


class ListenChannel(Wire):
    """The transcription of one channel."""

    alternatives: tuple[Alternative]
    detected_language: str | None = None
    """Only where the language is detected."""


class ModelInfo(Wire):
    """Which model transcribes."""

    name: str
    version: str
    arch: str


class ResultsMetadata(Wire):
    """What every `Results` says of its connection."""

    request_id: str
    model_info: ModelInfo
    model_uuid: str


class Results(Wire):
    """Words. With `is_final` they never change; without, later ones of the channel replace them.

    Final results of a channel follow one another without overlap: joined, they are the
    transcript. An interim result holds only the words after the last final one.
    """

    type: Literal["Results"] = "Results"
    channel_index: tuple[int, int]
    """The channel, and how many there are."""
    duration: float
    start: float
    is_final: bool
    speech_final: bool
    """The speaker paused: the last final result of an utterance."""
    from_finalize: bool
    """Answers `Finalize`."""
    channel: ListenChannel
    metadata: ResultsMetadata


class SpeechStarted(Wire):
    """Somebody began to speak (with `vad_events`)."""

    type: Literal["SpeechStarted"] = "SpeechStarted"
    channel: tuple[int, int]
    timestamp: float


class UtteranceEnd(Wire):
    """No word followed the last final one for `utterance_end_ms`."""

    type: Literal["UtteranceEnd"] = "UtteranceEnd"
    channel: tuple[int, int]
    last_word_end: float


class Metadata(Wire):
    """The last message of a stream."""

    type: Literal["Metadata"] = "Metadata"
    transaction_key: str = "deprecated"
    request_id: str
    sha256: str
    """Of all binary messages."""
    created: str
    """When the connection was opened (ISO 8601)."""
    duration: float
    """Seconds of audio received."""
    channels: int
    models: tuple[str, ...]
    model_info: dict[str, ModelInfo]


class ListenError(Wire):
    """Something went wrong. The connection goes on unless it is closed next."""

    type: Literal["Error"] = "Error"
    variant: str
    """`SchemaError`, or Deepgram's code of what closes the connection (`NET-0001`, …)."""
    description: str
    message: str | None = None
    """The text message that was not understood."""


class ConfigureSuccess(Wire):
    """`Configure` was carried out."""

    type: Literal["ConfigureSuccess"] = "ConfigureSuccess"
    request_id: str


class ConfigureFailure(Wire):
    """`Configure` was refused; nothing changed."""

    type: Literal["ConfigureFailure"] = "ConfigureFailure"
    request_id: str
    code: str
    description: str


ListenMessage = Annotated[
    Results
    | SpeechStarted
    | UtteranceEnd
    | Metadata
    | ListenError
    | ConfigureSuccess
    | ConfigureFailure,
    Field(discriminator="type"),
]


class ListenProblem(Problem):
    """A refusal before the upgrade: our problem, with the fields that Deepgram's clients read."""

    err_code: str
    err_msg: str
    request_id: str
