"""One audio track being captioned, whatever happens to workers meanwhile.

`push` keeps the audio in the ledger; one task sends it to a worker and takes what comes back.
When the worker is lost the task opens a call to another one, tells it where to go on, and replays
the audio that no final covers.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk, Samples, to_s16
from mediaserver.captions.events import (
    Ended,
    Flushed,
    Revision,
    SpeechBegan,
    StatusChanged,
    TrackEvent,
)
from mediaserver.captions.ledger import TrackLedger
from mediaserver.inference.client import SpeechCall, SpeechClient, WorkerLost
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.wire import word_to_wire, words_from_wire
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Overloaded
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.sessions.figures import Figures

log = get_logger(__name__)

MAX_OWED_S = 120.0
"""Audio kept while no worker takes it: 120 s, 8 MB."""
SEND_S = 0.5
"""Audio of one message at most, so that a replay does not hold up others."""
RETRY_S = 0.2
END_TIMEOUT_S = 60.0

Listener = Callable[[TrackEvent], None]


@dataclass(slots=True)
class TrackStats:
    """How a track is doing."""

    received_s: float = 0.0
    processed_s: float = 0.0
    caption_delay_s: float | None = None
    """From the end of the newest final word, in the audio, to its arrival here."""
    words: int = 0
    recoveries: int = 0


class CaptionTrack:
    """See the module's docstring. Made by `Session.open_track`."""

    def __init__(
        self,
        track_id: str,
        options: CaptionOptions,
        client: SpeechClient,
        listener: Listener,
        clock: Clock,
        figures: Figures,
    ) -> None:
        self.id = track_id
        self.stats = TrackStats()
        self._options = options
        self._client = client
        self._listener = listener
        self._clock = clock
        self._figures = figures
        self._ledger = TrackLedger()
        self._sent_s = 0.0
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=1000)
        self._wanted_flush = 0
        self._flushes: dict[int, asyncio.Future[None]] = {}
        self._flush_sent = 0
        self._options_changed = False
        self._input_ended = False
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        self._failed = False
        self._ended: asyncio.Future[None] | None = None
        self._status = "live"
        self._scope = TaskScope(f"track {track_id}", on_failure=self._broken)
        self._scope.spawn("run", self._run())

    @property
    def options(self) -> CaptionOptions:
        """How the track is captioned now."""
        return self._options

    @property
    def waiting_s(self) -> float:
        """Audio received that no decode has seen yet, in seconds."""
        return max(
            0.0, self._ledger.received_s - max(self.stats.processed_s, self._ledger.settled_s)
        )

    # ---- what sources call --------------------------------------------------------------------

    def push(self, chunk: AudioChunk) -> None:
        """Take audio. Never blocks. Raises Overloaded when MAX_OWED_S wait for a worker."""
        if self._input_ended:
            return
        if self._ledger.received_s - self._ledger.settled_s + chunk.duration_s > MAX_OWED_S:
            self._figures.dropped("audio")
            raise Overloaded(
                f"{MAX_OWED_S:.0f} s of audio wait for a speech worker; later audio is refused",
                code="audio_backlog",
                retry_after_s=5.0,
            )
        samples = self._ledger.take(chunk)
        self.stats.received_s = self._ledger.received_s
        self._figures.audio_accepted(len(samples) / SAMPLE_RATE_HZ)
        self._note_arrival()
        self._wake.set()

    def configure(self, options: CaptionOptions) -> None:
        """Change the options from here on."""
        self._options = options
        self._options_changed = True
        self._wake.set()

    async def finalize(self) -> None:
        """Return when all audio pushed so far is final. Raises TimeoutError after 60 s."""
        if self._finished.is_set():
            return
        self._wanted_flush += 1
        done = asyncio.get_running_loop().create_future()
        self._flushes[self._wanted_flush] = done
        self._wake.set()
        async with asyncio.timeout(END_TIMEOUT_S):
            await done

    async def end(self, reason: str = "ended", timeout_s: float = END_TIMEOUT_S) -> None:
        """No more audio comes; return after the last final went to the listener.

        Idempotent; of several callers the least patient one decides how long it may take.
        """
        if self._ended is not None:
            done, _ = await asyncio.wait({self._ended}, timeout=timeout_s)
            if not done:
                self._give_up()
                await asyncio.shield(self._ended)
            return
        self._ended = asyncio.get_running_loop().create_future()
        self._input_ended = True
        self._wake.set()
        try:
            await asyncio.wait_for(self._finished.wait(), timeout_s)
        except TimeoutError:
            self._give_up()
        finally:
            await self._scope.aclose(timeout_s=1.0)
            self._answer_flushes(self._wanted_flush)
            self._listener(Ended("failed" if self._failed else reason))
            self._ended.set_result(None)

    def _give_up(self) -> None:
        log.error("track.end_timeout", track_id=self.id, owed_s=self._ledger.owed_s)
        self._failed = True
        self._finished.set()

    def _broken(self, _name: str, _error: BaseException) -> None:
        self._failed = True
        self._finished.set()

    # ---- the task -----------------------------------------------------------------------------

    async def _run(self) -> None:
        with bind(track_id=self.id):
            while True:
                if await self._attempt():
                    break
                await asyncio.sleep(RETRY_S)
        self._finished.set()

    async def _attempt(self) -> bool:
        """Caption on one worker; True when the track is done, False when the worker is lost."""
        call: SpeechCall | None = None
        try:
            if self._input_ended and self._nothing_owed():
                return True
            call = await self._client.open(self._resume_config())
            self._sent_s = self._ledger.unsettled()[0]
            self._flush_sent = min(self._flushes, default=self._wanted_flush + 1) - 1
            self._set_status("live")
            async with TaskScope("call") as scope:
                scope.spawn("send", self._send(call))
                await self._receive(call)
            if not self._input_ended:
                raise WorkerLost("the worker ended the call before the audio ended")
            return True
        except WorkerLost as lost:
            self.stats.recoveries += call is not None
            self._set_status("paused", str(lost))
            return False
        finally:
            if call is not None:
                call.cancel()

    def _nothing_owed(self) -> bool:
        return self._ledger.owed_s < 0.01 and not self._ledger.resume().final_words

    def _resume_config(self) -> pb.StreamConfig:
        point = self._ledger.resume()
        self._options_changed = False
        return pb.StreamConfig(
            stream_id=self.id,
            options=self._wire_options(),
            start_s=point.start_s,
            utterance=point.utterance,
            final_words=[word_to_wire(word) for word in point.final_words],
            context=point.context,
            latched_language=point.language,
        )

    def _wire_options(self) -> pb.Options:
        return pb.Options(
            language=self._options.language or "",
            translate=self._options.task == "translate",
            interim=self._options.interim,
            endpointing_ms=self._options.endpointing_ms,
        )

    async def _send(self, call: SpeechCall) -> None:
        try:
            await self._send_all(call)
        except WorkerLost:
            call.cancel()  # `_receive` reports it

    async def _send_all(self, call: SpeechCall) -> None:
        while True:
            self._wake.clear()
            if self._options_changed:
                self._options_changed = False
                await call.send(pb.SpeechRequest(configure=self._wire_options()))
            while self._sent_s < self._ledger.received_s - 1e-6:
                start_s = self._sent_s
                samples: Samples = self._ledger.audio.slice(start_s, start_s + SEND_S)
                self._sent_s = start_s + len(samples) / SAMPLE_RATE_HZ
                audio = pb.Audio(pcm_s16le=to_s16(samples), start_s=start_s)
                await call.send(pb.SpeechRequest(audio=audio))
            while self._flush_sent < self._wanted_flush:
                self._flush_sent += 1
                finalize = pb.Finalize(request=self._flush_sent)
                await call.send(pb.SpeechRequest(finalize=finalize))
            if self._input_ended and self._sent_s >= self._ledger.received_s - 1e-6:
                await call.half_close()
                return
            await self._wake.wait()

    async def _receive(self, call: SpeechCall) -> None:
        async for event in call.events():
            self.stats.processed_s = max(self.stats.processed_s, event.processed_s)
            match event.WhichOneof("kind"):
                case "speech_began":
                    self._listener(SpeechBegan(event.speech_began.at_s))
                case "revision":
                    self._revised(event.revision)
                case "settled":
                    self._ledger.settle(event.settled.until_s)
                case "flushed":
                    self._answer_flushes(event.flushed.request)
                    self._listener(Flushed(event.flushed.request))

    def _revised(self, wire: pb.Revision) -> None:
        revision = self._ledger.revise(
            Revision(
                utterance=wire.utterance,
                final=words_from_wire(wire.newly_final),
                newly_final=len(wire.newly_final),
                tentative=words_from_wire(wire.tentative),
                complete=wire.complete,
                start_s=wire.start_s,
                language=wire.language,
                settled_s=wire.settled_s,
                end_s=wire.end_s,
                endpoint=wire.endpoint,
            )
        )
        if revision.newly_final:
            self.stats.words += revision.newly_final
            for word in revision.new_words:
                self._note_delay(word.end_s)
        self._listener(revision)

    # ---- figures ------------------------------------------------------------------------------

    def _note_arrival(self) -> None:
        """Remember when which media time arrived, a point each quarter of a second."""
        now, media_s = self._clock.monotonic_s(), self._ledger.received_s
        if not self._arrivals or media_s - self._arrivals[-1][0] >= 0.25:
            self._arrivals.append((media_s, now))

    def _note_delay(self, end_s: float) -> None:
        while len(self._arrivals) > 1 and self._arrivals[1][0] <= end_s:
            self._arrivals.popleft()
        media_s, at = self._arrivals[0]
        delay_s = max(0.0, self._clock.monotonic_s() - (at + end_s - media_s))
        self.stats.caption_delay_s = delay_s
        self._figures.word_final(delay_s)

    def _answer_flushes(self, up_to: int) -> None:
        for request in [r for r in self._flushes if r <= up_to]:
            done = self._flushes.pop(request)
            if not done.done():
                done.set_result(None)

    def _set_status(self, status: str, detail: str = "") -> None:
        if status == self._status:
            return
        self._status = status
        log.info("track.status", track_id=self.id, captions=status, detail=detail)
        self._listener(StatusChanged("paused" if status == "paused" else "live", detail))
