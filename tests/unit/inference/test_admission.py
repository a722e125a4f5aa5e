"""A worker learns how many streams it can take."""

import statistics

import pytest

from mediaserver.inference.worker.admission import (
    CLOSE_DELAY_S,
    DELAY_HALF_LIFE_S,
    OPEN_DELAY_S,
    ROUND_S,
    SMOOTHING,
    THOROUGH_COST,
    WARM_UP_COST,
    Admission,
    QueueDelay,
)
from tests.unit.inference.scripted import random_script
from tests.unit.inference.simulation import Cost, Simulation


def test_before_a_decode_was_measured_there_is_room_for_one_stream_a_slot() -> None:
    assert Admission(slots=2).room([], 0.0) == 2


def test_the_room_follows_from_what_a_decode_costs() -> None:
    admission = Admission(slots=2)
    admission.decoded(4, 0.4)
    assert admission.room([], 0.0) == round(2 * ROUND_S / 0.1)
    assert admission.room([True] * 5, 0.0) == round(2 * ROUND_S / 0.1) - 5


def test_a_machine_that_becomes_slower_has_less_room() -> None:
    admission = Admission(slots=2)
    admission.decoded(1, 0.05)
    before = admission.room([], 0.0)
    for _ in range(round(3 / SMOOTHING)):
        admission.decoded(1, 0.2)
    assert admission.room([], 0.0) < before / 3


def test_quiet_streams_take_less_room_than_those_that_speak() -> None:
    admission = Admission(slots=2)
    admission.decoded(1, 0.1)
    assert admission.room([False] * 8, 0.0) == admission.room([True] * 2, 0.0)


def test_work_that_waits_closes_the_door_until_it_waits_much_less() -> None:
    admission = Admission(slots=2)
    admission.decoded(1, 0.01)
    assert admission.room([], CLOSE_DELAY_S * 1.1) == 0
    assert admission.room([], (CLOSE_DELAY_S + OPEN_DELAY_S) / 2) == 0
    assert admission.room([], OPEN_DELAY_S * 0.9) > 0
    assert admission.room([], (CLOSE_DELAY_S + OPEN_DELAY_S) / 2) > 0


def test_even_a_slow_machine_takes_one_stream() -> None:
    admission = Admission(slots=1)
    admission.decoded(1, 5.0)
    assert admission.room([], 0.0) == 1
    assert admission.room([True], 0.0) == 0


@pytest.mark.parametrize("slowness", [1.0, 2.0])
def test_of_20_streams_asked_for_those_taken_keep_their_delay(slowness: float) -> None:
    cost = Cost(call_s=0.02 * slowness, job_s=0.12 * slowness, audio_s=0.01 * slowness)
    simulation = Simulation(cost=cost)
    admission = Admission(slots=simulation.recogniser.slots)
    admission.decoded(1, cost.call_s + cost.job_s + 5.0 * cost.audio_s)  # the warm-up
    taken = 0
    for i in range(20):
        if admission.room([True] * taken, 0.0) > 0:
            simulation.add(random_script(i, 30.0, pause_s=(0.2, 0.4)), starts_at_s=0.05 * i)
            taken += 1
    assert 3 <= taken < 20
    simulation.run()
    delays = [delay for track in simulation.tracks for delay in track.commit_delays()]
    assert statistics.quantiles(delays, n=20)[-1] < 4.0
    for track in simulation.tracks:
        track.check_laws()


def test_a_queue_delay_is_smoothed_and_forgotten() -> None:
    delay = QueueDelay()
    assert delay.at(10.0) == 0.0
    for second in range(100):
        delay.note(1.0, 10.0 + second * 0.01)
    assert delay.at(11.0) == pytest.approx(1.0, abs=0.05)
    assert delay.at(11.0 + DELAY_HALF_LIFE_S) == pytest.approx(delay.at(11.0) / 2, rel=0.02)
    delay.set(0.0, 20.0)
    assert delay.at(20.0) == 0.0


def test_a_thorough_decode_does_not_make_the_machine_look_slow() -> None:
    quick, thorough = Admission(slots=2), Admission(slots=2)
    quick.decoded(1, 0.1)
    thorough.decoded(1, 0.1 * THOROUGH_COST, thorough=True)
    assert thorough.room([], 0.0) == quick.room([], 0.0)


def test_noise_decoded_alone_is_no_measure_for_speech_under_load() -> None:
    admission = Admission(slots=2)
    admission.warmed_up()  # nothing measured yet
    admission.decoded(1, 0.05)
    before = admission.room([], 0.0)
    admission.warmed_up()
    assert admission.room([], 0.0) == int(before / WARM_UP_COST)
