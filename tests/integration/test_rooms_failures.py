"""An instance is killed, Redis is away: rooms go on, and nothing that was acknowledged is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.room_client import Json, RoomMember, party
from tests.integration.room_servers import run_servers
from tests.integration.room_speech import finals, speaking
from tests.unit.inference.scripted import random_script
from tests.unit.sessions.scripted_worker import Stage
from tests.valkey import ValkeyProcess, run_valkey

ITEM = {"kind": "mp4", "url": "https://example.org/film.mp4", "duration_s": 3600}


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """To be killed."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with run_valkey(folder) as server:
        yield server


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.start()
    yield stage
    await stage.aclose()


async def talk(member: RoomMember, stop: asyncio.Event) -> list[str]:
    """Say things, five a second, until told to stop; return what was acknowledged."""
    said: list[str] = []
    while not stop.is_set():
        text = f"{member.name} {len(said)}"
        await member.say(text, text)
        said.append(text)
        await asyncio.sleep(0.2)
    return said


async def test_a_killed_instances_members_come_back_on_the_other_and_lose_nothing(
    tmp_path: Path, own_valkey: ValkeyProcess
) -> None:
    with run_servers(tmp_path, own_valkey, 2) as servers:
        names = [f"m{number}" for number in range(40)]
        async with party(servers, "kill", *names) as members:
            here, there = members[0::2], members[1::2]
            await here[0].do("queue.add", item=ITEM)
            played_at = time.monotonic()
            await here[0].do("playback.command", action="play", position_s=100)
            playing = await there[0].wait_for("playback", lambda m: m["state"]["playing"])
            stop = asyncio.Event()
            talking = [asyncio.create_task(talk(m, stop)) for m in (*here[:3], *there[:3])]
            await asyncio.sleep(1.0)
            killed_at = time.monotonic()
            os.kill(servers[0].process.pid, signal.SIGKILL)
            await asyncio.gather(
                *(m.until(lambda m: len(m.welcomes) == 2, timeout_s=20.0) for m in here)
            )
            assert max(m.back_at[-1] for m in here) - killed_at < 5.0
            await asyncio.sleep(1.0)
            stop.set()
            said = sorted(text for texts in await asyncio.gather(*talking) for text in texts)
            for member in members:
                await member.until(lambda m: len(m.texts) >= len(said))
                assert sorted(member.texts) == said, "neither lost nor doubled"
            orders = {tuple(member.texts) for member in members}
            assert len(orders) == 1, "one order for all"
            assert {m.welcomes[1]["member_id"] for m in here} == {
                m.welcomes[0]["member_id"] for m in here
            }
            assert here[0].welcomes[1]["role"] == "host"
            assert [m["state"] for m in here[0].told("playback")][-1] == playing["state"]
            await there[0].do("playback.command", action="pause")
            paused = await here[0].wait_for("playback", lambda m: m["by"] == there[0].id)
            assert not paused["state"]["playing"]
            assert 100 < paused["state"]["position_s"] < 100 + time.monotonic() - played_at
            assert there[0].told("member.left") == []


async def test_members_of_a_killed_instance_disappear_within_ten_seconds(
    tmp_path: Path, own_valkey: ValkeyProcess
) -> None:
    with run_servers(tmp_path, own_valkey, 2) as servers:
        async with party(servers, "lost", "Ann", "Bob") as (ann, bob):
            ann.reconnects = False
            os.kill(servers[0].process.pid, signal.SIGKILL)
            killed_at = time.monotonic()
            left = await bob.wait_for("member.left")
            assert (left["member_id"], left["reason"]) == (ann.id, "lost")
            assert time.monotonic() - killed_at < 10.0


async def test_a_graceful_stop_takes_its_members_out_at_once(
    tmp_path: Path, own_valkey: ValkeyProcess
) -> None:
    with run_servers(tmp_path, own_valkey, 2) as servers:
        async with party(servers, "stop", "Ann", "Bob") as (ann, bob):
            ann.reconnects = False
            servers[0].process.send_signal(signal.SIGINT)
            left = await bob.wait_for("member.left")
            assert left["reason"] != "lost", "by the server itself, not for want of its lease"
            await ann.until(lambda member: bool(member.close_codes))
            assert ann.close_codes == [1001]


# ---- Redis


async def refused_join(member: RoomMember, url: str) -> Json:
    """Try to join; return the problem."""
    async with member._session.get(f"{url}/ws?room=away", headers=UPGRADE) as answer:
        assert answer.status == 503
        problem: Json = await answer.json(content_type=None)
        return problem


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_while_redis_is_away_captions_go_on_and_afterwards_the_room_heals(
    tmp_path: Path, own_valkey: ValkeyProcess, stage: Stage
) -> None:
    url = stage.workers[0].url
    with run_servers(tmp_path, own_valkey, 2, inference_urls=url) as servers:
        async with party(servers, "away", "Ann", "Bob", "Cy", "Di") as members:
            ann, bob, cy, di = members
            said = [f"before {number}" for number in range(5)]
            for text in said:
                await bob.do("chat.send", text=text, id=text)
            script = random_script(11, 14.0)
            own_valkey.freeze()
            away_at = time.monotonic()
            talking = speaking(ann, stage, script)
            await cy.wait_for("room.status", lambda m: m["state"] == "away")
            problem = await refused_join(ann, servers[0].url)
            assert problem["code"] == "redis_down"
            assert problem["retryable"]
            assert await bob.refused("chat.send", text="lost", id="lost") == "redis_down"
            await cy.wait(lambda: finals(cy))
            heard_away = time.monotonic() - away_at
            assert finals(di) == [], "the other instance hears of it later"
            await asyncio.sleep(max(0.0, 10.0 - heard_away))
            own_valkey.kill()
            await asyncio.sleep(0.5)
            own_valkey.start()
            back_at = time.monotonic()
            for member in members:
                await member.wait_for("room.status", lambda m: m["state"] == "live")
            await talking
            for text in ("lost", "after 0", "after 1"):
                await bob.do("chat.send", text=text, id=text)
                said.append(text)
            expected = finals(ann)
            assert " ".join(expected) == " ".join(script.texts)
            for member in members:
                await member.until(lambda m: finals(m) == expected)
                await member.until(lambda m: len(m.texts) >= len(said))
                assert member.texts == said
                assert len(member.welcomes) == 1, "nobody was sent away"
                assert member.told("member.left") == []
            assert time.monotonic() - back_at < 25.0
            async with party(servers, "away", "Late") as (late,):
                await late.wait(lambda: finals(late) == expected and late.texts == said)


async def test_a_redis_that_lost_everything_gets_the_room_from_those_who_are_in_it(
    tmp_path: Path, own_valkey: ValkeyProcess
) -> None:
    with run_servers(tmp_path, own_valkey, 2) as servers:
        async with party(servers, "lost", "Ann", "Bob") as members:
            ann, bob = members
            await ann.do("queue.add", item=ITEM)
            await bob.wait_for("queue")
            own_valkey.forget()
            own_valkey.start()
            for member in members:
                await member.until(lambda m: len(m.told("room.snapshot")) >= 2)
            assert ann.log_id != ann.welcomes[0]["log_id"]
            await member_list(bob, {ann.id, bob.id}, servers[1].url)
            await ann.do("chat.send", text="still here")
            await bob.wait_for("chat", lambda m: m["text"] == "still here")
            snapshot = bob.told("room.snapshot")[-1]
            assert [item["url"] for item in snapshot["queue"]] == [ITEM["url"]]


async def member_list(member: RoomMember, ids: set[str], url: str) -> None:
    async with asyncio.timeout(20.0):
        while True:
            try:
                async with member._session.get(f"{url}/api/v1/rooms/lost/members") as answer:
                    found = {m["member_id"] for m in (await answer.json())["members"]}
                if found == ids:
                    return
            except (aiohttp.ClientError, KeyError):
                pass
            await asyncio.sleep(0.1)
