"""The receiver counts, reports and hands on; nothing that a sender does makes it grow."""

import asyncio

import pytest
from aiortc.codecs import CODECS
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
)
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
    unpack_remb_fci,
    wrap_rtx,
)

from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.receiver import MAX_SOURCES, Receiver
from tests.unit.rtc.wire import Wire

VP8, VP8_RTX = CODECS["video"][:2]
OPUS = CODECS["audio"][0]


class Sink:
    """Keeps what is handed on."""

    def __init__(self, wanted: int | None = None) -> None:
        self.packets: list[RtpPacket] = []
        self.codecs: list[str] = []
        self._wanted = wanted
        self.reports: list[SenderTime] = []

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        self.packets.append(packet)
        self.codecs.append(codec.name)

    def report(self, report: SenderTime) -> None:
        self.reports.append(report)

    def wanted_bps(self) -> int | None:
        return self._wanted


def packet(sequence: int, ssrc: int = 1, kind: RTCRtpCodecParameters = OPUS) -> RtpPacket:
    return RtpPacket(
        payload_type=kind.payloadType or 0,
        sequence_number=sequence,
        timestamp=sequence * 960,
        ssrc=ssrc,
        payload=b"x" * 100,
    )


async def receiver_of(kind: str, wire: Wire, scope: TaskScope, sink: Sink) -> Receiver:
    receiver = Receiver("audio" if kind == "audio" else "video", wire, scope, sink)
    receiver._set_rtcp_ssrc(999)
    codecs = [OPUS] if kind == "audio" else [VP8, VP8_RTX]
    encodings = (
        [RTCRtpDecodingParameters(ssrc=1, payloadType=97, rtx=RTCRtpRtxParameters(ssrc=2))]
        if kind == "video"
        else []
    )
    await receiver.receive(RTCRtpReceiveParameters(codecs=codecs, encodings=encodings, muxId="0"))
    return receiver


async def test_packets_are_handed_on_and_counted() -> None:
    wire, sink = Wire(), Sink()
    async with TaskScope("test") as scope:
        receiver = await receiver_of("audio", wire, scope, sink)
        for sequence in (1, 2, 3, 6):
            await receiver._handle_rtp_packet(packet(sequence), 0)
        counters = receiver.counters()
    assert [p.sequence_number for p in sink.packets] == [1, 2, 3, 6]
    assert (counters.packets_expected, counters.packets_lost) == (6, 2)
    assert counters.payload_bytes == 400


async def test_a_goodbye_of_a_paused_track_ends_nothing() -> None:
    wire, sink = Wire(), Sink()
    async with TaskScope("test") as scope:
        receiver = await receiver_of("audio", wire, scope, sink)
        await receiver._handle_rtp_packet(packet(1), 0)
        await receiver._handle_rtcp_packet(RtcpByePacket(sources=[1]))
        await receiver._handle_rtp_packet(packet(2), 0)
    assert len(sink.packets) == 2


async def test_a_disabled_or_stopped_section_hands_nothing_on() -> None:
    wire, sink = Wire(), Sink()
    async with TaskScope("test") as scope:
        receiver = await receiver_of("audio", wire, scope, sink)
        receiver._enabled = False
        await receiver._handle_rtp_packet(packet(1), 0)
        receiver._enabled = True
        await receiver._handle_rtp_packet(packet(2, kind=VP8), 0)
        await receiver.stop()
        await receiver.stop()
        await receiver._handle_rtp_packet(packet(3), 0)
        await receiver.receive(RTCRtpReceiveParameters(codecs=[OPUS]))
        receiver._handle_disconnect()
    assert sink.packets == []
    assert not wire._rtp_router.receivers


async def test_sources_are_bounded() -> None:
    wire, sink = Wire(), Sink()
    async with TaskScope("test") as scope:
        receiver = await receiver_of("audio", wire, scope, sink)
        for ssrc in range(1000):
            assert wire._rtp_router.route_rtp(packet(1, ssrc)) is receiver
            await receiver._handle_rtp_packet(packet(1, ssrc), 0)
        assert len(wire._rtp_router.ssrc_table) <= MAX_SOURCES
    assert len(sink.packets) == MAX_SOURCES


async def test_retransmitted_packets_come_as_if_they_had_not_been_lost() -> None:
    wire, sink = Wire(), Sink()
    lost = packet(5, kind=VP8)
    again = wrap_rtx(lost, payload_type=VP8_RTX.payloadType or 0, sequence_number=77, ssrc=2)
    stray = wrap_rtx(lost, payload_type=VP8_RTX.payloadType or 0, sequence_number=1, ssrc=3)
    async with TaskScope("test") as scope:
        receiver = await receiver_of("video", wire, scope, sink)
        await receiver._handle_rtp_packet(packet(4, kind=VP8), 0)
        await receiver._handle_rtp_packet(again, 0)
        await receiver._handle_rtp_packet(stray, 0)
        again.payload = b"x"
        await receiver._handle_rtp_packet(again, 0)
        assert receiver.counters().packets_expected >= 1
    assert [(p.ssrc, p.sequence_number) for p in sink.packets] == [(1, 4), (1, 5)]
    assert sink.codecs == ["VP8", "VP8"]


async def test_reports_tell_the_sender_of_losses_and_of_the_wanted_bitrate() -> None:
    wire, sink = Wire(), Sink(wanted=100_000)
    async with TaskScope("test") as scope:
        receiver = await receiver_of("video", wire, scope, sink)
        for sequence in (1, 2, 5):
            await receiver._handle_rtp_packet(packet(sequence, kind=VP8), 0)
        sender = RtcpSenderInfo(
            ntp_timestamp=0x0001_2345_6789_0000, rtp_timestamp=0, packet_count=3, octet_count=300
        )
        await receiver._handle_rtcp_packet(RtcpSrPacket(ssrc=1, sender_info=sender))
        async with asyncio.timeout(20):
            while not wire.sent_of(RtcpPsfbPacket):
                await asyncio.sleep(0.05)
    report = wire.sent_of(RtcpRrPacket)[0]
    assert isinstance(report, RtcpRrPacket)
    block = report.reports[0]
    assert (block.ssrc, block.packets_lost, block.highest_sequence) == (1, 2, 5)
    assert block.lsr == 0x2345_6789
    assert block.dlsr < 10 * 65_536
    assert sink.reports == [SenderTime(1, 0, 0x0001_2345_6789_0000 / 2**32)]
    remb = wire.sent_of(RtcpPsfbPacket)[0]
    assert isinstance(remb, RtcpPsfbPacket)
    assert remb.fmt == RTCP_PSFB_APP
    bitrate, ssrcs = unpack_remb_fci(remb.fci)
    assert bitrate == pytest.approx(100_000, rel=0.01)
    assert ssrcs == [1]


async def test_keyframes_and_packets_are_asked_for() -> None:
    wire, sink = Wire(), Sink()
    async with TaskScope("test") as scope:
        receiver = await receiver_of("video", wire, scope, sink)
        await receiver.request_picture(1)
        await receiver.request_packets(1, [7, 8])
    picture, packets = wire.sent
    assert isinstance(picture, RtcpPsfbPacket)
    assert (picture.fmt, picture.media_ssrc) == (RTCP_PSFB_PLI, 1)
    assert packets.lost == [7, 8]  # type: ignore[attr-defined]
