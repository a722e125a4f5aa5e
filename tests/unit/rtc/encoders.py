"""Real encoded audio, made by PyAV on the fly, and how like its source a decoding of it is."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_LAYOUTS = {1: "mono", 2: "stereo", 4: "4.0"}


def voice_like(seconds: float, rate_hz: int = 16_000, seed: int = 1) -> Floats:
    """Something with the pitch, formants and pauses of a voice, that speech codecs keep well."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * at + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    formant = 600 + 300 * np.sin(2 * np.pi * 1.3 * at + rng.uniform(0, 6))
    voice = sum(
        np.sin(k * phase + rng.uniform(0, 6)) * np.exp(-(((k * pitch - formant) / 400) ** 2))
        for k in range(1, 20)
    )
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * at) + 0.6, 0, 1)
    whole = np.asarray(voice * syllables)
    scaled: Floats = (0.5 * whole / np.abs(whole).max()).astype(np.float32)
    return scaled


class Unseekable(io.RawIOBase):
    """A sink like a socket: what is written cannot be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += bytes(data)
        return len(data)


@dataclass(frozen=True)
class Recipe:
    """How to encode."""

    container: str
    codec: str
    rate_hz: int = 48_000
    bit_rate: int | None = None
    sample_format: str | None = None
    seekable: bool = False
    options: dict[str, str] = field(default_factory=dict)
    codec_options: dict[str, str] = field(default_factory=dict)
    with_video: bool = False


def encode(recipe: Recipe, channels: Floats, source_hz: int = 16_000) -> bytes:
    """Return `channels` (shape (n,) or (channels, n)) as a file of that kind."""
    channels = np.atleast_2d(channels)
    layout = _LAYOUTS[len(channels)]
    if "faststart" in recipe.options.values():  # FFmpeg reads the file again to move its index
        with tempfile.NamedTemporaryFile(suffix=f".{recipe.container}") as file:
            _write(recipe, channels, source_hz, layout, file.name)
            return Path(file.name).read_bytes()
    sink = io.BytesIO() if recipe.seekable else Unseekable()
    _write(recipe, channels, source_hz, layout, sink)
    return bytes(sink.written) if isinstance(sink, Unseekable) else sink.getvalue()


def _write(recipe: Recipe, channels: Floats, source_hz: int, layout: str, sink: Any) -> None:
    with av.open(sink, "w", format=recipe.container, options=recipe.options) as out:
        video: Any = None
        if recipe.with_video:
            video = out.add_stream("libvpx", rate=10, width=64, height=64)
        stream: Any = out.add_stream(
            recipe.codec, rate=recipe.rate_hz, layout=layout, options=recipe.codec_options
        )
        if recipe.bit_rate:
            stream.bit_rate = recipe.bit_rate
        if recipe.sample_format:
            stream.format = recipe.sample_format
        for pictures, frame in _frames(recipe, stream, channels, source_hz, layout):
            for _ in range(pictures if video is not None else 0):
                picture = av.VideoFrame.from_ndarray(
                    np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "rgb24"
                )
                out.mux(video.encode(picture))
            out.mux(stream.encode(frame))
        if video is not None:
            out.mux(video.encode(None))
        out.mux(stream.encode(None))


def _frames(
    recipe: Recipe, stream: Any, channels: Floats, source_hz: int, layout: str
) -> Iterator[tuple[int, av.AudioFrame]]:
    stream.codec_context.open()
    resampler = av.AudioResampler(
        format=stream.format.name,
        layout=layout,
        rate=recipe.rate_hz,
        frame_size=stream.codec_context.frame_size or recipe.rate_hz // 50,
    )
    whole = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(channels, np.float32), format="fltp", layout=layout
    )
    whole.sample_rate = source_hz
    samples = pictures = 0
    for frame in [*resampler.resample(whole), *resampler.resample(None)]:
        frame.pts = samples
        samples += frame.samples
        due = samples * 10 // recipe.rate_hz - pictures
        pictures += due
        yield due, frame


def opus_packets(channels: Floats, *, frame_ms: int = 20, bit_rate: int = 32_000) -> list[bytes]:
    """Return `channels` at 16 kHz as raw Opus packets."""
    channels = np.atleast_2d(channels)
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format = 16_000, "flt"
    encoder.layout = _LAYOUTS[len(channels)]
    encoder.bit_rate = bit_rate
    encoder.options = {"frame_duration": str(frame_ms), "application": "voip"}
    step = 16 * frame_ms
    packets: list[bytes] = []
    for start in range(0, channels.shape[1] - step + 1, step):
        piece = np.ascontiguousarray(channels[:, start : start + step].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=encoder.layout.name)
        frame.sample_rate, frame.pts = 16_000, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def likeness(decoded: Floats, source: Floats, reach: int = 3200) -> float:
    """Correlation of two signals at the best shift of at most `reach` samples."""
    size = min(len(decoded), len(source))
    a, b = decoded[:size].astype(np.float64), source[:size].astype(np.float64)
    n = 1 << (2 * size - 1).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, n) * np.conj(np.fft.rfft(b, n)), n)
    best = max(cross[: reach + 1].max(), cross[-reach:].max())
    return float(best / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))
