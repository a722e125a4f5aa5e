"""Video costs nothing while nobody looks, and heals itself while somebody does."""

import asyncio
import fractions
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from aiortc.codecs import CODECS
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.video import (
    IDLE_BPS,
    STUCK_S,
    VIEWED_BPS,
    WAITING_PICTURES,
    PictureAssembly,
    VideoTrack,
    is_keyframe,
)

VP8 = CODECS["video"][0]
H264 = CODECS["video"][2]
SSRC = 42


def picture(number: int) -> av.VideoFrame:
    gray = np.random.default_rng(number).integers(0, 255, (120, 160), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = number * 3600, fractions.Fraction(1, 90_000)
    return frame


class Sender:
    """Encodes pictures into RTP packets, several a picture."""

    def __init__(self, encoder: Vp8Encoder | H264Encoder, codec: RTCRtpCodecParameters) -> None:
        self._encoder, self._codec = encoder, codec
        self._sequence = 65_530
        self._number = 0

    def picture(self, *, key: bool = False) -> list[RtpPacket]:
        self._number += 1
        payloads, _ = self._encoder.encode(picture(self._number), key)
        packets = []
        for payload in payloads:
            packet = RtpPacket(
                payload_type=self._codec.payloadType or 0,
                sequence_number=self._sequence % 65_536,
                timestamp=(2**32 - 9000 + self._number * 3600) % 2**32,
                ssrc=SSRC,
                payload=payload,
            )
            packets.append(packet)
            self._sequence += 1
        return packets


def vp8() -> Sender:
    return Sender(Vp8Encoder(), VP8)


class Feedback:
    """Counts what is asked for."""

    def __init__(self) -> None:
        self.pictures: list[int] = []
        self.packets: list[int] = []

    async def request_picture(self, ssrc: int) -> None:
        self.pictures.append(ssrc)

    async def request_packets(self, ssrc: int, missing: list[int]) -> None:
        assert ssrc == SSRC
        self.packets += missing


def feed(assembly: PictureAssembly, packets: list[RtpPacket], now_s: float) -> list[int]:
    missing: list[int] = []
    for packet in packets:
        missing += assembly.add(packet, VP8, now_s)
    return missing


@pytest.mark.parametrize(
    ("sender", "codec", "name"),
    [(vp8(), VP8, "VP8"), (Sender(H264Encoder(), H264), H264, "H264")],
)
def test_keyframes_are_told_from_others(
    sender: Sender, codec: RTCRtpCodecParameters, name: str
) -> None:
    assembly = PictureAssembly()
    for _ in range(5):
        for packet in sender.picture():
            assembly.add(packet, codec, 0.0)
    queued = [assembly.whole._items[i][1].data for i in range(len(assembly.whole))]
    assert len(queued) == 4
    assert [is_keyframe(name, data) for data in queued] == [True, False, False, False]
    assert not is_keyframe(name, b"")


def test_pictures_begin_with_a_keyframe() -> None:
    sender, assembly = vp8(), PictureAssembly()
    sender.picture()
    for _ in range(3):
        feed(assembly, sender.picture(), 0.0)
    assert len(assembly.whole) == 0
    assert assembly.needs_keyframe(0.01)
    feed(assembly, sender.picture(key=True), 0.1)
    feed(assembly, sender.picture(), 0.14)
    assert len(assembly.whole) == 1
    assert not assembly.needs_keyframe(1.0)


def test_a_picture_that_stays_incomplete_is_given_up_for_a_keyframe() -> None:
    sender, assembly = vp8(), PictureAssembly()
    feed(assembly, sender.picture(), 0.0)
    feed(assembly, sender.picture(), 0.04)
    broken = sender.picture()
    assert len(broken) > 2
    missing = feed(assembly, broken[:1] + broken[2:], 0.08)
    assert missing == [broken[1].sequence_number]
    feed(assembly, sender.picture(), 0.12)
    assert not assembly.needs_keyframe(0.12 + STUCK_S - 0.01)
    assert assembly.needs_keyframe(0.12 + STUCK_S + 0.01)
    assert not assembly.needs_keyframe(0.12 + STUCK_S + 0.1), "not twice at once"
    before = len(assembly.whole)
    feed(assembly, sender.picture(key=True), 0.6)
    feed(assembly, sender.picture(), 0.64)
    assert len(assembly.whole) == before + 1


def test_a_packet_that_is_sent_again_in_time_heals_the_picture() -> None:
    sender, assembly = vp8(), PictureAssembly()
    feed(assembly, sender.picture(), 0.0)
    broken = sender.picture()
    feed(assembly, broken[:1] + broken[2:], 0.04)
    feed(assembly, sender.picture(), 0.08)
    feed(assembly, broken[1:2], 0.12)
    feed(assembly, sender.picture(), 0.16)
    assert not assembly.needs_keyframe(1.0)
    assert len(assembly.whole) == 3


def test_few_pictures_a_second_are_no_reason_to_ask() -> None:
    sender, assembly = vp8(), PictureAssembly()
    for second in range(10):
        for i, packet in enumerate(sender.picture()):
            assembly.add(packet, VP8, second + i * 0.03)
        for tick in range(10):
            assert not assembly.needs_keyframe(second + tick * 0.1) or second == 0


def test_a_source_that_sends_nothing_is_asked_once_a_second() -> None:
    assembly = PictureAssembly()
    asked = [tick for tick in range(100) if assembly.needs_keyframe(tick * 0.05)]
    assert asked == [0, 20, 40, 60, 80]


def test_a_decoder_that_is_behind_costs_pictures_and_not_memory() -> None:
    sender, assembly = vp8(), PictureAssembly()
    for number in range(3 * WAITING_PICTURES):
        feed(assembly, sender.picture(), number * 0.04)
    assert len(assembly.whole) == WAITING_PICTURES
    assert assembly.needs_keyframe(9.0)


def test_packets_that_are_no_video_are_left_out() -> None:
    assembly = PictureAssembly()
    for payload in (b"", b"\xff", b"\x90\x80", bytes(50)):
        packet = RtpPacket(payload_type=97, sequence_number=1, ssrc=SSRC, payload=payload)
        assert assembly.add(packet, H264, 0.0) == []


async def test_unviewed_packets_are_counted_and_forgotten() -> None:
    packets = [packet for _ in range(10) for packet in vp8().picture()]
    with ThreadPoolExecutor(1) as executor:
        async with TaskScope("test") as scope:
            track = VideoTrack("1", scope, SystemClock(), executor)
            for packet in packets:
                track.rtp(packet, VP8)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(2000):
                for packet in packets:
                    track.rtp(packet, VP8)
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert track.unviewed_packets == 2001 * len(packets)
            assert grown < 10_000
            assert len(scope) == 0
            assert track.wanted_bps() == IDLE_BPS


async def test_viewers_get_the_newest_frame_and_the_last_one_stops_the_decoding() -> None:
    sender, feedback = vp8(), Feedback()
    with ThreadPoolExecutor(1) as executor:
        async with TaskScope("test") as scope:
            track = VideoTrack("1", scope, SystemClock(), executor)
            track.feedback = feedback
            for packet in sender.picture():
                track.rtp(packet, VP8)
            one, two = track.open_viewer(), track.open_viewer()
            assert track.wanted_bps() == VIEWED_BPS
            async with asyncio.timeout(5):
                while not feedback.pictures:
                    await asyncio.sleep(0.01)
            assert feedback.pictures == [SSRC]
            for number in range(5):
                for packet in sender.picture(key=number == 0):
                    track.rtp(packet, VP8)
            async with asyncio.timeout(5):
                frame = await one.frame()
                assert (frame.width, frame.height) == (160, 120)
                while one.slot.replaced + two.slot.replaced < 4:
                    await asyncio.sleep(0.01)
            one.close()
            one.close()
            assert track.viewed
            two.close()
            assert not track.viewed
            with pytest.raises(ChannelClosed):
                await one.frame()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(scope) == 0
        late = track.open_viewer()
        assert late.closed


async def test_a_slow_decoder_holds_nobody_up() -> None:
    sender = vp8()
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait)
        async with TaskScope("test") as scope:
            track = VideoTrack("1", scope, SystemClock(), executor)
            with track.open_viewer():
                for number in range(2 * WAITING_PICTURES):
                    for packet in sender.picture(key=number == 0):
                        track.rtp(packet, VP8)
                    await asyncio.sleep(0)
                assert track._picture is not None
                assert len(track._picture.whole) == WAITING_PICTURES
            gate.set()
