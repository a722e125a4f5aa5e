"""Media time follows RTP timestamps as long as they can be believed; packets come in order."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.rtc.timeline import (
    MAX_AHEAD_S,
    ReorderBuffer,
    Timeline,
    signed_difference,
)

HZ = 48_000


def test_packets_lie_where_their_timestamps_say() -> None:
    timeline = Timeline()
    placed = [timeline.place(1, 1000 + i * 960, HZ, 100 + i * 0.02) for i in range(50)]
    assert placed == pytest.approx([i * 0.02 for i in range(50)])


def test_lost_packets_leave_a_gap_in_time() -> None:
    timeline = Timeline()
    timeline.place(1, 0, HZ, 0.0)
    timeline.end_s = 0.02
    assert timeline.place(1, 5 * 960, HZ, 0.1) == pytest.approx(0.1)


def test_a_timestamp_that_wraps_is_no_jump() -> None:
    timeline = Timeline()
    timeline.place(1, 2**32 - 480, HZ, 0.0)
    timeline.end_s = 0.02
    assert timeline.place(1, 480, HZ, 0.02) == pytest.approx(0.02)


def test_a_source_that_stood_still_while_paused_is_put_after_the_pause() -> None:
    timeline = Timeline()
    timeline.place(1, 0, HZ, 0.0)
    timeline.end_s = 0.02
    assert timeline.place(1, 960, HZ, 30.0) == pytest.approx(30.0)
    timeline.end_s = 30.02
    assert timeline.place(1, 1920, HZ, 30.02) == pytest.approx(30.02)


def test_a_claim_of_hours_is_not_believed() -> None:
    timeline = Timeline()
    timeline.place(1, 0, HZ, 0.0)
    timeline.end_s = 0.02
    assert timeline.place(1, 2**31 - 1, HZ, 0.02) == pytest.approx(0.02)


def test_a_new_source_begins_where_the_clock_is() -> None:
    timeline = Timeline()
    timeline.place(1, 0, HZ, 0.0)
    timeline.end_s = 0.02
    assert timeline.place(2, 77_777, HZ, 4.0) == pytest.approx(4.0)


def test_audio_faster_than_time_is_kept_without_gaps() -> None:
    timeline = Timeline()
    placed = []
    for i in range(2000):  # 40 s of audio within 2 s
        placed.append(timeline.place(1, i * 960, HZ, i * 0.001))
        timeline.end_s = placed[-1] + 0.02
    assert placed == pytest.approx([i * 0.02 for i in range(2000)], abs=1e-6)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 2**32 - 1),
            st.sampled_from([8000, 48_000]),
            st.floats(0, 2),
        ),
        max_size=200,
    )
)
def test_whatever_timestamps_say_time_neither_goes_back_nor_runs_away(
    packets: list[tuple[int, int, int, float]],
) -> None:
    timeline = Timeline()
    now_s = 0.0
    audio_s = 0.0
    for ssrc, timestamp, clock_hz, pause_s in packets:
        now_s += pause_s
        start_s = timeline.place(ssrc, timestamp, clock_hz, now_s)
        assert start_s >= timeline.end_s - 0.021
        timeline.end_s = max(timeline.end_s, start_s) + 0.02
        audio_s += 0.02
        assert timeline.end_s <= now_s + audio_s + MAX_AHEAD_S + 0.1


def test_packets_in_order_pass_at_once() -> None:
    buffer: ReorderBuffer[int] = ReorderBuffer()
    assert [buffer.push(i % 65536, i, 0.0) for i in range(65530, 65545)] == [
        [i] for i in range(65530, 65545)
    ]


def test_packets_that_overtook_each_other_are_put_in_order() -> None:
    buffer: ReorderBuffer[str] = ReorderBuffer()
    assert buffer.push(10, "a", 0.0) == ["a"]
    assert buffer.push(12, "c", 0.01) == []
    assert buffer.push(11, "b", 0.02) == ["b", "c"]


def test_a_missing_packet_is_waited_for_and_then_given_up() -> None:
    buffer: ReorderBuffer[str] = ReorderBuffer(hold_s=0.08)
    buffer.push(10, "a", 0.0)
    assert buffer.push(12, "c", 0.02) == []
    assert buffer.expire(0.09) == []
    assert buffer.expire(0.11) == ["c"]
    assert buffer.push(13, "d", 0.12) == ["d"]
    assert buffer.push(11, "b", 0.13) == []
    assert buffer.late == 1


def test_after_a_loss_packets_pass_at_once_again() -> None:
    buffer: ReorderBuffer[int] = ReorderBuffer(hold_s=0.08)
    buffer.push(0, 0, 0.0)
    out = [buffer.push(i, i, i * 0.02) for i in range(2, 12)]
    assert [item for items in out for item in items] == list(range(2, 12))
    assert out[-1] == [11]


def test_a_sequence_that_restarts_is_followed() -> None:
    buffer: ReorderBuffer[str] = ReorderBuffer()
    buffer.push(10, "a", 0.0)
    buffer.push(12, "c", 0.0)
    assert buffer.push(40_000, "x", 0.1) == ["c", "x"]


def test_what_waits_is_bounded() -> None:
    buffer: ReorderBuffer[int] = ReorderBuffer(hold_s=1e9, capacity=32)
    buffer.push(0, 0, 0.0)
    for i in range(2, 1000, 2):
        buffer.push(i, i, 0.0)
        assert buffer.waiting <= 32


@given(st.integers(0, 65535), st.integers(0, 2**31), st.integers(1, 60))
def test_any_shuffle_within_the_window_comes_out_in_order(
    first: int, seed: int, count: int
) -> None:
    order = list(range(count))
    dice = random.Random(seed)
    for i in range(0, count, 8):
        block = order[max(1, i) : i + 8]
        dice.shuffle(block)
        order[max(1, i) : i + 8] = block
    buffer: ReorderBuffer[int] = ReorderBuffer(hold_s=1.0)
    out = [item for i in order for item in buffer.push((first + i) % 65536, i, 0.0)]
    assert out == list(range(count))


@given(st.lists(st.tuples(st.integers(0, 65535), st.floats(0, 0.2)), max_size=300))
def test_whatever_comes_nothing_comes_out_twice_or_stays(
    packets: list[tuple[int, float]],
) -> None:
    buffer: ReorderBuffer[int] = ReorderBuffer()
    now_s = 0.0
    out = []
    for index, (number, pause_s) in enumerate(packets):
        now_s += pause_s
        out += buffer.push(number, index, now_s)
    out += buffer.flush()
    assert len(out) == len(set(out))
    assert len(out) + buffer.late == len(packets)
    assert buffer.waiting == 0


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_the_signed_difference_undoes_wrapping(start: int, step: int) -> None:
    assert signed_difference((start + step) % 2**32, start, 32) == step


def test_pairs_of_neighbours_are_covered() -> None:
    for a, b in itertools.pairwise([65534, 65535, 0, 1]):
        assert signed_difference(b, a, 16) == 1
