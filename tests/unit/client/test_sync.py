"""The shared clock, the drift controller and the follower, by themselves."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mediaserver_client import clock as clocks
from mediaserver_client import drift
from mediaserver_client.clock import ClockSync
from mediaserver_client.drift import CONTROL_S, DriftController, Expected, PlayerState
from mediaserver_client.sync import PlaybackFollower, PlaybackState

OFFSET_S = 5_000.0
FILM = PlayerState("film", 0.0, paused=True, ready=True)
STATE = PlaybackState(1, 1, "film", True, 0.0, 1.0, OFFSET_S + 110.0)


def exchange(clock: ClockSync, at_s: float, there_s: float, back_s: float, offset_s: float) -> bool:
    t0 = clock.ping(at_s)
    t1 = t0 + there_s + offset_s
    return clock.pong(t0, t1, t1, t0 + there_s + back_s)


def good_clock(until_s: float = 100.0) -> ClockSync:
    clock = ClockSync()
    for k in range(20):
        exchange(clock, until_s - 2.0 + 0.1 * k, 0.01, 0.01, OFFSET_S)
    return clock


# ---- the clock -----------------------------------------------------------------------------

delays = st.floats(0.0, 0.5)


@given(
    st.lists(st.tuples(delays, delays, st.floats(0.0, 60.0)), min_size=1, max_size=80),
    st.floats(-1e4, 1e4),
    st.floats(-100e-6, 100e-6),
)
def test_the_truth_lies_within_the_uncertainty(
    exchanges: list[tuple[float, float, float]], offset_s: float, faster: float
) -> None:
    clock, now_s = ClockSync(), 0.0
    for there_s, back_s, wait_s in exchanges:
        t0 = clock.ping(now_s)
        arrived_s, now_s = now_s + there_s, now_s + there_s + back_s
        server_s = arrived_s * (1 + faster) + offset_s
        assert clock.pong(t0, server_s, server_s, now_s)
        truth_s = now_s * (1 + faster) + offset_s
        assert abs(clock.shared_s(now_s) - truth_s) <= clock.uncertainty_s + 1e-6
        now_s += wait_s


def test_uneven_ways_do_no_harm_where_each_is_fast_once() -> None:
    clock = ClockSync()
    exchange(clock, 0.0, 0.005, 0.250, OFFSET_S)
    exchange(clock, 1.0, 0.250, 0.005, OFFSET_S)
    assert clock.offset_s == pytest.approx(OFFSET_S, abs=0.0002)
    assert clock.uncertainty_s == pytest.approx(0.005, abs=0.0002)
    assert clock.round_trip_s == pytest.approx(0.255)
    assert clock.local_s(clock.shared_s(7.0)) == pytest.approx(7.0)


def test_it_asks_in_a_burst_and_then_now_and_then() -> None:
    clock, now_s, pings = ClockSync(), 0.0, 0
    while now_s < 60.0:
        exchange(clock, now_s, 0.1, 0.1, OFFSET_S)
        now_s, pings = max(now_s, clock.next_ping_s), pings + 1
        assert clock.synchronised == (pings >= clocks.ENOUGH)
    assert clocks.BURST + 25 <= pings <= clocks.BURST + 31


def test_on_a_fast_network_it_asks_seldom() -> None:
    clock = good_clock(100.0)
    for k in range(10):
        exchange(clock, 100.0 + k, 0.001, 0.001, OFFSET_S)
    clock.ping(200.0)
    assert clock.next_ping_s == 200.0 + clocks.CALM_INTERVAL_S


@pytest.mark.parametrize("jump_s", [0.1, 3.0, -0.1, -3600.0])
def test_a_clock_that_was_set_is_learnt_anew(jump_s: float) -> None:
    clock = good_clock(100.0)
    assert exchange(clock, 101.0, 0.01, 0.01, OFFSET_S + jump_s)
    assert clock.offset_s == pytest.approx(OFFSET_S + jump_s)
    assert not clock.synchronised
    assert clock.next_ping_s <= 101.1


def test_answers_of_no_use_change_nothing() -> None:
    clock = good_clock(100.0)
    before = (clock.offset_s, clock.uncertainty_s)
    assert not clock.pong(1.0, 2.0, 2.0, 3.0)
    t0 = clock.ping(101.0)
    assert not clock.pong(t0, t0 + OFFSET_S, t0 + OFFSET_S, t0 + 11.0)
    assert not clock.pong(t0, t0 + OFFSET_S, t0 + OFFSET_S, t0 + 0.1)
    t0 = clock.ping(102.0)
    assert not clock.pong(t0, t0 + OFFSET_S + 1, t0 + OFFSET_S, t0 + 0.1)
    t0 = clock.ping(103.0)
    assert not clock.pong(t0, math.nan, math.nan, t0 + 0.1)
    assert (clock.offset_s, clock.uncertainty_s) == before


# ---- the drift controller ------------------------------------------------------------------


def rates_until(drift_s: float, steps: int, shared_rate: float = 1.0) -> tuple[list[float], float]:
    """Run the controller on a perfect player that is off by `drift_s`."""
    control, rates, rate = DriftController(), [], shared_rate
    now_s, position_s, shared_s = 0.0, 50.0 + drift_s, 50.0
    for _ in range(steps):
        player = PlayerState("film", position_s, paused=False, ready=True, rate=rate)
        correction = control.step(now_s, shared_s, shared_rate, player)
        assert not correction.seek
        rate = correction.rate
        rates.append(rate)
        now_s += CONTROL_S
        position_s += rate * CONTROL_S
        shared_s += shared_rate * CONTROL_S
    return rates, position_s - shared_s


@pytest.mark.parametrize("drift_s", [0.9, 0.3, 0.1, 0.04, -0.04, -0.1, -0.3, -0.9])
@pytest.mark.parametrize("shared_rate", [0.5, 1.0, 2.0])
def test_drift_is_made_up_for_by_rate_without_overshooting(
    drift_s: float, shared_rate: float
) -> None:
    rates, rest_s = rates_until(drift_s * shared_rate, 60, shared_rate)
    assert abs(rest_s) <= 0.008 * shared_rate
    assert all(abs(rate / shared_rate - 1) <= 0.05 + 1e-9 for rate in rates)
    slower = [rate < shared_rate for rate in rates if abs(rate - shared_rate) > 1e-9]
    assert all(slower) if drift_s > 0 else not any(slower)
    changes = sum(a != b for a, b in itertools.pairwise(rates))
    assert changes <= 3


def test_little_drift_is_left_alone() -> None:
    rates, _ = rates_until(0.025, 20)
    assert set(rates) == {1.0}


def step_behind(
    control: DriftController,
    now_s: float,
    behind_s: float,
    *,
    ready: bool = True,
    seekable: bool = True,
) -> bool:
    player = PlayerState("film", 50.0 - behind_s, paused=False, ready=ready, seekable=seekable)
    return control.step(now_s, 50.0, 1.0, player).seek


def test_much_drift_is_a_seek_after_some_readings_and_then_no_other_soon() -> None:
    control = DriftController()
    assert [step_behind(control, 0.5 * k, 1.5) for k in range(3)] == [False, False, True]
    control.sought(1.0)
    assert not any(step_behind(control, 2.0 + 0.5 * k, 1.4) for k in range(40))
    assert not any(step_behind(control, 1.5 + 0.5 * k, 2.5) for k in range(3))


def test_seeks_that_do_not_help_become_rare() -> None:
    control, seeks, now_s = DriftController(), [], 0.0
    while now_s < 600.0:
        if step_behind(control, now_s, 5.0):
            control.sought(now_s)
            seeks.append(now_s)
        now_s += CONTROL_S
    gaps = [b - a for a, b in itertools.pairwise(seeks)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 60.0


def test_a_stalled_or_unseekable_player_is_not_sought() -> None:
    control = DriftController()
    assert not any(step_behind(control, 0.5 * k, 5.0, ready=False) for k in range(9))
    assert control.drift_s is None
    assert not any(step_behind(control, 9 + 0.5 * k, 5.0, seekable=False) for k in range(9))
    assert control.correcting


def test_expected_durations_follow_what_is_measured() -> None:
    expected = Expected(0.6, 0.3, max_s=5.0)
    for _ in range(20):
        expected.learn(1.2)
    assert expected.mean_s == pytest.approx(1.2, abs=0.01)
    assert expected.likely_s < 1.4
    expected.learn(100.0)
    assert expected.mean_s < 2.5


# ---- the follower --------------------------------------------------------------------------


def test_states_that_are_old_or_known_are_dropped() -> None:
    follower = PlaybackFollower(good_clock())
    assert follower.update(replace(STATE, epoch=2, seq=5))
    for epoch, seq in ((2, 5), (2, 4), (1, 99)):
        assert not follower.update(replace(STATE, epoch=epoch, seq=seq))
    assert follower.update(replace(STATE, epoch=2, seq=6))
    assert follower.update(replace(STATE, epoch=1, seq=1), snapshot=True)
    assert follower.state is not None
    assert follower.state.epoch == 1


def test_it_starts_at_the_anchor_less_what_a_start_takes() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    follower.update(STATE)
    now_s, step = 100.0, follower.step(100.0, FILM)
    while not step.play:
        assert step.wake_s > now_s
        now_s = step.wake_s
        step = follower.step(now_s, FILM)
    assert now_s == pytest.approx(109.9, abs=0.011)


def test_it_reports_ready_once_a_barrier_and_only_when_placed() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    state = replace(STATE, position_s=30.0, wait_until_s=OFFSET_S + 109.0, waiting_for=("me",))
    follower.update(state)
    step = follower.step(100.0, FILM)
    assert (step.seek_to_s, step.ready) == (30.0, None)
    assert follower.step(100.1, replace(FILM, position_s=30.0, ready=False)).ready is None
    placed = replace(FILM, position_s=30.01)
    assert follower.step(100.6, placed).ready == 1
    assert follower.step(100.7, placed).ready is None
    follower.update(replace(state, seq=2, waiting_for=()))
    assert follower.step(100.8, placed).ready is None
    follower.update(replace(state, seq=3, wait_until_s=OFFSET_S + 109.5))
    assert follower.step(100.9, placed).ready == 1
    follower.update(replace(state, epoch=2, seq=4))
    assert follower.step(101.0, placed).ready == 2


def test_it_loads_what_is_played() -> None:
    follower = PlaybackFollower(good_clock())
    follower.update(STATE)
    assert follower.step(100.0, replace(FILM, item_id=None)).load == "film"
    assert follower.step(100.0, FILM).load is None


def test_it_waits_for_the_clock() -> None:
    clock = ClockSync()
    follower = PlaybackFollower(clock)
    follower.update(replace(STATE, anchor_s=OFFSET_S))
    assert not follower.step(100.0, FILM).play
    for k in range(8):
        exchange(clock, 100.0 + k, 0.01, 0.01, OFFSET_S)
    assert follower.step(108.0, FILM).seek_to_s == pytest.approx(108.0 + 1.3, abs=0.02)


def test_pausing_shows_all_the_same_place() -> None:
    follower = PlaybackFollower(good_clock())
    follower.update(replace(STATE, playing=False, position_s=42.0))
    moving = replace(FILM, position_s=42.4, paused=False)
    step = follower.step(100.0, moving)
    assert (step.pause, step.seek_to_s) == (True, 42.0)
    for now_s in (100.5, 101.0):  # an imprecise seek is not repeated
        assert follower.step(now_s, replace(FILM, position_s=41.5)).seek_to_s is None


def test_who_comes_to_a_pause_is_placed_as_soon_as_it_can_seek() -> None:
    follower = PlaybackFollower(good_clock())
    follower.update(replace(STATE, playing=False, position_s=42.0))
    loading = replace(FILM, ready=False, seekable=False)
    assert follower.step(100, loading).seek_to_s is None
    assert follower.step(100.5, replace(loading, seekable=True)).seek_to_s == 42.0
    assert follower.step(101, FILM).seek_to_s is None, "not again: it may not get there"


def test_a_change_of_the_rate_does_not_stop_the_player() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    follower.update(replace(STATE, anchor_s=OFFSET_S + 90.0))
    at_ten = replace(FILM, position_s=10.0)
    assert follower.step(100.0, at_ten).play
    follower.update(replace(STATE, seq=2, anchor_s=OFFSET_S + 101.0, position_s=11.0, rate=2.0))
    step = follower.step(101.2, replace(at_ten, position_s=11.2, paused=False))
    assert (step.pause, step.rate, step.seek_to_s) == (False, 2.0, None)


def test_resync_seeks_for_little_drift_too() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    follower.update(replace(STATE, anchor_s=OFFSET_S + 90.0))
    follower.step(100.0, replace(FILM, position_s=10.0))
    behind = replace(FILM, position_s=11.7, paused=False)
    assert follower.step(102.0, behind).seek_to_s is None
    follower.resync()
    step = follower.step(102.5, replace(behind, position_s=12.2))
    assert step.pause
    assert step.seek_to_s == pytest.approx(12.5 + 1.3, abs=0.1)


def test_a_player_that_refuses_to_start_is_blocked_until_somebody_presses_play() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    follower.update(replace(STATE, anchor_s=OFFSET_S + 100.0))
    now_s, plays = 100.0, 0
    for _ in range(40):
        step = follower.step(now_s, FILM)
        plays += step.play
        now_s = step.wake_s
    assert follower.blocked
    assert plays == 3
    follower.step(now_s, replace(FILM, paused=False))
    assert not follower.blocked


def test_the_end_is_told_once() -> None:
    follower = PlaybackFollower(good_clock(100.0))
    follower.update(replace(STATE, anchor_s=OFFSET_S + 90.0))
    short = replace(FILM, duration_s=10.0, position_s=10.0)
    assert follower.step(98.9, short).ended is None
    assert [follower.step(99.5 + k, short).ended for k in range(3)] == [1, None, None]


# ---- the document --------------------------------------------------------------------------


def test_the_document_says_the_constants_as_they_are() -> None:
    said = " ".join((Path(__file__).parents[3] / "docs" / "playback.md").read_text().split())
    for phrase in (
        f"newest {clocks.SAMPLES} exchanges, each widened by {clocks.DRIFT * 1e6:.0f} ppm",
        f"{clocks.BURST} exchanges {clocks.BURST_INTERVAL_S * 1000:.0f} ms apart at the start",
        f"one every {clocks.INTERVAL_S:g} s (every {clocks.CALM_INTERVAL_S:g} s while",
        f"above {drift.ENTER_S * 1000:g} ms / below {drift.LEAVE_S * 1000:g} ms",
        f"within ±{drift.MAX_CORRECTION * 100:g} %, in steps of {drift.CORRECTION_STEP * 100:g} %",
        f"above {drift.SEEK_S:g} s; between two seeks {drift.MIN_SEEK_GAP_S:g} s, doubled up to "
        f"{drift.MAX_SEEK_GAP_S:g} s",
        f"by less than {drift.MISSED_S:g} s: finished by rate",
        f"Every {drift.CONTROL_S * 1000:g} ms the controller",
    ):
        assert phrase in said
