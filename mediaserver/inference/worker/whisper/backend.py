"""What computes for the decoder: an encoder, and batches that take decoding steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mediaserver.inference.worker.whisper.weights import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FRAMES_PER_S = 50
"""Encoded frames; a mel has two steps for each."""
CONVOLUTION_FRAMES = 2
"""How far back the encoder's convolutions look, rounded up."""
MASKED = -1e9
"""Added to the scores of what must not be attended to or said."""


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """A window of audio as the text decoder sees it. Usable with the backend that made it."""

    keys: tuple[Any, ...]
    """For each decoder layer [1, heads, frames, 64]."""
    values: tuple[Any, ...]
    states: tuple[Any, ...]
    """The encoder's own keys and values, for each layer a pair of [1, heads, frames, 64], so that
    a longer window need not be encoded anew. All arrays together: 49 KB a frame (whisper-base)."""
    frames: int
    """Length with padding, in frames of 20 ms."""
    speech_frames: int
    """Length without the padding behind the audio: no token ends later."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What some rows say comes next. Arrays are [rows]."""

    best: IntArray
    """The likeliest token that is not suppressed."""
    best_log_probability: FloatArray
    margin: FloatArray
    """By how much its log-probability exceeds the second best's."""
    expected_log_probability: FloatArray
    """Of the token that was asked about."""

    def __getitem__(self, rows: slice) -> "Predictions":
        """Those of some rows."""
        return Predictions(
            self.best[rows],
            self.best_log_probability[rows],
            self.margin[rows],
            self.expected_log_probability[rows],
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """The likeliest next tokens of some rows, likeliest first. Arrays are [rows, count].

    Where a row has fewer, the rest has log-probabilities of `MASKED`.
    """

    tokens: IntArray
    log_probabilities: FloatArray

    def __getitem__(self, rows: slice) -> "Candidates":
        """Those of some rows."""
        return Candidates(self.tokens[rows], self.log_probabilities[rows])


class Batch(Protocol):
    """Streams that are decoded together: their audio and the cache of their tokens."""

    def step(
        self, tokens: IntArray, positions: IntArray, text_mask: BoolArray, rows: IntArray
    ) -> FloatArray:
        """Run new tokens behind the cached ones, and cache them.

        Args:
            tokens: [streams, new].
            positions: [streams, new], where each stands in its stream's text.
            text_mask: [streams, new, cached + new], True where a new token may look.
            rows: the tokens, as indices into the flattened `tokens`, to keep results of.

        Returns:
            How the alignment heads look at the audio: [streams, heads, new, frames].
        """
        ...

    def predict(self, rows: Sequence[int], expected: IntArray, first: BoolArray) -> Predictions:
        """Read the last step's results.

        Args:
            rows: indices into that step's `rows`.
            expected: [rows], a token whose probability is wanted too (any, if none is).
            first: [rows], True where a text begins, so that blanks are suppressed.
        """
        ...

    def candidates(self, rows: Sequence[int], count: int, first: BoolArray) -> Candidates:
        """Read the last step's results: the `count` likeliest tokens of each row.

        `rows` and `first` are those of `predict`.
        """
        ...

    def special_scores(self, rows: Sequence[int]) -> FloatArray:
        """The last step's scores of the tokens from end of text on: [rows, special tokens]."""
        ...

    def keep(self, streams: Sequence[int]) -> None:
        """Drop all other streams."""
        ...


class Backend(Protocol):
    """A loaded model. Thread-safe as long as each batch stays in one thread."""

    def encode(
        self, mel: FloatArray, speech_frames: int, before: EncodedAudio | None, kept: int
    ) -> EncodedAudio:
        """Encode one window.

        Args:
            mel: log-mel spectrogram [bands, steps]; an even number of steps.
            speech_frames: frames before the padding.
            before: the window as it was when less of it had been heard.
            kept: how many of its first frames are taken from `before`; 0 or at least 2.
        """
        ...

    def batch(self, audio: Sequence[EncodedAudio]) -> Batch:
        """Begin to decode."""
        ...
