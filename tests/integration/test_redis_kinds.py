"""Stores, identity and rooms on a real cluster and behind real Sentinels, whose masters die."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from mediaserver.identity.limits import Limits
from mediaserver.identity.principal import LOCAL
from mediaserver.identity.sessions import OpenedSession, UserSessions
from mediaserver.identity.tickets import Tickets
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import Unauthorized, Unavailable
from mediaserver.stores.redis import RedisStore
from tests.integration.identity_instance import Instances
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Reachable, run_servers
from tests.integration.room_speech import finals, speaking
from tests.ports import free_ports
from tests.unit.inference.scripted import random_script
from tests.unit.sessions.scripted_worker import Stage
from tests.valkey_kinds import (
    Cluster,
    NoTls,
    Place,
    Tls,
    Watched,
    run_cluster,
    run_node,
    run_watched,
)

ITEM = {"kind": "mp4", "url": "https://example.org/film.mp4", "duration_s": 3600}
SECRET = b"s" * 32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with run_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """To be killed."""
    folder = tmp_path / "watched"
    folder.mkdir()
    with run_watched(folder) as nodes:
        yield nodes


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.start()
    try:
        yield stage
    finally:
        await stage.aclose()


# ---- identity


async def check_identity(store: RedisStore) -> None:
    """Refresh rotation, limits, tickets."""
    clock = SystemClock()
    sessions = [UserSessions(store, clock) for _ in range(2)]
    for number in range(6):  # in a cluster they lie on different nodes
        opened = await sessions[0].open(f"u_{number}")
        at_once = 10 * (number + 1)  # each opens some connections more
        refreshed = await asyncio.gather(
            *(sessions[n % 2].refresh(opened.refresh_token, SECRET) for n in range(at_once))
        )
        (successor,) = {session.refresh_token for session in refreshed}
        third = await sessions[1].refresh(successor, SECRET)
        await replay(sessions, opened, third)
    limits = Limits(store, clock, 5)
    many = (limits.ask_redis(limits.login, f"{opened.session_id}:{n % 40}") for n in range(200))
    assert sum(decided.allowed for decided in await asyncio.gather(*many)) == 200
    for number in range(6):
        who = f"key:{opened.session_id}:{number}"
        asked = [await limits.ask_redis(limits.default, who) for _ in range(6)]
        assert [decided.allowed for decided in asked] == [True] * 5 + [False]
    tickets = Tickets(store)
    for _ in range(6):
        ticket = await tickets.issue(LOCAL)
        assert await tickets.take(ticket) == LOCAL
        with pytest.raises(Unauthorized):
            await tickets.take(ticket)


async def replay(
    sessions: Sequence[UserSessions], opened: OpenedSession, latest: OpenedSession
) -> None:
    """A token that was used twice over ends its family."""
    for token in (opened.refresh_token, latest.refresh_token):
        for one in sessions:
            with pytest.raises(Unauthorized):
                await one.refresh(token, SECRET)


async def test_identity_on_a_cluster(cluster: Cluster, sqlite_url: str, tmp_path: Path) -> None:
    async with RedisStore(cluster.url) as store:
        await check_identity(store)
    assert all(node.client.dbsize() for node in cluster.nodes), "all nodes hold some of it"
    async with Instances(cluster.url, sqlite_url, tmp_path) as instances:
        one, two = await instances.start(), await instances.start()
        first, second = await one.user("anna"), await one.login("anna")
        assert (await two.get("me", token=first["access_token"])).status == 200
        await two.post("logout", token=second["access_token"], headers={"Origin": two.origin})
        assert (await two.get("me", token=second["access_token"])).status == 401
        assert (await one.get("/readyz")).status == 200


async def test_identity_on_a_cluster_of_which_a_node_dies(tmp_path: Path) -> None:
    with run_cluster(tmp_path / "failing", with_replica=True) as cluster:
        assert cluster.replica is not None
        async with RedisStore(cluster.url) as store:
            await check_identity(store)
            opened = [await UserSessions(store, SystemClock()).open(f"u_{n}") for n in range(9)]
            cluster.nodes[0].replicated()
            cluster.nodes[0].kill()
            for session in opened:
                refreshed = await until_answered(store, session)
                assert refreshed.session_id == session.session_id
            assert cluster.replica.info("replication", "role") == "master"
            await check_identity(store)


async def test_identity_behind_sentinels_of_which_one_is_dead(tmp_path: Path) -> None:
    with run_watched(tmp_path / "three", sentinels=3) as watched:
        watched.sentinels[0].kill()  # the first one that the URL names
        async with RedisStore(watched.url) as store:
            await check_identity(store)
            opened = await UserSessions(store, SystemClock()).open("u_1")
            watched.master.replicated()
            watched.master.kill()
            refreshed = await until_answered(store, opened)
            assert refreshed.session_id == opened.session_id
            await check_identity(store)


async def test_identity_behind_a_sentinel(watched: Watched) -> None:
    async with RedisStore(watched.url) as store:
        await check_identity(store)
        opened = await UserSessions(store, SystemClock()).open("u_1")
        watched.master.replicated()
        watched.master.kill()
        refreshed = await until_answered(store, opened)
        assert refreshed.session_id == opened.session_id
        await check_identity(store)


async def until_answered(store: RedisStore, opened: OpenedSession) -> OpenedSession:
    """Refresh until there is a new master."""
    sessions = UserSessions(store, SystemClock())
    async with asyncio.timeout(30.0):
        while True:
            try:
                return await sessions.refresh(opened.refresh_token, SECRET)
            except Unavailable:
                await asyncio.sleep(0.1)


# ---- TLS


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    folder = tmp_path / "tls"
    folder.mkdir()
    try:
        return Tls.make(folder)
    except NoTls as error:
        pytest.skip(str(error))


async def test_identity_over_tls_with_a_password(tls: Tls, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with run_node(tmp_path / "one", port, tls=tls) as node:
        assert node.ask("PING")
        host = f"127.0.0.1:{port}"
        trusted = f"ssl_ca_certs={tls.ca}"
        async with RedisStore(f"rediss://{tls.login}{host}/3?{trusted}") as store:
            await check_identity(store)
            assert tls.password not in store.place
            assert (await store.client.info("keyspace")).keys() == {"db3"}
        for wrong in (
            f"rediss://{tls.login}{host}/3",  # signed by whom nobody knows
            f"rediss://:wrong@{host}/3?{trusted}",
            f"rediss://{host}/3?{trusted}",
            f"rediss://{tls.login}localhost:{port}/3?{trusted}",  # of another name
            f"redis://{tls.login}{host}/3",
        ):
            async with RedisStore(wrong) as store:
                with pytest.raises(Unavailable):
                    await store.ping()
        unnamed = f"rediss://{tls.login}localhost:{port}/3?{trusted}&ssl_check_hostname=false"
        async with RedisStore(unnamed) as store:
            await store.ping()


async def test_identity_on_a_cluster_over_tls(tls: Tls, tmp_path: Path) -> None:
    with run_cluster(tmp_path / "cluster", tls=tls) as cluster:
        async with RedisStore(cluster.url) as store:
            sessions = UserSessions(store, SystemClock())
            opened = await asyncio.gather(*(sessions.open(f"u_{n}") for n in range(60)))
            for session in opened[:20]:
                refreshed = await sessions.refresh(session.refresh_token, SECRET)
                assert refreshed.session_id == session.session_id
            await check_identity(store)
        assert all(node.client.dbsize() for node in cluster.nodes), "all nodes hold some of it"
        async with RedisStore(cluster.url.partition("?")[0]) as store:
            with pytest.raises(Unavailable):
                await store.ping()


async def test_identity_behind_sentinels_over_tls(tls: Tls, tmp_path: Path) -> None:
    with run_watched(tmp_path / "watched", sentinels=3, tls=tls) as watched:
        watched.sentinels[0].kill()
        async with RedisStore(watched.url) as store:
            await check_identity(store)
            opened = await UserSessions(store, SystemClock()).open("u_1")
            watched.master.replicated()
            watched.master.kill()
            assert (await until_answered(store, opened)).session_id == opened.session_id
            await check_identity(store)
        async with RedisStore(watched.url.partition("?")[0]) as store:
            with pytest.raises(Unavailable):
                await store.ping()


async def test_a_room_on_two_servers_over_tls(tls: Tls, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with run_node(tmp_path / "one", port, tls=tls) as node:
        async with two_servers(
            tmp_path,
            Place(f"rediss://{tls.login}127.0.0.1:{node.port}/0?ssl_ca_certs={tls.ca}"),
            "veiled",
        ) as (members, heard, _pids):
            await check_room(members, heard)
            for member in members:
                for server in member.servers:
                    assert quote(tls.password, safe="") not in server.log
                    assert tls.password not in server.log


# ---- rooms


async def check_room(members: Sequence[RoomMember], stage: Stage) -> None:
    """Chat, queue, playback, what is of the moment, captions, and coming back."""
    ann, bob = members
    await bob.do("chat.send", text="hello")
    await ann.wait_for("chat", lambda m: m["text"] == "hello")
    await ann.do("queue.add", item=ITEM)
    await ann.do("playback.command", action="play", position_s=100)
    await bob.wait_for("playback", lambda m: m["state"]["playing"])
    await bob.send("react", emoji="🎉")
    await ann.wait_for("reaction", lambda m: m["member_id"] == bob.id)
    script = random_script(11, 4.0)
    await speaking(ann, stage, script)
    assert " ".join(finals(ann)) == " ".join(script.texts)
    await bob.wait(lambda: finals(bob) == finals(ann))
    assert any(not m["final"] for m in bob.told("caption")), "and what is not complete yet"
    seen = len(bob.welcomes)
    await bob.drop()
    await ann.do("chat.send", text="missed")
    await bob.wait(lambda: len(bob.welcomes) > seen)
    await bob.wait_for("chat", lambda m: m["text"] == "missed")
    assert bob.told("room.resumed")
    await ann.until(lambda m: m.texts == bob.texts)


@asynccontextmanager
async def two_servers(
    folder: Path, redis: Reachable, room: str
) -> AsyncIterator[tuple[list[RoomMember], Stage, list[int]]]:
    """Ann and Bob in a room on two server processes, somebody who hears, and the processes."""
    async with stage() as heard:
        url = heard.workers[0].url
        with run_servers(folder, redis, 2, inference_urls=url) as servers:
            async with party(servers, room, "Ann", "Bob") as members:
                yield members, heard, [server.process.pid for server in servers]


async def test_a_room_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    async with two_servers(tmp_path, cluster, "spread") as (members, heard, pids):
        ann, bob = members
        await check_room(members, heard)
        async with party(ann.servers, "another", "Cy", "Di") as (cy, di):
            await cy.do("chat.send", text="on another node")
            await di.wait_for("chat")
        rooms = await asyncio.to_thread(rooms_of, bob)
        assert {"spread", "another"} <= rooms
        ann.reconnects = False
        os.kill(pids[0], signal.SIGKILL)
        left = await bob.wait_for("member.left", lambda m: m["member_id"] == ann.id)
        assert left["reason"] == "lost"


def rooms_of(member: RoomMember) -> set[str]:
    """The list of rooms, over all nodes."""
    status, text = member.servers[0].get("/api/v1/rooms")
    assert status == 200, text
    return {room for room in ("spread", "another") if f'"room":"{room}"' in text}


async def test_a_room_survives_the_node_that_it_lies_on(tmp_path: Path) -> None:
    with run_cluster(tmp_path / "failing", with_replica=True) as cluster:
        room = next(
            f"room{n}" for n in range(100)
            if cluster.nodes[0].ask("CLUSTER KEYSLOT", f"{{room{n}}}") <= 5460
        )  # fmt: skip
        async with two_servers(tmp_path, cluster, room) as (members, heard, _pids):
            ann, bob = members
            await check_room(members, heard)
            cluster.nodes[0].replicated()
            cluster.nodes[0].kill()
            killed_at = time.monotonic()
            async with asyncio.timeout(40.0):
                await asyncio.gather(bob.say("over the gap", "gap"), ann.say("me too", "too"))
            assert time.monotonic() - killed_at < 15.0
            for member in members:
                await member.until(lambda m: {"over the gap", "me too"} <= set(m.texts))
                assert sorted(member.texts) == sorted(["hello", "missed", "over the gap", "me too"])
            await bob.do("playback.command", action="pause")
            paused = await ann.wait_for("playback", lambda m: m["by"] == bob.id)
            assert paused["state"]["position_s"] > 100
            assert len(ann.welcomes) == 1, "nobody was sent away"


async def test_a_room_survives_its_master(watched: Watched, tmp_path: Path) -> None:
    async with two_servers(tmp_path, watched, "guarded") as (members, heard, _pids):
        ann, bob = members
        await check_room(members, heard)
        watched.master.replicated()
        script, left = random_script(12, 4.0), ann.told("member.left")
        watched.master.kill()
        killed_at = time.monotonic()
        talking = speaking(ann, heard, script)
        await asyncio.gather(bob.say("over the gap", "gap"), ann.say("me too", "too"))
        assert time.monotonic() - killed_at < 15.0
        await talking
        words = " ".join(script.texts)
        for member in members:
            await member.until(lambda m: " ".join(finals(m)).endswith(words))
            await member.until(lambda m: {"over the gap", "me too"} <= set(m.texts))
        assert (
            sorted(ann.texts)
            == sorted(bob.texts)
            == sorted(["hello", "missed", "over the gap", "me too"])
        ), "nothing that was acknowledged is lost or doubled"
        await bob.do("playback.command", action="pause")
        paused = await ann.wait_for("playback", lambda m: m["by"] == bob.id)
        assert paused["state"]["position_s"] > 100
        assert ann.told("member.left") == left
        assert len(ann.welcomes) == 1, "nobody was sent away"
