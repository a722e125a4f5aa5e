"""Which language a track speaks: latched early, followed when the speaker changes it. Pure."""

from dataclasses import dataclass, field

LATCH_PROBABILITY = 0.5
LATCH_SPEECH_S = 1.5
SWITCH_PROBABILITY = 0.9
SWITCH_SPEECH_S = 2.0
CONFIRM_PROBABILITY = 0.6


@dataclass(slots=True)
class LanguageLatch:
    """The language of a track. `told` is never questioned; otherwise detections decide.

    The first detection with enough speech latches. Later utterances are detected once each, and
    again with twice the speech where the first dissented weakly: a strong dissent switches at
    once, a weaker one when the next utterance says the same.
    """

    told: str | None = None
    latched: str | None = None
    _suspect: str | None = None
    _checked_utterance: int | None = field(default=None)
    _look_again_s: float = float("inf")
    """Speech of the checked utterance that makes another look worthwhile."""

    @property
    def current(self) -> str | None:
        """The language to decode in; None while it has to be detected first."""
        return self.told or self.latched

    def wants_detection(self, utterance: int, speech_s: float, *, complete: bool) -> bool:
        """Whether the next decode should detect: `speech_s` of this utterance are heard."""
        if self.told is not None:
            return False
        if self.latched is None:
            return True
        if self._checked_utterance == utterance:
            return speech_s >= self._look_again_s
        return speech_s >= SWITCH_SPEECH_S or (complete and speech_s >= 1.0)

    def detected(self, utterance: int, language: str, probability: float, speech_s: float) -> str:
        """Take a detection; return the language to decode this utterance in."""
        if self.latched is None:
            if probability >= LATCH_PROBABILITY and speech_s >= LATCH_SPEECH_S:
                self.latched = language
                self._checked_utterance = utterance
            return language
        again = self._checked_utterance == utterance
        self._checked_utterance, self._look_again_s = utterance, float("inf")
        if language == self.latched:
            self._suspect = None
        elif probability >= SWITCH_PROBABILITY or (
            probability >= CONFIRM_PROBABILITY and self._suspect == language and not again
        ):
            self.latched, self._suspect = language, None
        else:
            self._look_again_s = 2 * speech_s
            if probability >= CONFIRM_PROBABILITY:
                self._suspect = language
        return self.latched
