#!/usr/bin/env python3
"""What it costs to pass a live broadcast on to its viewers (printed as Markdown).

    python -m benchmarks.relay                       0, 1, 5 and 10 viewers, 15 s each
    python -m benchmarks.relay --viewers 0 1 5 --seconds 20

A server process has nothing but the WebRTC peers (`mediaserver.rtc`); publisher and viewers are in
this one. The publisher sends 640x360 VP8 at 30 pictures a second and about 1 Mbit/s, and Opus, both
encoded beforehand; the server decodes the audio, as it does for captions, and passes all on. The
viewers take and count packets, and decode nothing. Loopback, no losses.
"""

import argparse
import asyncio
import fractions
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from benchmarks.relay_clip import AUDIO_FRAME, AUDIO_HZ, FPS, encoded_audio, encoded_video
from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import internals
from mediaserver.rtc.listener import CloseReason
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.peer import Peer, Peers, RtcConfig
from mediaserver.rtc.receiver import Receiver

SETTLE_S = 2.0
_PREFIX = 48
"""Bytes at the beginning of a picture by which it is known again."""
_REPLY = "reply: "
"""Before what is no line of the log."""
CONFIG = RtcConfig(ice_interfaces=("127.0.0.1",))


# ---- the server's process -----------------------------------------------------------------------


class Silent:
    """A listener that keeps nothing."""

    def connected(self) -> None: ...
    def audio_started(self, mid: str) -> None: ...
    def audio(self, mid: str, chunk: AudioChunk) -> None: ...
    def audio_ended(self, mid: str) -> None: ...
    def channel_message(self, label: str, text: str) -> None: ...
    def media_changed(self, audio: bool, video: bool) -> None: ...
    def closed(self, reason: CloseReason, detail: str) -> None: ...


async def serve() -> None:
    """Answer offers that come as lines of JSON: ["publish" | "watch" | "used" | "leave", sdp]."""
    peers = Peers(CONFIG)
    publisher: Peer | None = None
    viewers = []
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        what, sdp = json.loads(line)
        reply: object = None
        if what == "publish":
            publisher = peers.open(Silent())
            reply = await publisher.accept(sdp)
        elif what == "watch" and publisher is not None:
            viewers.append(peers.open_viewer(publisher.broadcast, Silent()))
            reply = await viewers[-1].accept(sdp)
        elif what == "used":
            reply = [time.process_time(), sum(viewer.dropped for viewer in viewers)]
        elif what == "leave":
            for viewer in viewers:
                await viewer.close()
            viewers.clear()
        sys.stdout.write(f"{_REPLY}{json.dumps(reply)}\n")
        sys.stdout.flush()
    await peers.aclose()


class Server:
    """The server's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, what: str, sdp: str = "") -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, sdp]).encode() + b"\n")
        async with asyncio.timeout(15):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith(_REPLY):
                    return json.loads(line.removeprefix(_REPLY))
        raise EOFError("the server's process ended")


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """Start a server process; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.relay",
        "--serve",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield Server(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()


# ---- the publisher ------------------------------------------------------------------------------


class Clip(MediaStreamTrack):
    """Sends encoded frames over and over, at their pace; keeps when each was sent."""

    def __init__(self, kind: str, frames: list[bytes], every_s: float, clock_hz: int) -> None:
        super().__init__()
        self.kind = kind
        self.sent_s: dict[bytes, float] = {}
        self.bytes = 0
        self._frames, self._every_s, self._clock_hz = frames, every_s, clock_hz
        self._started_s: float | None = None
        self._next = 0

    async def recv(self) -> "av.Packet[Any]":
        self._started_s = self._started_s or time.monotonic()
        await asyncio.sleep(self._started_s + self._next * self._every_s - time.monotonic())
        data = self._frames[self._next % len(self._frames)]
        packet = av.Packet(data)
        packet.pts = round(self._next * self._every_s * self._clock_hz)
        packet.time_base = fractions.Fraction(1, self._clock_hz)
        self._next += 1
        self.bytes += len(data)
        self.sent_s[data[:_PREFIX]] = time.monotonic()
        return packet


def connection() -> RTCPeerConnection:
    """Return a client's connection."""
    return RTCPeerConnection(
        RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    )


async def connect(client: RTCPeerConnection, to: Server, what: str) -> None:
    """Offer, and wait until it is connected."""
    offer = await client.createOffer()
    transport = internals.transport_of(client)
    assert transport is not None
    internals.bind_ice(transport.transport, ["127.0.0.1"], 1.0)
    await client.setLocalDescription(offer)
    answer = await to.ask(what, client.localDescription.sdp)
    await client.setRemoteDescription(RTCSessionDescription(str(answer), "answer"))
    async with asyncio.timeout(10):
        while client.connectionState != "connected":
            await asyncio.sleep(0.01)


# ---- the viewers --------------------------------------------------------------------------------


@dataclass
class Counted:
    """What a viewer got."""

    sent_s: dict[bytes, float]
    packets: int = 0
    payload_bytes: int = 0
    pictures: int = 0
    delays_s: list[float] = field(default_factory=list)
    """From a picture's sending to its last packet's arrival."""
    _sent_s: float | None = None

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        self.packets += 1
        self.payload_bytes += len(packet.payload)
        if codec.name != "VP8":
            return
        data = depayload(codec, packet.payload)
        if packet.payload[0] & 0x10:
            self._sent_s = self.sent_s.get(data[:_PREFIX])
        if packet.marker:
            self.pictures += 1
            if self._sent_s is not None:
                self.delays_s.append(time.monotonic() - self._sent_s)

    def report(self, report: SenderTime) -> None:
        """Not looked at."""

    def wanted_bps(self) -> None:
        """Not told."""


@dataclass(frozen=True)
class Run:
    """The figures of one number of viewers."""

    viewers: int
    cpu: float
    """Of a core, 0 to 1."""
    packets_hz: float
    """To all viewers."""
    bps: float
    """RTP payload of one viewer."""
    pictures_hz: float
    """Of the viewer that got the fewest."""
    delay_ms: tuple[float, float]
    """Median and 95th percentile."""
    dropped: int


async def watch(
    to: Server, sent_s: dict[bytes, float], scope: TaskScope
) -> tuple[RTCPeerConnection, Counted]:
    """Connect a viewer."""
    client, counted = connection(), Counted(sent_s)
    for kind in ("audio", "video"):
        transceiver = client.addTransceiver(kind, direction="recvonly")
        internals.replace_receiver(
            transceiver,
            Receiver(
                "audio" if kind == "audio" else "video",
                transceiver.receiver.transport,
                scope,
                counted,
            ),
        )
    await connect(client, to, "watch")
    return client, counted


async def measure(to: Server, video: Clip, viewers: int, seconds: float) -> Run:
    """Measure the server while so many watch."""
    async with TaskScope("viewers") as scope:
        watching = [await watch(to, video.sent_s, scope) for _ in range(viewers)]
        await asyncio.sleep(SETTLE_S)
        for _, counted in watching:
            counted.packets = counted.payload_bytes = counted.pictures = 0
            counted.delays_s.clear()
        before_s, _ = await used(to)
        started_s = time.monotonic()
        await asyncio.sleep(seconds)
        after_s, dropped = await used(to)
        took_s = time.monotonic() - started_s
        counts = [counted for _, counted in watching]
        delays_ms = sorted(1000 * d for c in counts for d in c.delays_s) or [0.0]
        run = Run(
            viewers=viewers,
            cpu=(after_s - before_s) / took_s,
            packets_hz=sum(c.packets for c in counts) / took_s,
            bps=statistics.fmean([8 * c.payload_bytes / took_s for c in counts] or [0.0]),
            pictures_hz=min([c.pictures / took_s for c in counts], default=0.0),
            delay_ms=(statistics.median(delays_ms), delays_ms[int(len(delays_ms) * 0.95)]),
            dropped=dropped,
        )
        await to.ask("leave")
        for client, _ in watching:
            await client.close()
    return run


async def used(to: Server) -> tuple[float, int]:
    """Return the server's CPU seconds so far, and the frames it dropped."""
    answer = await to.ask("used")
    assert isinstance(answer, list)
    return float(answer[0]), int(answer[1])


def table(runs: list[Run]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| viewers | server's CPU, % of a core | more than with none, a viewer | packets/s out |"
        " kbit/s a viewer | pictures/s | delay ms, median / p95 | frames dropped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone = next((run.cpu for run in runs if run.viewers == 0), None)
    for run in runs:
        each = (
            f"{100 * (run.cpu - alone) / run.viewers:.1f}"
            if run.viewers and alone is not None
            else "–"
        )
        watched = (
            f"{run.bps / 1000:.0f} | {run.pictures_hz:.1f} | "
            f"{run.delay_ms[0]:.1f} / {run.delay_ms[1]:.1f}"
            if run.viewers
            else "– | – | –"
        )
        lines.append(
            f"| {run.viewers} | {100 * run.cpu:.1f} | {each} | {run.packets_hz:.0f} | {watched} | "
            f"{run.dropped} |"
        )
    return "\n".join(lines)


async def main(viewers: list[int], seconds: float) -> None:
    """Measure all, and print the table."""
    video = Clip("video", encoded_video(), 1 / FPS, 90_000)
    audio = Clip("audio", encoded_audio(), AUDIO_FRAME / AUDIO_HZ, AUDIO_HZ)
    async with server() as to:
        publisher = connection()
        publisher.addTrack(audio)
        publisher.addTrack(video)
        await connect(publisher, to, "publish")
        await asyncio.sleep(SETTLE_S)
        runs = []
        for count in viewers:
            runs.append(await measure(to, video, count, seconds))
            print(f"{count} viewers: {100 * runs[-1].cpu:.1f} %", file=sys.stderr)
        await publisher.close()
    print(table(runs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 5, 10])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    import uvloop

    uvloop.run(serve() if given.serve else main(given.viewers, given.seconds))
