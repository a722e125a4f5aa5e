"""A room's events over two ways, a WebSocket and data channels: nothing is missing, nothing twice,
whichever way is lost."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediaserver.rooms.log import LOG_LENGTH
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.integration.room_speech import finals, speaking
from tests.integration.test_webrtc_channels import deafen
from tests.integration.webrtc_client import Client
from tests.unit.inference.scripted import random_script
from tests.unit.sessions.scripted_worker import Stage
from tests.valkey import ValkeyProcess

Json = dict[str, Any]
ITEM = {"kind": "mp4", "url": "https://example.org/film.mp4"}
TALKERS = 17
"""So many say `LOG_LENGTH` messages without being told to send less."""


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("order"), valkey_server, 2) as servers:
        yield servers
        for server in servers:
            assert "Traceback" not in server.log


class TwoWays:
    """A member with data channels; remembers which way what came."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, peer: Client) -> None:
        self.socket = socket
        self.peer = peer
        self.messages: list[tuple[str, Json]] = []
        self._read: dict[str, int] = {}
        self._task = asyncio.create_task(self._receive())
        self._pings = 0

    async def _receive(self) -> None:
        async for message in self.socket:
            self.messages.append(("socket", json.loads(message.data)))

    @classmethod
    @contextlib.asynccontextmanager
    async def join(cls, servers: Servers, room: str, **resume: str) -> AsyncIterator["TwoWays"]:
        async with aiohttp.ClientSession() as session:
            params = {"room": room, "name": "Ann", **resume}
            async with session.ws_connect(f"{servers[0].ws_url}/ws", params=params) as socket:
                member = cls(socket, Client.new())
                try:
                    await member.wait_for("room.resumed" if resume else "room.snapshot")
                    yield member
                finally:
                    await member.peer.close()
                    await socket.close()
                    await asyncio.wait([member._task], timeout=20.0)

    async def open_channels(self) -> None:
        """Connect the peer, until messages come over its channels."""
        await self.send("offer", sdp=await self.peer.offer())
        await self.peer.answer((await self.wait_for("answer"))["sdp"])
        async with asyncio.timeout(20.0):
            while len(self.peer.received) < 3:
                await asyncio.sleep(0.01)
        for channel in self.peer.channels.values():  # the server has to know it, too
            channel.send(json.dumps({"type": "ping", "id": channel.label}))
        for label in self.peer.channels:
            await self.wait_for("pong", id=label)

    async def send(self, type_: str, **fields: Any) -> None:
        await self.socket.send_json({"type": type_, **fields})

    async def told(self, seq: int) -> None:
        """Wait until the server told the events up to `seq`, by whichever way."""
        async with asyncio.timeout(20.0):
            while (newest := await self.told_up_to()) < seq:
                await asyncio.sleep(0.01)
        assert newest == seq

    async def told_up_to(self) -> int:
        """Ask for the number of the last event that the server told."""
        self._pings += 1
        id_ = str(self._pings)
        await self.send("ping", id=id_)
        return int((await self.wait_for("pong", id=id_))["seq"])

    def look(self) -> list[tuple[str, Json]]:
        """Everything so far."""
        for label, texts in self.peer.received.items():
            read = self._read.get(label, 0)
            self.messages += [(label, json.loads(text)) for text in texts[read:]]
            self._read[label] = len(texts)
        return self.messages

    async def wait_for(self, type_: str, **fields: Any) -> Json:
        async with asyncio.timeout(20.0):
            while True:
                for _, message in self.look():
                    if message["type"] == type_ and fields.items() <= message.items():
                        return message
                await asyncio.sleep(0.01)

    @property
    def snapshot(self) -> Json:
        return next(m for _, m in self.look() if m["type"] == "room.snapshot")

    @property
    def numbers(self) -> list[int]:
        """Of the events since the snapshot, as they came."""
        own = ("welcome", "room.snapshot", "room.resumed", "ack", "pong")
        events = (m for _, m in self.look() if m["type"] not in own and m.get("seq"))
        return [m["seq"] for m in events if m["seq"] > self.snapshot["seq"]]

    def complete_up_to(self) -> int:
        """The last number up to which nothing is missing."""
        seq, numbers = int(self.snapshot["seq"]), set(self.numbers)
        while seq + 1 in numbers:
            seq += 1
        return seq

    async def until(self, seq: int) -> None:
        """Wait until nothing up to `seq` is missing."""
        async with asyncio.timeout(20.0):
            while self.complete_up_to() < seq:
                await asyncio.sleep(0.01)

    def place(self) -> dict[str, str]:
        """How to come back."""
        welcome = next(m for _, m in self.look() if m["type"] == "welcome")
        return {
            "resume": f"{welcome['log_id']}:{self.complete_up_to()}",
            "member": welcome["member_id"],
            "secret": welcome["resume_secret"],
        }


async def chat(member: RoomMember, *texts: str) -> int:
    """Say something; return the last one's number."""
    return int([await member.do("chat.send", text=text) for text in texts][-1]["seq"])


async def test_every_number_comes_once_by_one_way_or_the_other(servers: Servers) -> None:
    async with party(servers[1:], "both", "Bob") as (bob,), TwoWays.join(servers, "both") as ann:
        await ann.until(await chat(bob, "before the channels"))
        await ann.open_channels()
        for number in range(20):
            await chat(bob, f"{number}")
            await bob.do("queue.add", item=ITEM)
        last = await chat(bob, "the end")
        await ann.until(last)
        await ann.told(last)
        assert sorted(ann.numbers) == list(range(ann.snapshot["seq"] + 1, last + 1))
        ways = {(m["type"], way) for way, m in ann.look() if m["type"] in ("chat", "queue")}
        assert ways == {("chat", "socket"), ("chat", "chat"), ("queue", "socket")}


async def test_what_a_channel_lost_is_told_again_on_demand(servers: Servers) -> None:
    async with (
        party(servers[1:], "channel", "Bob") as (bob,),
        TwoWays.join(servers, "channel") as ann,
    ):
        await ann.open_channels()
        known = await chat(bob, "heard")
        await ann.until(known)
        deafen(ann.peer)
        lost = await chat(bob, "one", "two", "three")
        await ann.told(lost)  # the last events may be the lost ones
        assert ann.complete_up_to() == known
        log_id = ann.snapshot["log_id"]
        await ann.send("room.resume", log_id=log_id, seq=known)
        resumed = await ann.wait_for("room.resumed")
        assert (resumed["seq"], resumed["count"]) == (known, 3)
        await ann.until(lost)
        last = await chat(bob, "four")
        last = int((await bob.do("queue.add", item=ITEM))["seq"])
        await ann.until(last)
        told = [(way, m["text"]) for way, m in ann.look() if m["type"] == "chat"]
        assert told[1:] == [("socket", text) for text in ("one", "two", "three", "four")]
        assert len(ann.numbers) == len(set(ann.numbers)), "nothing twice"
        await ann.send("room.resume", log_id="another", seq=known)
        await ann.wait_for("room.snapshot", seq=last)


async def test_what_both_ways_lost_comes_back_with_the_next_connection(servers: Servers) -> None:
    async with (
        party(servers[1:], "lost", "Bob") as (bob,),
        TwoWays.join(servers, "lost") as ann,
    ):
        await ann.open_channels()
        known = await chat(bob, "heard")
        await ann.until(known)
        deafen(ann.peer)
        await chat(bob, "lost with the channel")
        newest = int((await bob.do("queue.add", item=ITEM))["seq"])
        await ann.told(newest)
        assert known + 1 not in ann.numbers, "the channel lost it"
        assert max(ann.numbers) == newest, "and what came the other way is newer"
        place = ann.place()
        transport = ann.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()
        last = await chat(bob, "said meanwhile")
        for server in reversed(range(2)):  # on another instance, then on the first again
            async with TwoWays.join(Servers([servers[server]]), "lost", **place) as back:
                await back.wait_for("chat", text="said meanwhile")
                assert await back.told_up_to() >= last
                told = [m for _, m in back.look()]
                resumed = next(m for m in told if m["type"] == "room.resumed")
                events = told[told.index(resumed) + 1 :][: resumed["count"]]
                numbers = [m["seq"] for m in events]
                assert numbers == list(range(known + 1, known + 1 + len(numbers)))
                texts = [m["text"] for m in events if m["type"] == "chat"]
                assert texts == ["lost with the channel", "said meanwhile"]


async def test_who_missed_as_much_as_is_kept_gets_it_all(servers: Servers) -> None:
    names = [f"t{number}" for number in range(TALKERS)]
    async with party(servers[1:], "much", *names) as talkers:
        async with TwoWays.join(servers, "much") as ann:
            seen = await chat(talkers[0], "seen")
            await ann.until(seen)
            place = ann.place()
            begin = await ann.told_up_to()
        count = LOG_LENGTH - 2  # that Ann left and came back are events too

        async def say(number: int) -> None:
            for n in range(number, count, TALKERS):
                await talkers[number].send("chat.send", text=f"{n}", id=f"much {n}")

        await asyncio.gather(*(say(number) for number in range(TALKERS)))
        await talkers[0].wait(lambda: len(talkers[0].told("chat")) == count + 1, 60.0)
        async with TwoWays.join(servers, "much", **place) as back:
            resumed = await back.wait_for("room.resumed")
            assert resumed["seq"] == begin
            async with asyncio.timeout(30.0):
                while sum(m["type"] == "chat" for _, m in back.look()) < count:
                    await asyncio.sleep(0.05)
            assert not back.socket.closed


async def test_captions_that_were_told_at_once_get_their_numbers_the_same_way(
    tmp_path: Path, valkey_server: ValkeyProcess
) -> None:
    stage = Stage()
    await stage.start()
    try:
        with run_servers(
            tmp_path, valkey_server, 1, inference_urls=stage.workers[0].url
        ) as servers:
            async with (
                party(servers, "speech", "Bob") as (bob,),
                TwoWays.join(servers, "speech") as ann,
            ):
                await ann.open_channels()
                script = random_script(7, 4.0)
                await speaking(bob, stage, script)
                last = await chat(bob, "that was it")
                await ann.until(last)
                said = [m for _, m in ann.look() if m["type"] == "caption" and m["final"]]
                assert [m["text"] for m in said] == finals(bob)
                assert {m["seq"] for m in said} == {None}
                assert sorted(ann.numbers) == list(range(ann.snapshot["seq"] + 1, last + 1))
                ways = {way for way, m in ann.look() if m["type"] in ("caption", "room.told")}
                assert ways == {"captions"}
                count = len(said) + 1  # also the track's begin
                await bob.wait(lambda: len(bob.told("room.told")) == count)
    finally:
        await stage.aclose()
