"""Audio in containers (WebM, Ogg, MP3, MP4, …) from a byte stream that is cut anywhere.

The container is told by its first bytes and only that demuxer is opened, never one that would
follow addresses inside the data (HLS, concat). PyAV pulls, a stream pushes: so each demuxer runs
in a thread of its own, fed through a pipe that holds one message. `feed` is done when the demuxer
asks for more, so everything decodable is given out with the message that completes it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import av
import numpy as np

from mediaserver.kernel.errors import (
    BadInput,
    MediaServerError,
    Overloaded,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from mediaserver.kernel.logging import get_logger
from mediaserver.rtc.flac import FlacSource
from mediaserver.rtc.pcm import AudioDecoder, Block, Converter, InlineDecoder, Pcm, planar
from mediaserver.rtc.wav import WavSource

log = get_logger(__name__)

Container = Literal[
    "wav", "flac", "ogg", "matroska", "mp3", "aac", "mov", "mpegts", "aiff", "au", "caf"
]
"""Named as FFmpeg's demuxers are; `matroska` is WebM too, `mov` is MP4 and M4A too."""

_PROBE_OPTIONS = {"probesize": "32", "analyzeduration": "1"}
"""Start with the first packet. (Not `fflags=nobuffer`: it throws away what was probed.)"""
_TRANSPORT_PROBE_OPTIONS = {"probesize": "32768"}
"""MPEG-TS lists its streams somewhere in the stream, not at its head."""
_READ_BYTES = 32 * 1024
_MAX_WITHOUT_AUDIO_BYTES = 16 * 1024 * 1024
"""Covers a large cover picture or index, and keeps a demuxer from buffering without end."""
_MAX_READY_S = 10.0
"""Decoded audio that waits to be taken; then the demuxer's thread waits."""
_STUCK_S = 20.0
_CLOSE_S = 5.0
_TOLERATED_IN_A_ROW = 50
_SNIFF_BYTES = 12
_RESTARTABLE: dict[Container, Callable[[bytes], bool]] = {
    "matroska": lambda head: head.startswith(b"\x1a\x45\xdf\xa3"),
    "mov": lambda head: head[4:8] == b"ftyp",
    "flac": lambda head: head.startswith(b"fLaC"),
}
"""Containers whose head cannot occur inside them: at the start of a message it is a new file."""


def sniff(head: bytes) -> Container | None:
    """Tell the container from a stream's first bytes; None if 12 bytes are needed.

    Raises UnsupportedMedia with what may be wrong.
    """
    if head[:4] == b"OggS":
        return "ogg"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:3] == b"ID3":
        return "mp3"
    if head[:4] == b".snd":
        return "au"
    if len(head) < _SNIFF_BYTES:
        return None
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] in (b"ftyp", b"styp", b"moov", b"moof"):
        return "mov"
    if head[:4] == b"caff":
        return "caf"
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
        return "mp3"
    if head[0] == 0x47:
        return "mpegts"
    raise UnsupportedMedia(
        "no container that is known here begins like this; WebM, Ogg, WAV, MP3, FLAC, AAC, MP4 "
        "(fragmented or with its index first), MPEG-TS, AIFF, AU and CAF work, and headerless "
        "audio needs its `encoding` (and sample rate)"
    )


class DecoderPool:
    """The threads in which demuxers run: one each, `capacity` at most, none waits for another."""

    def __init__(self, capacity: int = 128) -> None:
        self.capacity = capacity
        self._executor = ThreadPoolExecutor(capacity, thread_name_prefix="demuxer")
        self._running: set[Demuxer] = set()
        self._closed = False

    @property
    def active(self) -> int:
        """Demuxers whose threads run."""
        return len(self._running)

    def run(self, demuxer: "Demuxer") -> "asyncio.Future[None]":
        """Start a demuxer's thread at once. Raises Overloaded if all are taken, Unavailable."""
        if self._closed:
            raise Unavailable("this server is stopping", code="draining", retry_after_s=5.0)
        if self.active >= self.capacity:
            raise Overloaded(
                f"{self.capacity} containers are being decoded; try again later, or send "
                "linear16 or raw Opus, which need no demuxer",
                retry_after_s=5.0,
            )
        future = asyncio.get_running_loop().run_in_executor(self._executor, demuxer.work)
        self._running.add(demuxer)
        future.add_done_callback(lambda _: self._running.discard(demuxer))
        return future

    def close(self) -> None:
        """Take no more work, and end what still runs (without waiting for it)."""
        self._closed = True
        for demuxer in self._running:
            demuxer.abort()
        self._executor.shutdown(wait=False, cancel_futures=True)


class ContainerDecoder:
    """An `AudioDecoder` for whatever container the stream turns out to be."""

    def __init__(
        self, pool: DecoderPool, *, split: bool = False, container: Container | None = None
    ) -> None:
        self._pool = pool
        self._split = split
        self._container: Container | None = container
        self._told = container is not None
        self._head = b""
        self._run: AudioDecoder | None = None

    async def feed(self, data: bytes) -> AsyncIterator[Block]:
        """Yield the audio that `data` completes."""
        if self._run is not None and self._starts_anew(data):
            async for block in self._end_run():
                yield block
        if self._run is None:
            data, self._head = self._head + data, b""
            container = self._container or sniff(data)
            if container is None:
                self._head = data
                return
            self._container = container
            self._run = self._open(container)
        async for block in self._run.feed(data):
            yield block

    async def flush(self) -> AsyncIterator[Block]:
        """Yield what is left. Raises BadInput if the stream ended before any audio."""
        if self._run is None:
            if self._head:
                raise BadInput(f"the stream ended after {len(self._head)} bytes")
            return
        async for block in self._end_run():
            yield block

    async def close(self) -> None:
        """End the demuxer's thread, whatever it waits for."""
        if self._run is not None:
            await self._run.close()
            self._run = None

    def _starts_anew(self, data: bytes) -> bool:
        test = _RESTARTABLE.get(self._container) if self._container else None
        return test is not None and test(data[:_SNIFF_BYTES])

    async def _end_run(self) -> AsyncIterator[Block]:
        run = self._run
        if run is None:
            return
        try:
            async for block in run.flush():
                yield block
        finally:
            self._run = None
            if not self._told:
                self._container = None
            await run.close()

    def _open(self, container: Container) -> AudioDecoder:
        converter = Converter(split=self._split)
        if container == "wav":
            return InlineDecoder(WavSource(), converter)
        if container == "flac":
            return InlineDecoder(FlacSource(), converter)
        return Demuxer(self._pool, container, converter)


class _Aborted(Exception):
    """The decoder was closed while its thread waited."""


class _Pipe:
    """What PyAV reads from: a file that cannot seek."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read
        """Returns at most so many bytes, waiting for the first; b"" at the end."""


class Demuxer:
    """Runs one of FFmpeg's demuxers, and the decoder of its first audio stream, in a thread."""

    def __init__(self, pool: DecoderPool, container: Container, converter: Converter) -> None:
        self._container = container
        self._converter = converter
        self._changed = threading.Condition()
        self._input = memoryview(b"")
        self._end_of_input = False
        self._aborted = False
        self._hungry = False
        self._ready: list[Block] = []
        self._ready_s = 0.0
        self._finished = False
        self._error: MediaServerError | None = None
        self._fed_without_audio_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._thread = pool.run(self)

    # ---- on the event loop

    async def feed(self, data: bytes) -> AsyncIterator[Block]:
        """Hand `data` to the demuxer and yield what it makes of it."""
        if not data:
            return
        with self._changed:
            if self._finished and self._error is None:
                self._error = UnsupportedMedia(
                    f"{len(data)} bytes after the end of the {self._container} file"
                )
            self._fed_without_audio_bytes += len(data)
            self._input, self._hungry = memoryview(data), False
            self._changed.notify_all()
        async for block in self._take():
            yield block
        if self._fed_without_audio_bytes > _MAX_WITHOUT_AUDIO_BYTES:
            raise TooLarge(
                f"{self._fed_without_audio_bytes} bytes of {self._container} hold no audio"
            )

    async def flush(self) -> AsyncIterator[Block]:
        """Tell the demuxer that nothing follows, and yield the rest."""
        with self._changed:
            self._end_of_input, self._hungry = True, False
            self._changed.notify_all()
        async for block in self._take():
            yield block

    async def close(self) -> None:
        """End the thread, which may wait for bytes or for its blocks to be taken."""
        self.abort()
        done, _ = await asyncio.wait([self._thread], timeout=_CLOSE_S)
        if not done:
            log.error("demuxer.did_not_end", container=self._container, timeout_s=_CLOSE_S)

    def abort(self) -> None:
        """Wake the thread so that it ends."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    async def _take(self) -> AsyncIterator[Block]:
        while True:
            self._wake.clear()
            with self._changed:
                blocks, self._ready, self._ready_s = self._ready, [], 0.0
                idle = self._finished or (self._hungry and not self._input)
                self._changed.notify_all()
            if blocks:
                self._fed_without_audio_bytes = 0
                yield tuple(np.concatenate(channel) for channel in zip(*blocks, strict=True))
            if idle:
                break
            try:
                async with asyncio.timeout(_STUCK_S):
                    await self._wake.wait()
            except TimeoutError:
                log.error("demuxer.stuck", container=self._container, timeout_s=_STUCK_S)
                raise Unavailable("decoding the audio takes too long") from None
        if self._error is not None:
            raise self._error

    # ---- in the thread

    def _read(self, size: int) -> bytes:
        with self._changed:
            while True:
                if self._aborted:  # as an end, for PyAV prints what is raised in here
                    return b""
                if self._input:
                    piece = bytes(self._input[:size])
                    self._input = self._input[size:]
                    return piece
                if self._end_of_input:
                    return b""
                self._hungry = True
                self._tell_loop()
                self._changed.wait()

    def work(self) -> None:
        """Demux until the input ends; the pool calls this in a thread."""
        error: MediaServerError | None = None
        try:
            self._demux()
        except _Aborted:
            pass
        except MediaServerError as refused:
            error = refused
        except (av.FFmpegError, ValueError, IndexError) as failure:
            error = BadInput(
                f"the {self._container} data cannot be read ({_reason(failure)}); "
                "it is damaged, cut off, or an MP4 with its index at the end"
            )
        except Exception as failure:  # supervises the thread: whatever else it is, it is logged
            log.error("demuxer.failed", container=self._container, exc_info=failure)
            error = Unavailable("the audio decoder failed")
        with self._changed:
            self._error, self._finished = error, True
            self._tell_loop()

    def _demux(self) -> None:
        options = _TRANSPORT_PROBE_OPTIONS if self._container == "mpegts" else _PROBE_OPTIONS
        with av.open(
            _Pipe(self._read),
            mode="r",
            format=self._container,
            options=dict(options),
            metadata_errors="replace",
            buffer_size=_READ_BYTES,
        ) as opened:
            if not opened.streams.audio:
                raise UnsupportedMedia(f"the {self._container} file has no audio stream")
            stream = opened.streams.audio[0]
            for pcm in _decode(opened, stream):
                self._give(self._converter.push(pcm))
        self._give(self._converter.flush())

    def _give(self, block: Block | None) -> None:
        if block is None:
            return
        with self._changed:
            while self._ready_s > _MAX_READY_S and not self._aborted:
                self._tell_loop()
                self._changed.wait()
            if self._aborted:
                raise _Aborted
            self._ready.append(block)
            self._ready_s += len(block[0]) / 16_000

    def _tell_loop(self) -> None:
        if self._aborted:  # nobody waits, and the loop may be closed
            return
        self._loop.call_soon_threadsafe(self._wake.set)


def _decode(opened: "av.container.InputContainer", stream: av.AudioStream) -> Iterator[Pcm]:
    """Yield the stream's audio; a damaged packet is skipped, a run of them raises BadInput."""
    bad_in_a_row, decoded = 0, 0
    for packet in opened.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            bad_in_a_row += 1
            if bad_in_a_row > _TOLERATED_IN_A_ROW:
                raise BadInput(
                    f"{bad_in_a_row} packets in a row cannot be decoded as "
                    f"{stream.codec_context.name}"
                ) from None
            continue
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                bad_in_a_row, decoded = 0, decoded + 1
                yield Pcm(planar(frame), frame.sample_rate)
    if not decoded:
        raise BadInput("the stream ended before any audio could be decoded")


def _reason(failure: Exception) -> str:
    return getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
