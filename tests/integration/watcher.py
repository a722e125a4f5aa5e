"""Who watches, for tests: a plain aiortc peer on loopback that decodes what it gets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import RtcpSrPacket

from mediaserver.rtc.encoded import MediaSource
from mediaserver.rtc.listener import CloseReason
from mediaserver.rtc.peer import Peer, Peers, RtcConfig
from mediaserver.rtc.viewing import ViewerPeer
from tests.integration.webrtc_client import (
    CONFIG,
    RATE_HZ,
    Client,
    Pcm,
    Recorder,
    soon,
    to_16_khz,
)


class ViewerRecorder:
    """A `ViewerListener` that keeps what it is told."""

    def __init__(self) -> None:
        self.is_connected = asyncio.Event()
        self.is_closed = asyncio.Event()
        self.closings: list[tuple[CloseReason, str]] = []

    def connected(self) -> None:
        self.is_connected.set()

    def closed(self, reason: CloseReason, detail: str) -> None:
        self.closings.append((reason, detail))
        self.is_closed.set()


@dataclass(frozen=True)
class Seen:
    """A decoded picture."""

    at_s: float
    pts: int
    size: tuple[int, int]
    level: float
    """The brightness of its first row."""


@dataclass
class Watcher:
    """A client that receives only."""

    client: Client
    seen: list[Seen] = field(default_factory=list)
    heard: list[tuple[float, int, Pcm]] = field(default_factory=list)
    """(arrival, pts, samples) of each piece of audio, at 48 kHz."""
    reports: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Sender reports by kind: (NTP seconds, RTP time)."""
    origins: dict[str, int] = field(default_factory=dict)
    """RTP time of pts 0, by kind."""
    timestamps: dict[str, list[int]] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def new(
        cls, kinds: tuple[str, ...] = ("audio", "video"), codec: str | None = None
    ) -> "Watcher":
        client = Client.new(data=False)
        watcher = cls(client)
        for kind in kinds:
            transceiver = client.connection.addTransceiver(kind, direction="recvonly")
            if kind == "video" and codec is not None:
                prefer(client.connection, codec)
            watcher._listen(kind, transceiver.receiver)
        client.connection.on("track", watcher._track)
        return watcher

    def _listen(self, kind: str, receiver: RTCRtpReceiver) -> None:
        handle_rtp, handle_rtcp = receiver._handle_rtp_packet, receiver._handle_rtcp_packet
        times = self.timestamps.setdefault(kind, [])

        async def rtp(packet, arrival_time_ms):  # type: ignore[no-untyped-def]
            if packet.payload:
                self.origins.setdefault(kind, packet.timestamp)
                times.append(packet.timestamp)
            await handle_rtp(packet, arrival_time_ms)

        async def rtcp(packet):  # type: ignore[no-untyped-def]
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                self.reports.setdefault(kind, []).append(
                    (info.ntp_timestamp / 2**32, info.rtp_timestamp)
                )
            await handle_rtcp(packet)

        receiver._handle_rtp_packet = rtp  # type: ignore[method-assign]
        receiver._handle_rtcp_packet = rtcp  # type: ignore[method-assign]

    def _track(self, track: MediaStreamTrack) -> None:
        self.tasks.append(asyncio.ensure_future(self._read(track)))

    async def _read(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert frame.pts is not None
                if isinstance(frame, av.VideoFrame):
                    rows = frame.to_ndarray(format="gray")
                    size = (frame.width, frame.height)
                    self.seen.append(
                        Seen(
                            time.monotonic(), frame.pts, size, float(rows[: len(rows) // 8].mean())
                        )
                    )
                elif isinstance(frame, av.AudioFrame):
                    pcm = frame.to_ndarray()[0][::2].astype(np.float32) / 32768
                    self.heard.append((time.monotonic(), frame.pts, pcm))

    async def watch(self, viewer: ViewerPeer) -> None:
        await self.client.answer(await viewer.accept(await self.client.offer()))

    def sound(self) -> Pcm:
        """Return what was heard at 16 kHz, in the order of its arrival."""
        if not self.heard:
            return np.zeros(0, np.float32)
        return to_16_khz(np.concatenate([pcm for _, _, pcm in self.heard]))

    def placed_sound(self) -> Pcm:
        """Return what was heard at 48 kHz, each piece at its own time."""
        last = self.heard[-1]
        out = np.zeros(last[1] + len(last[2]), np.float32)
        for _, pts, pcm in self.heard:
            out[pts : pts + len(pcm)] = pcm
        return out

    def ntp_s(self, kind: str, pts: int) -> float:
        """Return when the viewer has to play what has this pts, by the last sender report."""
        hz = RATE_HZ if kind == "audio" else 90_000
        ntp_s, rtp_time = self.reports[kind][-1]
        behind = (rtp_time - self.origins[kind] - pts + 2**31) % 2**32 - 2**31
        return ntp_s - behind / hz

    async def close(self) -> None:
        await self.client.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def prefer(connection: RTCPeerConnection, codec: str) -> None:
    """Offer only this codec for video."""
    for transceiver in connection.getTransceivers():
        if transceiver.kind == "video":
            capabilities = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([c for c in capabilities if c.name in (codec, "rtx")])


@contextlib.asynccontextmanager
async def publishing(
    *tracks: MediaStreamTrack,
    codec: str = "VP8",
    config: RtcConfig = CONFIG,
    prepare: Callable[[Client], None] | None = None,
) -> AsyncIterator[tuple[Peers, Peer, Recorder, Client]]:
    """Connect a publisher; it, and all viewers, are closed at the end."""
    peers, recorder, client = Peers(config), Recorder(), Client.new(*tracks, data=False)
    prefer(client.connection, codec)
    if prepare is not None:
        prepare(client)
    try:
        peer = peers.open(recorder)
        await client.connect(peer)
        await soon(recorder.is_connected.wait())
        yield peers, peer, recorder, client
    finally:
        await peers.aclose()
        await client.close()


@contextlib.asynccontextmanager
async def watching(
    peers: Peers, source: MediaSource, *, kinds: tuple[str, ...] = ("audio", "video")
) -> AsyncIterator[tuple[Watcher, ViewerPeer, ViewerRecorder]]:
    """Connect a viewer."""
    recorder, watcher = ViewerRecorder(), Watcher.new(kinds)
    viewer = peers.open_viewer(source, recorder)
    try:
        await watcher.watch(viewer)
        await soon(recorder.is_connected.wait())
        yield watcher, viewer, recorder
    finally:
        await viewer.close()
        await watcher.close()
