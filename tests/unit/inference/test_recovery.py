"""Whatever moment a worker is lost at, every word arrives once and no final changes."""

import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.inference.scripted import Script, ScriptedWord, random_script
from tests.unit.inference.simulation import SimulatedTrack, Simulation


def check(track: SimulatedTrack) -> None:
    track.check_laws()
    assert track.final_texts == track.script.texts
    assert track.done
    assert track.ledger.owed_s < 1.6  # settled audio is told of by the second


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.floats(0.1, 21), st.floats(0.05, 4)), min_size=1, max_size=4),
)
def test_every_word_arrives_once_however_often_workers_are_lost(
    seed: int, losses: list[tuple[float, float]]
) -> None:
    simulation = Simulation()
    tracks = [simulation.add(random_script(seed + i, 20.0), starts_at_s=0.37 * i) for i in range(2)]
    for at_s, down_s in losses:
        simulation.kill(at_s, down_s)
    simulation.run()
    for track in tracks:
        check(track)


def test_speech_goes_on_being_heard_after_a_loss_in_mid_utterance() -> None:
    """Words are final already, and the speaker does not pause: all that follows belongs to it."""
    words = tuple(ScriptedWord(f"w{i}", 0.5 + 0.4 * i, 0.85 + 0.4 * i) for i in range(25))
    simulation = Simulation()
    track = simulation.add(Script(words, 12.0))
    simulation.kill(4.0, 1.0)
    simulation.run()
    check(track)
    assert {revision.utterance for _, revision in track.revisions} == {0}


def test_a_loss_in_the_silence_after_the_last_word_completes_the_utterance() -> None:
    words = tuple(ScriptedWord(f"w{i}", 0.5 + 0.4 * i, 0.85 + 0.4 * i) for i in range(4))
    for lost_at_s in (1.9, 2.05, 2.2, 2.4, 2.6):
        simulation = Simulation()
        track = simulation.add(Script(words, 4.0))
        simulation.kill(lost_at_s, 0.5)
        simulation.run()
        check(track)
        assert track.revisions[-1][1].complete


def test_audio_of_a_long_absence_is_captioned_when_a_worker_is_back() -> None:
    """Speech without pauses, and no worker for a minute: no window may outgrow the model."""
    words = tuple(ScriptedWord(f"w{i}", 0.5 + 0.4 * i, 0.88 + 0.4 * i) for i in range(180))
    simulation = Simulation()
    track = simulation.add(Script(words, 75.0))
    simulation.kill(5.0, 60.0)
    simulation.run()
    check(track)


@pytest.mark.parametrize("seed", range(3))
def test_four_streams_catch_up_soon_after_the_new_worker_is_there(seed: int) -> None:
    chance = random.Random(seed)
    simulation = Simulation()
    lost_s, back_s = chance.uniform(8, 12), 2.0
    tracks = [
        simulation.add(random_script(100 * seed + i, 25.0), starts_at_s=0.2 * i) for i in range(4)
    ]
    simulation.kill(lost_s, back_s)
    simulation.run()
    for track in tracks:
        check(track)
        owed = [w for w in track.script.words if w.end_s + track.starts_at_s < lost_s + back_s - 1]
        at_s = {w.text: t for t, r in track.revisions for w in r.new_words}
        assert max(at_s[w.text] for w in owed) < lost_s + back_s + 3.0


def test_finalize_requests_that_were_open_at_the_loss_are_answered_by_the_next_worker() -> None:
    simulation = Simulation()
    track = simulation.add(random_script(5, 20.0, most_words=30))
    for at_s in (4.0, 9.99, 10.0, 11.0):
        simulation.finalize(track, at_s)
    simulation.kill(10.005, 2.0)
    simulation.run()
    check(track)
    assert track.answered == track.requests == 4
