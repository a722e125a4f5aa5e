"""Real worker processes with the real model, and tracks of recorded speech on them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk, Samples
from mediaserver.captions.events import (
    Ended,
    Revision,
    StatusChanged,
    TrackEvent,
    Word,
    join_words,
)
from mediaserver.inference.client import SpeechClient
from mediaserver.inference.supervisor import LocalWorkerConfig, Supervisor
from mediaserver.kernel.clocks import SystemClock
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.track import CaptionTrack

ENGLISH = CaptionOptions(language="en")
PIECE = SAMPLE_RATE_HZ // 10


class Heard:
    """A listener that notes when what came, and checks the laws of finals as it goes."""

    def __init__(self) -> None:
        self.events: list[tuple[float, TrackEvent]] = []
        self._final: dict[int, tuple[Word, ...]] = {}
        self._complete: set[int] = set()

    def __call__(self, event: TrackEvent) -> None:
        assert not self.ended, "something followed the end"
        self.events.append((time.monotonic(), event))
        if isinstance(event, Revision):
            before = self._final.get(event.utterance, ())
            assert event.final[: len(before)] == before, "a final word changed"
            assert event.utterance not in self._complete, "a complete utterance changed"
            assert not self._final or event.utterance >= max(self._final)
            self._final[event.utterance] = event.final
            if event.complete:
                self._complete.add(event.utterance)

    @property
    def revisions(self) -> list[tuple[float, Revision]]:
        return [(at, e) for at, e in self.events if isinstance(e, Revision)]

    @property
    def words(self) -> list[Word]:
        """All final words."""
        return [word for number in sorted(self._final) for word in self._final[number]]

    @property
    def text(self) -> str:
        return join_words(word.text for word in self.words)

    @property
    def shown(self) -> bool:
        """Whether anything was ever shown."""
        return any(revision.words for _, revision in self.revisions)

    @property
    def statuses(self) -> list[str]:
        return [e.captions for _, e in self.events if isinstance(e, StatusChanged)]

    @property
    def ended(self) -> str | None:
        return next((e.reason for _, e in self.events if isinstance(e, Ended)), None)

    def first_words_after(self, at: float) -> float:
        """Seconds from `at` to the next revision with words."""
        return next(when - at for when, r in self.revisions if when > at and r.words)


class Tracks:
    """Tracks on workers that run somewhere."""

    def __init__(self) -> None:
        self.client = SpeechClient()
        self._figures = Figures(CollectorRegistry())
        self._tracks: list[CaptionTrack] = []

    async def connect(self, *urls: str) -> None:
        """Know workers, and wait until all of them answer."""
        for url in urls:
            self.client.add(url)
        async with asyncio.timeout(90.0):
            while not all(w.status is not None for w in self.client.workers):
                await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        for track in self._tracks:
            await track.end("ended", 0.0)
        await self.client.aclose()

    def open(self, heard: Heard, options: CaptionOptions = ENGLISH) -> CaptionTrack:
        track = CaptionTrack(
            f"t{len(self._tracks)}", options, self.client, heard, SystemClock(), self._figures
        )
        self._tracks.append(track)
        return track


class Workers(Tracks):
    """Local workers under the real supervisor, and tracks on them."""

    def __init__(self, model: Path, data_dir: Path, count: int = 1, threads: int = 0) -> None:
        super().__init__()
        self.hangs: list[tuple[float, str]] = []
        self.restarts = 0
        self._supervisor = Supervisor(
            LocalWorkerConfig(
                count=count,
                model=str(model),
                data_dir=data_dir,
                device="cpu",
                threads=threads,
                log_level="info",
                log_style="console",
            ),
            self._restarted,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        return self._supervisor.pids

    async def start(self) -> None:
        self._supervisor.start()
        self.client.on_hung = self._hung
        await self.connect(*self._supervisor.urls)

    async def aclose(self) -> None:
        await super().aclose()
        await self._supervisor.aclose()

    def send(self, number: signal.Signals, index: int = 0) -> float:
        """Send a worker a signal; return when."""
        os.kill(self.pids[index], number)
        return time.monotonic()

    async def ready_again(self, after: float) -> float:
        """Wait until every worker has answered since `after`; return when."""
        await until(lambda: all(w.status and w.answered_at > after for w in self.client.workers))
        return time.monotonic()

    def _restarted(self) -> None:
        self.restarts += 1

    def _hung(self, url: str) -> None:
        self.hangs.append((time.monotonic(), url))
        self._supervisor.replace(url)


@contextlib.contextmanager
def worker_process(model: Path, folder: Path) -> Iterator[str]:
    """A worker without a supervisor; yields its URL."""
    url = f"unix:{folder}/worker.sock"
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mediaserver", "worker", "--listen", url, "--model", str(model)],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")},
        )
    try:
        yield url
    finally:
        process.terminate()
        process.wait(30.0)


@contextlib.asynccontextmanager
async def workers(
    model: Path, data_dir: Path, count: int = 1, threads: int = 0
) -> AsyncIterator[Workers]:
    """Started workers."""
    running = Workers(model, data_dir, count, threads)
    try:
        await running.start()
        yield running
    finally:
        await running.aclose()


def push(track: CaptionTrack, samples: Samples, first: int = 0, last: int | None = None) -> None:
    """Push samples `first` to `last`, in pieces of 0.1 s, without waiting."""
    for at in range(first, len(samples) if last is None else last, PIECE):
        track.push(AudioChunk(samples[at : at + PIECE], at / SAMPLE_RATE_HZ))


async def speak(track: CaptionTrack, samples: Samples) -> None:
    """Push samples at the pace of speech."""
    started = time.monotonic()
    for at in range(0, len(samples), PIECE):
        due = started + min(at + PIECE, len(samples)) / SAMPLE_RATE_HZ
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        push(track, samples, at, at + PIECE)


async def speak_until_shown(tracks: list[tuple[CaptionTrack, Samples, Heard]]) -> int:
    """Push at twice the pace of speech until words are shown on all tracks; return the sample."""
    at = 0
    while not all(heard.shown for _, _, heard in tracks):
        assert all(at < len(samples) for _, samples, _ in tracks), "nothing was ever shown"
        for track, samples, _ in tracks:
            push(track, samples, at, at + 5 * PIECE)
        at += 5 * PIECE
        await asyncio.sleep(0.25)
    return at


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


# ---- sounds that are no speech


def tones(seconds: float, hertz: tuple[float, ...], level: float = 0.2) -> Samples:
    """A chord."""
    at_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    waves = [np.sin(2 * np.pi * h * at_s) for h in hertz]
    chord: Samples = (level * np.mean(waves, axis=0)).astype(np.float32)
    return chord


def melody(seconds: float) -> Samples:
    """Chords with a beat and fading notes, half a second each, like simple music."""
    chords = [(262.0, 330.0, 392.0), (294.0, 349.0, 440.0), (247.0, 311.0, 370.0)]
    note = np.exp(-np.linspace(0, 4, SAMPLE_RATE_HZ // 2)).astype(np.float32)
    parts = [tones(0.5, chords[i % 3], 0.5) * note for i in range(round(seconds * 2))]
    return np.concatenate(parts)


def hold_tone(seconds: float) -> Samples:
    """What a telephone plays while one waits: 425 Hz, 1 s on, 4 s off."""
    samples = tones(seconds, (425.0,))
    at_s = np.arange(len(samples)) / SAMPLE_RATE_HZ
    return np.where(at_s % 5.0 < 1.0, samples, 0.0).astype(np.float32)


def clicks(seconds: float) -> Samples:
    """Two a second, each of a millisecond."""
    place = np.arange(round(seconds * SAMPLE_RATE_HZ)) % (SAMPLE_RATE_HZ // 2)
    return np.float32(0.8) * (place < SAMPLE_RATE_HZ // 1000).astype(np.float32)


def white_noise(seconds: float, level: float = 0.1) -> Samples:
    """Noise without colour."""
    chance = np.random.default_rng(7)
    return (level * chance.standard_normal(round(seconds * SAMPLE_RATE_HZ))).astype(np.float32)


def sounds() -> Iterator[tuple[str, Samples]]:
    """What must give no words."""
    yield "silence", np.zeros(15 * SAMPLE_RATE_HZ, dtype=np.float32)
    yield "faint noise", white_noise(15.0, 0.002)
    yield "white noise", white_noise(15.0)
    yield "loud noise", white_noise(15.0, 0.5)
    yield "a chord", tones(15.0, (220.0, 277.0, 330.0))
    yield "a melody", melody(15.0)
    yield "a hold tone", hold_tone(15.0)
    yield "clicks", clicks(15.0)
