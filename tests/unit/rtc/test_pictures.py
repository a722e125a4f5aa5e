"""Packets become whole pictures as soon as they can, and what is lost is asked for."""

import pytest
from aiortc.codecs import depayload
from aiortc.rtp import RtpPacket

from mediaserver.rtc.pictures import (
    ASK_AGAIN_S,
    MAX_PACKETS,
    PLI_INTERVAL_S,
    STUCK_S,
    ParameterSets,
    Picture,
    PictureAssembly,
    is_keyframe,
    nal_units,
)
from tests.unit.rtc.video_packets import H264, SSRC, VP8, Sender, h264, vp8


class Whole:
    """An assembly, and the pictures that came out of it."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self.assembly = PictureAssembly(self.pictures.append)

    def feed(self, packets: list[RtpPacket], now_s: float) -> list[int]:
        missing: list[int] = []
        for packet in packets:
            codec = VP8 if packet.payload_type == VP8.payloadType else H264
            missing += self.assembly.add(packet, codec, now_s)
        return missing


def payload_of(packets: list[RtpPacket]) -> bytes:
    codec = VP8 if packets[0].payload_type == VP8.payloadType else H264
    return b"".join(depayload(codec, packet.payload) for packet in packets)


@pytest.mark.parametrize("sender", [vp8(), h264()], ids=["VP8", "H264"])
def test_a_picture_is_whole_with_its_last_packet(sender: Sender) -> None:
    whole = Whole()
    for number in range(5):
        packets = sender.picture()
        whole.feed(packets[:-1], number * 0.04)
        assert len(whole.pictures) == number
        whole.feed(packets[-1:], number * 0.04 + 0.01)
        assert whole.pictures[-1].data == payload_of(packets)
        assert whole.pictures[-1].rtp_time == packets[0].timestamp
        assert whole.pictures[-1].arrived_s == number * 0.04
    assert [picture.keyframe for picture in whole.pictures] == [True, False, False, False, False]


def test_without_markers_it_is_whole_when_the_next_begins() -> None:
    sender, whole = vp8(), Whole()
    sender.marks = False
    for number in range(5):
        whole.feed(sender.picture(), number * 0.04)
    assert len(whole.pictures) == 4


def test_packets_out_of_order_are_put_right() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    packets = [*sender.picture(), *sender.picture()]
    assert len(packets) > 4
    whole.feed([packets[1], packets[0], *packets[:1:-1], packets[2]], 0.04)
    assert b"".join(picture.data for picture in whole.pictures[1:]) == payload_of(packets)
    assert not whole.assembly.needs_keyframe(10.0)


def test_pictures_begin_with_a_keyframe() -> None:
    sender, whole = vp8(), Whole()
    sender.picture()
    for _ in range(3):
        whole.feed(sender.picture(), 0.0)
    assert whole.pictures == []
    assert whole.assembly.needs_keyframe(0.01)
    whole.feed(sender.picture(key=True), 0.1)
    assert [picture.keyframe for picture in whole.pictures] == [True]
    assert not whole.assembly.needs_keyframe(1.0)


def test_a_picture_that_stays_incomplete_is_given_up_for_a_keyframe() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    whole.feed(sender.picture(), 0.04)
    broken = sender.picture()
    assert len(broken) > 2
    missing = whole.feed(broken[:1] + broken[2:], 0.08)
    assert missing == [broken[1].sequence_number]
    whole.feed(sender.picture(), 0.12)
    assert not whole.assembly.needs_keyframe(0.08 + STUCK_S - 0.01)
    assert whole.assembly.needs_keyframe(0.08 + STUCK_S + 0.01)
    assert not whole.assembly.needs_keyframe(0.08 + STUCK_S + 0.1), "not twice at once"
    before = len(whole.pictures)
    whole.feed(sender.picture(key=True), 0.6)
    assert len(whole.pictures) == before + 1


def test_what_is_missing_is_asked_for_again() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    broken = sender.picture()
    lost = broken[1].sequence_number
    assert whole.feed(broken[:1] + broken[2:], 0.04) == [lost]
    assert whole.assembly.missing(0.04 + ASK_AGAIN_S / 2) is None
    assert whole.assembly.missing(0.05 + ASK_AGAIN_S) == (SSRC, [lost])
    assert whole.assembly.missing(0.06 + ASK_AGAIN_S) is None
    whole.feed(broken[1:2], 0.2)
    assert whole.pictures[-1].data == payload_of(broken)
    assert whole.assembly.missing(1.0) is None
    assert not whole.assembly.needs_keyframe(1.0)


def test_few_pictures_a_second_are_no_reason_to_ask() -> None:
    sender, whole = vp8(), Whole()
    for second in range(10):
        for index, packet in enumerate(sender.picture()):
            whole.feed([packet], second + index * 0.03)
        for tick in range(10):
            assert not whole.assembly.needs_keyframe(second + tick * 0.1)
    assert len(whole.pictures) == 10


def test_a_source_that_sends_nothing_is_asked_once_a_second() -> None:
    assembly = Whole().assembly
    asked = [tick for tick in range(100) if assembly.needs_keyframe(tick * 0.05)]
    assert asked == [0, 20, 40, 60, 80]


def test_wishes_for_a_keyframe_are_gathered() -> None:
    sender, whole = vp8(), Whole()
    asked = 0
    for tick in range(100):
        now_s = tick * 0.01
        whole.feed(sender.picture(), now_s)
        whole.assembly.want_keyframe()
        asked += whole.assembly.needs_keyframe(now_s)
    assert asked == 1.0 / PLI_INTERVAL_S
    assert len(whole.pictures) == 100, "pictures go on meanwhile"


def test_a_keyframe_that_does_not_come_is_asked_for_again() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    whole.assembly.want_keyframe()
    assert whole.assembly.needs_keyframe(0.01)
    whole.feed(sender.picture(), 0.02)
    assert not whole.assembly.needs_keyframe(0.02)
    assert whole.assembly.needs_keyframe(0.02 + PLI_INTERVAL_S)
    whole.feed(sender.picture(key=True), 0.4)
    assert not whole.assembly.needs_keyframe(1.0)


def test_what_waits_is_bounded() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    lost = sender.picture()
    whole.feed(lost[1:], 0.0)
    for _ in range(600):
        whole.feed(sender.picture(), 0.01)
        source = whole.assembly._source
        assert source is None or len(source.held) + len(source.parts) <= 2 * MAX_PACKETS
    endless = [
        RtpPacket(payload_type=97, sequence_number=n, timestamp=1, ssrc=7, payload=b"\x10" + b"x")
        for n in range(5000)
    ]
    whole = Whole()
    for packet in endless:
        whole.feed([packet], 0.0)
        source = whole.assembly._source
        assert source is None or len(source.parts) <= MAX_PACKETS
    assert whole.pictures == []


def test_another_source_goes_on_with_its_keyframe() -> None:
    one, two, whole = vp8(), vp8(), Whole()
    whole.feed(one.picture(), 0.0)
    for number in range(3):
        packets = two.picture()
        for packet in packets:
            packet.ssrc = 99
        whole.feed(packets, 0.1 + number * 0.04)
    assert [(p.ssrc, p.keyframe) for p in whole.pictures] == [
        (SSRC, True),
        (99, True),
        (99, False),
        (99, False),
    ]


def test_padding_is_no_gap_and_no_picture() -> None:
    sender, whole = vp8(), Whole()
    whole.feed(sender.picture(), 0.0)
    for packet in (sender.picture(), sender.picture()):
        last = packet[-1].sequence_number
        sender._sequence += 1
        padding = RtpPacket(payload_type=97, sequence_number=(last + 1) % 65536, ssrc=SSRC)
        padding.timestamp = packet[-1].timestamp
        assert whole.feed([*packet, padding], 0.04) == []
    assert len(whole.pictures) == 3
    assert not whole.assembly.needs_keyframe(5.0)


def test_packets_that_are_no_video_are_left_out() -> None:
    whole = Whole()
    for payload in (b"\xff", b"\x90\x80", bytes(50), b""):
        packet = RtpPacket(payload_type=99, sequence_number=1, ssrc=SSRC, payload=payload, marker=1)
        assert whole.feed([packet], 0.0) == []
    assert whole.pictures == []


def units_of(data: bytes) -> list[int]:
    return [unit[0] & 0x1F for unit in nal_units(data)]


def test_a_keyframe_of_h264_has_its_parameters_wherever_they_were_sent() -> None:
    whole, sequence = Whole(), 0

    def send(unit: bytes, timestamp: int, *, marker: bool = True) -> None:
        nonlocal sequence
        sequence += 1
        packet = RtpPacket(
            payload_type=99,
            sequence_number=sequence,
            timestamp=timestamp,
            ssrc=SSRC,
            payload=unit,
            marker=int(marker),
        )
        whole.feed([packet], sequence * 0.01)

    sps, pps, idr, slice_ = b"\x67\x42\xe0", b"\x68\xce", b"\x65\x88", b"\x41\x9a"
    send(sps, 0)  # in pictures of their own, before the keyframe
    send(pps, 0)
    send(idr, 3000)
    send(slice_, 6000)
    assert [units_of(p.data) for p in whole.pictures] == [[7, 8, 5], [1]]
    send(idr, 9000)  # not sent again: the known ones are put before it
    assert units_of(whole.pictures[-1].data) == [7, 8, 5]
    send(idr, 9000)  # more of the same picture, by a sender that marks every slice
    assert units_of(whole.pictures[-1].data) == [5]
    changed = b"\x67\x42\x01"
    send(changed, 12000, marker=False)
    send(pps, 12000, marker=False)
    send(idr, 12000)
    send(idr, 15000)
    assert nal_units(whole.pictures[-1].data)[0] == changed
    assert all(p.keyframe for p in whole.pictures if 5 in units_of(p.data))


def test_parameters_do_not_pile_up() -> None:
    sets = ParameterSets()
    for _ in range(10_000):
        assert sets.complete(b"\0\0\0\1\x68" + bytes([1]) * 100) == b""
    assert len(sets.complete(b"\0\0\0\1\x65\x88")) < 10_000


def test_keyframes_are_told_from_others() -> None:
    assert not is_keyframe("VP8", b"")
    assert not is_keyframe("H264", b"")
    assert not is_keyframe("H264", b"\0\0\1")
    assert is_keyframe("H264", b"\0\0\1\x65\x01")
    assert not is_keyframe("H264", b"\0\0\1\x41\x01")
