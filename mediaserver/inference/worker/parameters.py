"""What a stream is told and what it is made of: options, parameters, utterances."""

from dataclasses import dataclass, field

from mediaserver.captions.events import Word
from mediaserver.captions.policy import PolicyParameters, UtterancePolicy


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a client may choose."""

    language: str | None = None
    translate: bool = False
    interim: bool = True
    endpointing_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Resume:
    """Where to go on after another worker was lost."""

    start_s: float = 0.0
    utterance: int = 0
    final_words: tuple[Word, ...] = ()
    context: str = ""
    latched_language: str | None = None


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """Tuned by benchmarks (docs/speech-engine.md)."""

    policy: PolicyParameters = field(default_factory=PolicyParameters)
    preroll_s: float = 0.3
    """Audio before the detector's onset that belongs to the utterance."""
    tail_s: float = 0.3
    """Audio behind the last voiced frame that a decode sees."""
    pause_s: float = 0.2
    """A pause this long is decoded at once, ahead of the endpoint."""
    min_step_s: float = 0.5
    """New audio that makes another partial decode worthwhile."""
    first_step_s: float = 0.8
    """Audio of an utterance before its first decode."""
    context_s: float = 6.0
    """Final words kept at the front of the window, as forced prefix."""
    context_gap_s: float = 1.5
    """Speech that begins within this keeps the words before the pause as context."""
    cut_step_s: float = 3.0
    """A cut shortens the window by at least this, or waits: behind a cut the whole window is
    encoded anew, between two only what is new."""
    prompt_tokens: int = 48
    split_s: float = 12.0
    """An utterance this long is completed at the next sentence end,"""
    split_hard_s: float = 25.0
    """and one this long at the next final word."""
    max_window_s: float = 15.0
    """A decode sees no more than this; the models take 30 s."""
    deaf_s: float = 1.5
    """Voice this long in which no word was heard is looked at again without context."""
    skip_keep_s: float = 2.0
    """Of audio that keeps giving no words, what is kept when the window moves on."""


@dataclass(slots=True)
class Utterance:
    """A run of speech: open while `end_s` is None."""

    number: int
    start_s: float
    policy: UtterancePolicy
    end_s: float | None = None
    speech_end_s: float | None = None
    decoded_s: float = -1.0
    """End of the newest audio that a decode saw."""
    shown: bool = False
    """Whether a revision with words was sent."""
    endpoint: bool = True
    language: str = "en"
    """What the newest decode heard."""
    skipped_s: float = 0.0
    """Audio before this gave no words, again and again; it is not looked at any more."""
