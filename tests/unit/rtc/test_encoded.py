"""Taps: what each reader gets, and what a slow one loses."""

import asyncio
import gc

import pytest

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import MonotonicTime, WallTime
from mediaserver.rtc.encoded import HELD_BYTES, HELD_S, EncodedFrame, Fanout, Tap


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> MonotonicTime:
        return MonotonicTime(self.now_s)

    def wall_s(self) -> WallTime:
        return WallTime(self.now_s)


class Source:
    """A fanout, and what it asked for."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watched: list[bool] = []
        self.keyframes_asked = 0
        self.fanout = Fanout(self.clock, self._changed, self._ask)

    def _changed(self) -> None:
        self.watched.append(self.fanout.watched)

    def _ask(self) -> None:
        self.keyframes_asked += 1


def audio(number: int) -> EncodedFrame:
    return EncodedFrame("audio", "opus", number * 960, 48_000, True, bytes(80), number * 0.02)


def video(number: int, *, key: bool = False, size: int = 1000) -> EncodedFrame:
    return EncodedFrame("video", "VP8", number * 3000, 90_000, key, bytes(size), number / 30)


async def read(tap: Tap) -> list[EncodedFrame]:
    return [await tap.get() for _ in range(len(tap))]


async def test_each_reader_gets_all_in_order_beginning_with_a_keyframe() -> None:
    source = Source()
    with source.fanout.open() as one, source.fanout.open() as two:
        frames = [video(0), audio(0), video(1, key=True), audio(1), video(2)]
        for frame in frames:
            source.fanout.deliver(frame)
        assert await read(one) == frames[1:]
        assert await read(two) == frames[1:]
        assert one.dropped == 0
        assert source.keyframes_asked == 2
    assert source.watched == [True, False]


async def test_a_reader_that_waits_is_woken_by_a_frame_and_by_the_end() -> None:
    source = Source()
    tap = source.fanout.open()
    reading = asyncio.ensure_future(tap.get())
    await asyncio.sleep(0)
    source.fanout.deliver(audio(1))
    assert await asyncio.wait_for(reading, 15) == audio(1)
    reading = asyncio.ensure_future(tap.get())
    await asyncio.sleep(0)
    source.fanout.close()
    with pytest.raises(ChannelClosed):
        await asyncio.wait_for(reading, 15)
    assert source.watched == [True, False]
    with pytest.raises(ChannelClosed):
        await source.fanout.open().get()


async def test_what_waits_when_the_source_ends_can_still_be_read() -> None:
    source = Source()
    tap = source.fanout.open()
    source.fanout.deliver(audio(1))
    source.fanout.close()
    source.fanout.close()
    assert await tap.get() == audio(1)
    with pytest.raises(ChannelClosed):
        await tap.get()


async def test_a_slow_reader_loses_what_waits_and_goes_on_with_a_keyframe() -> None:
    source = Source()
    slow, quick = source.fanout.open(), source.fanout.open()
    asked = source.keyframes_asked
    for number in range(40):
        source.clock.now_s = number / 30
        source.fanout.deliver(video(number, key=number == 0))
        assert len(await read(quick)) == 1
    assert source.clock.now_s > HELD_S
    assert len(slow) == 0
    assert source.keyframes_asked == asked + 1
    source.fanout.deliver(audio(60))
    source.fanout.deliver(video(40, key=True))
    source.fanout.deliver(video(41))
    assert await read(slow) == [audio(60), video(40, key=True), video(41)]
    assert slow.dropped == 40
    assert quick.dropped == 0


async def test_what_waits_is_bounded_in_bytes_too() -> None:
    source = Source()
    tap = source.fanout.open()
    for number in range(100):
        source.fanout.deliver(video(number, key=True, size=HELD_BYTES // 3))
        assert sum(len(frame.data) for _, frame in tap._items) <= HELD_BYTES
    source.fanout.deliver(video(100, key=True, size=HELD_BYTES + 1))
    assert await read(tap) == [video(100, key=True, size=HELD_BYTES + 1)]


async def test_late_audio_alone_asks_for_no_keyframe() -> None:
    source = Source()
    tap = source.fanout.open()
    asked = source.keyframes_asked
    for number in range(200):
        source.clock.now_s = number * 0.02
        source.fanout.deliver(audio(number))
    assert source.keyframes_asked == asked
    waiting = await read(tap)
    assert waiting[-1] == audio(199)
    assert len(waiting) <= HELD_S / 0.02 + 1


async def test_a_thousand_taps_leave_nothing_behind() -> None:
    source = Source()
    source.fanout.open().close()
    gc.collect()
    before = sum(isinstance(x, Tap) for x in gc.get_objects())
    for _ in range(1000):
        tap = source.fanout.open()
        source.fanout.deliver(video(1, key=True))
        tap.close()
        tap.close()
        with pytest.raises(ChannelClosed):
            await tap.get()
    del tap
    gc.collect()
    assert sum(isinstance(x, Tap) for x in gc.get_objects()) <= before
    assert not source.fanout.watched
    assert source.watched == [True, False] * 1001
