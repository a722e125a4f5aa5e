"""The app's side: workers are watched, calls go to the least loaded, losses are noticed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest

from mediaserver.inference.client import DEAD_AFTER_S, SpeechCall, SpeechClient, WorkerLost
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.kernel.errors import Overloaded
from tests.unit.inference.scripted import Script, ScriptedRecogniser
from tests.unit.sessions.scripted_worker import ScriptedWorker, Stage

Until = Callable[[Callable[[], bool]], Awaitable[None]]
CONFIG = pb.StreamConfig(stream_id="s", options=pb.Options(language="en", endpointing_ms=500))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(2)
    stage.recogniser.add("s", Script((), 1.0))
    yield stage
    await stage.aclose()


@pytest.fixture
def until() -> Until:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


async def drain(call: SpeechCall) -> None:
    async for _ in call.events():
        pass


async def test_no_worker_is_told_at_once_and_takes_no_call(stage: Stage) -> None:
    await stage.start([])
    assert not stage.client.ready
    assert not await stage.client.wait_ready(0.2)
    with pytest.raises(WorkerLost):
        await stage.client.open(CONFIG)
    stage.client.check_room()  # nothing is full: a track waits for a worker


async def test_a_worker_that_comes_later_is_found_soon(stage: Stage) -> None:
    await stage.start([])
    await asyncio.sleep(0.5)
    await stage.workers[1].start()
    assert await stage.client.wait_ready(10.0)
    call = await stage.client.open(CONFIG)
    await call.half_close()
    await drain(call)
    call.cancel()


async def test_calls_go_to_the_worker_with_the_fewest(stage: Stage, until: Until) -> None:
    await stage.start()
    await until(lambda: all(w.status is not None for w in stage.client.workers))
    calls = [await stage.client.open(CONFIG) for _ in range(6)]
    assert [len(w.calls) for w in stage.client.workers] == [3, 3]
    for call in calls:
        call.cancel()
    assert [len(w.calls) for w in stage.client.workers] == [0, 0]


async def test_a_killed_worker_ends_its_calls_and_is_not_asked_again(
    stage: Stage, until: Until
) -> None:
    hung: list[str] = []
    stage.client.on_hung = hung.append
    await stage.start()
    await until(lambda: all(w.status is not None for w in stage.client.workers))
    calls = [await stage.client.open(CONFIG) for _ in range(2)]
    await stage.workers[0].kill()
    (lost,) = (c for c in calls if c.worker.url == stage.workers[0].url)
    with pytest.raises(WorkerLost):
        async with asyncio.timeout(15.0):
            await drain(lost)
    await until(lambda: stage.client.lost == 1)
    assert hung == []  # it is gone: what runs at its address by now is another one
    for call in calls:
        call.cancel()
    for _ in range(3):
        call = await stage.client.open(CONFIG)
        assert call.worker.url == stage.workers[1].url
        call.cancel()


async def test_full_workers_refuse_new_tracks_and_one_with_room_is_enough(
    stage: Stage, until: Until
) -> None:
    await stage.start()
    for worker in stage.workers:
        assert worker.dispatcher is not None
        worker.dispatcher.queue_delay_s = 30.0
    await until(lambda: all(w.status and not w.status.accepting for w in stage.client.workers))
    with pytest.raises(Overloaded) as refused:
        stage.client.check_room()
    assert refused.value.specific_code == "caption_capacity"
    assert refused.value.retry_after_s
    assert stage.workers[1].dispatcher is not None
    stage.workers[1].dispatcher.queue_delay_s = 0.0
    await until(lambda: any(w.status and w.status.accepting for w in stage.client.workers))
    stage.client.check_room()
    call = await stage.client.open(CONFIG)
    assert call.worker.url == stage.workers[1].url
    call.cancel()


async def test_a_call_that_the_worker_refuses_is_lost_with_the_reason(stage: Stage) -> None:
    await stage.start([0])
    call = await stage.client.open(CONFIG)
    await call.send(pb.SpeechRequest(audio=pb.Audio(pcm_s16le=b"abc")))
    with pytest.raises(WorkerLost, match="INVALID_ARGUMENT"):
        await drain(call)
    call.cancel()


class HungService(rpc.SpeechServicer):
    """Answers its first status, and then nothing, like a stopped process."""

    def __init__(self) -> None:
        self.answers = 1

    async def Transcribe(
        self,
        requests: AsyncIterator[pb.SpeechRequest],
        context: "grpc.aio.ServicerContext[pb.SpeechRequest, pb.SpeechEvent]",
    ) -> AsyncIterator[pb.SpeechEvent]:
        await asyncio.sleep(60.0)
        yield pb.SpeechEvent()

    async def Status(
        self,
        request: pb.StatusRequest,
        context: "grpc.aio.ServicerContext[pb.StatusRequest, pb.WorkerStatus]",
    ) -> pb.WorkerStatus:
        if not self.answers:
            await asyncio.sleep(60.0)
        self.answers -= 1
        return pb.WorkerStatus(ready=True, accepting=True)


async def test_a_hung_worker_is_noticed_within_five_seconds() -> None:
    """It hangs just after it answered, so that the most time passes."""
    place = ScriptedWorker(ScriptedRecogniser())  # for its address
    server = grpc.aio.server()
    rpc.add_SpeechServicer_to_server(HungService(), server)
    server.add_insecure_port(place.url)
    await server.start()
    client = SpeechClient()
    noticed = asyncio.Event()
    client.on_hung = lambda url: noticed.set()
    client.add(place.url)
    assert await client.wait_ready(10.0)
    started = asyncio.get_running_loop().time()
    call = await client.open(CONFIG)
    with pytest.raises(WorkerLost, match="does not answer"):
        async with asyncio.timeout(20.0):
            await drain(call)
    took_s = asyncio.get_running_loop().time() - started
    assert noticed.is_set()
    assert DEAD_AFTER_S - 0.1 <= took_s <= 5.0
    assert not client.ready
    call.cancel()
    await client.aclose()
    await server.stop(grace=None)
    await place.aclose()


async def test_a_cancelled_task_is_not_taken_for_a_lost_worker(stage: Stage) -> None:
    await stage.start([0])
    call = await stage.client.open(CONFIG)
    reading = asyncio.ensure_future(drain(call))
    await asyncio.sleep(0.05)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    assert reading.cancelled()
    call.cancel()
