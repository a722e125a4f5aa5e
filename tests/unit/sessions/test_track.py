"""A track gives every word once and final, whatever happens to the workers under it."""

import asyncio
import itertools
from functools import partial

import numpy as np
import pytest

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.captions.events import Ended, Revision, TrackEvent
from mediaserver.kernel.errors import Overloaded
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.sessions.track import MAX_OWED_S, CaptionTrack
from tests.unit.inference.scripted import Script, ScriptedWord, random_script
from tests.unit.sessions.conftest import NewStage, Until
from tests.unit.sessions.scripted_worker import ENGLISH, Heard, Stage, push


def opened_calls(stage: Stage, count: int) -> bool:
    return sum(len(worker.calls) for worker in stage.client.workers) >= count


def counted(stage: Stage, name: str, **labels: str) -> float:
    return stage.registry.get_sample_value(name, labels or None) or 0.0


# ---- words


async def test_words_become_final_and_the_end_comes_after_the_last(stage: Stage) -> None:
    script, heard = random_script(1, 15.0), Heard()
    track = stage.open(script, heard)
    push(track, script)
    await track.end()
    assert heard.texts == script.texts
    assert heard.ends == ["ended"]
    assert isinstance(heard.events[-1], Ended)
    assert heard.began >= 1
    assert heard.revisions[-1].complete
    assert track.stats.words == len(script.words)
    assert track.stats.received_s == pytest.approx(15.0)
    assert track.waiting_s == pytest.approx(0.0, abs=0.6)
    assert track.stats.recoveries == 0
    assert counted(stage, "mediaserver_words_final_total") == len(script.words)
    assert counted(stage, "mediaserver_audio_seconds_total") == pytest.approx(15.0)


async def test_many_tracks_at_once_do_not_mix(stage: Stage) -> None:
    tracks = []
    for i in range(8):
        script, heard = random_script(50 + i, 8.0), Heard()
        track = stage.open(script, heard)
        push(track, script)
        tracks.append((track, script, heard))
    await asyncio.gather(*(track.end() for track, _, _ in tracks))
    for _, script, heard in tracks:
        assert heard.texts == script.texts


async def test_a_track_without_audio_ends_at_once(stage: Stage) -> None:
    heard = Heard()
    track = stage.open(Script((), 1.0), heard)
    async with asyncio.timeout(15.0):
        await track.end("left")
    assert heard.events == [Ended("left")]


async def test_audio_after_the_end_is_ignored(stage: Stage) -> None:
    script, heard = random_script(2, 5.0), Heard()
    track = stage.open(script, heard)
    push(track, script)
    await track.end()
    push(track, script)
    assert track.stats.received_s == pytest.approx(5.0)
    assert heard.texts == script.texts


async def test_a_gap_in_the_source_is_filled_with_silence(stage: Stage) -> None:
    words = (ScriptedWord("one", 0.5, 0.9), ScriptedWord("two", 4.0, 4.4))
    script, heard = Script(words, 5.0), Heard()
    track = stage.open(script, heard)
    push(track, script, 0.0, 1.5)
    push(track, script, 3.5, 5.0)
    await track.end()
    assert heard.texts == ["one", "two"]
    assert heard.revisions[-1].final[0].start_s == pytest.approx(4.0, abs=0.1)


async def test_without_interim_results_only_finals_come(stage: Stage) -> None:
    script, heard = random_script(3, 12.0), Heard()
    track = stage.open(script, heard, CaptionOptions(language="en", interim=False))
    push(track, script)
    await track.end()
    assert heard.texts == script.texts
    assert not any(r.tentative for r in heard.revisions)


async def test_options_reach_the_worker_and_can_change(stage: Stage, until: Until) -> None:
    script, heard = random_script(4, 20.0), Heard()
    track = stage.open(script, heard, CaptionOptions(language="de", task="translate"))
    push(track, script, 0.0, 8.0)
    await until(lambda: any(job.translate for job in stage.recogniser.jobs))
    await track.finalize()
    assert {(job.language, job.translate) for job in stage.recogniser.jobs} == {("de", True)}
    stage.recogniser.jobs.clear()
    track.configure(CaptionOptions(language="es"))
    assert track.options.language == "es"
    push(track, script, 8.0)
    await track.end()
    assert {(job.language, job.translate) for job in stage.recogniser.jobs} == {("es", False)}
    assert heard.texts == script.texts


# ---- finalize


async def test_finalize_returns_when_all_that_was_pushed_is_final(stage: Stage) -> None:
    script, heard = random_script(5, 20.0), Heard()
    track = stage.open(script, heard)
    for at_s in (3.0, 7.0, 7.0, 12.5):
        push(track, script, track.stats.received_s, at_s)
        await track.finalize()
        said = [w.text for w in script.words if w.end_s <= at_s]
        assert heard.texts[: len(said)] == said
        assert len(heard.texts) <= len(said) + 1  # the word that was cut may have been heard
        assert not heard.revisions or heard.revisions[-1].complete
    assert heard.flushes == [1, 2, 3, 4]
    push(track, script, 12.5)
    await track.end()
    assert heard.texts == script.texts


async def test_finalize_of_silence_returns_and_after_the_end_too(stage: Stage) -> None:
    heard = Heard()
    track = stage.open(Script((), 2.0), heard)
    push(track, Script((), 2.0))
    async with asyncio.timeout(15.0):
        await track.finalize()
    await track.end()
    async with asyncio.timeout(15.0):
        await track.finalize()
    assert heard.texts == []


# ---- workers come and go


async def test_a_lost_worker_costs_no_word_and_changes_no_final(stage: Stage, until: Until) -> None:
    scripts = [random_script(60 + i, 16.0) for i in range(3)]
    tracks = [(stage.open(script, heard := Heard()), script, heard) for script in scripts]
    for half_s in (0.0, 8.0):
        for track, script, _ in tracks:
            push(track, script, half_s, half_s + 8.0)
        await until(lambda: all(heard.texts for _, _, heard in tracks))
        if half_s == 0.0:
            await stage.workers[0].kill()
            await until(lambda: all(heard.statuses == ["paused"] for _, _, heard in tracks))
            await stage.workers[0].start()
            await until(lambda: all(heard.statuses[-1] == "live" for _, _, heard in tracks))
    await asyncio.gather(*(track.end() for track, _, _ in tracks))
    for track, script, heard in tracks:
        assert heard.texts == script.texts
        assert heard.ends == ["ended"]
        assert track.stats.recoveries >= 1


async def test_losing_workers_again_and_again_costs_no_word(stage: Stage, until: Until) -> None:
    script, heard = random_script(70, 30.0), Heard()
    track = stage.open(script, heard)
    for at_s in range(0, 30, 5):
        push(track, script, at_s, at_s + 5)
        await asyncio.sleep(0.02 * (at_s % 4))
        await stage.workers[0].kill()
        await stage.workers[0].start()
    await track.end()
    assert heard.texts == script.texts


async def test_without_any_worker_a_track_waits_and_says_so(
    until: Until, new_stage: NewStage
) -> None:
    stage = new_stage()
    await stage.start([])
    script, heard = random_script(6, 10.0), Heard()
    track = stage.open(script, heard)
    push(track, script)
    await until(lambda: heard.statuses == ["paused"])
    assert track.waiting_s == pytest.approx(10.0)
    finalizing = asyncio.ensure_future(track.finalize())
    await asyncio.sleep(0.3)
    assert not finalizing.done()
    await stage.workers[0].start()
    await until(lambda: finalizing.done())
    assert heard.statuses == ["paused", "live"]
    await track.end()
    assert heard.texts == script.texts


async def test_of_two_workers_the_other_takes_over(until: Until, new_stage: NewStage) -> None:
    stage = new_stage(2)
    await stage.start()
    await until(lambda: all(w.status is not None for w in stage.client.workers))
    scripts = [random_script(80 + i, 14.0) for i in range(4)]
    tracks = [(stage.open(script, heard := Heard()), script, heard) for script in scripts]
    for count, (track, script, _) in enumerate(tracks, 1):
        push(track, script, 0.0, 7.0)
        opened = partial(opened_calls, stage, count)
        await until(opened)
    await until(lambda: all(heard.texts for _, _, heard in tracks))
    assert sorted(len(w.calls) for w in stage.client.workers) == [2, 2]
    await stage.workers[0].kill()
    for track, script, _ in tracks:
        push(track, script, 7.0)
    await asyncio.gather(*(track.end() for track, _, _ in tracks))
    for _, script, heard in tracks:
        assert heard.texts == script.texts
    assert sum(track.stats.recoveries for track, _, _ in tracks) == 2


async def test_an_utterance_shown_before_a_loss_is_completed_after_it(
    stage: Stage, until: Until
) -> None:
    """Also when nothing of it was final: what is shown may not stand there for ever."""
    words = tuple(ScriptedWord(f"w{i}", 0.5 + 0.4 * i, 0.88 + 0.4 * i) for i in range(3))
    script, heard = Script(words, 6.0), Heard()
    track = stage.open(script, heard)
    push(track, script, 0.0, 1.4)
    await until(lambda: any(r.tentative for r in heard.revisions))
    await stage.workers[0].kill()
    await stage.workers[0].start()
    push(track, script, 1.4)
    await track.end()
    assert heard.texts == script.texts
    shown = {r.utterance for r in heard.revisions}
    assert {r.utterance for r in heard.revisions if r.complete} == shown


# ---- bounds


async def test_audio_beyond_the_bound_is_refused_and_what_was_taken_is_kept(
    until: Until, new_stage: NewStage
) -> None:
    stage = new_stage()
    await stage.start([])
    script, heard = random_script(7, MAX_OWED_S + 10.0), Heard()
    track = stage.open(script, heard)
    with pytest.raises(Overloaded) as refused:
        push(track, script)
    assert refused.value.specific_code == "audio_backlog"
    assert refused.value.retry_after_s
    taken_s = track.stats.received_s
    assert MAX_OWED_S - 0.2 <= taken_s <= MAX_OWED_S
    assert counted(stage, "mediaserver_drops_total", place="audio") == 1
    await stage.workers[0].start()
    await track.end()
    said = [w.text for w in script.words if w.end_s <= taken_s]
    assert heard.texts[: len(said)] == said
    assert len(heard.texts) <= len(said) + 1


async def test_an_end_without_a_worker_is_bounded_and_called_a_failure(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.start([])
    script, heard = random_script(8, 5.0), Heard()
    track = stage.open(script, heard)
    push(track, script)
    finalizing = asyncio.ensure_future(track.finalize())
    async with asyncio.timeout(15.0):
        await track.end("left", timeout_s=0.3)
        await finalizing
    assert heard.ends == ["failed"]


async def test_ending_twice_at_once_tells_of_one_end_and_both_wait_for_it(stage: Stage) -> None:
    script, heard = random_script(9, 10.0), Heard()
    track = stage.open(script, heard)
    push(track, script)

    async def end() -> list[str]:
        await track.end()
        return heard.texts

    seen = await asyncio.gather(*(end() for _ in range(3)))
    assert heard.ends == ["ended"]
    assert seen == [script.texts] * 3


async def test_a_second_caller_with_less_patience_shortens_the_end(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.start([])
    script, heard = random_script(9, 5.0), Heard()
    track = stage.open(script, heard)
    push(track, script)
    patient = asyncio.ensure_future(track.end("left", timeout_s=30.0))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(15.0):
        await track.end("ended", timeout_s=0.2)
        await patient
    assert heard.ends == ["failed"]


async def test_a_listener_that_fails_ends_the_track_as_failed_and_harms_no_other(
    stage: Stage,
) -> None:
    def broken(event: TrackEvent) -> None:
        if isinstance(event, Revision):
            raise RuntimeError("a listener's bug")
        events.append(event)

    events: list[TrackEvent] = []
    script, heard = random_script(10, 8.0), Heard()
    stage.recogniser.add("broken", script)
    bad = CaptionTrack("broken", ENGLISH, stage.client, broken, stage.clock, stage.figures)
    good = stage.open(script, heard)
    push(bad, script)
    push(good, script)
    async with asyncio.timeout(15.0):
        await bad.end()
    await good.end()
    assert events[-1] == Ended("failed")
    assert heard.texts == script.texts


async def test_a_short_bit_of_audio_at_odd_times_is_sent_once(stage: Stage) -> None:
    """Times that are no multiples of a sample's length must not make the sender run in circles."""
    heard = Heard()
    track = stage.open(Script((), 10.0), heard)
    at_s = 0.0
    for count in itertools.islice(itertools.cycle((1, 7, 160, 333, 1601)), 300):
        track.push(AudioChunk(np.zeros(count, dtype=np.float32), at_s))
        at_s += count / SAMPLE_RATE_HZ + 1e-5
        await asyncio.sleep(0)
    async with asyncio.timeout(15.0):
        await track.end()
    assert heard.ends == ["ended"]


async def test_the_delay_of_captions_is_measured(stage: Stage, until: Until) -> None:
    words = (ScriptedWord("w0", 0.1, 0.45), ScriptedWord("w1", 0.45, 0.7))
    script, heard = Script(words, 1.5), Heard()
    track = stage.open(script, heard)
    started = asyncio.get_running_loop().time()
    for i in range(15):
        push(track, script, i / 10, (i + 1) / 10)
        await asyncio.sleep(max(0.0, started + (i + 1) / 10 - asyncio.get_running_loop().time()))
    await track.end()
    assert heard.texts == script.texts
    assert track.stats.caption_delay_s is not None
    assert 0.3 < track.stats.caption_delay_s < 3.0  # the endpoint comes 0.5 s after the last word
