"""Workers die, hang and are missing: every word arrives all the same, and no final changes."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import jiwer
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from mediaserver.captions.events import StatusChanged
from tests.integration.speech_workers import (
    Heard,
    Workers,
    push,
    speak,
    speak_until_shown,
    until,
    workers,
)
from tests.speech import Clip

CLIPS = ("jfk", "lj001-0001", "lj001-0005", "lj001-0012")
Load = Callable[[str], Clip]


@pytest.fixture
async def two_workers(speech_model_dir: Path, tmp_path: Path) -> AsyncIterator[Workers]:
    async with workers(speech_model_dir, tmp_path, count=2, threads=1) as running:
        yield running


@pytest.fixture
async def one_worker(speech_model_dir: Path, tmp_path: Path) -> AsyncIterator[Workers]:
    async with workers(speech_model_dir, tmp_path) as running:
        yield running


def check(clip: Clip, heard: Heard) -> None:
    """All is there. A word or two may be misheard where a cut fell, but none may be missing."""
    normalise = EnglishTextNormalizer()
    wanted, got = normalise(clip.text), normalise(heard.text)
    measured = jiwer.process_words(wanted, got)
    assert heard.ended == "ended"
    assert measured.deletions <= 1, f"missing words: {wanted!r} became {got!r}"
    assert measured.insertions <= 1, f"words twice: {wanted!r} became {got!r}"
    assert measured.wer <= 0.15, f"{wanted!r} became {got!r}"
    assert heard.words[-1].end_s > clip.duration_s - 1.5
    assert heard.revisions[-1][1].complete


async def test_killed_in_mid_sentence_under_four_streams(
    one_worker: Workers, speech_clip: Load
) -> None:
    clips = [speech_clip(name) for name in CLIPS]
    heards = [Heard() for _ in clips]
    tracks = [one_worker.open(heard) for heard in heards]
    speaking = [
        asyncio.create_task(speak(track, clip.samples))
        for track, clip in zip(tracks, clips, strict=True)
    ]
    await asyncio.sleep(4.5)
    await until(lambda: all(heard.shown for heard in heards))
    killed = one_worker.send(signal.SIGKILL)
    ready = await one_worker.ready_again(killed)
    await until(lambda: all(h.revisions[-1][0] > ready for h in heards))
    resumed_s = max(heard.first_words_after(ready) for heard in heards)
    assert resumed_s < 3.0
    await asyncio.gather(*speaking)
    await asyncio.gather(*(track.end() for track in tracks))
    for clip, heard, track in zip(clips, heards, tracks, strict=True):
        check(clip, heard)
        assert heard.statuses == ["paused", "live"]
        assert track.stats.recoveries >= 1
    assert one_worker.restarts == 1


async def test_a_hung_worker_is_noticed_and_replaced(
    one_worker: Workers, speech_clip: Load
) -> None:
    clips = [speech_clip(name) for name in CLIPS[:2]]
    heards = [Heard() for _ in clips]
    tracks = [one_worker.open(heard) for heard in heards]
    half = await speak_until_shown(
        [(t, c.samples, h) for t, c, h in zip(tracks, clips, heards, strict=True)]
    )
    stopped = one_worker.send(signal.SIGSTOP)
    for track, clip in zip(tracks, clips, strict=True):
        push(track, clip.samples, half)
    await until(lambda: bool(one_worker.hangs))
    assert one_worker.hangs[0][0] - stopped < 5.0
    await asyncio.gather(*(track.end() for track in tracks))
    for clip, heard in zip(clips, heards, strict=True):
        check(clip, heard)
    assert one_worker.restarts == 1


async def test_of_two_workers_one_is_killed(two_workers: Workers, speech_clip: Load) -> None:
    clips = [speech_clip(name) for name in CLIPS]
    heards = [Heard() for _ in clips]
    tracks = [two_workers.open(heard) for heard in heards]
    half = await speak_until_shown(
        [(t, c.samples, h) for t, c, h in zip(tracks, clips, heards, strict=True)]
    )
    assert sorted(len(w.calls) for w in two_workers.client.workers) == [2, 2]
    killed = two_workers.send(signal.SIGKILL, index=1)
    for track, clip in zip(tracks, clips, strict=True):
        push(track, clip.samples, half)
    await until(lambda: all(heard.revisions[-1][0] > killed for heard in heards))
    resumed_s = max(heard.first_words_after(killed) for heard in heards)
    assert resumed_s < 5.0  # the other worker is there all the time
    await asyncio.gather(*(track.end() for track in tracks))
    for clip, heard in zip(clips, heards, strict=True):
        check(clip, heard)
    assert sum(track.stats.recoveries for track in tracks) == 2


async def test_of_two_remote_workers_one_hangs(two_workers: Workers, speech_clip: Load) -> None:
    """Nobody kills it, and its sockets are full: its tracks go on with the other one."""
    two_workers.client.on_hung = None
    clip, heard = speech_clip("jfk"), Heard()
    track = two_workers.open(heard)
    half = await speak_until_shown([(track, clip.samples, heard)])
    (index,) = (i for i, w in enumerate(two_workers.client.workers) if w.calls)
    stopped = two_workers.send(signal.SIGSTOP, index)
    push(track, clip.samples, half)
    await track.end()
    paused = next(at for at, e in heard.events if isinstance(e, StatusChanged))
    assert paused - stopped < 5.0
    check(clip, heard)
    two_workers.send(signal.SIGKILL, index)


async def test_a_worker_that_is_not_there_yet(
    speech_model_dir: Path, tmp_path: Path, speech_clip: Load
) -> None:
    running, clip, heard = Workers(speech_model_dir, tmp_path), speech_clip("lj001-0001"), Heard()
    try:
        track = running.open(heard)
        push(track, clip.samples)
        await until(lambda: heard.statuses == ["paused"])
        started = time.monotonic()
        await running.start()
        assert time.monotonic() - started < 20.0
        await track.end()
        assert heard.statuses == ["paused", "live"]
        check(clip, heard)
    finally:
        await running.aclose()
