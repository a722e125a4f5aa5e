"""Broadcasts are watched: on one instance and from another, by real peers on real servers."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.relay_client import Camera, Screen, shows
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer
from tests.valkey import ValkeyProcess

pytestmark = pytest.mark.leaves_behind("aiortc leaves its encoders' threads to the interpreter")


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("relay"), valkey_server, 2) as servers:
        yield servers


@contextlib.asynccontextmanager
async def screen(member: RoomMember) -> AsyncIterator[Screen]:
    shown = Screen(member)
    try:
        yield shown
    finally:
        await shown.off()


@contextlib.asynccontextmanager
async def camera(member: RoomMember) -> AsyncIterator[Camera]:
    sending = await Camera.on(member)
    try:
        yield sending
    finally:
        await sending.off()


def figure(server: LiveServer, name: str) -> float:
    """A value of /metrics."""
    _, text = server.get("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found.group(1))


async def becomes(server: LiveServer, name: str, value: float, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while figure(server, name) != value:
            await asyncio.sleep(0.1)


async def ended(member: RoomMember, count: int = 1, timeout_s: float = 12.0) -> str:
    """Wait for the `count`th `watch.ended`; return its reason."""
    await member.wait(lambda: len(member.told("watch.ended")) >= count, timeout_s)
    return str(member.told("watch.ended")[count - 1]["reason"])


async def test_a_viewer_on_another_instance_sees_and_hears_the_publisher(servers: Servers) -> None:
    async with (
        party(servers, "across", "Ada", "Bob") as (ada, bob),
        camera(ada),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id)
        answer = await shown.watch()
        assert answer["member_id"] == ada.id
        took_s = await shown.sees_and_hears()
        assert took_s < 4.0, took_s
        assert figure(servers[1], 'mediaserver_links{way="in"}') == 1
        assert figure(servers[0], 'mediaserver_links{way="out"}') == 1
