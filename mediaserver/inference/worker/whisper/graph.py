"""Whisper as ONNX graphs with int8 matrix products, built from the weights.

Encoder: log-mel behind any number of frames that are encoded already in, every decoder layer's
cross-attention keys and values out. Decoder: any number
of tokens behind any cache, so that one graph does both the pass over known text and single steps.
The vocabulary's projection is a third graph, because few of a pass's tokens need it.

Products quantise each weight per output channel and each activation row on its own. ONNX Runtime's
`DynamicQuantizeMatMul` has one scale for a whole activation; that costs accuracy where rows differ,
so rows are first divided by their largest value. `MatMulNBits` quantises per row itself and is
faster for up to four rows, slower for more. Figures: docs/speech-engine.md.

Sources: openai/whisper model.py for the network; onnxruntime docs/ContribOperators.md.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from mediaserver.inference.worker.whisper.weights import HEAD_SIZE, FloatArray, WhisperWeights

Product = Literal["float32", "int8", "int8-few-rows"]
"""How matrices are multiplied. `float32` is for tests; the last is for at most about four rows."""

_BLOCK = 128  # inputs that share a scale in MatMulNBits; every Whisper width is a multiple
_OPSET, _IR_VERSION = 17, 9
_NEVER = -1e9
_END = 2**40
_KV = ("key", "value")
_Shape = Sequence[str | int | None]


class _Graph:
    """Collects nodes; every method returns the name of the value that it made."""

    def __init__(self, weights: WhisperWeights, product: Product, weight_bits: int) -> None:
        self.weights = weights
        self.product = product
        self.largest = 2 ** (weight_bits - 1) - 1
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.inner: list[ValueInfoProto] = []

    def input(self, name: str, shape: _Shape, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: _Shape) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        if name not in self.constants:
            array = np.ascontiguousarray(value)
            self.constants[name] = numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return name

    def many(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        microsoft = kind in ("MultiHeadAttention", "DynamicQuantizeMatMul", "MatMulNBits", "Gelu")
        domain = "com.microsoft" if microsoft else ""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)
        )

    def one(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.many(kind, inputs, [output], **attributes)
        return output

    def linear(self, x: str, prefix: str) -> str:
        """x [..., inputs] -> [..., outputs] with the linear layer stored under `prefix`."""
        return self.product_of(
            x, prefix, self.weights[f"{prefix}/weight"], self.weights[f"{prefix}/bias"]
        )

    def queries(self, x: str, prefix: str) -> str:
        """As `linear`, with the attention's scale in the first `width` outputs (the queries).

        `MultiHeadAttention` has a fast path for single rows only if it need not scale.
        """
        weight, bias = self.weights[f"{prefix}/weight"], self.weights[f"{prefix}/bias"]
        width = self.weights.dimensions.width
        weight[:width] *= HEAD_SIZE**-0.5
        bias[:width] *= HEAD_SIZE**-0.5
        return self.product_of(x, prefix, weight, bias)

    def attend(self, inputs: Sequence[str], outputs: Sequence[str] = ()) -> str:
        """MultiHeadAttention on scaled queries."""
        outputs = outputs or [f"v{len(self.nodes)}"]
        heads = self.weights.dimensions.heads
        self.many("MultiHeadAttention", inputs, outputs, num_heads=heads, scale=1.0)
        return outputs[0]

    def product_of(
        self, x: str, name: str, weight: FloatArray, bias: FloatArray, output: str = ""
    ) -> str:
        """x [..., inputs] times weight [outputs, inputs], plus bias [outputs]."""
        b = self.constant(f"{name}/b", bias)
        if self.product == "float32":
            product = self.one("MatMul", [x, self.constant(f"{name}/w", weight.T)])
        elif self.product == "int8-few-rows":
            return self._few_rows(x, name, weight, b, output)
        else:
            scale = np.maximum(np.abs(weight).max(1), 1e-9) / self.largest
            quantised = np.round(weight / scale[:, None]).astype(np.int8)
            w, s = self.constant(f"{name}/q", quantised.T), self.constant(f"{name}/s", scale)
            peak = self.one("ReduceMax", [self.one("Abs", [x])], axes=[-1], keepdims=1)
            peak = self.one("Add", [peak, self.constant("epsilon", np.float32(1e-9))])
            level = self.one("Div", [x, peak])
            product = self.one("Mul", [self.one("DynamicQuantizeMatMul", [level, w, s]), peak])
        return self.one("Add", [product, b], output)

    def _few_rows(self, x: str, name: str, weight: FloatArray, bias: str, output: str) -> str:
        outputs, inputs = weight.shape
        blocks = weight.reshape(outputs, inputs // _BLOCK, _BLOCK)
        scale = np.maximum(np.abs(blocks).max(2), 1e-9) / 127
        quantised = (np.round(blocks / scale[..., None]) + 128).astype(np.uint8)
        w, s = self.constant(f"{name}/q", quantised), self.constant(f"{name}/s", scale)
        sizes = {"K": inputs, "N": outputs, "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
        return self.one("MatMulNBits", [x, w, s, "", "", bias], output, **sizes)

    def norm(self, x: str, prefix: str) -> str:
        gamma, beta = (
            self.constant(f"{prefix}/{part}", self.weights[f"{prefix}/{part}"])
            for part in ("gamma", "beta")
        )
        return self.one("LayerNormalization", [x, gamma, beta], axis=-1, epsilon=1e-5)

    def feed_forward(self, x: str, prefix: str) -> str:
        y = self.linear(self.norm(x, f"{prefix}/ffn/layer_norm"), f"{prefix}/ffn/linear_0")
        y = self.linear(self.one("Gelu", [y]), f"{prefix}/ffn/linear_1")
        return self.one("Add", [x, y])

    def split(self, x: str, parts: int, axis: int) -> list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(parts)]
        self.many("Split", [x], names, axis=axis)
        return names

    def model(self) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "whisper",
            self.inputs,
            self.outputs,
            list(self.constants.values()),
            value_info=self.inner,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = _IR_VERSION
        return model


def encoder_graph(weights: WhisperWeights, product: Product, weight_bits: int = 8) -> ModelProto:
    """The audio encoder, with the decoder's projections of what it says.

    Inputs (n new frames behind p encoded ones):
        mel [1, bands, steps], positions [1, n, width], skipped int64 [1]: frames at the beginning
        of mel that are only context for the convolutions; steps = 2 (skipped + n)
        past_key{l}, past_value{l} [1, heads, p, 64] of each encoder layer l
    Outputs:
        present_key{l}, present_value{l} [1, heads, p + n, 64] of each encoder layer l
        key{l}, value{l} [1, heads, n, 64] of each decoder layer l
    """
    g, sizes = _Graph(weights, product, weight_bits), weights.dimensions
    mel = g.input("mel", [1, sizes.mel_bands, "steps"])
    positions = g.input("positions", [1, "n", sizes.width])
    skipped = g.input("skipped", [1], TensorProto.INT64)
    conv1 = [g.constant(f"conv1/{p}", weights[f"encoder/conv1/{p}"]) for p in ("weight", "bias")]
    x = g.one("Gelu", [g.one("Conv", [mel, *conv1], kernel_shape=[3], pads=[1, 1])])
    x = _halve(g, g.one("Transpose", [x], perm=[0, 2, 1]))
    end, axis = g.constant("end", np.array([_END])), g.constant("axis1", np.array([1]))
    x = g.one("Add", [g.one("Slice", [x, skipped, end, axis]), positions])
    for layer in range(sizes.encoder_layers):
        prefix = f"encoder/layer_{layer}"
        attention = f"{prefix}/self_attention"
        y = g.queries(g.norm(x, f"{attention}/layer_norm"), f"{attention}/linear_0")
        past = [g.input(f"past_{p}{layer}", [1, sizes.heads, "p", HEAD_SIZE]) for p in _KV]
        present = [f"present_{p}{layer}" for p in _KV]
        y = g.attend([*g.split(y, 3, axis=2), "", "", "", *past], [f"self{layer}", *present])
        for name in present:
            g.output(name, [1, sizes.heads, "p+n", HEAD_SIZE])
        x = g.one("Add", [x, g.linear(y, f"{attention}/linear_1")])
        x = g.feed_forward(x, prefix)
    y = g.norm(x, "encoder/layer_norm")
    by_head = g.constant("by_head", np.array([0, 0, 2 * sizes.heads, HEAD_SIZE]))
    for layer in range(sizes.decoder_layers):
        both = g.linear(y, f"decoder/layer_{layer}/attention/linear_1")
        both = g.one("Transpose", [g.one("Reshape", [both, by_head])], perm=[0, 2, 1, 3])
        names = [f"key{layer}", f"value{layer}"]
        g.many("Split", [both], names, axis=1)
        for name in names:
            g.output(name, [1, sizes.heads, "n", HEAD_SIZE])
    return g.model()


def _halve(g: _Graph, x: str) -> str:
    """The second convolution (three wide, stride two) on x [batch, 2 n, width] as a product."""
    pads = g.constant("pads", np.array([0, 1, 0, 0, 1, 0]))
    x = g.one("Pad", [x, pads])
    axis, stride = g.constant("axis1", np.array([1])), g.constant("two", np.array([2]))
    shifted = []
    for shift in range(3):
        first = g.constant(f"first{shift}", np.array([shift]))
        last = g.constant(f"last{shift}", np.array([shift - 2 if shift < 2 else _END]))
        shifted.append(g.one("Slice", [x, first, last, axis, stride]))
    columns = g.one("Concat", shifted, axis=2)
    weight = g.weights["encoder/conv2/weight"].transpose(0, 2, 1)  # [width, 3, width]
    weight = weight.reshape(len(weight), -1)
    return g.one("Gelu", [g.product_of(columns, "conv2", weight, g.weights["encoder/conv2/bias"])])


def decoder_graph(weights: WhisperWeights, product: Product, weight_bits: int = 8) -> ModelProto:
    """The text decoder without embedding and vocabulary.

    Inputs (b streams, t new tokens, p cached tokens, n audio frames, r rows of b * t):
        embedded [b, t, width], rows int64 [r]
        text_mask [b, 1, t, p + t] and audio_mask [b, 1, t, n], added to the attention's scores
        past_key{l}, past_value{l} [b, heads, p, 64]; key{l}, value{l} [b, heads, n, 64]
    Outputs:
        hidden [r, width], attention [b, alignment heads, t, n] (sums to one over n)
        present_key{l}, present_value{l} [b, heads, p + t, 64]
    """
    g, sizes = _Graph(weights, product, weight_bits), weights.dimensions
    x = g.input("embedded", ["b", "t", sizes.width])
    rows = g.input("rows", ["r"], TensorProto.INT64)
    text_mask = g.input("text_mask", ["b", 1, "t", "p+t"])
    audio_mask = g.input("audio_mask", ["b", 1, "t", "n"])
    seen = []
    for layer in range(sizes.decoder_layers):
        prefix = f"decoder/layer_{layer}"
        self_attention, attention = f"{prefix}/self_attention", f"{prefix}/attention"
        past = [g.input(f"past_{p}{layer}", ["b", sizes.heads, "p", HEAD_SIZE]) for p in _KV]
        audio = [g.input(f"{p}{layer}", ["b", sizes.heads, "n", HEAD_SIZE]) for p in _KV]
        present = [f"present_{p}{layer}" for p in _KV]
        y = g.queries(g.norm(x, f"{self_attention}/layer_norm"), f"{self_attention}/linear_0")
        inputs = [*g.split(y, 3, axis=2), "", "", text_mask, *past]
        y = g.attend(inputs, [f"self{layer}", *present])
        for name in present:
            g.output(name, ["b", sizes.heads, "p+t", HEAD_SIZE])
        x = g.one("Add", [x, g.linear(y, f"{self_attention}/linear_1")])
        y = g.queries(g.norm(x, f"{attention}/layer_norm"), f"{attention}/linear_0")
        outputs = [f"cross{layer}"]
        heads = [head for where, head in weights.alignment_heads if where == layer]
        if heads:
            outputs += ["", "", f"attention{layer}"]
            g.inner.append(helper.make_tensor_value_info(outputs[-1], TensorProto.FLOAT, None))
            chosen = g.constant(f"heads{layer}", np.array(heads))
            seen.append(g.one("Gather", [outputs[-1], chosen], axis=1))
        y = g.attend([y, *audio, "", "", audio_mask], outputs)
        x = g.one("Add", [x, g.linear(y, f"{attention}/linear_2")])
        x = g.feed_forward(x, prefix)
    flat = g.constant("flat", np.array([-1, sizes.width]))
    y = g.one("Gather", [g.one("Reshape", [x, flat]), rows])
    g.one("Identity", [g.norm(y, "decoder/layer_norm")], "hidden")
    g.output("hidden", ["r", sizes.width])
    # MultiHeadAttention calls its last output normalised, but gives scores before the softmax.
    g.one("Softmax", [g.one("Concat", seen, axis=1)], "attention", axis=-1)
    g.output("attention", ["b", len(weights.alignment_heads), "t", "n"])
    return g.model()


def vocabulary_graph(weights: WhisperWeights, product: Product, weight_bits: int = 8) -> ModelProto:
    """hidden [r, width] -> scores [r, text tokens and end of text]; suppressed ones are -1e9."""
    g, size = _Graph(weights, product, weight_bits), weights.vocabulary.end_of_text + 1
    bias = np.zeros(size, np.float32)
    bias[[token for token in weights.suppressed if token < size]] = _NEVER
    weight = weights.variables["decoder/projection/weight"][:size].astype(np.float32)
    g.input("hidden", ["r", weights.dimensions.width])
    g.product_of("hidden", "projection", weight, bias, output="scores")
    g.output("scores", ["r", size])
    return g.model()
