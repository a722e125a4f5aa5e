"""Beam search behind the first doubtful token of a greedy text.

Greedy decoding is right where the model is sure, and that is most of live speech. Where it is not,
the text from there on is searched anew with several beams. The beams of a stream are a tree in one
cache: a new token sees its ancestors and nothing else (tree attention: Miao et al. 2024,
SpecInfer), so no cache is copied or reordered, and the audio is held once.

Candidates are ranked by mean log-probability a token, end of text included, as faster-whisper does.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mediaserver.inference.worker.whisper.backend import MASKED, Batch, BoolArray, Candidates
from mediaserver.inference.worker.whisper.hypothesis import Hypothesis, one_round
from mediaserver.inference.worker.whisper.weights import FloatArray

HOPELESS = 4.0
"""A beam whose log-probability is lower than the best one's by this is given up."""


@dataclass(frozen=True, slots=True)
class _Beam:
    tokens: tuple[int, ...] = ()
    logs: tuple[float, ...] = ()
    total: float = 0.0
    places: tuple[int, ...] = ()
    """Where the cache holds the tokens but the last, behind the known ones."""
    attention: tuple[FloatArray, ...] = ()
    """Of the rows that predicted the tokens: [heads, frames] each."""


@dataclass(slots=True)
class TailSearch:
    """The search for one stream: `pending` goes through the decoder, `absorb` takes the answers."""

    greedy: Hypothesis
    first: int
    """The first token of the greedy text that is in question."""
    width: int
    hopeless: float = HOPELESS
    known: list[int] = field(init=False)
    live: list[_Beam] = field(init=False)
    ended: list[_Beam] = field(default_factory=list)
    _sum_before: float = field(init=False)
    _count_before: int = field(init=False)
    _room: int = field(init=False)

    def __post_init__(self) -> None:
        greedy = self.greedy
        self.known = [*greedy.head, *greedy.text[: self.first]]
        self.live = [_Beam()]
        prefix = len(greedy.request.prefix)
        sure = greedy.probabilities[prefix : self.first]
        self._sum_before = sum(math.log(max(p or 0.0, 1e-9)) for p in sure)
        self._count_before = len(sure)
        self._room = prefix + greedy.request.max_new_tokens - self.first

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.live

    @property
    def pending(self) -> list[int]:
        """Tokens to run next: the known ones at first, then the newest of each beam."""
        return [b.tokens[-1] for b in self.live] if self.live[0].tokens else self.known

    @property
    def positions(self) -> list[int]:
        """Where the pending tokens stand in the text."""
        if not self.live[0].tokens:
            return list(range(len(self.known)))
        return [len(self.known) + len(beam.tokens) - 1 for beam in self.live]

    def mask(self, places: int, new: int) -> BoolArray:
        """Which of so many cached and `new` tokens the pending ones see: [new, places + new]."""
        sees = np.zeros((new, places + new), np.bool_)
        sees[:, places:] = np.eye(new, dtype=np.bool_)
        if not self.live[0].tokens:
            sees[:, places:] = np.tri(new, dtype=np.bool_)
            return sees
        sees[:, : len(self.known)] = True
        for row, beam in enumerate(self.live):
            sees[row, list(beam.places)] = True
        return sees

    def absorb(self, says: Candidates, attention: FloatArray, place: int) -> None:
        """Take the candidates of each beam, the attention [heads, pending, frames], and the first
        pending token's place in the cache."""
        frames = self.greedy.request.audio.frames
        begins = not self.live[0].tokens
        grown: list[_Beam] = []
        for row, beam in enumerate(self.live):
            at = len(self.known) - 1 if begins else row
            heard = attention[:, at, :frames]
            places = beam.places if begins else (*beam.places, place + row)
            for token, log in zip(says.tokens[row], says.log_probabilities[row], strict=True):
                if log <= MASKED / 2:
                    break
                grown.append(
                    _Beam(
                        (*beam.tokens, int(token)),
                        (*beam.logs, float(log)),
                        beam.total + float(log),
                        places,
                        (*beam.attention, heard),
                    )
                )
        end = self.greedy.vocabulary.end_of_text
        best = heapq.nlargest(2 * self.width, grown, key=lambda beam: beam.total)
        self.ended += [beam for beam in best[: self.width] if beam.tokens[-1] == end]
        floor = best[0].total - self.hopeless
        going = [b for b in best if b.tokens[-1] != end and b.total > floor][: self.width]
        full = bool(going) and len(going[0].tokens) >= self._room
        if full:
            self.ended += going
        self.live = [] if full or len(self.ended) >= self.width else going

    def conclude(self) -> None:
        """Give the greedy text the best tail that was found, unless that loops."""
        best = max(self.ended, key=self._score, default=None)
        if best is None:
            return
        end = self.greedy.vocabulary.end_of_text
        whole = best.tokens[-1] == end
        tokens = best.tokens[:-1] if whole else best.tokens
        text = [*self.greedy.text[: self.first], *tokens]
        if one_round(text, len(self.greedy.request.prefix)) is None:
            rows = np.stack(best.attention, axis=1)
            self.greedy.replace_tail(self.first, tokens, best.logs, rows, ended=whole)

    def _score(self, beam: _Beam) -> float:
        return (self._sum_before + beam.total) / (self._count_before + len(beam.tokens))


def search(batch: Batch, tails: Sequence[TailSearch]) -> None:
    """Search all tails together and let them conclude. `batch` holds their streams, in order."""
    count, places = len(tails), 0
    while any(not tail.finished for tail in tails):
        running = [(i, tail) for i, tail in enumerate(tails) if not tail.finished]
        new = max(len(tail.pending) for _, tail in running)
        tokens = np.zeros((count, new), np.int64)
        positions = np.zeros((count, new), np.int64)
        mask = np.zeros((count, new, places + new), np.bool_)
        mask[:, :, places] = True  # padding must see something
        rows: list[int] = []
        for i, tail in running:
            pending = tail.pending
            used = len(pending)
            tokens[i, :used] = pending
            positions[i, :used] = tail.positions
            mask[i, :used] = 0
            own = tail.mask(places, used)
            mask[i, :used, : places + used] = own
            begins = places == 0
            rows += [i * new + used - 1] if begins else range(i * new, i * new + used)
        attention = batch.step(tokens, positions, mask, np.array(rows, np.int64))
        first_text = [places == 0 and tail.first == 0 for _, tail in running for _ in tail.live]
        says = batch.candidates(
            range(len(rows)), 2 * tails[0].width, np.array(first_text, np.bool_)
        )
        at = 0
        for i, tail in running:
            used = len(tail.live)
            tail.absorb(says[at : at + used], attention[i], places)
            at += used
        places += new
    for tail in tails:
        tail.conclude()
