"""Video costs nothing while nobody looks, and heals itself while somebody does."""

import asyncio
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.pictures import Picture
from mediaserver.rtc.video import IDLE_BPS, VIEWED_BPS, WAITING_PICTURES, VideoTrack
from tests.unit.rtc.video_packets import SSRC, VP8, vp8


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
            async with asyncio.timeout(20):
                while not feedback.pictures:
                    await asyncio.sleep(0.01)
            assert feedback.pictures == [SSRC]
            for number in range(5):
                for packet in sender.picture(key=number == 0):
                    track.rtp(packet, VP8)
            async with asyncio.timeout(20):
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
                assert track._decoding is not None
                assert len(track._decoding.waiting) == WAITING_PICTURES
            gate.set()


async def test_pictures_are_put_together_once_for_viewers_and_for_who_forwards() -> None:
    sender, feedback = vp8(), Feedback()
    forwarded: list[Picture] = []
    with ThreadPoolExecutor(1) as executor:
        async with TaskScope("test") as scope:
            track = VideoTrack("1", scope, SystemClock(), executor)
            track.feedback = feedback
            track.forward(forwarded.append)
            assert track.wanted
            assert not track.viewed
            assert track.wanted_bps() == VIEWED_BPS
            for number in range(3):
                for packet in sender.picture(key=number == 0):
                    track.rtp(packet, VP8)
            assert [picture.keyframe for picture in forwarded] == [True, False, False]
            assert track._decoding is None
            assembly = track._assembly
            with track.open_viewer() as viewer:
                assert track._assembly is assembly
                async with asyncio.timeout(20):
                    while not feedback.pictures:
                        await asyncio.sleep(0.01)
                for packet in sender.picture(key=True):
                    track.rtp(packet, VP8)
                await asyncio.wait_for(viewer.frame(), 20)
                assert len(forwarded) == 4
            assert track.wanted
            assert track._decoding is None
            track.forward(None)
            assert not track.wanted
            for packet in sender.picture():
                track.rtp(packet, VP8)
            assert len(forwarded) == 4
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(scope) == 0
