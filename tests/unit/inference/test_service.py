"""The gRPC service: bad calls get a clear status and harm nobody; good ones end in good order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from mediaserver.captions.audio import to_s16
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.inference.worker.service import options_from_wire
from tests.unit.inference.scripted import Script, ScriptedRecogniser, random_script
from tests.unit.sessions.scripted_worker import ScriptedWorker

OPTIONS = pb.Options(language="en", interim=True, endpointing_ms=500)


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    worker = ScriptedWorker(ScriptedRecogniser())
    await worker.start()
    yield worker
    await worker.aclose()


@pytest.fixture
async def stub(worker: ScriptedWorker) -> AsyncIterator["rpc.SpeechAsyncStub"]:
    async with grpc.aio.insecure_channel(
        worker.url, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield rpc.SpeechStub(channel)


def config(stream_id: str = "s") -> pb.SpeechRequest:
    return pb.SpeechRequest(config=pb.StreamConfig(stream_id=stream_id, options=OPTIONS))


def audio(script: Script) -> list[pb.SpeechRequest]:
    pcm = to_s16(script.audio())
    return [
        pb.SpeechRequest(audio=pb.Audio(pcm_s16le=pcm[at : at + 16_000]))
        for at in range(0, len(pcm), 16_000)
    ]


async def call(
    stub: "rpc.SpeechAsyncStub", requests: list[pb.SpeechRequest]
) -> list[pb.SpeechEvent]:
    async def send() -> AsyncIterator[pb.SpeechRequest]:
        for request in requests:
            yield request

    async with asyncio.timeout(30.0):
        return [event async for event in stub.Transcribe(send())]


def words(events: list[pb.SpeechEvent]) -> list[str]:
    return [word.text for event in events for word in event.revision.newly_final]


async def test_a_call_answers_opened_first_and_ends_after_the_last_final(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(1, 10.0)
    worker.recogniser.add("s", script)
    events = await call(stub, [config(), *audio(script)])
    assert events[0].opened.model == "scripted"
    assert words(events) == script.texts
    processed = [event.processed_s for event in events]
    assert processed == sorted(processed) or min(processed) == -1.0


@pytest.mark.parametrize(
    "requests",
    [
        [],
        audio(random_script(1, 1.0))[:1],
        [pb.SpeechRequest()],
        [pb.SpeechRequest(finalize=pb.Finalize(request=1))],
        [config(), pb.SpeechRequest(audio=pb.Audio(pcm_s16le=b"abc"))],
        [config(), config()],
        [config(), pb.SpeechRequest()],
    ],
    ids=[
        "nothing",
        "audio first",
        "empty",
        "finalize first",
        "half a sample",
        "two configs",
        "gap",
    ],
)
async def test_a_call_out_of_order_gets_invalid_argument_and_others_go_on(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub", requests: list[pb.SpeechRequest]
) -> None:
    script = random_script(2, 10.0)
    worker.recogniser.add("good", script)
    worker.recogniser.add("s", script)
    good = asyncio.ensure_future(call(stub, [config("good"), *audio(script)]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(stub, requests)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details()
    assert words(await good) == script.texts
    assert worker.dispatcher is not None
    assert len(worker.dispatcher) == 0


async def test_a_client_that_hangs_up_is_forgotten(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(3, 10.0)
    worker.recogniser.add("s", script)
    running = stub.Transcribe(None)
    await running.write(config())
    for request in audio(script)[:10]:
        await running.write(request)
    await running.read()
    status = await stub.Status(pb.StatusRequest())
    assert status.streams == 1
    running.cancel()
    async with asyncio.timeout(20.0):
        while (await stub.Status(pb.StatusRequest())).streams:
            await asyncio.sleep(0.01)


async def test_a_worker_behind_its_work_refuses_new_streams_with_a_hint(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    assert worker.dispatcher is not None
    worker.recogniser.add("s", Script((), 1.0))
    worker.dispatcher.queue_delay_s = 30.0
    status = await stub.Status(pb.StatusRequest())
    assert not status.accepting
    assert status.retry_after_s > 0
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(stub, [config()])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing: Any = refused.value.trailing_metadata()
    assert int(dict(trailing)["retry-after-ms"]) > 0
    worker.dispatcher.queue_delay_s = 0.0
    assert (await stub.Status(pb.StatusRequest())).accepting


async def test_a_call_that_says_nothing_is_ended() -> None:
    worker = ScriptedWorker(ScriptedRecogniser(), first_message_timeout_s=0.2)
    await worker.start()
    async with grpc.aio.insecure_channel(worker.url) as channel:
        silent = rpc.SpeechStub(channel).Transcribe(None)
        async with asyncio.timeout(15.0):
            assert await silent.code() is grpc.StatusCode.INVALID_ARGUMENT
    await worker.aclose()


async def test_the_status_says_what_was_done(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(4, 6.0)
    worker.recogniser.add("s", script)
    await call(stub, [config(), *audio(script)])
    status = await stub.Status(pb.StatusRequest())
    assert status.ready
    assert (status.worker_id, status.model, status.device) == ("scripted", "scripted", "cpu")
    assert status.audio_s == pytest.approx(6.0)
    assert status.computed_s > 0
    assert status.resident_bytes > 10_000_000


async def test_finalize_is_answered_in_the_stream(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(5, 10.0)
    worker.recogniser.add("s", script)
    pieces = audio(script)
    flush = [pb.SpeechRequest(finalize=pb.Finalize(request=i)) for i in (7, 8)]
    events = await call(stub, [config(), *pieces[:8], flush[0], *pieces[8:], flush[1]])
    kinds = [(e.WhichOneof("kind"), e.flushed.request) for e in events]
    places = [i for i, (kind, _) in enumerate(kinds) if kind == "flushed"]
    assert [kinds[i][1] for i in places] == [7, 8]
    assert words(events) == script.texts
    assert words(events[: places[1]]) == script.texts


async def test_a_resumed_call_goes_on_where_it_is_told(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(6, 12.0, most_words=40)
    worker.recogniser.add("s", script)
    done = script.words[:5]
    resumed = pb.StreamConfig(
        stream_id="s",
        options=OPTIONS,
        start_s=done[-1].end_s,
        utterance=3,
        final_words=[pb.Word(text=w.text, start_s=w.start_s, end_s=w.end_s) for w in done],
        context="what was said before",
        latched_language="en",
    )
    first = round(done[-1].end_s * 16_000) * 2
    pcm = to_s16(script.audio())[first:]
    events = await call(
        stub,
        [pb.SpeechRequest(config=resumed), pb.SpeechRequest(audio=pb.Audio(pcm_s16le=pcm))],
    )
    assert words(events) == [w.text for w in script.words[5:]]
    revisions = [e.revision for e in events if e.WhichOneof("kind") == "revision"]
    assert revisions[0].utterance == 3
    assert {job.start_s >= done[-1].end_s - 0.01 for job in worker.recogniser.jobs} == {True}


async def test_a_client_that_does_not_read_is_bounded_and_harms_nobody(
    worker: ScriptedWorker, stub: "rpc.SpeechAsyncStub"
) -> None:
    script = random_script(7, 60.0)
    worker.recogniser.add("deaf", script)
    deaf = stub.Transcribe(None)
    await deaf.write(config("deaf"))
    for request in audio(script):
        await deaf.write(request)
    other = random_script(8, 10.0)
    worker.recogniser.add("s", other)
    assert words(await call(stub, [config(), *audio(other)])) == other.texts
    deaf.cancel()


def test_options_have_sane_bounds() -> None:
    assert options_from_wire(pb.Options()).endpointing_s == 0.01
    options = options_from_wire(pb.Options(language="", translate=True, endpointing_ms=1500))
    assert (options.language, options.translate, options.interim) == (None, True, False)
    assert options.endpointing_s == 1.5
