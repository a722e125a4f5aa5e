"""What a caption stream tells: from the worker to the app, and from a track to its listeners."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its place in the track."""

    text: str
    """As written, with punctuation, without surrounding spaces."""
    start_s: float
    end_s: float
    probability: float
    """0 to 1."""


def join_words(texts: Iterable[str]) -> str:
    """Join words as their script does: with spaces, but none inside Chinese or Japanese."""
    joined = ""
    for text in texts:
        if joined and text and not (_wide(joined[-1]) and _wide(text[0])):
            joined += " "
        joined += text
    return joined


def _wide(character: str) -> bool:
    """Whether its script is written without spaces; Hangul is wide but has them."""
    wide = unicodedata.east_asian_width(character) in ("W", "F")
    return wide and not unicodedata.name(character, "").startswith("HANGUL")


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The voice detector heard speech begin."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Revision:
    """The present state of one utterance: final words, then tentative ones.

    Invariants: final words never change or vanish; `utterance` rises; a revision with `complete`
    is the last of its utterance and has only final words (perhaps none: then it was not speech).
    """

    utterance: int
    final: tuple[Word, ...]
    """All final words of the utterance so far."""
    newly_final: int
    """How many at the end of `final` were not final in the revision before."""
    tentative: tuple[Word, ...]
    complete: bool
    start_s: float
    """Where the utterance starts."""
    language: str
    """ISO 639-1 code, as told or detected."""
    settled_s: float
    """All audio before this is covered by finals or held no speech: it is needed no more."""
    end_s: float = 0.0
    """How far into the audio this revision has heard."""
    endpoint: bool = False
    """Complete because the speaker paused, or because finals were asked for; an utterance that
    merely grew long is completed at a sentence's end without it."""

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, final ones first."""
        return self.final + self.tentative

    @property
    def text(self) -> str:
        """All words as text."""
        return join_words(word.text for word in self.words)

    @property
    def new_words(self) -> tuple[Word, ...]:
        """The words that became final with this revision."""
        return self.final[len(self.final) - self.newly_final :]


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing new was said, but audio up to `until_s` needs to be kept no more."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """All audio sent before finalize request `request` is final now."""

    request: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Captions of the track are live, catching up, or paused (no worker; audio is kept)."""

    captions: Literal["live", "catching_up", "paused"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The track is over; nothing follows."""

    reason: str
    """`ended`, `left`, `lost` or `failed`."""


SpeechEvent = SpeechBegan | Revision | Settled | Flushed
"""What a worker sends on a stream."""
TrackEvent = SpeechBegan | Revision | Flushed | StatusChanged | Ended
"""What a track tells its listeners."""
