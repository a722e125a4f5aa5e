"""Greedy Whisper decoding for live captions, where most of the text is known beforehand.

All known tokens of a stream (the text before the window, the control tokens, the forced prefix and
the draft, which is the hypothesis of the previous step) go through the decoder in one pass. The
draft holds as far as the model would have said the same (greedy speculative verification: Leviathan
et al. 2023, with the draft for free). From the first disagreement on, tokens come one by one;
wherever the text meets the rest of the draft again, that rest is tried as the next draft.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mediaserver.inference.worker.whisper.backend import (
    CONVOLUTION_FRAMES,
    Backend,
    Batch,
    BoolArray,
    EncodedAudio,
)
from mediaserver.inference.worker.whisper.beam import TailSearch, search
from mediaserver.inference.worker.whisper.hypothesis import Decoded, DecodeRequest, Hypothesis
from mediaserver.inference.worker.whisper.onnx_backend import OnnxBackend
from mediaserver.inference.worker.whisper.weights import FloatArray, Vocabulary, read_weights

REDONE_FRAMES = 50
"""Encoded frames before the end of the speech that are encoded again once more is heard."""
COMPACT_BELOW = 0.5
"""Finished streams leave the batch when at most this part of it still runs."""


class WhisperDecoder:
    """A Whisper model that encodes short windows and decodes batches of streams.

    Calls block for the time of the computation. Thread-safe: calls share only what is constant.
    """

    def __init__(self, backend: Backend, vocabulary: Vocabulary, text_positions: int) -> None:
        self.backend = backend
        self.vocabulary = vocabulary
        self.text_positions = text_positions

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> "WhisperDecoder":
        """Load the CTranslate2 model in `folder`, on a CPU (ONNX Runtime, int8).

        Args:
            folder: holds config.json, model.bin and vocabulary.txt or vocabulary.json.
            threads: for one call. Two decoders of one thread do more than one of two.

        Raises:
            ConfigurationError: the model cannot be read.
        """
        weights = read_weights(folder)
        backend = OnnxBackend(weights, threads)
        return cls(backend, weights.vocabulary, weights.dimensions.text_positions)

    def encode(
        self,
        mel: FloatArray,
        speech_frames: int | None = None,
        before: EncodedAudio | None = None,
    ) -> EncodedAudio:
        """Encode one window.

        Args:
            mel: log-mel spectrogram float32 [bands, steps of 10 ms], at most 3000 steps. Let at
                least 0.5 s of silence follow the speech: without it the model repeats itself.
            speech_frames: frames of 20 ms before that padding; no token will end later.
            before: an earlier result for a window that begins at the same sample. All of it but
                the padding and the last second of speech is taken over instead of encoded again:
                those frames have heard at least a second of what follows them, and more changes
                no word (docs/speech-engine.md). The cost then depends on what is new, not on the
                window's length.
        """
        mel = np.ascontiguousarray(mel[:, : mel.shape[1] // 2 * 2], np.float32)
        frames = mel.shape[1] // 2
        kept = min(before.speech_frames, frames) - REDONE_FRAMES if before else 0
        if kept < CONVOLUTION_FRAMES:
            before, kept = None, 0
        return self.backend.encode(mel, speech_frames or frames, before, kept)

    def detect_language(self, audio: Sequence[EncodedAudio]) -> list[Mapping[str, float]]:
        """The probability of every language, likeliest first, for each window."""
        languages = self.vocabulary.languages
        if not languages:
            return [{"en": 1.0} for _ in audio]
        found: list[Mapping[str, float]] = []
        for scores in self._start_scores(audio):
            chosen = _softmax(scores[[t - self.vocabulary.end_of_text for t in languages.values()]])
            ranking = sorted(zip(languages, chosen.tolist(), strict=True), key=lambda p: -p[1])
            found.append(dict(ranking))
        return found

    def _start_scores(self, audio: Sequence[EncodedAudio]) -> FloatArray:
        count = len(audio)
        batch = self.backend.batch(audio)
        start = np.full((count, 1), self.vocabulary.start_of_transcript, np.int64)
        mask = np.ones((count, 1, 1), np.bool_)
        batch.step(start, np.zeros_like(start), mask, np.arange(count))
        return batch.special_scores(range(count))

    def decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        """Decode a batch; answers in the order of the requests.

        Raises:
            ValueError: a request has an unknown language or tokens that are no text.
        """
        if not requests:
            return []
        streams = [
            Hypothesis(request, self.vocabulary, self.text_positions) for request in requests
        ]
        batch = self.backend.batch([request.audio for request in requests])
        running = list(streams)
        cached = np.zeros((len(streams), 0), np.bool_)
        while any(not stream.finished for stream in running):
            active = [i for i, stream in enumerate(running) if not stream.finished]
            if len(active) <= COMPACT_BELOW * len(running):
                batch.keep(active)
                running, cached = [running[i] for i in active], cached[active]
            cached = _step(batch, running, cached)
        self._search(streams)
        return [stream.result() for stream in streams]

    def _search(self, streams: Sequence[Hypothesis]) -> None:
        tails = [
            TailSearch(stream, first, stream.request.beams)
            for stream in streams
            if stream.request.beams > 1 and (first := stream.first_doubtful) is not None
        ]
        if tails:
            search(self.backend.batch([tail.greedy.request.audio for tail in tails]), tails)


def _step(batch: Batch, streams: Sequence[Hypothesis], cached: BoolArray) -> BoolArray:
    """Run every stream's pending tokens.

    Args:
        cached: [streams, places], where the batch's cache holds tokens that stand.

    Returns:
        The same, with the new places behind.
    """
    new = max(len(stream.pending) for stream in streams)
    tokens = np.zeros((len(streams), new), np.int64)
    positions = np.zeros((len(streams), new), np.int64)
    for i, stream in enumerate(streams):
        tokens[i, : len(stream.pending)] = stream.pending
        positions[i, : len(stream.pending)] = range(
            stream.known, stream.known + len(stream.pending)
        )
    shape = (len(streams), new)
    past = np.broadcast_to(cached[:, None], (*shape, cached.shape[1]))
    causal = np.broadcast_to(np.tri(new, dtype=np.bool_), (*shape, new))
    running = [(i, stream) for i, stream in enumerate(streams) if not stream.finished]
    scored = [i * new + at for i, one in running for at in range(one.scored_from, len(one.pending))]
    starting = [(i, one, one.start_row) for i, one in running if one.start_row is not None]
    rows = np.array([*scored, *(i * new + start for i, _, start in starting)], np.int64)
    attention = batch.step(tokens, positions, np.concatenate([past, causal], axis=2), rows)
    if starting:
        specials = batch.special_scores(range(len(scored), len(rows)))
        for (_, stream, _), scores in zip(starting, specials, strict=True):
            stream.hear_start(scores)
    expected = np.array([token for _, one in running for token in one.expected()], np.int64)
    begins = np.array([begin for _, one in running for begin in one.begins_text()], np.bool_)
    says = batch.predict(range(len(scored)), expected, begins)
    standing = np.zeros(shape, np.bool_)
    first = 0
    for i, stream in running:
        last = first + len(stream.pending) - stream.scored_from
        standing[i, : stream.absorb(says[first:last], attention[i])] = True
        first = last
    return np.concatenate([cached, standing], axis=1)


def _softmax(scores: FloatArray) -> FloatArray:
    powers = np.exp(scores - scores.max())
    shares: FloatArray = powers / powers.sum()
    return shares
