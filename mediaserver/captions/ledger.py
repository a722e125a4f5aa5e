"""What is owed on a track: audio that no final covers yet, and the finals given so far. Pure.

When a worker is lost, `resume` says where another one goes on and `unsettled` gives the audio to
replay; because the ledger alone grows the final words, they cannot change.
"""

from dataclasses import dataclass, replace

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioBuffer, AudioChunk, Samples, silence
from mediaserver.captions.events import Revision, Word, join_words

MAX_GAP_S = 30.0
CONTEXT_WORDS = 40


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a new worker takes over."""

    start_s: float
    utterance: int
    final_words: tuple[Word, ...]
    context: str
    language: str


class TrackLedger:
    """See the module's docstring. Times are media time of the track."""

    def __init__(self) -> None:
        self.audio = AudioBuffer()
        self.settled_s = 0.0
        self.language = ""
        self._utterance = 0
        self._final: tuple[Word, ...] = ()
        self._context: tuple[Word, ...] = ()
        self._shift_s = 0.0

    @property
    def received_s(self) -> float:
        """End of the audio taken so far."""
        return self.audio.end_s

    @property
    def owed_s(self) -> float:
        """Seconds of audio not covered yet."""
        return max(0.0, self.audio.end_s - self.settled_s)

    def take(self, chunk: AudioChunk) -> Samples:
        """Keep `chunk`; return it as it continues the track, with silence before it for a gap.

        An overlap (a clock that jumps back) is taken as following on; a gap is filled up to
        MAX_GAP_S.
        """
        gap_s = chunk.start_s - self._shift_s - self.audio.end_s
        samples = chunk.samples
        if gap_s < -0.001 or gap_s > MAX_GAP_S:
            kept_s = MAX_GAP_S if gap_s > 0 else 0.0
            self._shift_s += gap_s - kept_s
            gap_s = kept_s
        if gap_s > 0.001:
            samples = silence(round(gap_s * SAMPLE_RATE_HZ), samples)
        self.audio.append(samples)
        return samples

    def unsettled(self) -> tuple[float, Samples]:
        """Return the start of the audio to replay, and the audio."""
        start_s = max(self.settled_s, self.audio.start_s)
        return start_s, self.audio.slice(start_s, self.audio.end_s)

    def resume(self) -> ResumePoint:
        """Return where a new worker takes over."""
        return ResumePoint(
            start_s=max(self.settled_s, self.audio.start_s),
            utterance=self._utterance,
            final_words=self._final,
            context=join_words(w.text for w in self._context),
            language=self.language,
        )

    def revise(self, new: Revision) -> Revision:
        """Take a revision that holds only newly final words; return it with all of them."""
        if new.utterance != self._utterance:
            self._utterance, self._final = new.utterance, ()
        self._final = (*self._final, *new.final)
        whole = replace(new, final=self._final, newly_final=len(new.final))
        self.language = new.language or self.language
        self.settle(new.settled_s)
        if new.complete:
            self._context = (*self._context, *self._final)[-CONTEXT_WORDS:]
            self._utterance, self._final = new.utterance + 1, ()
        return whole

    def settle(self, until_s: float) -> None:
        """Audio before `until_s` is needed no more."""
        self.settled_s = max(self.settled_s, min(until_s, self.audio.end_s))
        self.audio.trim(self.settled_s)
