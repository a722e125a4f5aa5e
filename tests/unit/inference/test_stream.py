"""One stream: every scripted word arrives once, in order, final, whatever is asked meanwhile."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mediaserver.captions.audio import SAMPLE_RATE_HZ
from mediaserver.captions.events import Flushed, Revision, SpeechBegan
from mediaserver.inference.worker.parameters import Resume, StreamOptions, StreamParameters
from mediaserver.inference.worker.recogniser import Heard, Job
from mediaserver.inference.worker.stream import SpeechStream
from tests.unit.inference.scripted import (
    Script,
    ScriptedRecogniser,
    ScriptedVad,
    ScriptedWord,
    random_script,
)
from tests.unit.inference.simulation import SimulatedTrack, Simulation

ENGLISH = StreamOptions("en")
without_shrinking = settings(
    max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate]
)


def fluent(count: int, start_s: float = 0.5, tail_s: float = 2.0, stops: bool = False) -> Script:
    """`count` words without a pause."""
    words = tuple(
        ScriptedWord(
            f"w{i}{'.' if stops and i % 8 == 7 else ''}",
            start_s + 0.4 * i,
            start_s + 0.4 * i + 0.38,
        )
        for i in range(count)
    )
    return Script(words, words[-1].end_s + tail_s)


def run(script: Script, options: StreamOptions = ENGLISH) -> SimulatedTrack:
    simulation = Simulation()
    track = simulation.add(script, options=options)
    simulation.run()
    check(track)
    return track


def check(track: SimulatedTrack) -> None:
    track.check_laws()
    assert track.final_texts == track.script.texts
    assert track.done


# ---- completeness


@without_shrinking
@given(st.integers(0, 10**6))
def test_every_word_arrives_once_in_order_and_final(seed: int) -> None:
    track = run(random_script(seed, 30.0))
    words = [w.text for _, r in track.revisions if r.complete for w in r.final]
    assert words == track.script.texts  # and each in a completed utterance


@without_shrinking
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 0.3, 1.0, 3.0]))
def test_words_are_complete_at_every_endpointing_setting(seed: int, endpointing_s: float) -> None:
    options = replace(ENGLISH, endpointing_s=endpointing_s)
    run(random_script(seed, 20.0, pause_s=(0.05, 1.5)), options)


@without_shrinking
@given(st.integers(0, 10**6))
def test_words_are_complete_without_interim_results(seed: int) -> None:
    track = run(random_script(seed, 20.0), replace(ENGLISH, interim=False))
    assert not any(r.tentative for _, r in track.revisions)


@without_shrinking
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.1, 0.5, 2.0, 5.0]))
def test_words_are_complete_however_the_audio_is_cut_into_messages(
    seed: int, piece_s: float
) -> None:
    simulation = Simulation(piece_s=piece_s)
    track = simulation.add(random_script(seed, 20.0))
    simulation.run()
    check(track)


@pytest.mark.parametrize("cut_s", [0.15, 0.25, 0.35])
def test_audio_that_ends_in_mid_speech_loses_nothing(cut_s: float) -> None:
    script = fluent(12)
    last = script.words[-1]
    run(Script(script.words, last.start_s + max(cut_s, 0.2)))


def test_a_tail_after_the_last_word_is_not_needed() -> None:
    run(fluent(5, tail_s=0.0))


def test_a_single_short_word_arrives() -> None:
    run(Script((ScriptedWord("no", 1.0, 1.2),), 3.0))


def test_speech_from_the_very_first_sample_arrives() -> None:
    run(fluent(4, start_s=0.0))


# ---- utterances


def test_an_endpoint_completes_the_utterance_in_time() -> None:
    for seed in range(20):
        track = run(random_script(seed, 20.0, pause_s=(1.0, 2.0)))
        ends = [
            a.end_s for a, b in itertools.pairwise(track.script.words) if b.start_s - a.end_s > 0.9
        ]
        told = [at_s for at_s, r in track.revisions if r.complete and r.endpoint]
        for end_s in ends:
            assert any(0.4 < at_s - end_s <= 0.7 for at_s in told), (seed, end_s)


def test_an_utterance_that_grows_long_is_split_at_a_sentence_end_and_keeps_its_words() -> None:
    parameters = StreamParameters()
    track = run(fluent(100, stops=True))
    done = [r for _, r in track.revisions if r.complete]
    assert len(done) >= 3
    for revision in done[:-1]:
        assert not revision.endpoint
        assert revision.final[-1].text.endswith(".")
        length_s = revision.final[-1].end_s - revision.start_s
        assert parameters.split_s - 0.5 <= length_s <= parameters.split_hard_s
    assert done[-1].endpoint


def test_an_utterance_without_sentence_ends_is_split_at_the_hard_bound() -> None:
    parameters = StreamParameters()
    track = run(fluent(160))
    done = [r for _, r in track.revisions if r.complete]
    assert len(done) >= 2
    assert all(r.final[-1].end_s - r.start_s <= parameters.split_hard_s + 3.0 for r in done)


def test_speech_began_comes_once_an_utterance_and_before_its_words() -> None:
    track = run(random_script(3, 30.0, pause_s=(1.0, 2.0)))
    pauses = sum(b.start_s - a.end_s > 0.9 for a, b in itertools.pairwise(track.script.words))
    assert sum(isinstance(e, SpeechBegan) for _, e in track.log) == pauses + 1
    assert isinstance(track.log[0][1], SpeechBegan)


# ---- finalize


@without_shrinking
@given(st.integers(0, 10**6), st.lists(st.floats(0, 16), min_size=1, max_size=8))
def test_finalize_at_any_moment_neither_loses_nor_repeats_a_word(
    seed: int, at_s: list[float]
) -> None:
    simulation = Simulation()
    track = simulation.add(random_script(seed, 15.0, pause_s=(0.2, 1.5)))
    for when_s in at_s:
        simulation.finalize(track, when_s)
    simulation.run()
    check(track)
    assert track.answered == len(at_s)


@without_shrinking
@given(st.integers(0, 10**6), st.lists(st.floats(0.5, 14), min_size=1, max_size=5))
def test_flushed_comes_in_order_and_after_all_words_that_were_said_before(
    seed: int, at_s: list[float]
) -> None:
    simulation = Simulation()
    track = simulation.add(random_script(seed, 15.0))
    for when_s in at_s:
        simulation.finalize(track, when_s)
    simulation.run()
    answers = [(i, e.request) for i, (_, e) in enumerate(track.log) if isinstance(e, Flushed)]
    assert [request for _, request in answers] == list(range(1, len(at_s) + 1))
    for (place, _), when_s in zip(answers, sorted(at_s), strict=True):
        before = [e for _, e in track.log[:place] if isinstance(e, Revision)]
        final = {w.text for r in before for w in r.new_words}
        pushed_s = int(when_s / 0.1 + 1e-9) * 0.1  # whole pieces of audio
        assert {w.text for w in track.script.words if w.end_s <= pushed_s} <= final
        assert not before or before[-1].complete


def test_finalize_answers_at_once_when_nothing_is_open() -> None:
    simulation = Simulation()
    track = simulation.add(Script((), 5.0))
    simulation.finalize(track, 2.0)
    simulation.run()
    assert [(round(at_s, 2), e) for at_s, e in track.log] == [(2.01, Flushed(1))]
    assert simulation.decodes == []


# ---- what is no speech


def test_silence_decodes_nothing_and_keeps_no_audio() -> None:
    simulation = Simulation()
    track = simulation.add(Script((), 600.0), starts_at_s=0.0)
    simulation.run()
    assert simulation.decodes == []
    assert track.log == []
    assert track.ledger.owed_s < 1.6
    assert track.stream is not None
    assert track.stream.audio.nbytes <= 2 * 8 * SAMPLE_RATE_HZ * 4
    assert track.stream.audio.end_s - track.stream.audio.start_s < 10.0


def noise(seconds: float) -> Script:
    """Something that the voice detector takes for a voice, after two words."""
    return Script((), seconds, ((1.0, seconds - 1.0),))


@pytest.mark.parametrize("words", [(), ("Thank", "you."), ("you",) * 9])
def test_noise_gives_no_words_when_the_model_doubts_that_it_is_speech(
    words: tuple[str, ...],
) -> None:
    recogniser = ScriptedRecogniser()
    recogniser.noise_words, recogniser.no_speech_probability = words, 0.9
    simulation = Simulation(recogniser)
    track = simulation.add(noise(20.0))
    simulation.run()
    assert track.final_texts == []
    assert not any(r.words for _, r in track.revisions)
    assert track.done


def test_voice_without_words_for_minutes_keeps_window_backlog_and_work_bounded() -> None:
    """Music, a crowd: the detector says voice, the model hears no words. Then somebody speaks."""
    words = tuple(ScriptedWord(f"w{i}", 181 + 0.4 * i, 181.38 + 0.4 * i) for i in range(5))
    simulation = Simulation()
    track = simulation.add(Script(words, 185.0, ((1.0, 180.0),)))
    simulation.run()
    check(track)
    assert max(len(job.samples) for _, job in simulation.decodes) <= 12 * SAMPLE_RATE_HZ
    assert simulation.computed_s < 0.7 * 185
    assert track.max_owed_s < 15.0


def test_a_word_followed_by_minutes_of_noise_becomes_final_meanwhile() -> None:
    simulation = Simulation()
    words = (ScriptedWord("listen:", 1.0, 1.4),)
    track = simulation.add(Script(words, 60.0, ((1.4, 59.0),)))
    simulation.run()
    check(track)
    assert track.commit_delays()[0] < 15.0
    assert track.max_owed_s < 15.0


# ---- languages


def test_an_undetected_language_is_latched_and_then_told_to_every_decode() -> None:
    recogniser = ScriptedRecogniser()
    recogniser.language = lambda job: ("es", 0.95)
    simulation = Simulation(recogniser)
    track = simulation.add(random_script(1, 20.0), options=StreamOptions(None))
    simulation.run()
    check(track)
    assert {r.language for _, r in track.revisions} == {"es"}
    assert simulation.decodes[0][1].language is None
    assert simulation.decodes[-1][1].language == "es"


@pytest.mark.parametrize(("probability", "utterances"), [(0.95, 1), (0.7, 2)])
def test_a_change_of_language_is_followed_within_two_utterances(
    probability: float, utterances: int
) -> None:
    changes_s = 20.0
    recogniser = ScriptedRecogniser()
    recogniser.language = lambda job: ("es", probability) if job.end_s > changes_s else ("en", 0.95)
    simulation = Simulation(recogniser)
    script = random_script(4, 40.0, pause_s=(1.0, 2.0), most_words=14)
    track = simulation.add(script, options=StreamOptions(None))
    simulation.run()
    check(track)
    after = [r for _, r in track.revisions if r.complete and r.start_s > changes_s]
    long = [r for r in after if r.final[-1].end_s - r.start_s >= 1.2]
    assert len(long) >= utterances
    assert all(r.language == "es" for r in long[utterances - 1 :])


def test_a_short_utterance_is_detected_at_its_pause() -> None:
    """Its end needs no decode of its own, so that would be too late."""
    first = random_script(1, 6.0, pause_s=(0.1, 0.2), most_words=14).words
    short = tuple(ScriptedWord(f"s{i}", 8.0 + 0.3 * i, 8.25 + 0.3 * i) for i in range(5))
    recogniser = ScriptedRecogniser()
    simulation = Simulation(recogniser)
    track = simulation.add(Script((*first, *short), 12.0), options=StreamOptions(None))
    simulation.run()
    check(track)
    assert [job for _, job in simulation.decodes if job.detect and job.end_s > 8.0]


def test_detection_hears_the_utterance_alone() -> None:
    """The window begins with words of before, which would speak for the language of before."""
    recogniser = ScriptedRecogniser()
    simulation = Simulation(recogniser)
    track = simulation.add(
        random_script(4, 40.0, pause_s=(0.6, 1.2), most_words=14), options=StreamOptions(None)
    )
    simulation.run()
    check(track)
    begins = {r.utterance: r.start_s for _, r in track.revisions if r.complete}
    detected = [job for _, job in simulation.decodes if job.detect and job.language]
    assert any(job.prefix for job in detected)
    for job in detected:
        own_s = len(job.detection_samples) / SAMPLE_RATE_HZ
        assert begins[job.utterance] - 0.5 <= job.end_s - own_s <= begins[job.utterance] + 0.1


def test_voice_that_is_not_heard_is_tried_without_the_words_before_it() -> None:
    """As it happens when somebody goes on in another language."""

    class DeafWithContext(ScriptedRecogniser):
        def recognise(self, jobs: list[Job]) -> list[Heard]:
            heard = super().recognise(jobs)
            new = [job.end_s > 6.0 and bool(job.prefix) for job in jobs]
            return [replace(h, words=()) if deaf else h for h, deaf in zip(heard, new, strict=True)]

    words = [*fluent(8).words, *fluent(30, start_s=4.6).words]
    script = Script(tuple(replace(w, text=f"w{i}") for i, w in enumerate(words)), 18.0)
    simulation = Simulation(DeafWithContext())
    track = simulation.add(script)
    simulation.run()
    track.check_laws()
    assert len(track.final_texts) > 0.85 * len(script.words)


# ---- one stream by hand


def by_hand(script: Script) -> tuple[SpeechStream, ScriptedRecogniser]:
    recogniser = ScriptedRecogniser()
    recogniser.add("s", script)
    return SpeechStream("s", ENGLISH, ScriptedVad(), recogniser.encode_text), recogniser


def answer(job: Job, recogniser: ScriptedRecogniser) -> Heard:
    return recogniser.recognise([job])[0]


def test_a_failed_decode_is_asked_for_again() -> None:
    stream, recogniser = by_hand(fluent(3))
    stream.push(recogniser.scripts["s"].audio())
    stream.end()
    job = stream.next_job()
    assert job is not None
    assert stream.next_job() is None  # one at a time
    stream.failed(job)
    again = stream.next_job()
    assert again is not None
    events = stream.apply(again, answer(again, recogniser))
    assert [e.text for e in events if isinstance(e, Revision)] == ["w0 w1 w2"]
    assert stream.done


def test_resuming_with_nothing_left_to_hear_completes_the_utterance() -> None:
    final = run(fluent(3)).revisions[-1][1].final
    recogniser = ScriptedRecogniser()
    recogniser.add("s", fluent(3))
    stream = SpeechStream(
        "s",
        ENGLISH,
        ScriptedVad(),
        recogniser.encode_text,
        resume=Resume(final[-1].end_s, 7, final, "", "en"),
    )
    events = stream.end()
    while (job := stream.next_job()) is not None:
        events += stream.apply(job, answer(job, recogniser))
    (revision,) = (e for e in events if isinstance(e, Revision))
    assert (revision.utterance, revision.complete, revision.newly_final) == (7, True, 0)
    assert revision.final == final
    assert stream.done


def test_a_changed_endpointing_setting_holds_from_the_next_frame() -> None:
    stream, recogniser = by_hand(fluent(3, tail_s=3.0))
    stream.configure(replace(ENGLISH, endpointing_s=2.0))
    audio = recogniser.scripts["s"].audio()
    told_s, at = [], 0
    for at in range(0, len(audio), 1600):
        if at == 2 * SAMPLE_RATE_HZ + 8000:
            stream.configure(replace(ENGLISH, endpointing_s=0.3))
        events = stream.push(audio[at : at + 1600])
        while (job := stream.next_job()) is not None:
            events += stream.apply(job, answer(job, recogniser))
        told_s += [(at + 1600) / SAMPLE_RATE_HZ for e in events if getattr(e, "complete", False)]
    assert told_s == [pytest.approx(2.6, abs=0.11)]


def test_random_noise_in_the_calls_never_breaks_the_laws() -> None:
    """Finalize, configure and end, in any order between pieces of audio."""
    for seed in range(20):
        chance = random.Random(seed)
        script = random_script(seed, 12.0, pause_s=(0.1, 1.0))
        stream, recogniser = by_hand(script)
        audio, events, requests = script.audio(), [], 0
        for piece in np.array_split(audio, 60):
            events += stream.push(piece)
            if chance.random() < 0.1:
                requests += 1
                events += stream.finalize(requests)
            if chance.random() < 0.1:
                stream.configure(replace(ENGLISH, endpointing_s=chance.choice([0.02, 0.5, 2.0])))
            if chance.random() < 0.6 and (job := stream.next_job()) is not None:
                events += stream.apply(job, answer(job, recogniser))
        events += stream.end()
        while (job := stream.next_job()) is not None:
            events += stream.apply(job, answer(job, recogniser))
        heard = [w.text for e in events if isinstance(e, Revision) for w in e.new_words]
        assert heard == script.texts, seed
        assert [e.request for e in events if isinstance(e, Flushed)] == list(range(1, requests + 1))
        assert stream.done
