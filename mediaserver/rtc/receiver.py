"""RTP of one media section: counted, reported on, and handed on without being decoded here.

Takes the place of aiortc's receiver (see `internals.replace_receiver`), whose parts it uses: its
statistics, its packets, its codecs. There is no thread and no queue in it. What a packet is worth
is up to the sink: audio is decoded (`ingest`), video only while somebody looks (`video`).
"""

import asyncio
import random
import time
from typing import Protocol

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)

from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import internals
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.stats import MediaKind, StreamCounters

MAX_SOURCES = 16
"""SSRCs of one section. A source that changes its SSRC is let through this often."""


class RtpSink(Protocol):
    """Takes the packets of one section. Neither waits nor raises."""

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """Take a packet; retransmitted ones come as if they had not been lost."""
        ...

    def report(self, report: SenderTime) -> None:
        """Take what the sender says of its clock."""
        ...

    def wanted_bps(self) -> int | None:
        """Return the bitrate that the sender is told to stay under; None leaves it alone."""
        ...


class Receiver(RTCRtpReceiver):
    """See the module's docstring."""

    def __init__(
        self, kind: MediaKind, transport: RTCDtlsTransport, scope: TaskScope, sink: RtpSink
    ) -> None:
        super().__init__(kind, transport)
        self.kind: MediaKind = kind
        self._scope = scope
        self._sink = sink
        self._own_ssrc: int | None = None
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._retransmission_types: dict[int, int | None] = {}
        self._retransmitted: dict[int, int] = {}
        self._statistics: dict[int, StreamStatistics] = {}
        self._clock_hz: dict[int, int] = {}
        self._payload_bytes = 0
        self._sender_reports: dict[int, tuple[int, float]] = {}
        self._reporting: asyncio.Task[None] | None = None
        self._stopped = False

    # ---- what aiortc calls --------------------------------------------------------------------

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Take packets from now on; called again after each negotiation."""
        if self._stopped:
            return
        for codec in parameters.codecs:
            if codec.payloadType is None:
                continue
            self._codecs[codec.payloadType] = codec
            if is_rtx(codec):
                base = codec.parameters.get("apt")
                self._retransmission_types[codec.payloadType] = (
                    base if isinstance(base, int) else None
                )
        for encoding in parameters.encodings:
            if encoding.rtx:
                self._retransmitted[encoding.rtx.ssrc] = encoding.ssrc
        internals.register_receiver(self, parameters)
        if self._reporting is None and not self._scope.closed:
            self._reporting = self._scope.spawn(f"rtcp-{self.kind}", self._report())

    async def stop(self) -> None:
        """Take no more packets."""
        if self._stopped:
            return
        self._stopped = True
        internals.unregister_receiver(self)
        if self._reporting is not None:
            self._reporting.cancel()

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        super()._set_rtcp_ssrc(ssrc)
        self._own_ssrc = ssrc

    def _handle_disconnect(self) -> None:
        """The transport is gone: the peer notices that, and ends what depends on it."""

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        # A BYE ends nothing: browsers send it when a track pauses, and go on with the same SSRC.
        if isinstance(packet, RtcpSrPacket) and packet.ssrc in self._statistics:
            ntp_time = packet.sender_info.ntp_timestamp
            self._sender_reports[packet.ssrc] = ((ntp_time >> 16) & 0xFFFFFFFF, time.monotonic())
            if ntp_time and packet.ssrc not in self._retransmitted:
                rtp_time = packet.sender_info.rtp_timestamp
                self._sink.report(SenderTime(packet.ssrc, rtp_time, ntp_time / 2**32))

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        codec = self._codecs.get(packet.payload_type)
        if codec is None or not self._enabled or self._stopped:
            return
        statistics = self._statistics.get(packet.ssrc)
        if statistics is None:
            if len(self._statistics) >= MAX_SOURCES:
                internals.forget_ssrc(self, packet.ssrc)
                return
            statistics = self._statistics[packet.ssrc] = StreamStatistics(codec.clockRate)
            self._clock_hz[packet.ssrc] = codec.clockRate
        statistics.add(packet)
        self._payload_bytes += len(packet.payload)
        if packet.payload_type in self._retransmission_types:
            original = self._unwrap(packet)
            if original is None:
                return
            packet, codec = original
        if packet.payload or self.kind == "video":  # padding fills a gap in the order of video
            self._sink.rtp(packet, codec)

    def _unwrap(self, packet: RtpPacket) -> tuple[RtpPacket, RTCRtpCodecParameters] | None:
        """Return the packet that a retransmission (RFC 4588) carries."""
        base = self._retransmission_types[packet.payload_type]
        ssrc = self._retransmitted.get(packet.ssrc)
        codec = self._codecs.get(base) if base is not None else None
        if base is None or ssrc is None or codec is None or len(packet.payload) < 2:
            return None
        return unwrap_rtx(packet, payload_type=base, ssrc=ssrc), codec

    # ---- what is told to the sender -----------------------------------------------------------

    async def _report(self) -> None:
        """Send a receiver report, and the wanted bitrate, about every second (RFC 3550 6.2)."""
        while True:
            await asyncio.sleep(0.5 + random.random())  # noqa: S311 (spread, not secret)
            if self._own_ssrc is None or not self._statistics or not self._enabled:
                continue
            reports = [self._report_on(ssrc) for ssrc in self._statistics]
            await internals.send_rtp(
                self, bytes(RtcpRrPacket(ssrc=self._own_ssrc, reports=reports))
            )
            wanted_bps = self._sink.wanted_bps()
            if wanted_bps is not None and self._takes_remb():
                await self._send_feedback(
                    RTCP_PSFB_APP, 0, pack_remb_fci(wanted_bps, list(self._statistics)[:8])
                )

    def _takes_remb(self) -> bool:
        return any(f.type == "goog-remb" for c in self._codecs.values() for f in c.rtcpFeedback)

    def _report_on(self, ssrc: int) -> RtcpReceiverInfo:
        statistics = self._statistics[ssrc]
        middle, arrived_s = self._sender_reports.get(ssrc, (0, 0.0))
        delay = min(int((time.monotonic() - arrived_s) * 65536), 0xFFFFFFFF) if middle else 0
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=statistics.fraction_lost,
            packets_lost=statistics.packets_lost,
            highest_sequence=(statistics.cycles + (statistics.max_seq or 0)) & 0xFFFFFFFF,
            jitter=min(statistics.jitter, 0xFFFFFFFF),
            lsr=middle,
            dlsr=delay,
        )

    async def request_picture(self, ssrc: int) -> None:
        """Ask the sender for a keyframe: a PLI (RFC 4585 section 6.3.1)."""
        await self._send_feedback(RTCP_PSFB_PLI, ssrc, b"")

    async def request_packets(self, ssrc: int, missing: list[int]) -> None:
        """Ask the sender for packets again: a NACK (RFC 4585 section 6.2.1)."""
        if self._own_ssrc is not None:
            packet = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._own_ssrc, media_ssrc=ssrc)
            packet.lost = missing
            await internals.send_rtp(self, bytes(packet))

    async def _send_feedback(self, fmt: int, ssrc: int, fci: bytes) -> None:
        if self._own_ssrc is not None:
            packet = RtcpPsfbPacket(fmt=fmt, ssrc=self._own_ssrc, media_ssrc=ssrc, fci=fci)
            await internals.send_rtp(self, bytes(packet))

    # ---- figures ------------------------------------------------------------------------------

    def counters(self) -> StreamCounters:
        """Return what was counted so far; retransmissions count as bytes only."""
        streams = [(s, x) for s, x in self._statistics.items() if s not in self._retransmitted]
        return StreamCounters(
            kind=self.kind,
            packets_expected=sum(statistics.packets_expected for _, statistics in streams),
            packets_lost=sum(max(0, statistics.packets_lost) for _, statistics in streams),
            payload_bytes=self._payload_bytes,
            jitter_s=max((x.jitter / self._clock_hz[ssrc] for ssrc, x in streams), default=0.0),
        )
