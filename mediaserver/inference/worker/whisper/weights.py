"""Read a Whisper model in CTranslate2's format: config.json, vocabulary and model.bin.

model.bin (CTranslate2 4.x, `Model::load` in src/models/model.cc), little-endian:

    u32 version, string specification, u32 revision
    u32 count, then each variable: string name, u8 rank, u32[rank] shape, u8 type, u32 bytes, data
    u32 count, then for each alias: string name, string variable

A string is a u16 length, which counts the closing NUL, and its bytes.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mediaserver.kernel.errors import ConfigurationError

FloatArray = npt.NDArray[np.float32]

SPECIFICATION = "WhisperSpec"
NEWEST_VERSION = 6
HEAD_SIZE = 64
"""Width of an attention head, the same in every Whisper model."""
_TYPES: dict[int, type[np.generic]] = {
    0: np.float32,
    1: np.int8,
    2: np.int16,
    3: np.int32,
    4: np.float16,
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that steer Whisper. Texts are turned into tokens elsewhere."""

    end_of_text: int
    """Also the number of text tokens: every token above it is a special one."""
    start_of_transcript: int
    transcribe: int
    translate: int
    start_of_previous: int
    no_speech: int
    no_timestamps: int
    languages: Mapping[str, int]
    """Token of each language code; empty if the model knows English only."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Sizes of a Whisper model."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mel_bands: int
    audio_frames: int
    """Most frames (20 ms) of encoded audio: 1500."""
    text_positions: int
    """Most tokens that the decoder can look at: 448."""


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """A Whisper model's numbers, read lazily from a mapped file."""

    dimensions: Dimensions
    vocabulary: Vocabulary
    alignment_heads: tuple[tuple[int, int], ...]
    """(decoder layer, head) whose cross-attention follows the audio."""
    suppressed: tuple[int, ...]
    """Tokens that are never said."""
    suppressed_first: tuple[int, ...]
    """Tokens that a text never begins with."""
    variables: Mapping[str, npt.NDArray[Any]]

    def __getitem__(self, name: str) -> FloatArray:
        """A variable as float32 [as stored]; linear weights are [outputs, inputs]."""
        try:
            return self.variables[name].astype(np.float32)
        except KeyError:
            raise ConfigurationError(f"the speech model has no variable {name}") from None


def read_weights(folder: Path) -> WhisperWeights:
    """Open the model in `folder`.

    Raises:
        ConfigurationError: a file is missing, is no Whisper model, or holds quantised weights.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        variables = _read_variables(folder / "model.bin")
        vocabulary = _read_vocabulary(folder)
    except (OSError, ValueError, struct.error) as error:
        raise ConfigurationError(f"cannot read the speech model in {folder}: {error}") from error
    dimensions = _measure(variables)
    heads = config.get("alignment_heads") or [
        [layer, head]
        for layer in range(dimensions.decoder_layers // 2, dimensions.decoder_layers)
        for head in range(dimensions.heads)
    ]
    return WhisperWeights(
        dimensions=dimensions,
        vocabulary=vocabulary,
        alignment_heads=tuple(sorted((int(layer), int(head)) for layer, head in heads)),
        suppressed=tuple(config.get("suppress_ids", ())),
        suppressed_first=tuple(config.get("suppress_ids_begin", ())),
        variables=variables,
    )


def _read_variables(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    at = 0

    def unpack(layout: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return values

    def text() -> str:
        (length,) = unpack("H")
        (raw,) = unpack(f"{length}s")
        return bytes(raw).rstrip(b"\0").decode()

    (version,) = unpack("I")
    if version > NEWEST_VERSION:
        raise ConfigurationError(f"{path} has format version {version}, known is {NEWEST_VERSION}")
    specification = text()
    if specification != SPECIFICATION:
        raise ConfigurationError(f"{path} is a {specification}, not a {SPECIFICATION}")
    unpack("I")  # the specification's revision
    variables: dict[str, npt.NDArray[Any]] = {}
    for _ in range(unpack("I")[0]):
        name = text()
        (rank,) = unpack("B")
        shape = unpack(f"{rank}I")
        kind, size_bytes = unpack("BI")
        if kind not in _TYPES or (kind == 1 and name.endswith("/weight")):
            raise ConfigurationError(
                f"{path} holds quantised weights ({name}); use a model stored as float16 or float32"
            )
        count = size_bytes // np.dtype(_TYPES[kind]).itemsize
        variables[name] = np.frombuffer(data, _TYPES[kind], count, at).reshape(shape)
        at += size_bytes
    for _ in range(unpack("I")[0]):
        alias = text()
        variables[alias] = variables[text()]
    return variables


def _measure(variables: Mapping[str, npt.NDArray[Any]]) -> Dimensions:
    def layers(side: str) -> int:
        return len({name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_")}
                   - {"layer_norm"})  # fmt: skip

    try:
        width, mel_bands, _ = variables["encoder/conv1/weight"].shape
        heads = int(variables["decoder/num_heads"])
        audio_frames = variables["encoder/position_encodings/encodings"].shape[0]
        text_positions = variables["decoder/position_encodings/encodings"].shape[0]
    except KeyError as error:
        raise ConfigurationError(f"the speech model has no variable {error}") from error
    if width != heads * HEAD_SIZE:
        raise ConfigurationError(f"{heads} heads of {HEAD_SIZE} do not make the width {width}")
    return Dimensions(
        width, heads, layers("encoder"), layers("decoder"), mel_bands, audio_frames, text_positions
    )


def _read_vocabulary(folder: Path) -> Vocabulary:
    as_json, as_text = folder / "vocabulary.json", folder / "vocabulary.txt"
    if as_json.exists():
        tokens: list[str] = json.loads(as_json.read_text("utf-8"))
    else:
        tokens = as_text.read_text("utf-8").split("\n")
    ids = {token: i for i, token in enumerate(tokens) if token.startswith("<|")}

    def special(*names: str) -> int:
        for name in names:
            if f"<|{name}|>" in ids:
                return ids[f"<|{name}|>"]
        raise ConfigurationError(f"the speech model's vocabulary in {folder} has no <|{names[0]}|>")

    start, translate = special("startoftranscript"), special("translate")
    # English-only models list the languages too, but were never taught them.
    multilingual = special("endoftext") == 50257
    between = range(start + 1, translate) if multilingual else range(0)
    return Vocabulary(
        end_of_text=special("endoftext"),
        start_of_transcript=start,
        transcribe=special("transcribe"),
        translate=translate,
        start_of_previous=special("startofprev"),
        no_speech=special("nospeech", "nocaptions"),
        no_timestamps=special("notimestamps"),
        languages={tokens[i].strip("<|>"): i for i in between},
    )
