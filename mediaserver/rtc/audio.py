"""Which decoder takes which encoding: the door through which WebSocket audio comes in.

::

    decoder = make_decoder(AudioFormat("linear16", sample_rate_hz=48_000), pool)
    try:
        async for message in socket:
            async for block in decoder.feed(message):
                track.push(AudioChunk(block[0], start_s))
        async for block in decoder.flush(): ...
    finally:
        await decoder.close()
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, assert_never

from mediaserver.kernel.errors import BadInput
from mediaserver.rtc.containers import ContainerDecoder, DecoderPool
from mediaserver.rtc.flac import FlacSource
from mediaserver.rtc.opus import OpusSource
from mediaserver.rtc.pcm import (
    MAX_CHANNELS,
    AudioDecoder,
    Block,
    Converter,
    InlineDecoder,
    RawSource,
    SampleFormat,
)

__all__ = ["AudioDecoder", "AudioEncoding", "AudioFormat", "Block", "DecoderPool", "make_decoder"]

AudioEncoding = Literal[
    "linear16", "linear32", "mulaw", "alaw", "flac", "opus", "ogg-opus", "container"
]
"""How the bytes are to be read.

`linear16` is signed 16-bit and `linear32` 32-bit float PCM, little-endian, channels interleaved;
`mulaw` and `alaw` are G.711; `opus` is one raw packet a message (or Ogg or WebM, if it begins like
that); `container` is told by its first bytes.
"""

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000

_RAW: dict[AudioEncoding, SampleFormat] = {
    "linear16": "s16",
    "linear32": "f32",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
_CONTAINER_HEADS = (b"OggS", b"\x1a\x45\xdf\xa3")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a client says it sends."""

    encoding: AudioEncoding
    sample_rate_hz: int = 16_000
    """Of raw samples; the other encodings know their own."""
    channels: int = 1
    """Of raw samples and of raw Opus; the other encodings know their own."""
    split: bool = False
    """Whether each channel is given out for itself; else they are mixed down to one."""

    def __post_init__(self) -> None:
        if not MIN_SAMPLE_RATE_HZ <= self.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise BadInput(
                f"a sample rate of {self.sample_rate_hz} Hz; it is between "
                f"{MIN_SAMPLE_RATE_HZ} and {MAX_SAMPLE_RATE_HZ}"
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise BadInput(f"{self.channels} channels; it is 1 to {MAX_CHANNELS}")
        if self.encoding == "opus" and self.channels > 2:
            raise BadInput("raw Opus packets have one or two channels; use Ogg or WebM for more")


def make_decoder(audio: AudioFormat, pool: DecoderPool) -> AudioDecoder:
    """Return the decoder for `audio`. Only containers take a thread of `pool`, when they begin."""
    match audio.encoding:
        case "linear16" | "linear32" | "mulaw" | "alaw":
            return InlineDecoder(
                RawSource(_RAW[audio.encoding], audio.sample_rate_hz, audio.channels),
                Converter(split=audio.split),
            )
        case "flac":
            return InlineDecoder(FlacSource(), Converter(split=audio.split))
        case "opus":
            return OpusDecoder(audio, pool)
        case "ogg-opus":
            return ContainerDecoder(pool, split=audio.split, container="ogg")
        case "container":
            return ContainerDecoder(pool, split=audio.split)
        case never:
            assert_never(never)


class OpusDecoder:
    """Raw packets, unless the first message shows that `opus` meant Opus in a container."""

    def __init__(self, audio: AudioFormat, pool: DecoderPool) -> None:
        self._audio = audio
        self._pool = pool
        self._inner: AudioDecoder | None = None

    async def feed(self, data: bytes) -> AsyncIterator[Block]:
        """Yield the audio of a packet (or of a piece of the container)."""
        if self._inner is None:
            self._inner = (
                ContainerDecoder(self._pool, split=self._audio.split)
                if data.startswith(_CONTAINER_HEADS)
                else InlineDecoder(
                    OpusSource(self._audio.channels), Converter(split=self._audio.split)
                )
            )
        async for block in self._inner.feed(data):
            yield block

    async def flush(self) -> AsyncIterator[Block]:
        """Yield what is left."""
        if self._inner is not None:
            async for block in self._inner.flush():
                yield block

    async def close(self) -> None:
        """Give back what the decoder holds."""
        if self._inner is not None:
            await self._inner.close()
