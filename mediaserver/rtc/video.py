"""Video of one track, decoded only while somebody looks.

While there is no viewer a packet is counted and forgotten, and the sender is asked to stay under
`IDLE_BPS`. The first viewer asks for a keyframe (PLI); frames then go to each viewer's slot, where
a newer one replaces an unread older one. A picture that does not get whole within `STUCK_S` is
given up: what was collected is thrown away and a keyframe is asked for.

Decoding happens in the executor of all peers, one frame of a track at a time; where it cannot keep
up, frames are dropped up to the next keyframe.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import av
from aiortc.codecs import depayload, get_decoder
from aiortc.codecs.base import Decoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import NackGenerator, TimestampMapper
from aiortc.rtp import RtpPacket

from mediaserver.kernel.channels import Channel, Latest
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.timeline import signed_difference

log = get_logger(__name__)

IDLE_BPS = 100_000
"""What a sender is told to stay under (REMB) while nobody looks."""
VIEWED_BPS = 2_500_000
"""… and while somebody does."""
STUCK_S = 0.25
"""A picture whose packets do not become whole within this time is given up."""
PLI_INTERVAL_S = 0.25
QUIET_PLI_INTERVAL_S = 1.0
"""Between keyframe requests while nothing comes at all."""
WATCH_S = 0.05
WAITING_PICTURES = 30
"""Whole encoded pictures that wait for the decoder: a second."""
_BUFFERED_PACKETS = 512


class Feedback(Protocol):
    """How a video track talks to its sender; `receiver.Receiver` does it."""

    async def request_picture(self, ssrc: int) -> None:
        """Ask for a keyframe."""
        ...

    async def request_packets(self, ssrc: int, missing: list[int]) -> None:
        """Ask for lost packets again."""
        ...


class Viewer:
    """Somebody who looks at a video track: a slot with the newest frame. Close it after use."""

    def __init__(self, on_close: Callable[["Viewer"], None]) -> None:
        self.slot: Latest[av.VideoFrame] = Latest()
        self._on_close = on_close
        self.closed = False

    async def frame(self) -> av.VideoFrame:
        """Return the newest frame not yet seen, waiting for one. Raises ChannelClosed at the end.

        Its `pts` and `time_base` are the track's own, from its first frame.
        """
        return await self.slot.get()

    def close(self) -> None:
        """Look no more; the last one's leaving stops the decoding. Idempotent."""
        if not self.closed:
            self.closed = True
            self.slot.close()
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoTrack:
    """See the module's docstring."""

    def __init__(self, mid: str, scope: TaskScope, clock: Clock, executor: Executor) -> None:
        self.mid = mid
        self.feedback: Feedback | None = None
        """Set by the owner, before the first packet."""
        self.unviewed_packets = 0
        """Packets that came while nobody looked, and cost nothing more."""
        self._scope = scope
        self._clock = clock
        self._executor = executor
        self._viewers: set[Viewer] = set()
        self._picture: PictureAssembly | None = None
        self._ssrc: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def viewed(self) -> bool:
        """Whether somebody looks, and so whether the video is decoded."""
        return bool(self._viewers)

    def open_viewer(self) -> Viewer:
        """Look at the track from now on; the first frame comes with the next keyframe."""
        viewer = Viewer(self._viewer_closed)
        if self._scope.closed:
            viewer.close()
            return viewer
        self._viewers.add(viewer)
        if len(self._viewers) == 1:
            self._start()
        return viewer

    def close(self) -> None:
        """Let go of all viewers."""
        for viewer in list(self._viewers):
            viewer.close()

    def wanted_bps(self) -> int:
        """What the sender is told to stay under."""
        return VIEWED_BPS if self._viewers else IDLE_BPS

    def expect(self, ssrc: int) -> None:
        """Know the SSRC before the first packet, so that a keyframe can be asked for."""
        self._ssrc = self._ssrc or ssrc

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """Take a packet."""
        self._ssrc = packet.ssrc
        if self._picture is None:
            self.unviewed_packets += 1
            return
        missing = self._picture.add(packet, codec, self._clock.monotonic_s())
        if missing and self.feedback is not None and not self._scope.closed:
            self._scope.spawn("nack", self.feedback.request_packets(packet.ssrc, missing))

    # ---- while somebody looks -----------------------------------------------------------------

    def _start(self) -> None:
        picture = self._picture = PictureAssembly()
        self._tasks = [
            self._scope.spawn(f"video-decode-{self.mid}", self._decode(picture)),
            self._scope.spawn(f"video-watch-{self.mid}", self._watch(picture)),
        ]

    def _viewer_closed(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._picture is not None:
            self._picture = None
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    async def _decode(self, picture: "PictureAssembly") -> None:
        loop = asyncio.get_running_loop()
        decoder: Decoder | None = None
        codec_name = ""
        while True:
            codec, encoded = await picture.whole.get()
            if decoder is None or codec.name != codec_name:
                decoder, codec_name = get_decoder(codec), codec.name
            try:
                frames = await loop.run_in_executor(self._executor, decoder.decode, encoded)
            except av.FFmpegError:
                picture.give_up()
                continue
            for frame in frames:
                for viewer in tuple(self._viewers):
                    if isinstance(frame, av.VideoFrame):
                        viewer.slot.put(frame)

    async def _watch(self, picture: "PictureAssembly") -> None:
        """Ask for a keyframe whenever the picture needs one."""
        while True:
            if self._ssrc is not None and picture.needs_keyframe(self._clock.monotonic_s()):
                if self.feedback is not None:
                    await self.feedback.request_picture(self._ssrc)
                log.debug("video.keyframe_requested", mid=self.mid)
            await asyncio.sleep(WATCH_S)


@dataclass(slots=True)
class _Source:
    ssrc: int
    jitter: JitterBuffer
    nacks: NackGenerator
    newest_timestamp: int


class PictureAssembly:
    """Packets become whole pictures, beginning with a keyframe; times are monotonic seconds."""

    def __init__(self) -> None:
        self.whole: Channel[tuple[RTCRtpCodecParameters, JitterFrame]] = Channel(WAITING_PICTURES)
        self._source: _Source | None = None
        self._timestamps = TimestampMapper()
        self._awaits_keyframe = True
        self._packet_s: float | None = None
        self._stuck_since_s: float | None = None
        self._requested_s: float | None = None

    def add(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now_s: float) -> list[int]:
        """Take a packet; return sequence numbers that are newly missing."""
        try:
            packet._data = depayload(codec, packet.payload)  # type: ignore[attr-defined]
        except (ValueError, IndexError):
            return []
        self._packet_s = now_s
        source = self._source
        begins = False
        if source is None or source.ssrc != packet.ssrc:
            self.give_up()
            jitter = JitterBuffer(capacity=_BUFFERED_PACKETS, is_video=True)
            source = _Source(packet.ssrc, jitter, NackGenerator(), packet.timestamp)
            self._source = source
        elif signed_difference(packet.timestamp, source.newest_timestamp, 32) > 0:
            source.newest_timestamp = packet.timestamp
            begins = True
        news = source.nacks.add(packet)
        overflow, encoded = source.jitter.add(packet)
        if encoded is not None:
            self._stuck_since_s = None
            self._take(codec, encoded)
        elif begins and self._stuck_since_s is None:
            self._stuck_since_s = now_s  # a new picture began, and the one before is not whole
        if overflow:
            self.give_up()
        return sorted(source.nacks.missing) if news else []

    def give_up(self) -> None:
        """Drop what is incomplete; begin again with the next keyframe."""
        self._awaits_keyframe = True
        self._source = None
        self._stuck_since_s = None

    def needs_keyframe(self, now_s: float) -> bool:
        """Return whether to send a keyframe request now; taken as sent if so."""
        if self._stuck_since_s is not None and now_s - self._stuck_since_s > STUCK_S:
            self.give_up()
        if not self._awaits_keyframe:
            return False
        quiet = self._packet_s is None or now_s - self._packet_s > QUIET_PLI_INTERVAL_S
        interval_s = QUIET_PLI_INTERVAL_S if quiet else PLI_INTERVAL_S
        if self._requested_s is not None and now_s - self._requested_s < interval_s:
            return False
        self._requested_s = now_s
        return True

    def _take(self, codec: RTCRtpCodecParameters, encoded: JitterFrame) -> None:
        encoded.timestamp = self._timestamps.map(encoded.timestamp)
        if self._awaits_keyframe:
            if not is_keyframe(codec.name, encoded.data):
                return
            self._awaits_keyframe = False
        if not self.whole.put_nowait((codec, encoded)):
            self._awaits_keyframe = True  # the decoder is behind


def is_keyframe(codec: str, data: bytes) -> bool:
    """Whether an encoded picture can be decoded without those before it."""
    if codec.upper() == "VP8":
        # RFC 6386 section 9.1: the lowest bit is 0, then comes a start code.
        return len(data) > 6 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
    position = data.find(b"\x00\x00\x01")
    while position >= 0 and position + 3 < len(data):
        if data[position + 3] & 0x1F in (5, 7):  # an IDR slice, or the parameters before one
            return True
        position = data.find(b"\x00\x00\x01", position + 3)
    return False
