"""The decoder's computations on CUDA, by torch in float16.

The same arithmetic as the ONNX graphs. On a CPU, in float32, it is tested to say the same as they
do, but is slower (docs/speech-engine.md); on a GPU it is not measured yet.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mediaserver.inference.worker.whisper.backend import (
    CONVOLUTION_FRAMES,
    MASKED,
    Batch,
    BoolArray,
    EncodedAudio,
    IntArray,
    Predictions,
)
from mediaserver.inference.worker.whisper.weights import HEAD_SIZE, FloatArray, WhisperWeights


class TorchBackend:
    """Whisper on a torch device; float16, or bfloat16 or float32 where asked for."""

    def __init__(
        self, weights: WhisperWeights, device: str = "cuda", dtype: torch.dtype = torch.float16
    ) -> None:
        self.weights = weights
        self.device = torch.device(device)
        self.dtype = dtype
        floats = (n for n, v in weights.variables.items() if v.dtype.kind == "f" and v.ndim)
        self._tensors = {
            name: torch.from_numpy(weights[name]).to(self.device, dtype) for name in floats
        }
        vocabulary = weights.vocabulary
        end = vocabulary.end_of_text
        suppressed = [token for token in weights.suppressed if token <= end]
        self.suppressed = torch.zeros(end + 1, device=self.device)
        self.suppressed[suppressed] = MASKED
        self.suppressed_first = torch.zeros(end + 1, device=self.device)
        self.suppressed_first[list(weights.suppressed_first)] = MASKED

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def linear(self, x: Tensor, prefix: str) -> Tensor:
        """x [..., inputs] -> [..., outputs] with the linear layer stored under `prefix`."""
        return functional.linear(x, self[f"{prefix}/weight"], self[f"{prefix}/bias"])

    def norm(self, x: Tensor, prefix: str) -> Tensor:
        """Layer normalisation over the last dimension."""
        return functional.layer_norm(
            x, (x.shape[-1],), self[f"{prefix}/gamma"], self[f"{prefix}/beta"]
        )

    def feed_forward(self, x: Tensor, prefix: str) -> Tensor:
        """The residual feed-forward block stored under `prefix`."""
        y = self.linear(self.norm(x, f"{prefix}/ffn/layer_norm"), f"{prefix}/ffn/linear_0")
        return x + self.linear(functional.gelu(y), f"{prefix}/ffn/linear_1")

    @torch.inference_mode()
    def encode(
        self, mel: FloatArray, speech_frames: int, before: EncodedAudio | None, kept: int
    ) -> EncodedAudio:
        """Encode one window; see `Backend`."""
        frames = mel.shape[1] // 2
        skipped = min(kept, CONVOLUTION_FRAMES)
        heard = np.ascontiguousarray(mel[:, 2 * (kept - skipped) :])
        x = torch.from_numpy(heard).to(self.device, self.dtype)[None]
        for name, stride in (("conv1", 1), ("conv2", 2)):
            weight, bias = self[f"encoder/{name}/weight"], self[f"encoder/{name}/bias"]
            x = functional.gelu(functional.conv1d(x, weight, bias, stride, padding=1))
        x = x.transpose(1, 2)[:, skipped:]
        x = x + self["encoder/position_encodings/encodings"][kept:frames]
        states: list[Tensor] = []
        for layer in range(self.weights.dimensions.encoder_layers):
            attention = f"encoder/layer_{layer}/self_attention"
            y = self.linear(self.norm(x, f"{attention}/layer_norm"), f"{attention}/linear_0")
            q, k, v = (by_head(part) for part in y.chunk(3, dim=-1))
            if before is not None:
                old_k, old_v = (s[:, :, :kept] for s in before.states[2 * layer : 2 * layer + 2])
                k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
            states += [k, v]
            y = merge_heads(functional.scaled_dot_product_attention(q, k, v))
            x = self.feed_forward(
                x + self.linear(y, f"{attention}/linear_1"), f"encoder/layer_{layer}"
            )
        y = self.norm(x, "encoder/layer_norm")
        both = [
            self.linear(y, f"decoder/layer_{layer}/attention/linear_1").chunk(2, dim=-1)
            for layer in range(self.weights.dimensions.decoder_layers)
        ]
        keys, values = ([by_head(pair[i]) for pair in both] for i in (0, 1))
        if before is not None:
            keys, values = (
                [torch.cat([o[:, :, :kept], n], dim=2) for o, n in zip(old, new, strict=True)]
                for old, new in ((before.keys, keys), (before.values, values))
            )
        return EncodedAudio(
            tuple(keys), tuple(values), tuple(states), frames, min(frames, speech_frames)
        )

    def batch(self, audio: Sequence[EncodedAudio]) -> Batch:
        """Begin to decode."""
        return _TorchBatch(self, audio)


class _TorchBatch:
    def __init__(self, backend: TorchBackend, audio: Sequence[EncodedAudio]) -> None:
        self.backend = backend
        longest = max(one.frames for one in audio)
        layers = range(backend.weights.dimensions.decoder_layers)
        self.keys = [_stack([one.keys[layer] for one in audio], longest) for layer in layers]
        self.values = [_stack([one.values[layer] for one in audio], longest) for layer in layers]
        counts = torch.tensor([one.frames for one in audio], device=backend.device)
        here = torch.arange(longest, device=backend.device) < counts[:, None]
        self.audio_mask = here[:, None, None]  # [streams, 1, 1, frames]
        self.past: list[tuple[Tensor, Tensor]] = []
        self.hidden = torch.empty(0)

    @torch.inference_mode()
    def step(
        self, tokens: IntArray, positions: IntArray, text_mask: BoolArray, rows: IntArray
    ) -> FloatArray:
        model = self.backend
        ids, places, chosen = (
            torch.from_numpy(array).to(model.device) for array in (tokens, positions, rows)
        )
        mask = torch.from_numpy(text_mask).to(model.device)[:, None]
        x = model["decoder/embeddings/weight"][ids]
        x = x + model["decoder/position_encodings/encodings"][places]
        seen: list[Tensor] = []
        presents: list[tuple[Tensor, Tensor]] = []
        for layer in range(len(self.keys)):
            prefix = f"decoder/layer_{layer}"
            own, cross = f"{prefix}/self_attention", f"{prefix}/attention"
            y = model.linear(model.norm(x, f"{own}/layer_norm"), f"{own}/linear_0")
            q, k, v = (by_head(part) for part in y.chunk(3, dim=-1))
            if self.past:
                k = torch.cat([self.past[layer][0], k], dim=2)
                v = torch.cat([self.past[layer][1], v], dim=2)
            presents.append((k, v))
            y = merge_heads(functional.scaled_dot_product_attention(q, k, v, mask))
            x = x + model.linear(y, f"{own}/linear_1")
            y = model.linear(model.norm(x, f"{cross}/layer_norm"), f"{cross}/linear_0")
            y = self._look(by_head(y), layer, seen)
            x = model.feed_forward(x + model.linear(y, f"{cross}/linear_2"), prefix)
        self.past = presents
        self.hidden = model.norm(x.flatten(0, 1)[chosen], "decoder/layer_norm")
        return torch.cat(seen, dim=1).float().cpu().numpy()

    def _look(self, q: Tensor, layer: int, seen: list[Tensor]) -> Tensor:
        """Attend to the audio: q [streams, heads, new, 64] -> [streams, new, width]."""
        keys, values = self.keys[layer], self.values[layer]
        heads = [head for where, head in self.backend.weights.alignment_heads if where == layer]
        if heads:
            scores = (q[:, heads] @ keys[:, heads].transpose(-1, -2)).float() / HEAD_SIZE**0.5
            seen.append(scores.masked_fill(~self.audio_mask, MASKED).softmax(dim=-1))
        y = functional.scaled_dot_product_attention(q, keys, values, self.audio_mask)
        return merge_heads(y)

    @torch.inference_mode()
    def predict(self, rows: Sequence[int], expected: IntArray, first: BoolArray) -> Predictions:
        model = self.backend
        end = model.weights.vocabulary.end_of_text
        scores = self.hidden[list(rows)] @ model["decoder/projection/weight"][: end + 1].T
        scores = scores.float() + model.suppressed
        begins = torch.from_numpy(first).to(model.device)
        scores = scores + begins[:, None] * model.suppressed_first
        logs = scores.log_softmax(dim=-1)
        top, best = logs.topk(2, dim=-1)
        asked = logs.gather(1, torch.from_numpy(expected).to(model.device)[:, None])[:, 0]
        return Predictions(
            best=best[:, 0].cpu().numpy(),
            best_log_probability=top[:, 0].cpu().numpy(),
            margin=(top[:, 0] - top[:, 1]).cpu().numpy(),
            expected_log_probability=asked.cpu().numpy(),
        )

    @torch.inference_mode()
    def special_scores(self, rows: Sequence[int]) -> FloatArray:
        end = self.backend.weights.vocabulary.end_of_text
        scores = self.hidden[list(rows)] @ self.backend["decoder/projection/weight"][end:].T
        return scores.float().cpu().numpy().astype(np.float32)

    def keep(self, streams: Sequence[int]) -> None:
        chosen = list(streams)
        self.audio_mask = self.audio_mask[chosen]
        self.keys = [keys[chosen] for keys in self.keys]
        self.values = [values[chosen] for values in self.values]
        self.past = [(keys[chosen], values[chosen]) for keys, values in self.past]


def by_head(x: Tensor) -> Tensor:
    """[streams, n, width] -> [streams, heads, n, 64]."""
    return x.view(*x.shape[:-1], -1, HEAD_SIZE).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[streams, heads, n, 64] -> [streams, n, width]."""
    return x.transpose(1, 2).flatten(2)


def _stack(parts: Sequence[Tensor], frames: int) -> Tensor:
    """[1, heads, n, 64] each -> [streams, heads, frames, 64], padded with zeros."""
    return torch.cat([functional.pad(part, (0, 0, 0, frames - part.shape[2])) for part in parts])
