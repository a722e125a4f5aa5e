"""A member that does not read delays nobody, is sent away with 1013, and others lose nothing."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.integration.ws_member import RawMember, close_code_of
from tests.valkey import ValkeyProcess

TALKERS = 6
ROUND_S = 0.1
LONG = "😀" * 1900
"""7.6 kB a message: what the network buffers is full within seconds."""
MOST_S = 90.0
DELAY_S = 3.0
"""For a message between others, on a busy machine; whoever does not read is waited for longer."""


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("slow"), valkey_server, 2) as servers:
        yield servers
        for server in servers:
            assert "Traceback" not in server.log


@contextlib.asynccontextmanager
async def deaf_member(servers: Servers, room: str) -> AsyncIterator[RawMember]:
    """A member of the first server that answers its pings and reads nothing."""
    deaf = await asyncio.to_thread(RawMember, servers[0], room, 4096)

    async def stay() -> None:
        with contextlib.suppress(OSError):
            while True:
                deaf.send_frame(b"", opcode=10)
                await asyncio.sleep(1.0)

    staying = asyncio.create_task(stay())
    try:
        yield deaf
    finally:
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        deaf.close()


async def say_all(talkers: list[RoomMember], said: list[str]) -> list[float]:
    """Everybody says something long; return how long each had to wait until it was done."""

    async def one(talker: RoomMember) -> float:
        text = f"{talker.name} {len(talker.told('ack'))} {LONG}"
        began = time.monotonic()
        await talker.do("chat.send", text=text[:2000])
        said.append(text[:2000])
        return time.monotonic() - began

    return list(await asyncio.gather(*(one(talker) for talker in talkers)))


def close_code(deaf: RawMember) -> int | None:
    """Read all that is there, up to the close frame; return its code."""
    deaf.socket.settimeout(20.0)
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # it makes haste now
    got = bytearray()
    with contextlib.suppress(OSError):
        while data := deaf.socket.recv(1 << 20):
            got += data
    return close_code_of(got)


async def sent_away(seen_by: RoomMember, member_id: str, deaf: RawMember) -> tuple[str, int | None]:
    """Wait until a member is; return the reason that others are told, and its close code.

    It reads as soon as it can: what it is sent last waits for it for two seconds.
    """
    left = await seen_by.wait_for("member.left", lambda m: m["member_id"] == member_id, MOST_S)
    return left["reason"], await asyncio.to_thread(close_code, deaf)


async def test_who_does_not_read_is_sent_away_and_the_others_lose_nothing(
    servers: Servers,
) -> None:
    names = [f"m{number}" for number in range(TALKERS)]
    async with (
        party(servers, "deaf", *names) as talkers,
        deaf_member(servers, "deaf") as deaf,
    ):
        said: list[str] = []
        waits: list[float] = []
        joined = await talkers[1].wait_for("member.joined", lambda m: m["member"]["name"] == "raw")
        raw_id = joined["member"]["member_id"]
        gone = asyncio.create_task(sent_away(talkers[0], raw_id, deaf))
        while not gone.done():
            waits += await say_all(talkers, said)
            await asyncio.sleep(ROUND_S)
        # it may come back to its place
        assert gone.result() == ("lost", 1013)
        await say_all(talkers, said)
        for talker in talkers:
            await talker.wait(lambda: len(talker.told("chat")) == len(said))  # noqa: B023
            assert talker.texts == talkers[0].texts
            assert talker.close_codes == []
            assert talker.told("error") == []
        assert sorted(talkers[0].texts) == sorted(said), "each once, and nothing lost"
        assert max(waits) < DELAY_S


async def test_who_was_sent_away_comes_back_to_its_place(servers: Servers) -> None:
    """A reader that was slow and is quick again resumes, or begins with a snapshot."""
    async with party(servers, "back", "Ann", "Bob") as (ann, bob):
        await bob.wait_for("room.snapshot")
        socket = bob._socket
        assert isinstance(socket, aiohttp.ClientWebSocketResponse)
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        await ann.wait_for("member.left", lambda m: m["member_id"] == bob.id, 40.0)
        await ann.do("chat.send", text="while you slept")
        transport.resume_reading()
        await bob.wait(lambda: len(bob.welcomes) == 2)
        await bob.wait_for("chat")
        assert bob.id == bob.welcomes[0]["member_id"]
        assert bob.texts == ["while you slept"]
