"""Video of one track: put together only while somebody wants it, decoded only while somebody looks.

While there is neither a viewer nor a tap a packet is counted and forgotten, and the sender is asked
to stay under `IDLE_BPS`. The first one asks for a keyframe (PLI), and packets are put together to
whole encoded pictures (`pictures`), once for all. They are forwarded as they are (`forward`), and
decoded for viewers: frames go to each viewer's slot, where a newer one replaces an unread older
one.

Decoding happens in the executor of all peers, one frame of a track at a time; where it cannot keep
up, frames are dropped up to the next keyframe.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from types import TracebackType
from typing import Protocol, Self

import av
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import TimestampMapper
from aiortc.rtp import RtpPacket

from mediaserver.kernel.channels import Channel, Latest
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.pictures import Picture, PictureAssembly

log = get_logger(__name__)

IDLE_BPS = 100_000
"""What a sender is told to stay under (REMB) while nobody looks."""
VIEWED_BPS = 2_500_000
"""… and while somebody does."""
WATCH_S = 0.05
WAITING_PICTURES = 30
"""Whole encoded pictures that wait for the decoder: a second."""


class Feedback(Protocol):
    """How a video track talks to its sender; `receiver.Receiver` does it."""

    async def request_picture(self, ssrc: int) -> None:
        """Ask for a keyframe."""
        ...

    async def request_packets(self, ssrc: int, missing: list[int]) -> None:
        """Ask for lost packets again."""
        ...


class Observer(Protocol):
    """Who is told what a video track receives; `broadcast.Broadcast` is."""

    def video_heard(self, track: "VideoTrack", codec: RTCRtpCodecParameters) -> None:
        """A packet came."""
        ...

    def reported(self, mid: str, report: SenderTime) -> None:
        """A sender report came."""
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
        self.observer: Observer | None = None
        """Likewise."""
        self.unviewed_packets = 0
        """Packets that came while nobody wanted any, and cost nothing more."""
        self._scope = scope
        self._clock = clock
        self._executor = executor
        self._viewers: set[Viewer] = set()
        self._sink: Callable[[Picture], None] | None = None
        self._assembly: PictureAssembly | None = None
        self._watching: asyncio.Task[None] | None = None
        self._decoding: _Decoding | None = None
        self._ssrc: int | None = None

    @property
    def viewed(self) -> bool:
        """Whether somebody looks, and so whether the video is decoded."""
        return bool(self._viewers)

    @property
    def wanted(self) -> bool:
        """Whether anybody wants the video, decoded or not."""
        return bool(self._viewers) or self._sink is not None

    def open_viewer(self) -> Viewer:
        """Look at the track from now on; the first frame comes with the next keyframe."""
        viewer = Viewer(self._viewer_closed)
        if self._scope.closed:
            viewer.close()
            return viewer
        self._viewers.add(viewer)
        self._adapt()
        return viewer

    def forward(self, sink: Callable[[Picture], None] | None) -> None:
        """Hand whole encoded pictures to `sink` from now on, beginning with a keyframe; or stop."""
        self._sink = sink
        self._adapt()

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe, as soon and as often as that helps."""
        if self._assembly is not None:
            self._assembly.want_keyframe()

    def close(self) -> None:
        """Let go of all who look."""
        self._sink = None
        for viewer in list(self._viewers):
            viewer.close()
        self._adapt()

    def wanted_bps(self) -> int:
        """What the sender is told to stay under."""
        return VIEWED_BPS if self.wanted else IDLE_BPS

    def report(self, report: SenderTime) -> None:
        """Take what the sender says of its clock."""
        if self.observer is not None:
            self.observer.reported(self.mid, report)

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """Take a packet."""
        self._ssrc = packet.ssrc
        if self.observer is not None and packet.payload:
            self.observer.video_heard(self, codec)
        if self._assembly is None:
            self.unviewed_packets += 1
            return
        missing = self._assembly.add(packet, codec, self._clock.monotonic_s())
        if missing and self.feedback is not None and not self._scope.closed:
            self._scope.spawn("nack", self.feedback.request_packets(packet.ssrc, missing))

    # ---- while somebody wants it --------------------------------------------------------------

    def _adapt(self) -> None:
        """Put together and decode what is wanted, and no more."""
        if self.wanted and self._assembly is None and not self._scope.closed:
            self._assembly = PictureAssembly(self._whole)
            self._watching = self._scope.spawn(
                f"video-watch-{self.mid}", self._watch(self._assembly)
            )
        elif not self.wanted and self._assembly is not None:
            self._assembly = None
            if self._watching is not None:
                self._watching.cancel()
        if self._viewers and self._decoding is None:
            self._decoding = _Decoding(self._executor, self._decoded, self.request_keyframe)
            self._decoding.start(self._scope, self.mid)
            self.request_keyframe()
        elif not self._viewers and self._decoding is not None:
            self._decoding.stop()
            self._decoding = None

    def _viewer_closed(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        self._adapt()

    def _whole(self, picture: Picture) -> None:
        if self._decoding is not None:
            self._decoding.take(picture)
        if self._sink is not None:
            self._sink(picture)

    def _decoded(self, frame: av.VideoFrame) -> None:
        for viewer in tuple(self._viewers):
            viewer.slot.put(frame)

    async def _watch(self, assembly: PictureAssembly) -> None:
        """Ask for a keyframe whenever one is needed, and again for packets that are missing."""
        while True:
            if self._ssrc is not None and self.feedback is not None:
                now_s = self._clock.monotonic_s()
                if assembly.needs_keyframe(now_s):
                    await self.feedback.request_picture(self._ssrc)
                    log.debug("video.keyframe_requested", mid=self.mid)
                elif (missing := assembly.missing(now_s)) is not None:
                    await self.feedback.request_packets(*missing)
            await asyncio.sleep(WATCH_S)


class _Decoding:
    """The decoder of a track while somebody looks."""

    def __init__(
        self,
        executor: Executor,
        sink: Callable[[av.VideoFrame], None],
        request_keyframe: Callable[[], None],
    ) -> None:
        self.waiting: Channel[Picture] = Channel(WAITING_PICTURES)
        self._executor = executor
        self._sink = sink
        self._request_keyframe = request_keyframe
        self._timestamps = TimestampMapper()
        self._awaits_keyframe = True
        self._task: asyncio.Task[None] | None = None

    def start(self, scope: TaskScope, mid: str) -> None:
        """Decode as a task of `scope`."""
        self._task = scope.spawn(f"video-decode-{mid}", self._run())

    def stop(self) -> None:
        """Decode no more."""
        if self._task is not None:
            self._task.cancel()

    def take(self, picture: Picture) -> None:
        """Queue a picture."""
        if self._awaits_keyframe and not picture.keyframe:
            self._request_keyframe()
            return
        self._awaits_keyframe = not self.waiting.put_nowait(picture)  # full: it is behind

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        decoder: Decoder | None = None
        codec_name = ""
        while True:
            picture = await self.waiting.get()
            if decoder is None or picture.codec.name != codec_name:
                decoder, codec_name = get_decoder(picture.codec), picture.codec.name
            encoded = JitterFrame(picture.data, self._timestamps.map(picture.rtp_time))
            try:
                frames = await loop.run_in_executor(self._executor, decoder.decode, encoded)
            except av.FFmpegError:
                self._awaits_keyframe = True
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    self._sink(frame)
