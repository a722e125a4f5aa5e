"""What a client asks of ``WS /v1/listen`` in its query: Deepgram's names, and what they do here."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.base import Inbound
from mediaserver.protocol.languages import language_of
from mediaserver.protocol.messages import CaptionOptions, Task

ListenEncoding = Literal["linear16", "linear32", "mulaw", "alaw", "flac", "opus", "ogg-opus"]
DEFAULT_ENDPOINTING_MS = 500
"""Deepgram's default is 10 ms, which would end an utterance at every breath."""
MAX_ENDPOINTING_MS = 5000
_NEEDS_RATE = ("linear16", "linear32")
_TELEPHONE_RATE_HZ = 8000
_DETECT = "multi"
_INVALID = "invalid_query_parameter"


def _endpointing(value: object) -> object:
    match value:
        case "true":
            return DEFAULT_ENDPOINTING_MS
        case "false":
            return None
        case _:
            return value


def _encoding(value: object) -> object:
    if value in ("amr-nb", "amr-wb", "speex", "g729"):
        raise ValueError(f"{value} is not decoded here")
    return value


def _language(value: str) -> str:
    if value != _DETECT and language_of(value) is None:
        raise ValueError(f"{value!r} is no language that is known here")
    return value


def _off(why: str) -> AfterValidator:
    def check(value: bool) -> bool:
        if value:
            raise ValueError(f"not possible here: {why}")
        return value

    return AfterValidator(check)


_Ignored = Annotated[str, Field(max_length=2000)]
_IgnoredList = Annotated[tuple[_Ignored, ...], Field(max_length=500)]


class ListenQuery(Inbound):
    """The query of ``WS /v1/listen``. An unknown name or value is refused before the upgrade."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    encoding: Annotated[ListenEncoding | None, BeforeValidator(_encoding)] = None
    """How the audio is encoded; left out for containers (WebM, Ogg, WAV, MP3, FLAC, …), which
    are told by their first bytes."""
    sample_rate: Annotated[int | None, Field(ge=8000, le=192_000)] = None
    """In Hz; needed with `linear16` and `linear32`, 8000 by default with `mulaw` and `alaw`,
    without meaning for the others."""
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    """Of raw audio; containers tell their own."""
    multichannel: bool = False
    """Transcribe each channel for itself (`channel_index`); else they are mixed down."""
    language: Annotated[str, Field(max_length=35), AfterValidator(_language)] = "en"
    """BCP 47 tag of what is spoken, of which the region is ignored; `multi` detects it."""
    detect_language: bool = False
    """Detect the language, as with `language=multi`."""
    task: Task = "transcribe"
    """`translate` gives English, whatever is spoken (not in Deepgram's protocol)."""
    interim_results: bool = False
    """Whether tentative words are sent as well (`is_final` false)."""
    endpointing: Annotated[
        int | None, Field(ge=0, le=MAX_ENDPOINTING_MS), BeforeValidator(_endpointing)
    ] = DEFAULT_ENDPOINTING_MS
    """Milliseconds of silence that end an utterance (`speech_final`); `false` never says so."""
    utterance_end_ms: Annotated[int | None, Field(ge=100, le=60_000)] = None
    """Send `UtteranceEnd` when no word follows the last final one for so long."""
    vad_events: bool = False
    """Send `SpeechStarted`."""
    punctuate: bool = False
    """Punctuation and capitals in `transcript`; without it `transcript` is plain lower case."""
    smart_format: bool = False
    """The same as `punctuate` here."""

    model: _Ignored = ""
    """Taken and ignored, as is `version`: the server's own model transcribes."""
    version: _Ignored = ""
    tier: _Ignored = ""
    keywords: _IgnoredList = ()
    """Taken and ignored, as is `keyterm`: no vocabulary can be given."""
    keyterm: _IgnoredList = ()
    language_hint: _IgnoredList = ()
    tag: _IgnoredList = ()
    extra: _IgnoredList = ()
    mip_opt_out: bool = False
    """Taken and ignored: nothing is kept for training."""
    no_delay: bool = False
    numerals: bool = False
    """Taken and ignored: numbers are written as the model writes them."""
    measurements: bool = False
    alternatives: Annotated[int, Field(ge=1, le=1)] = 1
    """There is one."""
    filler_words: bool = False

    diarize: Annotated[bool, _off("speakers are not told apart; use multichannel")] = False
    detect_entities: Annotated[bool, _off("entities are not found")] = False
    profanity_filter: Annotated[bool, _off("nothing is filtered")] = False
    ner: Annotated[bool, _off("entities are not found")] = False
    dictation: Annotated[bool, _off("spoken punctuation is not turned into signs")] = False

    @model_validator(mode="after")
    def _together(self) -> "ListenQuery":
        if self.encoding in _NEEDS_RATE and self.sample_rate is None:
            raise ValueError(f"sample_rate is needed with encoding={self.encoding}")
        if self.encoding == "opus" and self.channels > 2:
            raise ValueError("raw Opus packets have one or two channels")
        return self

    @property
    def sample_rate_hz(self) -> int:
        """The rate of raw samples."""
        return self.sample_rate or _TELEPHONE_RATE_HZ

    @property
    def detects_language(self) -> bool:
        """Whether the language is to be found out."""
        return self.detect_language or self.language == _DETECT

    @property
    def punctuated(self) -> bool:
        """Whether `transcript` is written with punctuation."""
        return self.punctuate or self.smart_format

    def caption_options(self) -> CaptionOptions:
        """Return how the tracks are to be captioned."""
        endpointing_ms = MAX_ENDPOINTING_MS if self.endpointing is None else self.endpointing
        return CaptionOptions(
            language=None if self.detects_language else language_of(self.language),
            task=self.task,
            interim=self.interim_results or self.utterance_end_ms is not None,
            endpointing_ms=max(10, endpointing_ms),
        )


_LISTS = frozenset({"keywords", "keyterm", "language_hint", "tag", "extra"})
_REFUSED = {
    "redact": "nothing is redacted here",
    "replace": "nothing is replaced here",
    "search": "nothing is searched here",
    "callback": "results come on this connection only",
    "callback_method": "results come on this connection only",
    "diarize_model": "speakers are not told apart here; use multichannel",
    "diarize_version": "speakers are not told apart here; use multichannel",
}


def parse_listen_query(pairs: Iterable[tuple[str, str]]) -> ListenQuery:
    """Read a query. Raises BadInput that names the parameter and says what is wrong."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in _REFUSED:
            if value in ("", "false"):
                continue
            raise BadInput(f"{name}: {_REFUSED[name]}", code=_INVALID)
        if name in _LISTS:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise BadInput(f"{name}: given twice", code=_INVALID)
        else:
            given[name] = value
    try:
        return ListenQuery.model_validate(given)
    except ValidationError as error:
        raise BadInput(_explain(error), code=_INVALID) from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, ListenQuery.model_fields, 1)
        hint = f" (is {near[0]} meant?)" if near else ""
        return f"{name[:60]}: no such parameter{hint}; docs/protocol.md lists them"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
