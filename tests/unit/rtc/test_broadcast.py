"""A broadcast: what of a peer's sections is watched, and who is told of it."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiortc.codecs import CODECS
from aiortc.rtp import RtpPacket

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import broadcast as broadcasts
from mediaserver.rtc.broadcast import TAKEOVER_S, Broadcast
from mediaserver.rtc.encoded import EncodedFrame, Tap
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.video import VideoTrack
from tests.unit.rtc.test_encoded import ManualClock
from tests.unit.rtc.test_video import Feedback
from tests.unit.rtc.video_packets import SSRC, VP8, Sender, vp8

OPUS = CODECS["audio"][0]


class Publisher:
    """A broadcast with two video tracks, on a clock of its own."""

    def __init__(self, scope: TaskScope, executor: ThreadPoolExecutor) -> None:
        self.scope = scope
        self.clock = ManualClock()
        self.told: list[tuple[bool, bool]] = []
        self.broadcast = Broadcast(scope, self.clock, lambda a, v: self.told.append((a, v)))
        self.camera = VideoTrack("1", scope, self.clock, executor)
        self.screen = VideoTrack("2", scope, self.clock, executor)
        self.feedback = Feedback()
        for track in (self.camera, self.screen):
            track.observer, track.feedback = self.broadcast, self.feedback

    def audio(self, sequence: int, ssrc: int = 7, mid: str = "0") -> None:
        packet = RtpPacket(
            payload_type=96,
            sequence_number=sequence % 65536,
            timestamp=sequence * 960 % 2**32,
            ssrc=ssrc,
            payload=bytes([sequence % 256]),
        )
        self.broadcast.audio_heard(mid, packet, OPUS)

    def video(self, sender: Sender, track: VideoTrack, *, key: bool = False) -> None:
        for packet in sender.picture(key=key):
            track.rtp(packet, VP8)


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    with ThreadPoolExecutor(1) as executor:
        async with TaskScope("test") as scope:
            yield Publisher(scope, executor)


async def read(tap: Tap) -> list[EncodedFrame]:
    return [await tap.get() for _ in range(len(tap))]


async def test_what_begins_is_told_once(publisher: Publisher) -> None:
    assert publisher.broadcast.codecs == {}
    for number in range(5):
        publisher.audio(number)
    sender = vp8()
    for _ in range(3):
        publisher.video(sender, publisher.camera)
    assert publisher.told == [(True, False), (True, True)]
    assert publisher.broadcast.codecs == {"audio": "opus", "video": "VP8"}
    assert not publisher.camera.wanted
    assert len(publisher.scope) == 0


async def test_both_kinds_are_handed_on_while_somebody_reads(publisher: Publisher) -> None:
    publisher.audio(0)
    sender = vp8()
    publisher.video(sender, publisher.camera)
    with publisher.broadcast.open_tap() as tap:
        assert publisher.broadcast.watched
        assert publisher.camera.wanted
        publisher.audio(1)
        publisher.video(sender, publisher.camera, key=True)
        publisher.audio(2)
        frames = await read(tap)
        assert [(f.kind, f.codec, f.keyframe) for f in frames] == [
            ("audio", "opus", True),
            ("video", "VP8", True),
            ("audio", "opus", True),
        ]
        assert frames[2].timestamp - frames[0].timestamp == 960
        assert [f.data for f in frames if f.kind == "audio"] == [b"\1", b"\2"]
    assert not publisher.broadcast.watched
    assert not publisher.camera.wanted
    publisher.audio(3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(publisher.scope) == 0


async def test_a_tap_may_be_opened_before_anything_came(publisher: Publisher) -> None:
    with publisher.broadcast.open_tap() as tap:
        publisher.audio(0)
        publisher.video(vp8(), publisher.camera, key=True)
        assert [f.kind for f in await read(tap)] == ["audio", "video"]


async def test_audio_is_put_in_order_and_what_is_lost_is_given_up(publisher: Publisher) -> None:
    with publisher.broadcast.open_tap() as tap:
        for number in (0, 2, 1, 3, 5):
            publisher.audio(number)
        assert [f.data[0] for f in await read(tap)] == [0, 1, 2, 3]
        publisher.clock.now_s = 0.2
        async with asyncio.timeout(15):
            assert (await tap.get()).data[0] == 5
        assert len(tap) == 0


async def test_a_second_audio_source_of_a_section_waits_for_the_first(publisher: Publisher) -> None:
    with publisher.broadcast.open_tap() as tap:
        publisher.audio(0)
        publisher.audio(900, ssrc=8)
        assert [f.data[0] for f in await read(tap)] == [0]
        publisher.clock.now_s = 1.0
        publisher.audio(901, ssrc=8)
        frames = await read(tap)
        assert [f.data[0] for f in frames] == [901 % 256]
        assert frames[0].timestamp == pytest.approx(48_000, abs=100)


async def test_the_first_section_of_a_kind_is_watched_until_it_ends(publisher: Publisher) -> None:
    camera, screen = vp8(), vp8()
    publisher.video(camera, publisher.camera)
    with publisher.broadcast.open_tap() as tap:
        publisher.video(screen, publisher.screen, key=True)
        assert len(tap) == 0
        publisher.video(camera, publisher.camera, key=True)
        assert len(await read(tap)) == 1
        publisher.broadcast.ended("video", "1")
        publisher.video(screen, publisher.screen, key=True)  # from here on this one is watched
        assert publisher.screen.wanted
        assert not publisher.camera.wanted
        assert [f.keyframe for f in await read(tap)] == [True]
    assert publisher.told == [(False, True)]


async def test_a_section_that_falls_silent_is_replaced_by_one_that_sends(
    publisher: Publisher,
) -> None:
    camera, screen = vp8(), vp8()
    publisher.video(camera, publisher.camera)
    publisher.clock.now_s = TAKEOVER_S / 2
    publisher.video(screen, publisher.screen)
    assert publisher.broadcast._lanes["video"].mid == "1"
    publisher.clock.now_s = TAKEOVER_S + 0.1
    publisher.video(screen, publisher.screen)
    assert publisher.broadcast._lanes["video"].mid == "2"


async def test_an_end_that_is_a_change_is_not_told(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasts, "END_HOLD_S", 0.05)
    publisher.audio(0)
    publisher.broadcast.ended("audio", "0")
    publisher.audio(1)
    await asyncio.sleep(0.1)
    assert publisher.told == [(True, False)]
    publisher.broadcast.ended("audio", "0")
    publisher.broadcast.ended("audio", "0")
    async with asyncio.timeout(15):
        while len(publisher.told) < 2:
            await asyncio.sleep(0.01)
    assert publisher.told == [(True, False), (False, False)]
    assert publisher.broadcast.codecs == {}


async def test_the_peers_end_is_told_and_ends_the_taps(publisher: Publisher) -> None:
    publisher.audio(0)
    tap = publisher.broadcast.open_tap()
    publisher.audio(1)
    publisher.broadcast.close()
    publisher.broadcast.close()
    publisher.audio(2)
    publisher.video(vp8(), publisher.camera, key=True)
    assert not publisher.camera.wanted
    assert publisher.told == [(True, False), (False, False)]
    assert (await tap.get()).data == b"\1"
    with pytest.raises(ChannelClosed):
        await tap.get()
    with pytest.raises(ChannelClosed):
        await publisher.broadcast.open_tap().get()


async def test_reports_place_audio_and_video_on_one_clock(publisher: Publisher) -> None:
    sender = vp8()
    publisher.camera.report(SenderTime(SSRC, 2**32 - 9000 + 3600, 100.0))
    publisher.broadcast.reported("0", SenderTime(7, 0, 100.0))
    with publisher.broadcast.open_tap() as tap:
        publisher.audio(0)
        publisher.clock.now_s = 0.2  # the video takes longer
        publisher.video(sender, publisher.camera, key=True)
        for number in range(1, 11):
            publisher.audio(number)
        first, video, *_, second = await read(tap)
        assert video.kind == "video"
        assert second.captured_s - first.captured_s == pytest.approx(0.2, abs=0.01)
        assert video.captured_s == pytest.approx(second.captured_s - 0.2, abs=0.01)


async def test_a_keyframe_is_asked_of_the_sender(publisher: Publisher) -> None:
    publisher.broadcast.request_keyframe()
    sender = vp8()
    publisher.video(sender, publisher.camera)
    with publisher.broadcast.open_tap():
        async with asyncio.timeout(15):
            while not publisher.feedback.pictures:
                await asyncio.sleep(0.01)
        publisher.video(sender, publisher.camera, key=True)
        publisher.clock.now_s = 5.0
        publisher.video(sender, publisher.camera)
        asked = len(publisher.feedback.pictures)
        for _ in range(10):
            publisher.broadcast.request_keyframe()
        async with asyncio.timeout(15):
            while len(publisher.feedback.pictures) == asked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.12)
        assert len(publisher.feedback.pictures) == asked + 1


async def test_a_thousand_taps_leave_no_task_behind(publisher: Publisher) -> None:
    sender = vp8()
    publisher.video(sender, publisher.camera)
    for number in range(1000):
        with publisher.broadcast.open_tap():
            publisher.audio(number)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(publisher.scope) == 0
    assert not publisher.camera.wanted
