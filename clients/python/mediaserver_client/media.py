"""Files of any format, and the microphone, through PyAV (`pip install mediaserver-client[media]`).

PyAV is imported when it is first needed. Decoding runs in a thread of its own, with a bounded
queue to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mediaserver_client.errors import AudioError

if TYPE_CHECKING:
    from av.container import InputContainer

SAMPLE_RATE_HZ = 16_000
_FILE_QUEUE = 64
"""Decoded pieces that may wait; a file's decoder then waits too."""
_MICROPHONE_QUEUE_S = 30
_LINUX_ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")


class MediaFile:
    """The first audio stream of a file that FFmpeg can read, as 16 kHz mono."""

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1

    def __init__(self, file: Path | BinaryIO) -> None:
        self._name = str(file) if isinstance(file, Path) else "the data"
        av = import_av(self._name)
        try:
            self._container: InputContainer = av.open(
                str(file) if isinstance(file, Path) else file, "r"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise AudioError(
                f"{self._name} is no audio or video that can be read: {_reason(error)}"
            ) from None
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{self._name} has no sound")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the sound, decoded ahead in a thread."""
        async with _Pump(self._container, self._name, _FILE_QUEUE, live=False) as pump:
            async for pcm in pump:
                yield pcm


class Microphone:
    """The default microphone (or `device`, as FFmpeg names it), as 16 kHz mono.

    When nobody reads for 30 s the oldest sound is dropped; `dropped_s` counts it.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1

    def __init__(self, device: str | None = None) -> None:
        av = import_av("the microphone")
        system, default = {
            "darwin": ("avfoundation", ":default"),
            "win32": ("dshow", ""),
        }.get(sys.platform, ("alsa", "default"))
        if system == "dshow":
            device = f"audio={device or _first_dshow_device(av)}"
        elif system == "avfoundation" and device and ":" not in device:
            device = f":{device}"
        if system == "alsa" and _LINUX_ALSA_CONFIG.exists():
            # PyAV's own ALSA looks for its configuration where the wheel was built.
            os.environ.setdefault("ALSA_CONFIG_PATH", str(_LINUX_ALSA_CONFIG))
        self.dropped_s = 0.0
        self._name = device or default
        try:
            self._container: InputContainer = av.open(self._name, format=system, mode="r")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise AudioError(_no_microphone(system, self._name, error)) from None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is heard, until the device is gone or the iterator is closed."""
        pieces = round(_MICROPHONE_QUEUE_S / _Pump.PIECE_S)
        async with _Pump(self._container, self._name, pieces, live=True) as pump:
            async for pcm in pump:
                self.dropped_s = pump.dropped * _Pump.PIECE_S
                yield pcm


def import_av(what: str) -> Any:
    """Return PyAV. Raises AudioError that says how to get it."""
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{what}: only WAV files and PCM can be read without PyAV; "
            "install it with: pip install 'mediaserver-client[media]'"
        ) from None
    return av


def _first_dshow_device(av: Any) -> str:
    with contextlib.suppress(av.FFmpegError, ValueError, AttributeError):
        for device in av.enumerate_input_devices("dshow"):
            if "audio" in str(getattr(device, "media_types", "audio")):
                return str(device.description or device.name)
    raise AudioError("no microphone found; name one with --device")


def _no_microphone(system: str, name: str, error: Exception) -> str:
    text = f"cannot open the microphone {name!r} through {system}: {_reason(error)}"
    if system == "alsa":
        text += (
            ". `arecord -L` lists devices; or let another program record: "
            "arecord -q -f S16_LE -r 16000 -c 1 -t raw | mediaserver-captions -"
        )
    return text


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _decode(container: InputContainer) -> Iterator[bytes]:
    from av.audio.resampler import AudioResampler
    from av.error import EOFError as EndOfFile
    from av.error import InvalidDataError

    stream = container.streams.audio[0]
    resampler = AudioResampler(
        format="s16",
        layout="mono",
        rate=SAMPLE_RATE_HZ,
        frame_size=round(_Pump.PIECE_S * SAMPLE_RATE_HZ),
    )
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except EndOfFile:
            break
        except InvalidDataError:
            continue  # a damaged packet: go on with the next
        for frame in frames:
            for piece in resampler.resample(frame):
                yield bytes(piece.planes[0])[: piece.samples * 2]
    for piece in resampler.resample(None):
        yield bytes(piece.planes[0])[: piece.samples * 2]


class _Pump:
    """A thread that decodes into a bounded queue. A file waits for room; live sound drops."""

    PIECE_S = 0.1

    def __init__(self, container: InputContainer, name: str, pieces: int, live: bool) -> None:
        self.dropped = 0
        self._container, self._name, self._live = container, name, live
        self._queue: queue.Queue[bytes | AudioError | None] = queue.Queue(pieces)
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="audio-decode", daemon=True)

    def _work(self) -> None:
        end: AudioError | None = None
        try:
            for pcm in _decode(self._container):
                self._put(pcm)
                if self._stop.is_set():
                    return
        except Exception as error:  # whatever FFmpeg raises has to reach the reader
            end = AudioError(f"reading {self._name} failed: {_reason(error)}")
        finally:
            self._container.close()
            self._put(end)

    def _put(self, item: bytes | AudioError | None) -> None:
        while not self._stop.is_set():
            try:
                if self._live:
                    self._queue.put_nowait(item)
                else:
                    self._queue.put(item, timeout=0.2)
                break
            except queue.Full:
                if self._live:
                    with contextlib.suppress(queue.Empty):
                        self._queue.get_nowait()
                        self.dropped += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._readable.set)

    async def __aenter__(self) -> _Pump:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 2.0)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                self._readable.clear()
                if self._queue.empty():
                    await self._readable.wait()
                continue
            if item is None:
                return
            if isinstance(item, AudioError):
                raise item
            yield item
