"""Audio on its way to the server, and its captions on their way back."""

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Unpack

from mediaserver_client.backoff import Backoff
from mediaserver_client.connection import Connection
from mediaserver_client.errors import AnswerTimeout, ClientError, Refused, SessionClosed
from mediaserver_client.flow import Flow
from mediaserver_client.link import Link
from mediaserver_client.log import CaptionLog, Cursor
from mediaserver_client.messages import (
    AudioStart,
    AudioStarted,
    AudioStop,
    Caption,
    CaptionOptions,
    Configure,
    ErrorMessage,
    Finalize,
    Finalized,
    Metrics,
    OptionChanges,
    ServerMessage,
    TrackEnded,
)
from mediaserver_client.replay import ReplayBuffer
from mediaserver_client.sources import CHUNK_S, AudioSource, cut
from mediaserver_client.stats import PublicationStats
from mediaserver_client.stitch import Stitcher
from mediaserver_client.transcript import Format, render

START_TIMEOUT_S = 15.0
FINISH_TIMEOUT_S = 120.0
"""From the end of the audio to its last final."""
READER_TIMEOUT_S = 5.0
"""For the source to end when it is told to."""
MOST_WAITING_S = 20.0
"""Audio that may wait on the server when it is sent faster than speech."""
MOST_WAITING_REALTIME_S = 60.0
"""The same at the speed of speech: only a server without a worker gets that far behind."""
MOST_CUTS = 3
"""How often the server may end a track that goes on, before that is an error."""
CUT_TIMEOUT_S = 5.0
_AUDIO_ERRORS = ("audio.start", "audio", "audio.stop")


class _TrackCut(Exception):
    """The server ended a track whose audio goes on."""


class Publication:
    """One source being published. Made by `Session.publish`."""

    def __init__(
        self,
        link: Link,
        captions: CaptionLog,
        source: AudioSource,
        options: CaptionOptions,
        *,
        realtime: bool,
        keep_s: float,
        reconnect_s: float,
    ) -> None:
        self._link, self._log, self._source, self._realtime = link, captions, source, realtime
        self._options = options
        self._reconnect_s = reconnect_s
        self._frame_bytes = 2 * source.channels
        self._buffer = ReplayBuffer(
            frame_bytes=self._frame_bytes, sample_rate_hz=source.sample_rate_hz, keep_s=keep_s
        )
        self._stitcher = Stitcher()
        self._flow = self._new_flow()
        self._first_track_id: str | None = None
        self._tracks: deque[str] = deque(maxlen=64)
        self._track_id: str | None = None
        self._starting = False
        self._refusal: ErrorMessage | None = None
        self._track_end: TrackEnded | None = None
        self._connections = 0
        self._finalized = 0
        self._all_read = False
        self._failure: BaseException | None = None
        self._failure_told = False
        self._done = False
        self.began_s = time.monotonic()
        """Monotonic time of the first sample."""
        self._reader = asyncio.create_task(self._read(), name="mediaserver-client-read")
        self._task = asyncio.create_task(self._run(), name="mediaserver-client-publish")

    # ---- what users call -------------------------------------------------------------------

    @property
    def track_id(self) -> str | None:
        """The track's id, the same after a reconnect; None before it was accepted."""
        return self._first_track_id

    @property
    def tracks(self) -> tuple[str, ...]:
        """The ids of its tracks on the server, one a connection."""
        return tuple(self._tracks)

    @property
    def done(self) -> bool:
        """Whether all is over: every word is final, or it failed."""
        return self._done

    @property
    def stats(self) -> PublicationStats:
        """Present figures."""
        return PublicationStats(
            self._buffer.end_s,
            self._buffer.sent_s,
            self._stitcher.settled_s,
            self._buffer.forgotten_s,
            self._connections,
        )

    async def captions(self, *, finals_only: bool = False) -> AsyncIterator[Caption]:
        """Yield this publication's captions from its start; ends when every word is final.

        A caption replaces the earlier one of its `caption_id`. Raises what publishing raised.
        """
        cursor = Cursor()
        while True:
            caption = self._log.next(cursor, finals_only=finals_only)
            if caption is not None:
                if caption.track_id == self.track_id and (caption.words or not finals_only):
                    yield caption
            elif self._done:
                self.raise_failure()
                return
            else:
                await self._link.pulse.wait()

    def transcript(self, format: Format = "text") -> str:
        """Return all finals of this publication so far as a document."""
        mine = (caption for caption in self._log.finals if caption.track_id == self.track_id)
        return render(mine, format)

    async def wait(self) -> None:
        """Return when the source has ended and every word is final. Raises what went wrong."""
        await self._link.pulse.until(lambda: self._done)
        self.raise_failure()

    async def stop(self) -> None:
        """End the audio; return when every word of what was read is final."""
        self.end_audio()
        await self.wait()

    def end_audio(self) -> None:
        """Read no more audio, and do not wait: captions come until every word is final."""
        self._reader.cancel()

    async def finalize(self, timeout_s: float = 30.0) -> None:
        """Turn all audio read so far into finals. Raises AnswerTimeout, or what went wrong."""
        wanted_s = self._buffer.end_s
        try:
            async with asyncio.timeout(timeout_s):
                while not self._done and not await self._finalize_once(wanted_s):
                    pass
        except TimeoutError:
            raise AnswerTimeout(f"no answer to finalize within {timeout_s:g} s") from None
        self.raise_failure()

    async def configure(self, **changes: Unpack[OptionChanges]) -> None:
        """Change `language`, `task`, … from the next utterance on (also after a reconnect)."""
        self._options = dataclasses.replace(self._options, **changes)
        connection = await self._link.current()
        with contextlib.suppress(SessionClosed):  # the next connection starts with them
            await connection.send(Configure(options=self._options))

    # ---- what the session calls ------------------------------------------------------------

    async def started(self) -> None:
        """Return when the server has accepted the track. Raises why it did not."""
        await self._link.pulse.until(lambda: self._done or self._tracks)
        if self._failure is not None and not self._tracks:
            self.raise_failure()

    async def abort(self) -> None:
        """End at once, without waiting for finals."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=FINISH_TIMEOUT_S)

    @property
    def untold_failure(self) -> BaseException | None:
        """A failure that was raised to nobody yet."""
        return None if self._failure_told else self._failure

    def raise_failure(self) -> None:
        """Raise what ended this publication, if it failed."""
        if self._failure is not None:
            self._failure_told = True
            raise self._failure

    def receive(self, message: ServerMessage) -> bool:
        """Take in a message of the server; True if it was for this publication alone."""
        match message:
            case AudioStarted() if self._starting:
                self._starting = False
                self._track_id = message.track_id
                self._tracks.append(message.track_id)
                self._first_track_id = self._first_track_id or message.track_id
                self._stitcher.track_id = self._first_track_id
                return True
            case Caption() if message.track_id == self._track_id:
                if (caption := self._stitcher.apply(message)) is not None:
                    self._log.apply(caption)
                    self._buffer.settle(self._stitcher.resume_at_s)
                return True
            case Caption() if message.track_id in self._tracks:
                return True  # of a broken connection: its audio was sent again
            case TrackEnded() if message.track_id == self._track_id:
                self._track_end = message
            case Finalized() if message.track_id in (None, self._track_id):
                self._finalized += 1
            case Metrics():
                self._flow.heard(message.queue_depth_s, time.monotonic())
            case ErrorMessage():
                # What cannot even be parsed is answered without saying what it was.
                mine = message.in_reply_to is None and self._starting
                if mine or message.in_reply_to in _AUDIO_ERRORS:
                    self._refusal = message
        return False

    # ---- the work --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._stream_until_done()
            self._reader.cancel()
            await asyncio.wait([self._reader], timeout=READER_TIMEOUT_S)
            if self._reader.done() and not self._reader.cancelled():
                self._failure = self._reader.exception()
        except asyncio.CancelledError:
            self._failure = SessionClosed("publishing was ended")
            self._failure_told = True
            raise
        except Exception as error:  # told to whoever waits
            self._failure = error
        finally:
            self._reader.cancel()
            if (rest := self._stitcher.finish()) is not None:
                self._log.apply(rest)
            self._done = True
            self._link.pulse.fire()

    async def _read(self) -> None:
        """Source to buffer, at the speed of the clock or as fast as there is room."""
        try:
            chunk_s = CHUNK_S if self._realtime else 5 * CHUNK_S
            async with contextlib.aclosing(cut(self._source, chunk_s)) as chunks:
                async for pcm in chunks:
                    if self._realtime:
                        due_s = self.began_s + self._buffer.end_s
                        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                    await self._link.pulse.until(lambda: not self._buffer.full)
                    self._buffer.put(pcm)
                    self._link.pulse.fire()
        finally:
            self._all_read = True
            self._link.pulse.fire()

    async def _stream_until_done(self) -> None:
        backoff, give_up_at_s = Backoff(), None
        cuts = 0
        while True:
            connection = await self._link.current()
            settled_s = self._stitcher.settled_s
            try:
                await self._stream(connection)
                return
            except _TrackCut as cut:
                # A server that stops ends tracks before it closes; if it does not, begin anew.
                cuts = cuts + 1 if self._stitcher.settled_s <= settled_s else 0
                if cuts >= MOST_CUTS:
                    raise ClientError(f"the server ended the track {cuts} times: {cut}") from None
                await self._await_end_of(connection)
            except SessionClosed:
                if self._link.over is not None:
                    raise
                backoff, give_up_at_s = Backoff(), None
                connection.closed = True  # whoever noticed first: do not use it again
            except Refused as error:
                # A track that ran before is taken up again when there is room for it.
                now_s = time.monotonic()
                give_up_at_s = give_up_at_s or now_s + self._reconnect_s
                wait_s = backoff.next_s(error.problem.retry_after_s)
                if not (error.retryable and self._tracks) or now_s + wait_s > give_up_at_s:
                    raise
                await asyncio.sleep(wait_s)

    async def _await_end_of(self, connection: Connection) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_TIMEOUT_S):
                await self._link.pulse.until(lambda: connection.closed)

    async def _stream(self, connection: Connection) -> None:
        """Publish on one connection to the end. Raises SessionClosed when it breaks."""
        await self._begin(connection)
        while await self._more_to_send(connection):
            if (wait_s := self._flow.wait_s(time.monotonic())) > 0:
                await self._link.pulse.wait(min(wait_s, 1.0))
                continue
            pcm = self._buffer.take()
            self._flow.spend(len(pcm) / self._frame_bytes / self._source.sample_rate_hz)
            await connection.send_audio(pcm)
        if self._track_end is not None and self._track_end.reason != "failed":
            raise _TrackCut(self._track_end.reason)
        if self._track_end is None:
            await connection.send(AudioStop())
        await self._answer(
            connection, lambda: self._track_end, FINISH_TIMEOUT_S, "the last captions"
        )
        assert self._track_end is not None
        if self._track_end.reason == "failed":
            self._raise_refusal()
            raise ClientError("the server failed to caption this track")

    async def _begin(self, connection: Connection) -> None:
        start_s = self._buffer.rewind(self._stitcher.resume_at_s)
        self._stitcher.restart(start_s)
        self._flow = self._new_flow()
        self._track_id = self._refusal = self._track_end = None
        self._starting = True
        await connection.send(
            AudioStart(
                sample_rate_hz=self._source.sample_rate_hz,
                channels=self._source.channels,
                options=self._options,
            )
        )
        try:
            await self._answer(connection, lambda: self._track_id, START_TIMEOUT_S, "audio.start")
        finally:
            self._starting = False
        self._connections += 1

    def _new_flow(self) -> Flow:
        most_s = MOST_WAITING_REALTIME_S if self._realtime else MOST_WAITING_S
        return Flow(time.monotonic(), most_s)

    async def _more_to_send(self, connection: Connection) -> bool:
        """Wait until there is audio to send (True), or there will be none (False)."""

        def over() -> bool:
            return self._track_end is not None or (self._all_read and self._buffer.all_sent)

        await self._link.pulse.until(
            lambda: connection.closed or self._refusal or over() or not self._buffer.all_sent
        )
        self._check(connection)
        return not over()

    async def _answer(
        self, connection: Connection, ready: Callable[[], object], timeout_s: float, what: str
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._link.pulse.until(lambda: ready() or self._refusal or connection.closed)
        except TimeoutError:
            raise AnswerTimeout(f"waited {timeout_s:g} s for {what}") from None
        if not ready():
            self._check(connection)

    def _check(self, connection: Connection) -> None:
        self._raise_refusal()
        if connection.closed:
            raise SessionClosed("the connection broke")

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise Refused(self._refusal.problem)

    async def _finalize_once(self, wanted_s: float) -> bool:
        connection = await self._link.current()
        track_id, before = self._track_id, self._finalized

        def moved_on() -> bool:
            return self._done or connection.closed or self._track_id != track_id

        await self._link.pulse.until(
            lambda: moved_on() or (track_id is not None and self._buffer.sent_s >= wanted_s)
        )
        if moved_on():
            return self._done
        with contextlib.suppress(SessionClosed):
            await connection.send(Finalize())
            await self._link.pulse.until(lambda: moved_on() or self._finalized > before)
        return self._finalized > before
