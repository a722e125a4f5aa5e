"""Which streams are decoded next, and the loop that keeps the model busy.

`choose` decides and is pure. `Dispatcher` runs it: one task for each slot of the recogniser takes
a batch, decodes it in a thread, and hands the answers back to the streams.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mediaserver.captions.audio import SAMPLE_RATE_HZ
from mediaserver.captions.events import SpeechEvent
from mediaserver.inference.worker.admission import LEISURE_DELAY_S, Admission, QueueDelay
from mediaserver.inference.worker.recogniser import Heard, Job, Recogniser
from mediaserver.inference.worker.stream import SpeechStream
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

FINAL_BONUS_S = 3.0
"""A decode that completes an utterance goes before partials that lag less than this."""
MAX_FAILURES = 5
SPEAKING_S = 10.0
"""A stream that was due within this speaks; a new one counts as if it did."""
NICENESS = 2
"""Of the model's threads: who brings and takes the words comes first."""
WARM_UP_S = 5.0


@dataclass(slots=True)
class _Due:
    stream: SpeechStream
    score: float


def choose(streams: Iterable[SpeechStream], limit: int) -> list[SpeechStream]:
    """Return the streams to decode together, most urgent first: finals, then by lag."""
    due = []
    for stream in streams:
        lag_s = stream.lag_s()
        if lag_s >= 0:
            due.append(_Due(stream, lag_s + (FINAL_BONUS_S if stream.wants_final else 0.0)))
    due.sort(key=lambda d: d.score, reverse=True)
    return [d.stream for d in due[:limit]]


def fair_share(streams: Iterable[SpeechStream], recogniser: Recogniser) -> int:
    """How many of the due jobs one slot takes: the other slots get theirs.

    Two half batches at once beat one whole.
    """
    due = sum(1 for stream in streams if stream.lag_s() >= 0)
    return max(1, min(recogniser.max_batch, -(-due // recogniser.slots)))


class Dispatcher:
    """Owns the recogniser's threads. Streams register with a callback for their events."""

    def __init__(self, recogniser: Recogniser, on_broken: Callable[[BaseException], None]) -> None:
        self.recogniser = recogniser
        self.computed_s = 0.0
        self.admission = Admission(recogniser.slots)
        self._delay = QueueDelay()
        self._on_broken = on_broken
        self._streams: dict[SpeechStream, Callable[[list[SpeechEvent]], None]] = {}
        self._due_since: dict[SpeechStream, float] = {}
        self._spoke_at: dict[SpeechStream, float] = {}
        self._failures = 0
        self._work = asyncio.Event()
        self._executor = ThreadPoolExecutor(
            recogniser.slots, thread_name_prefix="model", initializer=_step_back
        )
        # A slot whose task failed decodes no more: better no worker than one that stands still.
        self._scope = TaskScope("dispatcher", on_failure=lambda _, error: on_broken(error))

    def __len__(self) -> int:
        return len(self._streams)

    def start(self) -> None:
        """Start one task a slot."""
        for slot in range(self.recogniser.slots):
            self._scope.spawn(f"slot-{slot}", self._run())

    async def aclose(self) -> None:
        """Stop; a decode under way is left to end in its thread."""
        await self._scope.aclose(timeout_s=2.0)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def add(self, stream: SpeechStream, sink: Callable[[list[SpeechEvent]], None]) -> None:
        """Take a stream; `sink` gets its events."""
        self._streams[stream] = sink
        self._spoke_at[stream] = time.monotonic()

    def remove(self, stream: SpeechStream) -> None:
        """Forget a stream; an answer still under way is thrown away."""
        self._streams.pop(stream, None)
        self._due_since.pop(stream, None)
        self._spoke_at.pop(stream, None)
        if not self._streams:
            with contextlib.suppress(RuntimeError):  # closed
                self._executor.submit(_return_memory)

    @property
    def queue_delay_s(self) -> float:
        """How long due work waits for the model, smoothed."""
        return self._delay.at(time.monotonic())

    @queue_delay_s.setter
    def queue_delay_s(self, delay_s: float) -> None:
        self._delay.set(delay_s, time.monotonic())

    @property
    def room(self) -> int:
        """How many more streams there is room for."""
        since = time.monotonic() - SPEAKING_S
        speaking = (at >= since for at in self._spoke_at.values())
        return self.admission.room(speaking, self.queue_delay_s)

    async def warm_up(self) -> None:
        """Decode noise twice, so that the first stream does not wait and the cost is known."""
        noise = np.random.default_rng(0).normal(0.0, 0.02, int(WARM_UP_S * SAMPLE_RATE_HZ))
        job = Job(
            stream_id="warm-up",
            utterance=0,
            samples=noise.astype(np.float32),
            start_s=0.0,
            prompt=(),
            prefix=(),
            draft=(),
            language="en",
            detect=False,
            translate=False,
            final=True,
        )
        await self._decode([job])
        self.admission.job_s = None
        await self._decode([job])
        self.admission.warmed_up()

    def notice(self, stream: SpeechStream) -> None:
        """Something changed in `stream`: look whether it is due."""
        if stream in self._streams and stream.lag_s() >= 0:
            now = time.monotonic()
            self._due_since.setdefault(stream, now)
            self._spoke_at[stream] = now
            self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            batch = choose(self._streams, fair_share(self._streams, self.recogniser))
            pairs = [(s, job) for s in batch if (job := s.next_job()) is not None]
            if not pairs:
                self._work.clear()
                continue
            self._note_delay([stream for stream, _ in pairs])
            thorough = self.queue_delay_s < LEISURE_DELAY_S
            jobs = [replace(job, thorough=thorough) for _, job in pairs]
            answers = await self._decode(jobs)
            pairs = [(stream, job) for (stream, _), job in zip(pairs, jobs, strict=True)]
            for (stream, job), heard in zip(pairs, answers, strict=True):
                self._hand_over(stream, job, heard)

    def _note_delay(self, streams: list[SpeechStream]) -> None:
        now = time.monotonic()
        for stream in streams:
            self._delay.note(now - self._due_since.pop(stream, now), now)

    async def _decode(self, jobs: list[Job]) -> list[Heard | None]:
        try:
            heard = await self._in_thread(jobs)
        except Exception as error:
            log.exception("decode.failed", jobs=len(jobs))
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                self._on_broken(error)
            if len(jobs) == 1:
                return [None]
            alone = [await self._decode([job]) for job in jobs]
            return [answer for answers in alone for answer in answers]
        self._failures = 0
        return list(heard)

    async def _in_thread(self, jobs: list[Job]) -> list[Heard]:
        started = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self.recogniser.recognise, jobs)
        finally:
            took_s = time.monotonic() - started
            self.computed_s += took_s
            self.admission.decoded(len(jobs), took_s, thorough=jobs[0].thorough)

    def _hand_over(self, stream: SpeechStream, job: Job, heard: Heard | None) -> None:
        sink = self._streams.get(stream)
        if heard is None:
            stream.failed(job)
            self.notice(stream)  # no audio may come any more that would
            return
        events = stream.apply(job, heard)
        if sink is not None:
            sink(events)
            self.notice(stream)


def _step_back() -> None:
    """Let the model's thread that runs this yield to others (only Linux has it by thread)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _return_memory() -> None:
    """Give freed memory back to the system (glibc keeps that of threads for itself)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
