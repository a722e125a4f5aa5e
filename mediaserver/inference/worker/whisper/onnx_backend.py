"""The decoder's computations on a CPU, by ONNX Runtime with int8 products.

Wide products go through one set of sessions, products of a few rows through another: each is the
faster at its own (docs/speech-engine.md). Both hold their own copy of the decoder's weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

from mediaserver.inference.worker.whisper import graph
from mediaserver.inference.worker.whisper.backend import (
    CONVOLUTION_FRAMES,
    MASKED,
    Batch,
    BoolArray,
    Candidates,
    EncodedAudio,
    IntArray,
    Predictions,
)
from mediaserver.inference.worker.whisper.weights import HEAD_SIZE, FloatArray, WhisperWeights

CANDIDATE_REACH = 8.0
"""Tokens whose log-probability is lower than the best one's by this are no candidates."""
FEW_ROWS = 4
"""Up to here `int8-few-rows` is the faster."""


def exact_weight_bits(cpuinfo: str) -> int:
    """How many bits a weight may have on this CPU.

    Without VNNI (or another architecture's dot product) AVX2 and AVX-512 add pairs of products in
    16 bits, which overflow with 8-bit weights; ONNX Runtime's quantisation guide takes 7 there.
    """
    x86 = "vendor_id" in cpuinfo
    return 7 if x86 and "_vnni" not in cpuinfo else 8


class OnnxBackend:
    """Whisper on `threads` threads of a CPU."""

    def __init__(
        self, weights: WhisperWeights, threads: int = 1, product: graph.Product = "int8"
    ) -> None:
        cpuinfo = Path("/proc/cpuinfo")
        bits = exact_weight_bits(cpuinfo.read_text() if cpuinfo.exists() else "")
        few: graph.Product = "int8-few-rows" if product == "int8" else product
        self.weights = weights
        self.embedding = weights.variables["decoder/embeddings/weight"]
        self.positions = weights["decoder/position_encodings/encodings"]
        self._audio_positions = weights["encoder/position_encodings/encodings"]
        end = weights.vocabulary.end_of_text
        projection = weights.variables["decoder/projection/weight"]
        self.special_projection: FloatArray = projection[end:].astype(np.float32)
        self.suppressed_first = np.array(weights.suppressed_first, np.int64)
        self._encoder = _session(graph.encoder_graph(weights, product, bits), threads)
        self._decoders = self._pair(graph.decoder_graph, product, few, bits, threads)
        self._vocabularies = self._pair(graph.vocabulary_graph, product, few, bits, threads)

    def _pair(
        self, build: Any, product: graph.Product, few: graph.Product, bits: int, threads: int
    ) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
        wide = _session(build(self.weights, product, bits), threads)
        if few == product:
            return wide, wide
        return wide, _session(build(self.weights, few, bits), threads)

    def encode(
        self, mel: FloatArray, speech_frames: int, before: EncodedAudio | None, kept: int
    ) -> EncodedAudio:
        """Encode one window; see `Backend`."""
        sizes = self.weights.dimensions
        frames = mel.shape[1] // 2
        skipped = min(kept, CONVOLUTION_FRAMES)
        feed = {
            "mel": np.ascontiguousarray(mel[None, :, 2 * (kept - skipped) :]),
            "positions": self._audio_positions[None, kept:frames],
            "skipped": np.array([skipped]),
        }
        names = [f"past_{part}{layer}" for layer in range(sizes.encoder_layers) for part in _KV]
        if before is None:
            feed |= dict.fromkeys(names, np.empty((1, sizes.heads, 0, HEAD_SIZE), np.float32))
        else:
            for name, state in zip(names, before.states, strict=True):
                feed[name] = np.ascontiguousarray(state[:, :, :kept])
        outputs: list[FloatArray] = self._encoder.run(None, feed)
        states, cross = outputs[: len(names)], outputs[len(names) :]
        keys, values = cross[::2], cross[1::2]
        if before is not None:
            keys, values = (
                [np.concatenate([o[:, :, :kept], n], axis=2) for o, n in zip(old, new, strict=True)]
                for old, new in ((before.keys, keys), (before.values, values))
            )
        return EncodedAudio(
            tuple(keys), tuple(values), tuple(states), frames, min(frames, speech_frames)
        )

    def batch(self, audio: Sequence[EncodedAudio]) -> Batch:
        """Begin to decode."""
        return _OnnxBatch(self, audio)

    def run_decoder(self, rows: int, feed: dict[str, Any]) -> list[Any]:
        """Run a step of so many rows."""
        outputs: list[Any] = self._decoders[rows <= FEW_ROWS].run(None, feed)
        return outputs

    def score(self, hidden: FloatArray) -> FloatArray:
        """Scores of text tokens and end of text: [rows, width] -> [rows, tokens]."""
        session = self._vocabularies[len(hidden) <= FEW_ROWS]
        scores: FloatArray = session.run(None, {"hidden": hidden})[0]
        return scores


class _OnnxBatch:
    def __init__(self, backend: OnnxBackend, audio: Sequence[EncodedAudio]) -> None:
        self.backend = backend
        sizes = backend.weights.dimensions
        self.layers = sizes.decoder_layers
        frames = [one.frames for one in audio]
        self.audio_mask = np.zeros((len(audio), 1, 1, max(frames)), np.float32)
        for row, count in zip(self.audio_mask, frames, strict=True):
            row[..., count:] = MASKED
        self.audio: dict[str, FloatArray] = {}
        for layer in range(self.layers):
            self.audio[f"key{layer}"] = _stack([one.keys[layer] for one in audio], max(frames))
            self.audio[f"value{layer}"] = _stack([one.values[layer] for one in audio], max(frames))
        nothing = np.empty((len(audio), sizes.heads, 0, HEAD_SIZE), np.float32)
        self.past: dict[str, FloatArray] = {
            f"past_{part}{layer}": nothing for layer in range(self.layers) for part in _KV
        }
        self.hidden: FloatArray = np.empty((0, sizes.width), np.float32)

    def step(
        self, tokens: IntArray, positions: IntArray, text_mask: BoolArray, rows: IntArray
    ) -> FloatArray:
        streams, new = tokens.shape
        embedded = self.backend.embedding[tokens] + self.backend.positions[positions]
        feed: dict[str, Any] = {
            "embedded": embedded.astype(np.float32, copy=False),
            "rows": rows,
            "text_mask": np.where(text_mask, np.float32(0), np.float32(MASKED))[:, None],
            "audio_mask": np.repeat(self.audio_mask, new, axis=2),
            **self.audio,
            **self.past,
        }
        outputs = self.backend.run_decoder(streams * new, feed)
        self.hidden = outputs[-2]
        presents = iter(outputs[:-2])
        self.past = {
            f"past_{part}{layer}": next(presents) for layer in range(self.layers) for part in _KV
        }
        attention: FloatArray = outputs[-1]
        return attention

    def predict(self, rows: Sequence[int], expected: IntArray, first: BoolArray) -> Predictions:
        scores = self.backend.score(self.hidden[list(rows)])
        scores[np.ix_(first, self.backend.suppressed_first)] = MASKED
        each = np.arange(len(scores))
        best = scores.argmax(axis=1)
        top = scores[each, best]
        asked = scores[each, expected]
        log_total = np.array(
            [np.log(np.exp(row - peak).sum()) for row, peak in zip(scores, top, strict=True)],
            np.float32,
        )
        scores[each, best] = MASKED
        return Predictions(
            best=best,
            best_log_probability=-log_total,
            margin=top - scores.max(axis=1),
            expected_log_probability=asked - top - log_total,
        )

    def candidates(self, rows: Sequence[int], count: int, first: BoolArray) -> Candidates:
        scores = self.backend.score(self.hidden[list(rows)])
        scores[np.ix_(first, self.backend.suppressed_first)] = MASKED
        tokens = np.zeros((len(scores), count), np.int64)
        logs = np.full((len(scores), count), MASKED, np.float32)
        for row, own in enumerate(scores):
            peak = own.max()
            near = np.flatnonzero(own > peak - CANDIDATE_REACH)
            near = near[np.argsort(-own[near])][:count]
            tokens[row, : len(near)] = near
            logs[row, : len(near)] = own[near] - peak - np.log(np.exp(own - peak).sum())
        return Candidates(tokens, logs)

    def special_scores(self, rows: Sequence[int]) -> FloatArray:
        scores: FloatArray = self.hidden[list(rows)] @ self.backend.special_projection.T
        return scores

    def keep(self, streams: Sequence[int]) -> None:
        chosen = list(streams)
        self.audio_mask = self.audio_mask[chosen]
        self.audio = {name: value[chosen] for name, value in self.audio.items()}
        self.past = {name: value[chosen] for name, value in self.past.items()}


_KV = ("key", "value")


def _stack(parts: Sequence[FloatArray], frames: int) -> FloatArray:
    """[1, heads, n, 64] each -> [streams, heads, frames, 64], padded with zeros."""
    if len(parts) == 1:
        return parts[0]
    stacked = np.zeros((len(parts), parts[0].shape[1], frames, HEAD_SIZE), np.float32)
    for row, part in zip(stacked, parts, strict=True):
        row[:, : part.shape[2]] = part[0]
    return stacked


def _session(model: ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it would keep the most that it ever used
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
