"""Where audio comes from: PCM in memory, WAV files, streams of PCM; `media` adds all else.

A source gives 16-bit little-endian PCM and says its rate and channels. A file can be read again
and waits for its reader; a live source cannot, and drops its oldest audio when nobody reads.
"""

import asyncio
import io
import wave
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from mediaserver_client.errors import AudioError
from mediaserver_client.messages import MAX_AUDIO_MESSAGE_BYTES

CHUNK_S = 0.1
_READ_S = 1.0
_MAGIC = (b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"caff")


@runtime_checkable
class AudioSource(Protocol):
    """What can be published."""

    sample_rate_hz: int
    channels: int

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield 16-bit little-endian PCM, channels interleaved. Raises AudioError."""
        ...


class PcmBytes:
    """PCM that is in memory."""

    def __init__(self, pcm: bytes, sample_rate_hz: int = 16_000, channels: int = 1) -> None:
        self.sample_rate_hz, self.channels, self._pcm = sample_rate_hz, channels, pcm
        if len(pcm) % (2 * channels):
            raise AudioError(
                f"{len(pcm)} bytes are no whole number of 16-bit samples of {channels} channel(s)"
            )

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the PCM."""
        step = round(self.sample_rate_hz * _READ_S) * 2 * self.channels
        for at in range(0, len(self._pcm), step):
            yield self._pcm[at : at + step]


class PcmStream:
    """PCM from an async iterator: a microphone library, a SIP call, another program's output."""

    def __init__(
        self, stream: AsyncIterable[bytes], sample_rate_hz: int = 16_000, channels: int = 1
    ) -> None:
        self.sample_rate_hz, self.channels, self._stream = sample_rate_hz, channels, stream

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what the iterator yields, cut at whole frames (a last half frame is dropped)."""
        frame = 2 * self.channels
        rest = b""
        async for piece in self._stream:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise AudioError(
                    f"the audio iterator gave {type(piece).__name__}; it has to give bytes "
                    "(16-bit little-endian PCM)"
                )
            pcm = rest + bytes(piece)
            whole = len(pcm) - len(pcm) % frame
            rest = pcm[whole:]
            if whole:
                yield pcm[:whole]


class WavFile:
    """A WAV file of integer PCM (8, 16, 24 or 32 bits), read without any library."""

    def __init__(self, file: Path | BinaryIO) -> None:
        self._name = str(file) if isinstance(file, Path) else "the data"
        try:
            self._wav = wave.open(str(file) if isinstance(file, Path) else file, "rb")  # noqa: SIM115
        except (wave.Error, EOFError) as error:
            raise AudioError(f"{self._name} is no WAV file that can be read: {error}") from None
        except OSError as error:
            raise _no_file(self._name, error) from None
        self.sample_rate_hz = self._wav.getframerate()
        self.channels = self._wav.getnchannels()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the samples as 16-bit PCM."""
        frames = round(self.sample_rate_hz * _READ_S)
        width = self._wav.getsampwidth()
        try:
            while pcm := await asyncio.to_thread(self._wav.readframes, frames):
                yield to_s16(pcm[: len(pcm) - len(pcm) % (width * self.channels)], width)
        finally:
            self._wav.close()


def to_s16(pcm: bytes, width: int) -> bytes:
    """Turn little-endian integer PCM of `width` bytes a sample (8-bit is unsigned) into 16 bits."""
    if width == 2:
        return pcm
    out = bytearray(len(pcm) // width * 2)
    if width == 1:
        out[1::2] = bytes(byte ^ 0x80 for byte in pcm)
    else:  # the two upper bytes
        out[0::2], out[1::2] = pcm[width - 2 :: width], pcm[width - 1 :: width]
    return bytes(out)


async def cut(source: AudioSource, chunk_s: float) -> AsyncGenerator[bytes, None]:
    """Yield a source's audio in pieces of at most `chunk_s` that fit into a message."""
    frame_bytes = 2 * source.channels
    step = round(source.sample_rate_hz * chunk_s) * frame_bytes
    step = min(step, MAX_AUDIO_MESSAGE_BYTES // 2 // frame_bytes * frame_bytes)
    pieces = source.chunks()
    try:
        async for piece in pieces:
            for at in range(0, len(piece), step):
                yield piece[at : at + step]
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


Publishable = str | Path | bytes | bytearray | BinaryIO | AsyncIterable[bytes] | AudioSource


def open_source(source: Publishable, sample_rate_hz: int, channels: int) -> AudioSource:
    """Find out what `source` is. Blocks for file headers: call it in a thread. Raises AudioError.

    `sample_rate_hz` and `channels` describe raw PCM (bytes, iterators); files know their own.
    """
    if isinstance(source, AudioSource):
        return source
    if isinstance(source, str | Path):
        return _open_path(Path(source))
    if isinstance(source, bytes | bytearray):
        if is_file(source):
            return _open_data(io.BytesIO(source))
        return PcmBytes(bytes(source), sample_rate_hz, channels)
    if isinstance(source, AsyncIterable):
        return PcmStream(source, sample_rate_hz, channels)
    if hasattr(source, "read"):
        return _open_data(source)
    raise AudioError(
        f"cannot publish {type(source).__name__}: give a path, an open binary file, bytes, "
        "an async iterator of PCM, or an AudioSource"
    )


def is_file(head: bytes | bytearray) -> bool:
    """Whether data that begins with `head` is a file of a known format, not raw PCM."""
    return head[:4] == b"RIFF" or head.startswith(_MAGIC) or head[4:8] == b"ftyp"


def _open_path(path: Path) -> AudioSource:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise _no_file(str(path), error) from None
    if not head:
        raise AudioError(f"{path} is empty")
    return _wav_or_media(path, head)


def _open_data(file: BinaryIO) -> AudioSource:
    head = file.read(12)
    file.seek(0)
    return _wav_or_media(file, head)


def _wav_or_media(file: Path | BinaryIO, head: bytes) -> AudioSource:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        try:
            return WavFile(file)
        except AudioError:  # float or compressed samples: not for the wave module
            if not isinstance(file, Path):
                file.seek(0)
    from mediaserver_client.media import MediaFile

    return MediaFile(file)


def _no_file(name: str, error: OSError) -> AudioError:
    return AudioError(f"cannot read {name}: {error.strerror or error}")
