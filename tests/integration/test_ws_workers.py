"""What members are told when captions pause, are full, or fall behind: on scripted workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError, web
from aiohttp.test_utils import TestClient
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient

from mediaserver.app import add_relay
from mediaserver.captions.audio import to_s16
from mediaserver.rooms.hub import RoomHub
from mediaserver.rtc.audio import DecoderPool
from mediaserver.rtc.peer import Peers, RtcConfig
from mediaserver.sessions.registry import Sessions
from mediaserver.sessions.transcripts import TranscriptStore
from mediaserver.settings import Settings
from mediaserver.stores.redis import RedisStore
from mediaserver.web import keys, ws
from mediaserver.web.application import new_application
from mediaserver.web.foundation import add_identity, add_library, add_stores
from mediaserver.web.routing import mount
from tests.integration.ws_member import Member
from tests.unit.inference.scripted import Script, random_script
from tests.unit.sessions.scripted_worker import Stage
from tests.valkey import ValkeyProcess

Client = TestClient[web.Request, web.Application]
Open = Callable[..., Awaitable[Client]]
ENGLISH = {"language": "en"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.aclose()


@pytest.fixture
async def serve(
    stage: Stage,
    aiohttp_client: AiohttpClient,
    tmp_path: Path,
    valkey_server: ValkeyProcess,
) -> AsyncIterator[Open]:
    """A server with the parts that ``/ws`` needs."""
    async with RedisStore(valkey_server.url) as redis:
        await redis.client.flushall()
    stores: list[TranscriptStore] = []
    pools: list[DecoderPool] = []

    async def start(max_sessions: int = 100) -> Client:
        settings = Settings(data_dir=tmp_path, redis_url=SecretStr(valkey_server.url))
        app = new_application(settings)
        store = TranscriptStore(tmp_path / "transcripts", settings, stage.clock)
        app[keys.CLOCK], app[keys.FIGURES] = stage.clock, stage.figures
        add_stores(app, settings)
        add_identity(app, settings, announce=lambda _: None)
        add_library(app, settings)
        hub = app[keys.ROOMS] = RoomHub(app[keys.REDIS], stage.clock, "test")
        app[keys.DECODERS], app[keys.ICE_SERVERS] = DecoderPool(), ()
        app[keys.PEERS] = Peers(RtcConfig(include_loopback=True))
        sessions = Sessions(
            stage.client, hub, store, stage.clock, stage.figures, max_sessions=max_sessions
        )
        app[keys.SESSIONS] = sessions
        add_relay(app, hub)
        stores.append(store)
        pools.append(app[keys.DECODERS])

        async def drain(_: web.Application) -> None:
            await sessions.aclose(1.0)

        async def run_rooms(_: web.Application) -> AsyncIterator[None]:
            hub.start()
            yield
            await hub.aclose()

        app.on_shutdown.append(drain)
        app.cleanup_ctx.append(run_rooms)
        mount(app, [ws.routes()])
        return await aiohttp_client(app)

    yield start
    for store in stores:
        await store.aclose()
    for pool in pools:
        pool.close()


@asynccontextmanager
async def join(client: Client, room: str = "room") -> AsyncIterator[Member]:
    member = Member(await client.ws_connect(f"/ws?room={room}"))
    try:
        await member.wait_for("welcome")
        yield member
    finally:
        await member.connection.close()
        await member.wait_closed()


async def publish(stage: Stage, member: Member, script: Script) -> str:
    """Start audio that says what the script says."""
    seen = len(member.told("audio.started"))
    await member.send("audio.start", options=ENGLISH)
    async with asyncio.timeout(20.0):
        while len(member.told("audio.started")) == seen:
            await asyncio.sleep(0.005)
    track = str(member.told("audio.started")[-1]["track_id"])
    stage.recogniser.add(track, script)
    await member.say(to_s16(script.audio()))
    return track


async def test_members_are_told_when_captions_pause_and_get_every_word_afterwards(
    stage: Stage, serve: Open
) -> None:
    await stage.start()
    client, script = await serve(), random_script(1, 10.0)
    async with join(client) as ann, join(client) as bob:
        await publish(stage, ann, Script(script.words, 10.0))
        await stage.workers[0].kill()
        for member in (ann, bob):
            await member.wait_for("status", lambda m: m["captions"] == "paused")
        await stage.workers[0].start()
        for member in (ann, bob):
            await member.wait_for("status", lambda m: m["captions"] == "live")
        await ann.leave()
        await bob.wait_for("track.ended")
        for member in (ann, bob):
            assert member.final_text() == " ".join(script.texts)
            member.check_captions()


async def test_a_member_is_heard_while_its_last_audio_waits_for_a_worker(
    stage: Stage, serve: Open
) -> None:
    """Starting anew ends the audio before, whose finals take their time; pings do not wait."""
    await stage.start([])
    client = await serve()
    async with join(client) as member:
        first = await publish(stage, member, random_script(2, 3.0))
        await member.send("audio.start", options=ENGLISH)
        await member.send("ping", id="p")
        await member.wait_for("pong")  # no worker is there before what follows
        async with asyncio.timeout(20.0):
            while len(member.told("audio.started")) < 2:
                await asyncio.sleep(0.01)
        second = member.told("audio.started")[-1]["track_id"]
        script = random_script(3, 3.0)
        stage.recogniser.add(second, script)
        await member.say(to_s16(script.audio()))
        await stage.workers[0].start()
        await member.leave()
        assert member.final_text(first) == " ".join(random_script(2, 3.0).texts)
        assert member.final_text(second) == " ".join(script.texts)


async def test_a_full_worker_refuses_new_audio_with_a_hint_and_the_session_stays(
    stage: Stage, serve: Open
) -> None:
    await stage.start()
    client = await serve()
    dispatcher = stage.workers[0].dispatcher
    assert dispatcher is not None
    async with join(client) as ann, join(client) as bob:
        script = random_script(4, 5.0)
        await publish(stage, ann, script)
        dispatcher.admission.job_s = 60.0  # this machine is far too slow
        async with asyncio.timeout(20.0):
            while stage.client.workers[0].room > 0:
                await asyncio.sleep(0.02)
        await bob.send("audio.start", options=ENGLISH)
        problem = (await bob.wait_for("error"))["problem"]
        assert (problem["status"], problem["code"]) == (503, "caption_capacity")
        assert problem["retryable"]
        assert problem["retry_after_s"] >= 1.0
        await ann.leave()
        await bob.wait_for("track.ended")
        assert bob.final_text() == " ".join(script.texts)  # who spoke already goes on


async def test_audio_beyond_what_is_kept_is_refused_and_the_rest_is_not_lost(
    stage: Stage, serve: Open
) -> None:
    await stage.start([])
    client = await serve()
    async with join(client) as member:
        script = random_script(5, 130.0)
        await publish(stage, member, script)
        problem = (await member.wait_for("error"))["problem"]
        assert problem["code"] == "audio_backlog"
        assert problem["retryable"]
        await stage.workers[0].start()
        await member.leave()
        said = member.final_text().split()
        assert said[:-1] == script.texts[: len(said) - 1]
        assert len(said) > 0.8 * len(script.texts)


async def test_a_full_server_answers_503_with_a_hint(stage: Stage, serve: Open) -> None:
    await stage.start()
    client = await serve(max_sessions=1)
    async with join(client):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/ws?room=other")
        assert refused.value.status == 503
        assert refused.value.headers is not None
        assert int(refused.value.headers["Retry-After"]) >= 1
    async with asyncio.timeout(20.0):
        while len(client.server.app[keys.SESSIONS]):  # type: ignore[attr-defined] # a server has one
            await asyncio.sleep(0.01)
    async with join(client, "other"):
        pass


async def test_a_member_that_leaves_while_no_worker_is_there_is_not_kept_for_ever(
    stage: Stage, serve: Open
) -> None:
    await stage.start([])
    client = await serve()
    async with join(client) as bob:
        async with join(client) as ann:
            await publish(stage, ann, random_script(6, 3.0))
            await ann.connection.close()
        await asyncio.sleep(0.3)
        await stage.workers[0].start()
        ended = await bob.wait_for("track.ended")
        assert ended["reason"] == "left"
        assert bob.final_text() == " ".join(random_script(6, 3.0).texts)
