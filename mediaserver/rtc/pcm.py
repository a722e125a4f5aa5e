"""PCM in every shape a client sends, and its way to 16 kHz float32.

A `PcmSource` turns bytes, cut anywhere, into planar float32 at the rate they came with; a
`Converter` mixes down or splits the channels and resamples. Both are synchronous and do no I/O.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Literal, NamedTuple, Protocol, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples
from mediaserver.kernel.errors import UnsupportedMedia

Block: TypeAlias = tuple[Samples, ...]
"""A run of audio: one array a channel, all of one length; a mixdown has one channel."""

SampleFormat = Literal["u8", "s16", "s24", "s32", "f32", "f64", "mulaw", "alaw"]
"""How one sample is written, little-endian (`mulaw` and `alaw`: ITU-T G.711)."""

SAMPLE_BYTES: dict[SampleFormat, int] = {
    "u8": 1,
    "s16": 2,
    "s24": 3,
    "s32": 4,
    "f32": 4,
    "f64": 8,
    "mulaw": 1,
    "alaw": 1,
}
MIN_SAMPLE_RATE_HZ = 4_000
MAX_SAMPLE_RATE_HZ = 384_000
MAX_CHANNELS = 8
_SLICE_BYTES = 64 * 1024
"""A long message is converted in pieces of this size, so that no block gets large."""

_MAX_PLANES = 7
"""PyAV 18 counts a frame's planes up to a null pointer, which FFmpeg has only behind seven."""
_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
"""A layout of each number of channels; only the number matters here."""


class Pcm(NamedTuple):
    """Decoded audio as it came."""

    samples: npt.NDArray[np.float32]
    """Shape (channels, n), -1 to 1."""
    sample_rate_hz: int


class PcmSource(Protocol):
    """Decodes one stream, step by step, without waiting for anything."""

    def push(self, data: bytes) -> Iterator[Pcm]:
        """Yield what `data` completes. Raises BadInput or UnsupportedMedia."""
        ...

    def finish(self) -> Iterator[Pcm]:
        """Yield what is left when nothing follows."""
        ...


class AudioDecoder(Protocol):
    """Bytes of one stream in, blocks of 16 kHz audio out. Used by one task at a time."""

    def feed(self, data: bytes) -> AsyncIterator[Block]:
        """Yield all audio that can be had from the bytes so far.

        Raises BadInput or UnsupportedMedia for what is not audio, Overloaded when no decoder is
        free; after an error only `close` may be called.
        """
        ...

    def flush(self) -> AsyncIterator[Block]:
        """Yield what is left: no more bytes follow. Half a sample at the end is ignored."""
        ...

    async def close(self) -> None:
        """Give back what the decoder holds; also in the middle of a stream. Bounded in time."""
        ...


class Converter:
    """Brings a stream to 16 kHz: one mixed-down channel, or each for itself.

    Keeps the resampler's state from block to block, and follows a stream that changes its rate.
    """

    def __init__(self, *, split: bool = False) -> None:
        self._split = split
        self._channels = 0
        self._rate_hz = 0
        self._resampler: av.AudioResampler | None = None

    def push(self, pcm: Pcm) -> Block | None:
        """Return the audio at 16 kHz; None if there is none yet.

        Raises UnsupportedMedia for a rate or number of channels that is not taken.
        """
        samples = pcm.samples
        if not samples.size:
            return None
        if len(samples) > 1 and not self._split:
            samples = samples.mean(axis=0, dtype=np.float32, keepdims=True)
        head: list[npt.NDArray[np.float32]] = []
        if (len(samples), pcm.sample_rate_hz) != (self._channels, self._rate_hz):
            head = self._change(len(samples), pcm.sample_rate_hz)
        return _block([*head, *self._resample(samples)])

    def flush(self) -> Block | None:
        """Return what the resampler still holds."""
        rest = self._drain()
        self._rate_hz = 0
        return _block(rest)

    def _change(self, channels: int, rate_hz: int) -> list[npt.NDArray[np.float32]]:
        if not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise UnsupportedMedia(
                f"a sample rate of {rate_hz} Hz; {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} work"
            )
        if channels > MAX_CHANNELS:
            raise UnsupportedMedia(
                f"{channels} channels to be transcribed apart; {MAX_CHANNELS} at most "
                "(leave `multichannel` out to have them mixed down)"
            )
        if self._channels and channels != self._channels:
            raise UnsupportedMedia(
                f"the number of channels changed from {self._channels} to {channels}; "
                "open another stream for that"
            )
        rest = self._drain()
        self._channels, self._rate_hz = channels, rate_hz
        if rate_hz != SAMPLE_RATE_HZ:
            self._resampler = av.AudioResampler(
                format="flt", layout=_LAYOUTS[channels - 1], rate=SAMPLE_RATE_HZ
            )
        return rest

    def _resample(self, samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        if self._resampler is None:
            return [samples]
        interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            interleaved, format="flt", layout=_LAYOUTS[self._channels - 1]
        )
        frame.sample_rate = self._rate_hz
        return [planar(out) for out in self._resampler.resample(frame)]

    def _drain(self) -> list[npt.NDArray[np.float32]]:
        if self._resampler is None:
            return []
        rest = [planar(out) for out in self._resampler.resample(None)]
        self._resampler = None
        return rest


def _block(parts: list[npt.NDArray[np.float32]]) -> Block | None:
    parts = [part for part in parts if part.shape[1]]
    if not parts:
        return None
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return tuple(np.ascontiguousarray(channel) for channel in whole)


def planar(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    """Return a frame's samples as float32 of shape (channels, n). Raises UnsupportedMedia."""
    if frame.format.is_planar and frame.layout.nb_channels > _MAX_PLANES:
        raise UnsupportedMedia(f"{frame.layout.nb_channels} channels in this codec")
    try:
        samples = frame.to_ndarray()
    except ValueError:
        raise UnsupportedMedia(f"samples of the format {frame.format.name}") from None
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    floats: npt.NDArray[np.float32] = samples.astype(np.float32, copy=False)
    if samples.dtype.kind == "i":
        floats = floats / np.float32(1 << (8 * samples.dtype.itemsize - 1))
    return floats


class RawSource:
    """Headerless interleaved samples. Half a sample at the end of a message waits for the next."""

    def __init__(self, sample_format: SampleFormat, sample_rate_hz: int, channels: int) -> None:
        self._format: SampleFormat = sample_format
        self._rate_hz = sample_rate_hz
        self._channels = channels
        self._frame_bytes = SAMPLE_BYTES[sample_format] * channels
        self._rest = b""

    def push(self, data: bytes) -> Iterator[Pcm]:
        """Yield the whole samples so far, in pieces of bounded size."""
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        step = max(1, _SLICE_BYTES // self._frame_bytes) * self._frame_bytes
        for start in range(0, whole, step):
            piece = data[start : min(start + step, whole)]
            samples = to_float(piece, self._format).reshape(-1, self._channels).T
            yield Pcm(samples, self._rate_hz)

    def finish(self) -> Iterator[Pcm]:
        """Yield nothing: half a sample is no audio."""
        self._rest = b""
        return iter(())


def to_float(data: bytes, sample_format: SampleFormat) -> npt.NDArray[np.float32]:
    """Return whole little-endian samples as float32, -1 to 1."""
    match sample_format:
        case "u8":
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
        case "s16":
            return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
        case "s24":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.view("<i4")[:, 0].astype(np.float32) / 2147483648.0
        case "s32":
            return np.frombuffer(data, "<i4").astype(np.float32) / 2147483648.0
        case "f32" | "f64":
            floats = np.frombuffer(data, "<f4" if sample_format == "f32" else "<f8")
            # what is not a number would poison the resampler for good
            clipped: npt.NDArray[np.float32] = np.clip(np.nan_to_num(floats), -1.0, 1.0).astype(
                "f4"
            )
            return clipped
        case "mulaw":
            return _MULAW[np.frombuffer(data, np.uint8)]
        case "alaw":
            return _ALAW[np.frombuffer(data, np.uint8)]


def _mulaw_table() -> npt.NDArray[np.float32]:
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 0x0F).astype(np.int32)
    magnitude = ((mantissa * 8 + 132) << exponent) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768.0).astype(np.float32)


def _alaw_table() -> npt.NDArray[np.float32]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 0x0F).astype(np.int32)
    steep = ((mantissa * 16 + 264) << np.maximum(exponent.astype(np.int32) - 1, 0)).astype(np.int32)
    magnitude = np.where(exponent == 0, mantissa * 16 + 8, steep)
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768.0).astype(np.float32)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()


class InlineDecoder:
    """An `AudioDecoder` of a source that is quick enough for the event loop."""

    def __init__(self, source: PcmSource, converter: Converter) -> None:
        self._source = source
        self._converter = converter

    async def feed(self, data: bytes) -> AsyncIterator[Block]:
        """Yield the audio of `data`."""
        for pcm in self._source.push(data):
            if (block := self._converter.push(pcm)) is not None:
                yield block

    async def flush(self) -> AsyncIterator[Block]:
        """Yield what is left."""
        for pcm in self._source.finish():
            if (block := self._converter.push(pcm)) is not None:
                yield block
        if (last := self._converter.flush()) is not None:
            yield last

    async def close(self) -> None:
        """Nothing is held."""
