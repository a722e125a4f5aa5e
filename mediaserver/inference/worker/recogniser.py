"""What a recogniser is asked, and what it answers. Tests script one."""

from dataclasses import dataclass
from typing import Protocol

from mediaserver.captions.audio import Samples
from mediaserver.captions.policy import HeardWord


@dataclass(frozen=True, slots=True)
class Job:
    """One decode of one stream's live window."""

    stream_id: str
    utterance: int
    samples: Samples
    """The window, without padding."""
    start_s: float
    """Media time of the window's first sample."""
    prompt: tuple[int, ...]
    """Tokens of what was said before the window."""
    prefix: tuple[int, ...]
    """Tokens of final words that the window begins with."""
    draft: tuple[int, ...]
    """Tokens of the last hypothesis behind the prefix; a hint that may be wrong."""
    language: str | None
    """None: detect it first."""
    detect: bool
    """Detect the language even though one is given."""
    translate: bool
    final: bool
    """The last decode of the utterance."""
    memory: object | None = None
    """`Heard.memory` of an earlier decode of a window that began at the same sample."""

    thorough: bool = False
    """The machine has time: search with several beams where the model is not sure."""
    detect_from_s: float = 0.0
    """Where the utterance starts: the words before it may be in another language."""

    @property
    def end_s(self) -> float:
        """Media time just after the window."""
        return self.start_s + len(self.samples) / 16_000

    @property
    def detection_samples(self) -> Samples:
        """What detection should hear: the window without the utterances before."""
        return self.samples[max(0, round((self.detect_from_s - self.start_s) * 16_000)) :]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a job's window says behind the prefix."""

    words: tuple[HeardWord, ...]
    """In media time."""
    no_speech_probability: float
    language: str
    """What it was decoded in."""
    detected: tuple[str, float] | None
    """Language and probability, if detection was asked for."""
    memory: object | None = None
    """What the recogniser would like to have back when the window has grown. The stream keeps it,
    so that it goes with the stream."""


class Recogniser(Protocol):
    """A loaded model. Thread-safe; `recognise` blocks for the time of the computation."""

    name: str
    device: str
    multilingual: bool
    slots: int
    """How many calls make good use of the device at the same time."""
    max_batch: int
    """How many jobs a call takes."""

    def recognise(self, jobs: list[Job]) -> list[Heard]:
        """Decode a batch; answers in the order of the jobs."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of text, as they would follow other text."""
        ...
