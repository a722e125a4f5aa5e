"""The shared state of playback: commands, barrier, end of an item, its form in Redis."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput, Conflict
from mediaserver.protocol.rooms import PlaybackState
from mediaserver.rooms import playback
from mediaserver.rooms.playback import (
    Base,
    Pause,
    Play,
    Playback,
    Seek,
    SetItem,
    SetRate,
    apply,
    ready,
)
from mediaserver.rooms.playback_fields import from_fields, to_fields

NOW_S = 1_800_000_000.0
PAUSED = apply(Playback(), SetItem("film", 600.0, play=False), NOW_S)
PLAYING = apply(PAUSED, Play(), NOW_S, lead_s=0.5)
STARTED_S = NOW_S + 0.5
WAITING = apply(Playback(), SetItem("film", 600.0, members=("a", "b", "c")), NOW_S)


def test_all_hold_until_the_anchor_and_then_move_at_the_rate() -> None:
    assert PLAYING.position_at(NOW_S) == 0.0
    assert PLAYING.position_at(STARTED_S) == 0.0
    assert PLAYING.position_at(STARTED_S + 10) == pytest.approx(10.0)
    faster = apply(PLAYING, SetRate(2.0), STARTED_S + 10)
    assert faster.position_at(STARTED_S + 10) == pytest.approx(10.0)
    assert faster.position_at(STARTED_S + 15) == pytest.approx(20.0)


def test_the_position_ends_with_the_item() -> None:
    assert PLAYING.position_at(STARTED_S + 10_000) == 600.0
    assert PLAYING.ends_at_s == STARTED_S + 600.0


def test_pause_keeps_the_place_and_play_goes_on_from_it() -> None:
    paused = apply(PLAYING, Pause(), STARTED_S + 42)
    assert not paused.playing
    assert paused.position_at(STARTED_S + 999) == pytest.approx(42.0)
    again = apply(paused, Play(), STARTED_S + 60, lead_s=1.0)
    assert again.position_at(STARTED_S + 61) == pytest.approx(42.0)
    assert again.position_at(STARTED_S + 62) == pytest.approx(43.0)


def test_a_command_may_say_where_it_was_given() -> None:
    assert apply(PLAYING, Pause(41.5), STARTED_S + 42).position_s == 41.5
    assert apply(PAUSED, Play(7.0), NOW_S).position_s == 7.0


def test_seek_starts_anew_after_the_lead_and_stays_within_the_item() -> None:
    after = apply(PLAYING, Seek(100.0), STARTED_S + 5, lead_s=0.4)
    assert (after.position_s, after.anchor_s) == (100.0, STARTED_S + 5.4)
    assert apply(PLAYING, Seek(1e6), STARTED_S).position_s == 600.0
    assert apply(PAUSED, Seek(100.0), NOW_S + 9).position_at(NOW_S + 99) == 100.0


def test_seek_during_the_barrier_keeps_it() -> None:
    after = apply(WAITING, Seek(30.0), NOW_S + 1)
    assert after.waiting_for == ("a", "b", "c")
    assert (after.position_s, after.anchor_s) == (30.0, WAITING.anchor_s)


def test_what_changes_nothing_is_the_same_state() -> None:
    assert apply(PLAYING, Play(), STARTED_S + 1) is PLAYING
    assert apply(PAUSED, Pause(), NOW_S) is PAUSED
    assert apply(PLAYING, SetRate(1.0), NOW_S) is PLAYING


def test_play_at_the_end_starts_over_as_another_epoch() -> None:
    over = apply(PLAYING, Play(), STARTED_S + 700)
    assert over.epoch == PLAYING.epoch + 1
    assert over.position_at(STARTED_S + 700) == 0.0
    assert over.playing


@pytest.mark.parametrize("rate", [0.24, 4.01, 0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match=r"0\.25 and 4"):
        apply(PLAYING, SetRate(rate), NOW_S)


@pytest.mark.parametrize("position_s", [float("nan"), float("inf"), float("-inf")])
def test_a_position_that_is_no_number_is_refused(position_s: float) -> None:
    with pytest.raises(BadInput):
        apply(PLAYING, Seek(position_s), NOW_S)


@pytest.mark.parametrize("command", [Play(), Pause(), Seek(1.0)])
def test_without_an_item_there_is_nothing_to_control(command: playback.Command) -> None:
    with pytest.raises(Conflict, match="queue") as caught:
        apply(Playback(), command, NOW_S)
    assert caught.value.specific_code == "nothing_playing"


# ---- compare and set -----------------------------------------------------------------------


@pytest.mark.parametrize("command", [Play(1.0), Pause(), Seek(9.0), SetRate(2.0), SetItem("x")])
def test_every_change_rises_the_sequence_by_one(command: playback.Command) -> None:
    after = apply(PLAYING, command, STARTED_S + 1)
    assert after.seq == after.command_seq == PLAYING.seq + 1


def test_of_two_commands_on_one_state_the_second_is_stale() -> None:
    base = Base(PLAYING.epoch, PLAYING.seq)
    first = apply(PLAYING, Pause(), STARTED_S + 1, base=base)
    with pytest.raises(Conflict) as caught:
        apply(first, Seek(50.0), STARTED_S + 1, base=base)
    assert caught.value.specific_code == "stale"
    assert apply(first, Seek(50.0), STARTED_S + 1).position_s == 50.0


def test_a_base_of_another_epoch_or_of_the_future_is_stale() -> None:
    for base in (Base(PLAYING.epoch - 1, PLAYING.seq), Base(PLAYING.epoch, PLAYING.seq + 1)):
        with pytest.raises(Conflict):
            apply(PLAYING, Pause(), STARTED_S, base=base)


def test_readiness_makes_no_command_stale() -> None:
    base = Base(WAITING.epoch, WAITING.seq)
    meanwhile = ready(WAITING, "a", WAITING.epoch, NOW_S + 1)
    assert meanwhile.seq > WAITING.seq
    assert not apply(meanwhile, Pause(), NOW_S + 2, base=base).playing


# ---- the ready barrier ---------------------------------------------------------------------


def test_the_start_waits_until_the_last_one_is_ready() -> None:
    state = WAITING
    for member in ("a", "b"):
        state = ready(state, member, state.epoch, NOW_S + 1)
        assert state.waits(NOW_S + 1)
        assert state.anchor_s == WAITING.anchor_s
    state = ready(state, "c", state.epoch, NOW_S + 2, lead_s=0.6)
    assert not state.waits(NOW_S + 2)
    assert (state.waiting_for, state.wait_until_s) == ((), None)
    assert state.anchor_s == NOW_S + 2.6


def test_who_is_not_ready_in_8_s_is_left_out_without_anybody_saying_so() -> None:
    state = ready(WAITING, "a", WAITING.epoch, NOW_S + 1)
    assert state.position_at(NOW_S + 8.0) == 0.0
    assert state.position_at(NOW_S + 8.3 + 5) == pytest.approx(5.0)
    assert ready(state, "b", state.epoch, NOW_S + 8.1) is state
    shown = playback.expire(state, NOW_S + 8.1)
    assert (shown.waiting_for, shown.anchor_s) == ((), state.anchor_s)


def test_nobody_ready_starts_at_the_timeout_too() -> None:
    assert WAITING.position_at(NOW_S + 8.3 + 1) == pytest.approx(1.0)
    assert playback.expire(WAITING, NOW_S + 7.9) is WAITING


def test_the_first_play_of_an_item_waits_too_and_later_ones_do_not() -> None:
    started = apply(PAUSED, Play(members=("a", "b", "a")), NOW_S)
    assert started.waiting_for == ("a", "b")
    assert started.anchor_s == NOW_S + 8.3
    again = apply(apply(started, Pause(), NOW_S + 1), Play(members=("a",)), NOW_S + 2)
    assert again.wait_until_s == NOW_S + 10.0
    played = apply(apply(again, Pause(), NOW_S + 20), Play(members=("a",)), NOW_S + 21)
    assert (played.waiting_for, played.anchor_s) == ((), NOW_S + 21.3)
    over = apply(PLAYING, Play(members=("a",)), STARTED_S + 700)
    assert over.waiting_for == ("a",)
    assert apply(PLAYING, Play(3.0, members=("a",)), STARTED_S + 7).waiting_for == ()


def test_readiness_for_another_epoch_counts_not() -> None:
    assert ready(WAITING, "a", WAITING.epoch - 1, NOW_S) is WAITING
    assert ready(WAITING, "stranger", WAITING.epoch, NOW_S) is WAITING


def test_who_is_not_ready_any_more_is_waited_for_again() -> None:
    state = ready(WAITING, "a", WAITING.epoch, NOW_S + 1)
    state = ready(state, "a", WAITING.epoch, NOW_S + 2, is_ready=False)
    assert set(state.waiting_for) == {"a", "b", "c"}


def test_who_leaves_is_not_waited_for() -> None:
    state = ready(WAITING, "a", WAITING.epoch, NOW_S + 1)
    state = playback.left(state, ["b", "c"], NOW_S + 2)
    assert state.anchor_s == NOW_S + 2.3
    assert playback.left(PLAYING, ["a"], NOW_S) is PLAYING


def test_the_last_one_ready_late_never_delays_the_start() -> None:
    state = ready(WAITING, "a", WAITING.epoch, NOW_S + 7.99, lead_s=1.0)
    state = ready(state, "b", WAITING.epoch, NOW_S + 7.99, lead_s=1.0)
    state = ready(state, "c", WAITING.epoch, NOW_S + 7.99, lead_s=1.0)
    assert state.anchor_s <= WAITING.anchor_s


@pytest.mark.parametrize(
    ("round_trip_s", "lead_s"),
    [(0.0, 0.3), (0.1, 0.3), (0.2, 0.4), (0.5, 1.0), (9.0, 1.0), (float("nan"), 0.3)],
)
def test_the_lead_is_twice_the_largest_round_trip_within_bounds(
    round_trip_s: float, lead_s: float
) -> None:
    assert playback.start_lead_s(round_trip_s) == pytest.approx(lead_s)


# ---- the end of an item --------------------------------------------------------------------


def test_the_first_word_of_an_end_counts_and_later_ones_do_not() -> None:
    end_s = STARTED_S + 600
    assert playback.ended(PLAYING, PLAYING.epoch, end_s)
    following = playback.after_end(PLAYING, SetItem("next", 60.0, members=("a",)), end_s, 0.3)
    assert following.item_id == "next"
    assert not playback.ended(following, PLAYING.epoch, end_s + 0.1)


def test_an_end_that_is_not_one_is_refused() -> None:
    with pytest.raises(Conflict) as caught:
        playback.ended(PLAYING, PLAYING.epoch, STARTED_S + 300)
    assert caught.value.specific_code == "not_ended"


def test_an_end_of_unknown_length_is_believed() -> None:
    assert playback.ended(replace(PLAYING, duration_s=None), PLAYING.epoch, STARTED_S + 300)


def test_after_the_last_item_it_stands_at_the_end() -> None:
    state = playback.after_end(PLAYING, None, STARTED_S + 600, 0.3)
    assert not state.playing
    assert state.position_s == 600.0


# ---- its forms -----------------------------------------------------------------------------

times = st.floats(min_value=0, max_value=2e9, allow_nan=False)
states = st.builds(
    Playback,
    epoch=st.integers(0, 2**53),
    seq=st.integers(0, 2**53),
    command_seq=st.integers(0, 2**53),
    item_id=st.none() | st.text(min_size=1, max_size=20),
    duration_s=st.none() | times,
    begun=st.booleans(),
    playing=st.booleans(),
    position_s=times,
    rate=st.floats(0.25, 4.0),
    anchor_s=times,
    waiting_for=st.lists(st.text(max_size=10), max_size=5).map(tuple),
    wait_until_s=st.none() | times,
)


@given(states)
def test_the_hash_reads_back_equal_and_is_stable(state: Playback) -> None:
    fields = to_fields(state)
    assert from_fields(fields) == state
    assert to_fields(from_fields(fields)) == fields


def test_an_empty_hash_is_a_room_that_played_nothing() -> None:
    assert from_fields({}) == Playback()


def test_a_broken_hash_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="anchor_s"):
        from_fields({k: v for k, v in to_fields(PLAYING).items() if k != "anchor_s"})
    with pytest.raises(ValueError, match="member ids"):
        from_fields({**to_fields(PLAYING), "waiting_for": "[1]"})


def test_the_wire_state_has_the_same_names() -> None:
    wire = PlaybackState.model_validate(asdict(WAITING))
    assert wire.waiting_for == ("a", "b", "c")
    assert wire.wait_until_s == WAITING.wait_until_s


commands = st.one_of(
    st.builds(Play, st.none() | times, st.sampled_from([(), ("a", "b")])),
    st.builds(Pause, st.none() | times),
    st.builds(Seek, times),
    st.builds(SetRate, st.floats(0.25, 4.0)),
    st.builds(SetItem, st.just("x"), st.none() | st.floats(1, 1e4), members=st.just(("a", "b"))),
)


@given(st.lists(st.tuples(commands, st.floats(0, 30)), max_size=20))
def test_the_position_never_runs_back_between_commands(
    steps: list[tuple[playback.Command, float]],
) -> None:
    state, now_s = PAUSED, NOW_S
    for command, pause_s in steps:
        before = state
        state = apply(state, command, now_s)
        assert (state.epoch, state.seq) >= (before.epoch, before.seq)
        places = [state.position_at(now_s + pause_s * k / 4) for k in range(5)]
        assert places == sorted(places)
        assert 0.0 <= places[-1] <= (state.duration_s or float("inf"))
        now_s += pause_s
