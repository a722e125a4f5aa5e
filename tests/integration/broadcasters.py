"""What broadcasters send, for tests: pauses, and flashes and beeps at the same times."""

import asyncio
import fractions
import time
from collections.abc import Callable, Coroutine
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCRtpSender
from aiortc.rtp import RtcpSrPacket, is_rtcp

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
        self.started_s: float | None = None
        self._at = 0

    @property
    def taken(self) -> int:
        """The pts of what was taken last."""
        return self._at - FRAME

    async def recv(self) -> av.AudioFrame:
        self.started_s = self.started_s or time.monotonic()
        times = self.started_s + (self._at + np.arange(FRAME)) / RATE_HZ
        tone = np.sin(2 * np.pi * 1000 * times) * 0.5 * (times % FLASH_EVERY_S < FLASH_S)
        frame = av.AudioFrame.from_ndarray(
            (tone * 32767).astype(np.int16)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = RATE_HZ, self._at
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._at += FRAME
        await asyncio.sleep(self.started_s + self._at / RATE_HZ - time.monotonic())
        return frame


class Flashes(PictureTrack):
    """White while `is_on` at the time that its timestamps say, else black with what moves."""

    @property
    def started_s(self) -> float | None:
        return self._started_s

    @property
    def taken(self) -> int:
        """The pts of what was taken last."""
        return self.sent * (90_000 // self._fps)

    async def recv(self) -> av.VideoFrame:
        frame = await super().recv()
        assert self._started_s is not None
        shade = 235 if is_on(self._started_s + self.sent / self._fps) else 16
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


def report_captures(client: Client) -> None:
    """Have reports say when what is sent was captured, as browsers' do; call it before it connects.

    aiortc's say when it was sent: later by the time that encoding took, or that a busy machine let
    it wait.
    """
    transport = internals.transport_of(client.connection)
    assert transport is not None
    send, origins = transport._send_rtp, dict[int, int]()
    tracks = {sender._ssrc: sender.track for sender in client.connection.getSenders()}

    async def noted(data: bytes) -> None:
        if not is_rtcp(data):
            ssrc, track = int.from_bytes(data[8:12]), tracks.get(int.from_bytes(data[8:12]))
            if isinstance(track, Beeps | Flashes) and ssrc not in origins:
                origins[ssrc] = int.from_bytes(data[4:8]) - track.taken
        await send(data)

    transport._send_rtp = noted  # type: ignore[method-assign]
    for sender in client.connection.getSenders():
        sender._send_rtcp = _corrected(sender, origins)  # type: ignore[assignment, method-assign]


def _corrected(
    sender: RTCRtpSender, origins: dict[int, int]
) -> Callable[[Any], Coroutine[Any, Any, None]]:
    send, track = sender._send_rtcp, sender.track
    assert isinstance(track, Beeps | Flashes)
    hz = RATE_HZ if sender.kind == "audio" else 90_000

    async def corrected(packets: Any) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and sender._ssrc in origins:
                since = (packet.sender_info.rtp_timestamp - origins[sender._ssrc]) % 2**32
                at_s = (track.started_s or 0.0) + since / hz
                unix_s = time.time() + at_s - time.monotonic()
                packet.sender_info.ntp_timestamp = round((unix_s + 2_208_988_800) * 2**32)
        await send(packets)

    return corrected


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
