"""Speech begins and ends where the probabilities say, on time and without flutter."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.endpointing import (
    ENTER_PROBABILITY,
    LEAVE_PROBABILITY,
    MIN_SPEECH_S,
    Boundary,
    Endpointer,
)
from mediaserver.protocol.messages import CaptionOptions

FRAME_S = 0.032
DEFAULT_ENDPOINTING_S = CaptionOptions().endpointing_ms / 1000
IN_BETWEEN = (ENTER_PROBABILITY + LEAVE_PROBABILITY) / 2

probabilities = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.34, 0.36, 0.49, 0.51, 0.99])), max_size=200
)
"""Random frames; `runs` below gives longer stretches."""
runs = st.lists(
    st.tuples(st.sampled_from([0.0, IN_BETWEEN, 1.0]), st.integers(1, 30)), max_size=15
).map(lambda pairs: [p for p, count in pairs for _ in range(count)])


def feed(
    endpointer: Endpointer, frames: Iterable[float], start_s: float = 0.0
) -> list[tuple[float, Boundary]]:
    """Feed frames; return each boundary with the time at which it was told."""
    told = []
    for i, probability in enumerate(frames, 1):
        boundary = endpointer.feed(probability, start_s + i * FRAME_S)
        if boundary is not None:
            told.append((start_s + i * FRAME_S, boundary))
    return told


def voiced(frames: list[float]) -> list[bool]:
    """Which frames are voice, by the two thresholds."""
    now, out = False, []
    for probability in frames:
        now = probability >= (LEAVE_PROBABILITY if now else ENTER_PROBABILITY)
        out.append(now)
    return out


def test_speech_final_comes_within_the_promised_time_at_the_default_setting() -> None:
    endpointer = Endpointer(DEFAULT_ENDPOINTING_S)
    told = feed(endpointer, [0.0] * 10 + [0.9] * 40 + [0.01] * 40)
    (_, began), (told_s, ended) = told
    assert (began.kind, ended.kind) == ("began", "ended")
    assert began.at_s == pytest.approx(10 * FRAME_S)
    assert ended.at_s == pytest.approx(50 * FRAME_S)
    assert told_s - ended.at_s <= 0.55  # leaves 0.15 s of the promised 0.7 s for the last decode


@given(st.floats(0.01, 5.0), st.one_of(probabilities, runs))
def test_boundaries_alternate_and_are_told_on_time(
    endpointing_s: float, frames: list[float]
) -> None:
    told = feed(Endpointer(endpointing_s), frames)
    kinds = [boundary.kind for _, boundary in told]
    assert kinds == ["began", "ended"] * (len(kinds) // 2) + ["began"] * (len(kinds) % 2)
    places = [boundary.at_s for _, boundary in told]
    assert places == sorted(places)
    for told_s, boundary in told:
        delay_s = told_s - boundary.at_s
        wanted_s = MIN_SPEECH_S if boundary.kind == "began" else endpointing_s
        assert wanted_s - 1e-5 <= delay_s <= wanted_s + FRAME_S + 1e-5


@given(st.floats(0.01, 5.0), st.one_of(probabilities, runs))
def test_every_stretch_of_voice_lies_within_speech_and_clicks_do_not_begin_it(
    endpointing_s: float, frames: list[float]
) -> None:
    told = [boundary for _, boundary in feed(Endpointer(endpointing_s), frames)]
    edges = [b.at_s for b in told] + [float("inf")] * (len(told) % 2)
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    first = None
    for i, voice in enumerate([*voiced(frames), False]):
        if voice and first is None:
            first = i
        if voice or first is None:
            continue
        start_s, end_s, first = first * FRAME_S, i * FRAME_S, None
        inside = any(a - 1e-6 <= start_s and end_s <= b + 1e-6 for a, b in spans)
        begins_here = any(abs(a - start_s) < 1e-6 for a, _ in spans)
        if end_s - start_s >= MIN_SPEECH_S:
            assert inside
        else:
            assert not begins_here


def test_a_value_between_the_thresholds_neither_begins_nor_ends_speech() -> None:
    endpointer = Endpointer(0.3)
    assert feed(endpointer, [IN_BETWEEN] * 50) == []
    assert not endpointer.in_speech
    feed(endpointer, [0.9] * 5, 50 * FRAME_S)
    assert endpointer.in_speech
    assert feed(endpointer, [IN_BETWEEN] * 50, 55 * FRAME_S) == []
    assert endpointer.in_speech


def test_a_pause_shorter_than_the_setting_does_not_end_speech() -> None:
    endpointer = Endpointer(0.5)
    told = feed(endpointer, [0.9] * 10 + [0.0] * 14 + [0.9] * 10)
    assert [b.kind for _, b in told] == ["began"]


@pytest.mark.parametrize("endpointing_s", [0.01, 0.3, 1.0, 5.0])
def test_the_silence_that_ends_speech_can_be_chosen(endpointing_s: float) -> None:
    told = feed(Endpointer(endpointing_s), [0.9] * 10 + [0.0] * 200)
    assert told[-1][1].kind == "ended"
    assert told[-1][0] - told[-1][1].at_s == pytest.approx(endpointing_s, abs=FRAME_S + 1e-6)


def test_the_setting_can_change_in_mid_silence() -> None:
    endpointer = Endpointer(5.0)
    assert [b.kind for _, b in feed(endpointer, [0.9] * 10 + [0.0] * 20)] == ["began"]
    endpointer.endpointing_s = 0.2
    told = feed(endpointer, [0.0], 30 * FRAME_S)
    assert [b.kind for _, b in told] == ["ended"]
    assert told[0][1].at_s == pytest.approx(10 * FRAME_S)


def test_after_a_cut_going_on_speaking_begins_anew() -> None:
    endpointer = Endpointer(0.5)
    feed(endpointer, [0.9] * 20)
    endpointer.cut()
    assert not endpointer.in_speech
    told = feed(endpointer, [0.9] * 10, 20 * FRAME_S)
    assert [b.kind for _, b in told] == ["began"]
    assert told[0][1].at_s == pytest.approx(20 * FRAME_S)


@given(st.floats(0, 1000), runs)
def test_the_silence_so_far_is_what_follows_the_last_voiced_frame(
    start_s: float, frames: list[float]
) -> None:
    endpointer = Endpointer(0.5, start_s)
    feed(endpointer, frames, start_s)
    quiet = 0
    for voice in reversed(voiced(frames)):
        if voice:
            break
        quiet += 1
    assert endpointer.heard_s == pytest.approx(start_s + len(frames) * FRAME_S)
    assert endpointer.silence_s == pytest.approx(quiet * FRAME_S, abs=1e-6)
