"""The search behind doubtful tokens, against all texts that there are; then the real model."""

import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from mediaserver.inference.worker.whisper.backend import (
    MASKED,
    BoolArray,
    Candidates,
    EncodedAudio,
    IntArray,
    Predictions,
)
from mediaserver.inference.worker.whisper.beam import TailSearch, search
from mediaserver.inference.worker.whisper.hypothesis import DecodeRequest, Hypothesis
from mediaserver.inference.worker.whisper.weights import FloatArray, Vocabulary

END = 3
"""The tokens 0 to 2 are text."""
VOCABULARY = Vocabulary(
    end_of_text=END,
    start_of_transcript=5,
    transcribe=8,
    translate=9,
    start_of_previous=10,
    no_speech=11,
    no_timestamps=12,
    languages={"en": 6},
)
ROOM = 4


def log_probabilities(context: Sequence[int], salt: int) -> FloatArray:
    """What a made-up model says behind a context: any order or loss of tokens changes it."""
    seed = zlib.crc32(bytes([salt, *context]))
    scores = np.random.default_rng(seed).normal(0.0, 1.5, END + 1)
    scores -= np.log(np.exp(scores).sum())
    return scores.astype(np.float32)


class TableBatch:
    """A batch whose rows see what the mask lets them see, and nothing else."""

    def __init__(self, salts: Sequence[int]) -> None:
        self.salts = salts
        self.cache: list[list[tuple[int, int]]] = [[] for _ in salts]
        self.contexts: list[tuple[int, list[int]]] = []
        self.steps = 0

    def step(
        self, tokens: IntArray, positions: IntArray, text_mask: BoolArray, rows: IntArray
    ) -> FloatArray:
        new = tokens.shape[1]
        for stream, cache in enumerate(self.cache):
            cache += zip(positions[stream].tolist(), tokens[stream].tolist(), strict=True)
            assert text_mask.shape[2] == len(cache)
        self.contexts = []
        for row in rows.tolist():
            stream, at = divmod(row, new)
            seen = [self.cache[stream][i] for i in np.flatnonzero(text_mask[stream, at])]
            assert [p for p, _ in seen] == list(range(len(seen))), "each position once, in order"
            self.contexts.append((stream, [token for _, token in seen]))
        self.steps += 1
        return np.ones((len(self.salts), 1, new, 10), np.float32)

    def candidates(self, rows: Sequence[int], count: int, first: BoolArray) -> Candidates:
        del first
        tokens = np.zeros((len(rows), count), np.int64)
        logs = np.full((len(rows), count), MASKED, np.float32)
        for row in rows:
            stream, context = self.contexts[row]
            own = log_probabilities(context, self.salts[stream])
            order = np.argsort(-own)[:count]
            tokens[row, : len(order)], logs[row, : len(order)] = order, own[order]
        return Candidates(tokens, logs)

    def predict(self, rows: Sequence[int], expected: IntArray, first: BoolArray) -> Predictions:
        raise NotImplementedError

    def special_scores(self, rows: Sequence[int]) -> FloatArray:
        raise NotImplementedError

    def keep(self, streams: Sequence[int]) -> None:
        raise NotImplementedError


def greedy(salt: int, prompt: tuple[int, ...] = ()) -> Hypothesis:
    audio = EncodedAudio((), (), (), frames=10, speech_frames=10)
    request = DecodeRequest(audio, max_new_tokens=ROOM, prompt=prompt, beams=8, doubtful=2.0)
    stream = Hypothesis(request, VOCABULARY, text_positions=60)
    while not stream.finished:
        context = [*stream.head, *stream.text]
        own = log_probabilities(context, salt)
        best = int(own.argmax())
        says = Predictions(np.array([best]), own[[best]], own[[best]], own[[best]])
        stream.scored_from = len(stream.pending) - 1
        stream.absorb(says, np.ones((1, len(stream.pending), 10), np.float32))
    return stream


def score(stream: Hypothesis, text: Sequence[int], salt: int) -> float:
    """Mean log-probability of a text, with its end if it has room for one."""
    whole = [*text, END] if len(text) < ROOM else list(text)
    logs = [
        float(log_probabilities([*stream.head, *whole[:i]], salt)[token])
        for i, token in enumerate(whole)
    ]
    return sum(logs) / len(logs)


def loops(text: Sequence[int]) -> bool:
    """As `hypothesis.one_round` says; a text this short can only say one token over and over."""
    return any(len(set(text[i : i + 5])) == 1 for i in range(len(text) - 4))


@pytest.mark.parametrize("salt", range(12))
def test_with_beams_enough_the_best_text_of_all_is_found(salt: int) -> None:
    stream = greedy(salt)
    before = score(stream, stream.text, salt)
    tail = TailSearch(stream, 0, width=(END + 1) ** ROOM, hopeless=math.inf)
    search(TableBatch([salt]), [tail])
    texts = (t for n in range(ROOM + 1) for t in itertools.product(range(END), repeat=n))
    best = max((score(stream, t, salt), t) for t in texts if not loops(t))
    assert tuple(stream.text) == best[1]
    assert best[0] >= before
    assert len(stream.result().tokens) == len(stream.text)


def test_streams_of_a_batch_are_searched_as_each_alone() -> None:
    prompts = [(), (1, 2, 0), (2,)]
    together = [greedy(salt, prompt) for salt, prompt in enumerate(prompts)]
    search(TableBatch([0, 1, 2]), [TailSearch(one, 0, width=3) for one in together])
    for salt, prompt in enumerate(prompts):
        alone = greedy(salt, prompt)
        search(TableBatch([salt]), [TailSearch(alone, 0, width=3)])
        assert together[salt].text == alone.text
        assert together[salt].probabilities == alone.probabilities


def test_what_comes_before_the_doubtful_token_stays() -> None:
    for salt in range(12):
        stream = greedy(salt)
        if len(stream.text) < 2:
            continue
        before = list(stream.text)
        search(TableBatch([salt]), [TailSearch(stream, 1, width=4)])
        assert stream.text[:1] == before[:1]
        assert score(stream, stream.text, salt) >= score(stream, before, salt) - 1e-6


def test_hopeless_beams_save_work_without_changing_what_is_clear() -> None:
    counted = []
    for hopeless in (0.5, math.inf):
        stream = greedy(3)
        batch = TableBatch([3])
        search(batch, [TailSearch(stream, 0, width=6, hopeless=hopeless)])
        counted.append(sum(len(cache) for cache in batch.cache))
    assert counted[0] < counted[1]


def test_a_sure_text_has_no_doubtful_token() -> None:
    stream = greedy(0)
    stream.probabilities = [0.9 for _ in stream.text]
    assert DecodeRequest(stream.request.audio, 5).doubtful == 0.5
    sure = Hypothesis(DecodeRequest(stream.request.audio, 5), VOCABULARY, 60)
    sure.text, sure.probabilities = [1, 2], [0.9, 0.51]
    assert sure.first_doubtful is None
    sure.probabilities = [0.9, 0.49]
    assert sure.first_doubtful == 1
