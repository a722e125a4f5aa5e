"""What broadcasters send, for tests: pauses, and flashes and beeps at the same times."""

import asyncio
import fractions
import time

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.rtp import is_rtcp

from mediaserver.rtc import internals
from tests.integration.watcher import Watcher
from tests.integration.webrtc_client import FRAME, RATE_HZ, Client, PictureTrack, SpeechTrack

FLASH_EVERY_S = 1.0
FLASH_S = 0.2


class Pausing(SpeechTrack):
    """Speech that is not sent at all while it is muted; its time goes on."""

    muted = False

    async def recv(self) -> av.AudioFrame:
        frame = await super().recv()
        while self.muted:
            frame = await super().recv()
        return frame


def is_on(at_s: float) -> bool:
    """Whether there is light and sound at a (monotonic) time."""
    return at_s % FLASH_EVERY_S < FLASH_S


class Beeps(MediaStreamTrack):
    """A tone while `is_on`, captured now and sent at once."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._started_s: float | None = None
        self._at = 0

    async def recv(self) -> av.AudioFrame:
        self._started_s = self._started_s or time.monotonic()
        times = self._started_s + (self._at + np.arange(FRAME)) / RATE_HZ
        tone = np.sin(2 * np.pi * 1000 * times) * 0.5 * (times % FLASH_EVERY_S < FLASH_S)
        frame = av.AudioFrame.from_ndarray(
            (tone * 32767).astype(np.int16)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = RATE_HZ, self._at
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._at += FRAME
        await asyncio.sleep(self._started_s + self._at / RATE_HZ - time.monotonic())
        return frame


class Flashes(PictureTrack):
    """White while `is_on`, else black with something that moves."""

    async def recv(self) -> av.VideoFrame:
        frame = await super().recv()
        shade = 235 if is_on(time.monotonic()) else 16
        rows = np.full((frame.height, frame.width), shade, np.uint8)
        rows[-16:] = frame.to_ndarray(format="gray")[-16:]
        flash = av.VideoFrame.from_ndarray(rows, format="gray").reformat(format="yuv420p")
        flash.pts, flash.time_base = frame.pts, frame.time_base
        return flash


def flash_starts(watcher: Watcher) -> list[int]:
    """Return the pts at which flashes began."""
    return [
        after.pts
        for before, after in zip(watcher.seen, watcher.seen[1:], strict=False)
        if before.level < 100 < after.level
    ]


def beep_starts(watcher: Watcher) -> list[int]:
    """Return the pts at which beeps began."""
    sound = watcher.placed_sound()
    window = RATE_HZ // 100
    pieces = np.split(sound, range(window, len(sound), window))
    loud = [float(np.abs(piece).max()) > 0.1 for piece in pieces]
    return [
        index * window
        for index in range(1, len(loud))
        if loud[index] and not any(loud[max(0, index - 5) : index])
    ]


def delay_video(client: Client, delay_s: float) -> None:
    """Have the client's video packets take so much longer; sender reports are not delayed."""
    transport = internals.transport_of(client.connection)
    assert transport is not None
    send, loop = transport.transport._send, asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def late(data: bytes) -> None:
        task = loop.create_task(send(data))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def delayed(data: bytes) -> None:
        if 127 < data[0] < 192 and not is_rtcp(data) and data[1] & 0x7F in (97, 98):
            loop.call_later(delay_s, late, data)
        else:
            await send(data)

    transport.transport._send = delayed
