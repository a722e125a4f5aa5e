"""Which streams are decoded next, and the loop that keeps the model busy.

`choose` decides and is pure. `Dispatcher` runs it: one task for each slot of the recogniser takes
a batch, decodes it in a thread, and hands the answers back to the streams.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mediaserver.captions.events import SpeechEvent
from mediaserver.inference.worker.recogniser import Heard, Job, Recogniser
from mediaserver.inference.worker.stream import SpeechStream
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

FINAL_BONUS_S = 3.0
"""A decode that completes an utterance goes before partials that lag less than this."""
MAX_FAILURES = 5
_DELAY_SMOOTHING = 0.1


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


class Dispatcher:
    """Owns the recogniser's threads. Streams register with a callback for their events."""

    def __init__(self, recogniser: Recogniser, on_broken: Callable[[BaseException], None]) -> None:
        self.recogniser = recogniser
        self.computed_s = 0.0
        self.queue_delay_s = 0.0
        self._on_broken = on_broken
        self._streams: dict[SpeechStream, Callable[[list[SpeechEvent]], None]] = {}
        self._due_since: dict[SpeechStream, float] = {}
        self._failures = 0
        self._work = asyncio.Event()
        self._executor = ThreadPoolExecutor(recogniser.slots, thread_name_prefix="model")
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

    def remove(self, stream: SpeechStream) -> None:
        """Forget a stream; an answer still under way is thrown away."""
        self._streams.pop(stream, None)
        self._due_since.pop(stream, None)

    def notice(self, stream: SpeechStream) -> None:
        """Something changed in `stream`: look whether it is due."""
        if stream in self._streams and stream.lag_s() >= 0:
            self._due_since.setdefault(stream, time.monotonic())
            self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            batch = choose(self._streams, self._fair_share())
            pairs = [(s, job) for s in batch if (job := s.next_job()) is not None]
            if not pairs:
                self._work.clear()
                continue
            self._note_delay([stream for stream, _ in pairs])
            answers = await self._decode([job for _, job in pairs])
            for (stream, job), heard in zip(pairs, answers, strict=True):
                self._hand_over(stream, job, heard)

    def _fair_share(self) -> int:
        """Leave work for the other slots: two half batches at once beat one whole."""
        due = sum(1 for stream in self._streams if stream.lag_s() >= 0)
        share = -(-due // self.recogniser.slots)
        return max(1, min(self.recogniser.max_batch, share))

    def _note_delay(self, streams: list[SpeechStream]) -> None:
        now = time.monotonic()
        for stream in streams:
            delay_s = now - self._due_since.pop(stream, now)
            self.queue_delay_s += _DELAY_SMOOTHING * (delay_s - self.queue_delay_s)

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
            self.computed_s += time.monotonic() - started

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
