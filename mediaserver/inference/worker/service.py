"""The gRPC service of a speech worker: one call a track."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio

from mediaserver.captions.audio import from_s16
from mediaserver.captions.events import Revision, SpeechEvent
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.inference.wire import event_to_wire, words_from_wire
from mediaserver.inference.worker.admission import RETRY_AFTER_S
from mediaserver.inference.worker.dispatch import Dispatcher
from mediaserver.inference.worker.parameters import Resume, StreamOptions
from mediaserver.inference.worker.stream import SpeechStream, Vad
from mediaserver.kernel.channels import ChannelClosed, Outbox
from mediaserver.kernel.errors import SlowConsumer
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

MAX_AUDIO_MESSAGE_BYTES = 4 * 1024 * 1024
OUTBOX_CAPACITY = 4000
FIRST_MESSAGE_TIMEOUT_S = 10.0

Context = grpc.aio.ServicerContext[pb.SpeechRequest, pb.SpeechEvent]


class _Call:
    """One `Transcribe` call: its stream and what it still has to send."""

    def __init__(self, stream: SpeechStream, dispatcher: Dispatcher) -> None:
        self.stream = stream
        self.outbox: Outbox[pb.SpeechEvent] = Outbox(OUTBOX_CAPACITY)
        self.failure: SlowConsumer | None = None
        self._dispatcher = dispatcher

    def emit(self, events: list[SpeechEvent]) -> None:
        """Queue events; a newer partial replaces an unsent one."""
        for event in events:
            partial = isinstance(event, Revision) and not event.newly_final and not event.complete
            if isinstance(event, Revision):
                self.outbox.discard("partial")
            try:
                self.outbox.put(
                    event_to_wire(event, self.stream.processed_s), "partial" if partial else None
                )
            except SlowConsumer as error:
                self.failure = error
                self.outbox.close()
        if self.stream.done:
            self.outbox.close()

    def take(self, request: pb.SpeechRequest) -> int:
        """Apply a request; return how many samples it brought. Raises ValueError."""
        samples = 0
        match request.WhichOneof("kind"):
            case "audio":
                audio = from_s16(request.audio.pcm_s16le)
                samples = len(audio)
                self.emit(self.stream.push(audio))
            case "finalize":
                self.emit(self.stream.finalize(request.finalize.request))
            case "configure":
                self.stream.configure(options_from_wire(request.configure))
            case other:
                raise ValueError(f"unexpected {other or 'empty message'}")
        self._dispatcher.notice(self.stream)
        return samples

    def end(self) -> None:
        """The client half-closed."""
        self.emit(self.stream.end())
        self._dispatcher.notice(self.stream)


class SpeechService(rpc.SpeechServicer):
    """Implements ``rpc/speech.proto`` on a `Dispatcher`."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        new_vad: Callable[[], Vad],
        worker_id: str,
        first_message_timeout_s: float = FIRST_MESSAGE_TIMEOUT_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._new_vad = new_vad
        self._worker_id = worker_id
        self._first_message_timeout_s = first_message_timeout_s
        self._audio_s = 0.0

    @property
    def accepting(self) -> bool:
        """Whether there is room for another stream."""
        return self._dispatcher.room > 0

    async def Transcribe(  # the stubs type both variants
        self, requests: AsyncIterator[pb.SpeechRequest], context: Context
    ) -> AsyncIterator[pb.SpeechEvent]:
        """Take one track. See the proto file."""
        first = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._first_message_timeout_s):
                first = await anext(requests, None)
        if first is None or first.WhichOneof("kind") != "config":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message is `config`")
            return
        if not (self.accepting or _goes_on(first.config)):
            wait_ms = str(round(RETRY_AFTER_S * 1000))
            context.set_trailing_metadata((("retry-after-ms", wait_ms),))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "all streams are taken")
            return
        call = _Call(self._new_stream(first.config), self._dispatcher)
        yield pb.SpeechEvent(
            opened=pb.Opened(model=self._dispatcher.recogniser.name, worker_id=self._worker_id)
        )
        self._dispatcher.add(call.stream, call.emit)
        try:
            with bind(stream_id=call.stream.id):
                async with TaskScope("call", on_failure=lambda *_: call.outbox.close()) as scope:
                    reading = scope.spawn("read", self._read(call, requests))
                    async for event in _drain(call.outbox):
                        yield event
                    if reading.done() and reading.exception() is not None:
                        await context.abort(
                            grpc.StatusCode.INVALID_ARGUMENT, str(reading.exception())
                        )
                    if call.failure is not None:
                        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, call.failure.detail)
        finally:
            self._dispatcher.remove(call.stream)

    async def _read(self, call: _Call, requests: AsyncIterator[pb.SpeechRequest]) -> None:
        async for request in requests:
            self._audio_s += call.take(request) / 16_000
        call.end()

    def _new_stream(self, config: pb.StreamConfig) -> SpeechStream:
        return SpeechStream(
            config.stream_id,
            options_from_wire(config.options),
            self._new_vad(),
            self._dispatcher.recogniser.encode_text,
            resume=Resume(
                start_s=config.start_s,
                utterance=config.utterance,
                final_words=words_from_wire(config.final_words),
                context=config.context,
                latched_language=config.latched_language or None,
            ),
        )

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.WorkerStatus:
        """Say how this worker is."""
        recogniser, room = self._dispatcher.recogniser, self._dispatcher.room
        return pb.WorkerStatus(
            ready=True,
            worker_id=self._worker_id,
            model=recogniser.name,
            device=recogniser.device,
            streams=len(self._dispatcher),
            queue_delay_s=self._dispatcher.queue_delay_s,
            resident_bytes=resident_bytes(),
            computed_s=self._dispatcher.computed_s,
            audio_s=self._audio_s,
            accepting=room > 0,
            retry_after_s=0.0 if room else RETRY_AFTER_S,
            room=room,
        )


def _goes_on(config: pb.StreamConfig) -> bool:
    """Whether the stream was taken before, by a worker that was lost: it is not refused."""
    return bool(config.start_s > 0 or config.utterance or config.final_words or config.context)


async def _drain(outbox: Outbox[pb.SpeechEvent]) -> AsyncIterator[pb.SpeechEvent]:
    while True:
        try:
            yield await outbox.get()
        except ChannelClosed:
            return


def options_from_wire(options: pb.Options) -> StreamOptions:
    """Stream options from their message."""
    return StreamOptions(
        language=options.language or None,
        translate=options.translate,
        interim=options.interim,
        endpointing_s=max(0.01, options.endpointing_ms / 1000),
    )


def resident_bytes() -> int:
    """Resident memory of this process (Linux; 0 elsewhere)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
