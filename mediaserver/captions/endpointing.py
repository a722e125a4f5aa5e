"""Where speech begins and ends, from a voice detector's probabilities. Pure."""

from dataclasses import dataclass
from typing import Literal

ENTER_PROBABILITY = 0.5
LEAVE_PROBABILITY = 0.35
"""Two thresholds, so that a value in between changes nothing (Silero's own defaults)."""
MIN_SPEECH_S = 0.1
"""Shorter bursts are clicks; speech is announced once it has lasted this long."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Speech begins, or has ended, at a place in the track."""

    kind: Literal["began", "ended"]
    at_s: float
    """The first or last moment of the speech."""


class Endpointer:
    """Turns frame probabilities into boundaries.

    `endpointing_s` of silence end speech. `speech_end_s` and `silence_s` tell how things stand
    in between, so that work can be done ahead of the end.
    """

    def __init__(self, endpointing_s: float, start_s: float = 0.0) -> None:
        self.endpointing_s = endpointing_s
        self.in_speech = False
        self.heard_s = start_s
        """End of the last frame seen."""
        self.speech_end_s = start_s
        """End of the last frame that held speech."""
        self._voiced_since_s: float | None = None
        self._voiced = False

    @property
    def silence_s(self) -> float:
        """Seconds of silence up to now."""
        return self.heard_s - self.speech_end_s

    def feed(self, probability: float, end_s: float) -> Boundary | None:
        """Take the frame that ends at `end_s`; return a boundary if one was crossed."""
        start_s, self.heard_s = self.heard_s, end_s
        threshold = LEAVE_PROBABILITY if self._voiced else ENTER_PROBABILITY
        self._voiced = probability >= threshold
        if self._voiced:
            self.speech_end_s = end_s
            if self._voiced_since_s is None:
                self._voiced_since_s = start_s
            if not self.in_speech and end_s - self._voiced_since_s >= MIN_SPEECH_S - 1e-6:
                self.in_speech = True
                return Boundary("began", self._voiced_since_s)
            return None
        if not self.in_speech:
            self._voiced_since_s = None
        elif self.silence_s >= self.endpointing_s - 1e-6:
            self.in_speech, self._voiced_since_s = False, None
            return Boundary("ended", self.speech_end_s)
        return None

    def cut(self) -> None:
        """Forget the speech under way: whatever voice follows begins anew."""
        self.in_speech, self._voiced_since_s, self._voiced = False, None, False
