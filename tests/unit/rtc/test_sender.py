"""What goes to a viewer: packets, what is sent again, and reports that keep lips in sync."""

import pytest
from aiortc.codecs import CODECS, depayload
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    unwrap_rtx,
)

from mediaserver.kernel.errors import Unprocessable
from mediaserver.rtc.encoded import EncodedFrame
from mediaserver.rtc.sender import HISTORY_PACKETS, RESENT_AT_ONCE, Sender
from mediaserver.rtc.stats import MediaKind
from tests.unit.rtc.test_encoded import ManualClock
from tests.unit.rtc.video_packets import picture
from tests.unit.rtc.wire import Wire

OPUS, G722 = CODECS["audio"][:2]
VP8, VP8_RTX, H264, H264_RTX = CODECS["video"][:4]
MID = RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid")


class Viewing:
    """A sender on a wire."""

    def __init__(self, kind: MediaKind, *codecs: RTCRtpCodecParameters) -> None:
        self.wire, self.clock, self.wished = Wire(), ManualClock(), 0
        self.sender = Sender(kind, self.wire, self.clock, self._wish)
        self._codecs = list(codecs)

    def _wish(self) -> None:
        self.wished += 1

    async def begin(self) -> "Viewing":
        await self.sender.send(
            RTCRtpSendParameters(
                codecs=self._codecs,
                headerExtensions=[MID],
                muxId="v1",
                rtcp=RTCRtcpParameters(cname="someone"),
            )
        )
        return self

    async def video(self, codec: str, data: bytes, number: int = 0, *, key: bool = True) -> None:
        await self.sender.send_frame(
            EncodedFrame("video", codec, 3000 * number, 90_000, key, data, number / 30)
        )

    async def audio(self, timestamp: int, codec: str = "opus") -> None:
        await self.sender.send_frame(
            EncodedFrame("audio", codec, timestamp, 48_000, True, b"x" * 80, timestamp / 48_000)
        )

    async def nack(self, *lost: int) -> None:
        packet = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=self.sender._ssrc)
        packet.lost = list(lost)
        await self.sender._handle_rtcp_packet(packet)


def encoded(codec: RTCRtpCodecParameters) -> bytes:
    encoder = Vp8Encoder() if codec is VP8 else H264Encoder()
    payloads, _ = encoder.encode(picture(1), True)
    return b"".join(depayload(codec, payload) for payload in payloads)


@pytest.mark.parametrize("codec", [VP8, H264], ids=["VP8", "H264"])
async def test_a_picture_is_cut_into_packets_and_nothing_is_lost(
    codec: RTCRtpCodecParameters,
) -> None:
    viewing = await Viewing("video", VP8, VP8_RTX, H264, H264_RTX).begin()
    data = encoded(codec)
    for number in range(3):
        await viewing.video(codec.name, data, number)
    packets = viewing.wire.packets
    first = [p for p in packets if p.timestamp == packets[0].timestamp]
    assert b"".join(depayload(codec, p.payload) for p in first) == data
    assert len(first) > 3
    assert [p.marker for p in first] == [0] * (len(first) - 1) + [1]
    assert {p.payload_type for p in packets} == {codec.payloadType}
    assert {p.extensions.mid for p in packets} == {"v1"}
    assert max(len(p.payload) for p in packets) <= 1300
    sequence = [p.sequence_number for p in packets]
    assert sequence == list(range(sequence[0], sequence[0] + len(packets)))
    assert (packets[-1].timestamp - packets[0].timestamp) % 2**32 == 6000


async def test_timestamps_wrap_where_rtp_does() -> None:
    viewing = await Viewing("audio", OPUS).begin()
    for number in range(3):
        await viewing.audio(2**40 - 960 + number * 960)
    one, two, three = (p.timestamp for p in viewing.wire.packets)
    assert (two - one) % 2**32 == (three - two) % 2**32 == 960


async def test_audio_after_a_gap_is_marked_as_a_beginning() -> None:
    viewing = await Viewing("audio", OPUS).begin()
    for timestamp in (0, 960, 1920, 50_000, 50_960):
        await viewing.audio(timestamp)
    assert [p.marker for p in viewing.wire.packets] == [1, 0, 0, 1, 0]


async def test_a_codec_that_was_not_offered_is_refused_and_another_of_the_offer_is_not() -> None:
    viewing = await Viewing("audio", OPUS, G722).begin()
    await viewing.audio(0)
    await viewing.audio(960, "G722")
    assert [p.payload_type for p in viewing.wire.packets] == [OPUS.payloadType, G722.payloadType]
    with pytest.raises(Unprocessable, match="PCMU") as caught:
        await viewing.audio(1920, "PCMU")
    assert caught.value.specific_code == "codec_unsupported"


async def test_nothing_is_sent_before_the_connection_and_after_its_end() -> None:
    viewing = Viewing("audio", OPUS)
    await viewing.audio(0)
    await viewing.begin()
    assert viewing.sender.started.is_set()
    await viewing.audio(960)
    await viewing.sender.stop()
    await viewing.sender.stop()
    await viewing.audio(1920)
    await viewing.sender.report(0.0)
    assert len(viewing.wire.packets) == 1
    assert len(viewing.wire.sent_of(RtcpByePacket)) == len(viewing.wire.sent) == 1
    assert not viewing.wire._rtp_router.senders


@pytest.mark.parametrize("rtx", [True, False])
async def test_lost_packets_are_sent_again(rtx: bool) -> None:
    viewing = await Viewing("video", VP8, *([VP8_RTX] if rtx else [])).begin()
    await viewing.video("VP8", encoded(VP8))
    sent = list(viewing.wire.packets)
    await viewing.nack(sent[1].sequence_number, sent[2].sequence_number, 60_000)
    again = viewing.wire.packets[len(sent) :]
    assert len(again) == 2
    if rtx:
        assert {p.payload_type for p in again} == {VP8_RTX.payloadType}
        assert {p.ssrc for p in again} == {viewing.sender._rtx_ssrc}
        again = [unwrap_rtx(p, VP8.payloadType or 0, sent[0].ssrc) for p in again]
    assert [(p.sequence_number, p.payload) for p in again] == [
        (p.sequence_number, p.payload) for p in sent[1:3]
    ]


async def test_asking_without_end_costs_no_more_than_was_sent() -> None:
    viewing = await Viewing("video", VP8, VP8_RTX).begin()
    data = encoded(VP8)
    for number in range(300):
        await viewing.video("VP8", data, number)
    sent = len(viewing.wire.packets)
    assert len(viewing.sender._history) == HISTORY_PACKETS
    recent = [p.sequence_number for p in viewing.wire.packets[-100:]]
    for _ in range(50):
        await viewing.nack(*recent)
    assert len(viewing.wire.packets) - sent == RESENT_AT_ONCE
    await viewing.video("VP8", data, 301)
    await viewing.nack(*recent)
    assert len(viewing.wire.packets) - sent <= RESENT_AT_ONCE + 2 * 40


async def test_a_wish_for_a_keyframe_is_passed_on() -> None:
    viewing = await Viewing("video", VP8).begin()
    for fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR, 15):
        packet = RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=viewing.sender._ssrc)
        await viewing.sender._handle_rtcp_packet(packet)
    assert viewing.wished == 2


async def test_reports_tell_when_what_was_sent_was_captured() -> None:
    epoch_s = 3_900_000_000.0
    times = {}
    for kind, codec, send_delay_s in (("audio", OPUS, 0.01), ("video", VP8, 0.2)):
        viewing = await Viewing("audio" if kind == "audio" else "video", codec).begin()
        await viewing.sender.report(epoch_s)
        assert viewing.wire.sent == []
        hz = codec.clockRate
        frame = EncodedFrame(
            viewing.sender.media_kind, codec.name, 5 * hz, hz, True, encoded(VP8), 77.0
        )
        viewing.clock.now_s = 77.0 + send_delay_s
        await viewing.sender.send_frame(frame)
        viewing.clock.now_s += 0.5
        await viewing.sender.report(epoch_s)
        report = viewing.wire.sent_of(RtcpSrPacket)[0]
        assert isinstance(report, RtcpSrPacket)
        info = report.sender_info
        sent = viewing.wire.packets[-1]
        since_s = ((info.rtp_timestamp - sent.timestamp) % 2**32) / hz
        assert since_s == pytest.approx(0.5)
        times[kind] = info.ntp_timestamp / 2**32 - since_s
        assert info.packet_count == len(viewing.wire.packets)
    assert times["audio"] == pytest.approx(epoch_s + 77.0, abs=1e-4)
    assert times["video"] == pytest.approx(times["audio"], abs=1e-4), "however late it was sent"


async def test_what_the_viewer_lost_is_counted() -> None:
    viewing = await Viewing("video", VP8).begin()
    await viewing.video("VP8", encoded(VP8))

    def report(lost: int) -> RtcpRrPacket:
        info = RtcpReceiverInfo(
            ssrc=viewing.sender._ssrc,
            fraction_lost=0,
            packets_lost=lost,
            highest_sequence=0,
            jitter=900,
            lsr=0,
            dlsr=0,
        )
        return RtcpRrPacket(ssrc=1, reports=[info])

    await viewing.sender._handle_rtcp_packet(report(2))
    counters = viewing.sender.counters()
    assert counters.packets_expected == len(viewing.wire.packets)
    assert (counters.packets_lost, counters.jitter_s) == (2, 0.01)
    await viewing.sender._handle_rtcp_packet(report(2**23 - 1))
    assert viewing.sender.counters().packets_lost == len(viewing.wire.packets)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", b"\0\0\1\0\0\1", b"no start code", b"\0" * 9])
async def test_what_is_no_h264_harms_nobody(data: bytes) -> None:
    viewing = await Viewing("video", H264).begin()
    await viewing.video("H264", data)
    await viewing.video("H264", encoded(H264), 1)
    assert viewing.wire.packets[-1].marker == 1
