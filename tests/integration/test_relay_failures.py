"""Instances and viewers die, Redis is away: who watches goes on, or is told."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.relay_client import (
    LINKS_IN,
    LINKS_OUT,
    becomes,
    broadcast_of,
    camera,
    ended,
    screen,
    shows,
)
from tests.integration.room_client import party
from tests.integration.room_servers import run_servers
from tests.integration.webrtc_client import until
from tests.live import LiveServer
from tests.valkey import ValkeyProcess, run_valkey

pytestmark = pytest.mark.leaves_behind("aiortc leaves its codecs' threads to the interpreter")

VIEWER = """
import asyncio, sys
import aiohttp
from tests.integration.relay_client import Screen, shows
from tests.integration.room_client import RoomMember
from tests.live import LiveServer

async def main(url, room, whose):
    server = LiveServer(url, None, None, None, None, 0.0)
    async with aiohttp.ClientSession() as session:
        member = RoomMember([server], room, "Mortal")
        await member.start(session)
        await shows(member, whose)
        screen = Screen(member)
        await screen.watch(whose)
        await screen.sees_and_hears(timeout_s=40)
        print("watching", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """To be stopped."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with run_valkey(folder) as server:
        yield server


def kill(server: LiveServer) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()


async def test_a_killed_instances_broadcasts_are_lost(
    tmp_path: Path, valkey_server: ValkeyProcess
) -> None:
    with run_servers(tmp_path, valkey_server, 2) as servers:
        async with (
            party(servers, "killed", "Ada", "Bob") as (ada, bob),
            camera(ada),
            screen(bob) as shown,
        ):
            await shows(bob, ada.id)
            await shown.watch()
            await shown.sees_and_hears()
            ada.reconnects = False
            await asyncio.to_thread(kill, servers[0])
            assert await ended(bob) == "lost"
            await bob.wait_for("member.left", timeout_s=20.0)
            assert broadcast_of(bob, ada.id) is None
            listed = await asyncio.to_thread(servers.json, 1, "/api/v1/rooms/killed/members")
            assert [m["name"] for m in listed["members"]] == ["Bob"]
            assert await shown.refused() == "no_broadcast"
            await becomes(servers[1], LINKS_IN, 0)


async def test_a_link_that_breaks_is_made_anew(
    tmp_path: Path, valkey_server: ValkeyProcess
) -> None:
    """The other instance stands still for longer than the link waits, and goes on."""
    with run_servers(tmp_path, valkey_server, 2) as servers:
        async with (
            party(servers, "frozen", "Ada", "Bob") as (ada, bob),
            camera(ada),
            screen(bob) as shown,
        ):
            await shows(bob, ada.id)
            await shown.watch()
            await shown.sees_and_hears()
            os.kill(servers[0].process.pid, signal.SIGSTOP)
            try:
                await until(lambda: "link.broken" in servers[1].log)
            finally:
                os.kill(servers[0].process.pid, signal.SIGCONT)
            seeing = asyncio.create_task(shown.sees_and_hears(timeout_s=40.0))
            over = asyncio.create_task(ended(bob, timeout_s=40.0))
            await asyncio.wait((seeing, over), return_when=asyncio.FIRST_COMPLETED)
            if not seeing.done():  # it was taken for dead: then it is offered again
                await bob.until(lambda m: broadcast_of(m, ada.id), 20.0)
                await shown.watch(ada.id)
            await seeing
            over.cancel()


async def test_watches_go_on_without_redis(tmp_path: Path, own_valkey: ValkeyProcess) -> None:
    with run_servers(tmp_path, own_valkey, 2) as servers:
        names = ("Ada", "Bob", "Cid")  # Ada and Cid on one server
        async with (
            party(servers, "outage", *names) as (ada, bob, cid),
            camera(ada),
            screen(bob) as far,
            screen(cid) as near,
        ):
            await shows(bob, ada.id)
            await far.watch()
            await far.sees_and_hears()
            own_valkey.freeze()
            try:
                for member in (bob, cid):
                    await member.wait_for("room.status", lambda m: m["state"] == "away", 20.0)
                await far.sees_and_hears()
                await near.watch(ada.id)  # on one instance nobody needs Redis to begin
                await near.sees_and_hears()
            finally:
                own_valkey.thaw()
            await bob.wait_for("room.status", lambda m: m["state"] == "live", 20.0)
            await far.sees_and_hears()
            assert not bob.told("watch.ended")


async def test_nothing_is_sent_for_a_viewer_that_was_killed(
    tmp_path: Path, valkey_server: ValkeyProcess
) -> None:
    with run_servers(tmp_path, valkey_server, 2) as servers:
        async with party(servers, "mortal", "Ada") as (ada,), camera(ada):
            await shows(ada, ada.id)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", VIEWER, servers[1].url, "mortal", ada.id),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            try:
                async with asyncio.timeout(60):
                    assert await process.stdout.readline() == b"watching\n"
                await becomes(servers[0], LINKS_OUT, 1)
            finally:
                process.kill()
                await process.wait()
            await becomes(servers[1], "mediaserver_viewers", 0)
            await becomes(servers[0], LINKS_OUT, 0)
            await becomes(servers[1], LINKS_IN, 0)
