"""The app's side of the speech workers: which are there, and calls to them.

Each worker is watched by a `Status` call every second. A worker that does not answer for
`DEAD_AFTER_S` (killed, hung, stopped, unreachable) is dead: its calls are cancelled, so that the
tracks go on elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc
import grpc.aio

from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.kernel.errors import Overloaded
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

STATUS_INTERVAL_S = 1.0
STATUS_TIMEOUT_S = 1.5
DEAD_AFTER_S = 4.0
OPEN_TIMEOUT_S = 5.0

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    # Channels to one address would otherwise share a connection and its back-off.
    ("grpc.use_local_subchannel_pool", 1),
]


class WorkerLost(Exception):
    """The worker under a call is gone, or refused it; the track may go on with another."""


@dataclass(slots=True)
class Worker:
    """One speech worker, as last heard of."""

    url: str
    channel: grpc.aio.Channel
    stub: "rpc.SpeechAsyncStub"
    status: pb.WorkerStatus | None = None
    answered_at: float = float("-inf")
    calls: set["SpeechCall"] = field(default_factory=set)

    @property
    def room(self) -> int:
        """How many more streams it takes, less those opened since it said so."""
        if self.status is None or not self.status.accepting:
            return 0
        unknown = len(self.calls) - self.status.streams
        room = self.status.room or 1  # of a worker that says no more than that it accepts
        return room - max(0, unknown)

    def alive(self, now: float) -> bool:
        """Whether it answered lately."""
        return self.status is not None and now - self.answered_at < DEAD_AFTER_S


class SpeechCall:
    """One `Transcribe` call. `events` ends when the worker has sent its last final."""

    def __init__(
        self, worker: Worker, call: "grpc.aio.StreamStreamCall[pb.SpeechRequest, pb.SpeechEvent]"
    ) -> None:
        self.worker = worker
        self._call = call
        worker.calls.add(self)

    async def send(self, request: pb.SpeechRequest) -> None:
        """Send a request, waiting for flow control. Raises WorkerLost."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise WorkerLost(_reason(error)) from None

    async def half_close(self) -> None:
        """No more requests come. Raises WorkerLost."""
        try:
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise WorkerLost(_reason(error)) from None

    async def events(self) -> AsyncIterator[pb.SpeechEvent]:
        """Yield what the worker sends. Raises WorkerLost if the call does not end well."""
        try:
            while True:
                event = await self._call.read()
                if not isinstance(event, pb.SpeechEvent):  # grpc.aio.EOF
                    break
                yield event
            code = await self._call.code()
        except grpc.aio.AioRpcError as error:
            raise WorkerLost(_reason(error)) from None
        except asyncio.CancelledError:
            # A local cancel of the call surfaces as CancelledError; one of the task must pass.
            task = asyncio.current_task()
            if self._call.cancelled() and not (task and task.cancelling()):
                raise WorkerLost("the worker does not answer") from None
            raise
        if code is not grpc.StatusCode.OK:
            raise WorkerLost(f"{code.name}: {await self._call.details()}")

    def cancel(self) -> None:
        """Drop the call."""
        self.worker.calls.discard(self)
        self._call.cancel()


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__


class SpeechClient:
    """All workers of this app."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._scope = TaskScope("speech-client")
        self._changed = asyncio.Condition()
        self.lost = 0
        """Workers that died under calls, since the start."""
        self.on_hung: Callable[[str], None] | None = None
        """Called with the URL of a worker that takes calls and does not answer."""

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All workers, alive or not."""
        return tuple(self._workers.values())

    @property
    def ready(self) -> bool:
        """Whether at least one worker answers."""
        now = asyncio.get_running_loop().time()
        return any(w.alive(now) for w in self._workers.values())

    def add(self, url: str) -> None:
        """Know a worker, and watch it."""
        channel = grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS)
        worker = Worker(url, channel, rpc.SpeechStub(channel))
        self._workers[url] = worker
        self._watchers[url] = self._scope.spawn(f"watch {url}", self._watch(worker))

    async def aclose(self) -> None:
        """Drop all calls and channels."""
        await self._scope.aclose()
        for worker in self._workers.values():
            for call in list(worker.calls):
                call.cancel()
            await worker.channel.close(grace=None)

    def check_room(self) -> None:
        """Raise Overloaded if workers answer and none of them takes another stream."""
        now = asyncio.get_running_loop().time()
        alive = [w for w in self._workers.values() if w.alive(now)]
        if alive and not any(w.room > 0 for w in alive):
            wait_s = min(w.status.retry_after_s for w in alive if w.status is not None)
            raise Overloaded(
                "all caption capacity is taken; come again later",
                code="caption_capacity",
                retry_after_s=max(1.0, wait_s),
            )

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a worker answers; False if none did in time."""
        try:
            async with asyncio.timeout(timeout_s):
                async with self._changed:
                    await self._changed.wait_for(lambda: self.ready)
        except TimeoutError:
            return False
        return True

    async def open(self, config: pb.StreamConfig) -> SpeechCall:
        """Open a call on the least loaded worker that answers. Raises WorkerLost."""
        now = asyncio.get_running_loop().time()
        alive = [w for w in self._workers.values() if w.alive(now)]
        if not alive:
            raise WorkerLost("no speech worker answers")
        worker = min(alive, key=_load)
        call = SpeechCall(worker, worker.stub.Transcribe(None))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await call.send(pb.SpeechRequest(config=config))
        except TimeoutError:
            call.cancel()
            raise WorkerLost("the worker does not take the stream") from None
        except WorkerLost:
            call.cancel()
            raise
        return call

    async def _watch(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        was_alive = False
        while True:
            answered = False
            try:
                # gRPC's own deadline waits until the request is written, so for ever when a
                # stopped process has not read what was sent to it before.
                async with asyncio.timeout(STATUS_TIMEOUT_S):
                    worker.status = await worker.stub.Status(pb.StatusRequest())
                worker.answered_at, answered = loop.time(), True
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    worker.answered_at = float("-inf")  # refused or gone: no need to wait
            alive = worker.alive(loop.time())
            if was_alive and not alive:
                self._dead(worker)
            if alive and not was_alive:
                log.info(
                    "worker.alive",
                    url=worker.url,
                    worker=worker.status.worker_id if worker.status else None,
                )
                async with self._changed:
                    self._changed.notify_all()
            was_alive = alive
            await asyncio.sleep(STATUS_INTERVAL_S if answered else STATUS_INTERVAL_S / 5)

    def _dead(self, worker: Worker) -> None:
        log.warning("worker.dead", url=worker.url, calls=len(worker.calls))
        self.lost += 1
        worker.status = None
        for call in list(worker.calls):
            call.cancel()
        gone = worker.answered_at == float("-inf")  # there may be a new process already
        if not gone and self.on_hung is not None:
            self.on_hung(worker.url)


def _load(worker: Worker) -> tuple[bool, float]:
    status = worker.status
    if status is None:
        return (True, float("inf"))
    return (not status.accepting, len(worker.calls) + status.queue_delay_s)
