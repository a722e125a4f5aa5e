"""Members that break the rules, in a room over two servers: refused, sent away, noticed by nobody.

What one connection may send by itself is in test_hostile_ws.py, what fits or breaks a schema in
test_fuzz_ws.py.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.integration.fuzz_strategies import NASTY_TEXT
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.integration.ws_member import RawMember
from tests.valkey import ValkeyProcess

Json = dict[str, Any]
DELAY_S = 3.0
"""How long a message between others may take while somebody floods, on a busy machine."""
BURST_DELAY_S = 2.0
"""The same for floods of tiny frames, tens of thousands of which come in one piece."""
FLOOD_S = 6.0
MARKUP = (
    "<b onclick=\"x()\">&lt;b&gt;</b> <script>alert('1')</script> ${7*7} {{7*7}} [a](javascript:b)"
)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("hostile"), valkey_server, 2) as servers:
        yield servers
        for server in servers:
            assert server.process.poll() is None
            assert "Traceback" not in server.log


@asynccontextmanager
async def talk(
    ann: RoomMember, bob: RoomMember, most_s: float = DELAY_S
) -> AsyncIterator[list[float]]:
    """Let two members on two servers talk meanwhile; all of it arrives, in order, and soon."""
    over = asyncio.Event()
    delays: list[float] = []
    said: list[str] = []

    async def run() -> None:
        while not over.is_set():
            for speaker, hearer in ((ann, bob), (bob, ann)):
                text, began = f"{len(said)} from {speaker.name}", time.monotonic()
                said.append(text)
                await speaker.do("chat.send", text=text)
                await hearer.wait_for("chat", lambda m, text=text: m["text"] == text)  # type: ignore[misc]
                delays.append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    talking = asyncio.create_task(run())
    try:
        yield delays
    finally:
        over.set()
        await talking
    for member in (ann, bob):
        heard = [text for text in member.texts if text in set(said)]
        assert heard == said, member.name
        assert member.close_codes == []
        assert member.told("error") == []
    assert max(delays) < most_s, delays


# ---- markup and what cannot be seen


async def test_markup_in_names_and_chat_arrives_as_it_was_sent(servers: Servers) -> None:
    name = MARKUP[:80]
    async with party(servers, "markup", "Ann", "Bob") as (ann, bob):
        await ann.do("member.update", name=name)
        updated = await bob.wait_for("member.updated")
        assert updated["member"]["name"] == name
        texts = [MARKUP, *(text for text in NASTY_TEXT if text)]
        for text in texts:
            await ann.do("chat.send", text=text)
        await bob.wait(lambda: len(bob.told("chat")) == len(texts))
        assert bob.texts == texts, "as they were sent, NULs and all"
        assert bob.told("chat")[0]["name"] == name
        async with party(servers, "markup", MARKUP[:80]) as (late,):
            joined = await bob.wait_for("member.joined")
            assert joined["member"]["name"] == late.name
            await late.wait(lambda: len(late.told("chat")) == len(texts))
            assert late.texts == texts


async def test_what_cannot_be_seen_is_no_name(servers: Servers) -> None:
    async with party(servers, "names", "Ann", "a\x00b\r\n\u202ec\u200b") as (ann, bob):
        joined = await ann.wait_for("member.joined")
        assert joined["member"]["name"] == bob.welcomes[0]["name"] == "a b c"
        for name in ("\x00", " \u200b\u2066 ", "\r\n"):
            assert await bob.refused("member.update", name=name) == "bad_name"
        assert ann.told("member.updated") == []


# ---- floods


async def flood(member: RoomMember, message: Callable[[int], str | bytes], seconds: float) -> int:
    """Send as fast as the network takes it, until the server closes or the time is over."""
    member.reconnects = False
    socket, until, number = member._socket, time.monotonic() + seconds, 0
    assert socket is not None
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < until and not socket.closed:
            data = message(number)
            number += 1
            await (socket.send_str(data) if isinstance(data, str) else socket.send_bytes(data))
            if number % 20 == 0:
                await asyncio.sleep(0)
    return number


FLOODS: dict[str, Callable[[int], str | bytes]] = {
    "chat": lambda n: f'{{"type":"chat.send","text":"{"x" * 1900}","id":"{n}"}}',
    "typing": lambda n: f'{{"type":"typing","typing":{"true" if n % 2 else "false"}}}',
    "reactions": lambda _: '{"type":"react","emoji":"🎉"}',
    "seeks": lambda n: f'{{"type":"playback.command","action":"seek","position_s":{n}}}',
    "nonsense": lambda n: f"nonsense {n}",
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_who_floods_is_sent_away_and_delays_nobody(servers: Servers, kind: str) -> None:
    async with party(servers, f"flood-{kind}", "Ann", "Bob", "Mallory") as (ann, bob, mallory):
        item = {"kind": "mp4", "url": "https://example.org/film.mp4"}
        await ann.do("queue.add", item=item)
        async with talk(ann, bob):
            await flood(mallory, FLOODS[kind], 20.0)
            await mallory.wait(lambda: mallory.close_codes)
        assert mallory.close_codes == [1008]
        codes = {m["problem"]["code"] for m in mallory.told("error")}
        assert "too_many_requests" in codes
        heard = [m for m in bob.told("chat") if m["member_id"] == mallory.id]
        assert len(heard) < 200
        assert [int(m["client_id"]) for m in heard] == sorted({int(m["client_id"]) for m in heard})


UNCOUNTED: dict[str, tuple[int, bytes]] = {
    "pings": (1, b'{"type":"ping","id":"1"}'),
    "clock-pings": (1, b'{"type":"clock.ping","t0":1.5}'),
    "candidates": (1, b'{"type":"candidate","candidate":"nonsense"}'),
    "bytes": (2, b"x"),
    "heartbeats": (9, b""),
    "answers to none": (10, b""),
    "fragments": (0, b""),
}
"""Opcode and payload of frames that are not counted against a member's messages."""


@pytest.mark.parametrize("kind", UNCOUNTED)
async def test_a_flood_of_what_is_not_counted_delays_nobody_either(
    servers: Servers, kind: str
) -> None:
    room = f"uncounted-{kind.split()[0]}"
    async with party(servers, room, "Ann", "Bob") as (ann, bob):
        mallory = await asyncio.to_thread(RawMember, servers[0], room)
        async with talk(ann, bob, BURST_DELAY_S):
            sent, code = await asyncio.to_thread(mallory.flood, *UNCOUNTED[kind], FLOOD_S)
            mallory.close()
        assert code == 1008, f"not sent away after {sent} frames"
        assert sent > 1000
        left = await bob.wait_for("member.left")
        assert left["reason"] == "left"


# ---- who they say they are


async def test_a_ticket_used_on_both_servers_at_once_works_once(servers: Servers) -> None:
    status, ticket = await asyncio.to_thread(
        servers.ask, 0, "POST", "/api/v1/rooms/tickets/join", {"name": "Ann"}
    )
    assert status == 200, ticket
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def use(number: int) -> Any:
            url = f"{servers[number % 2].ws_url}{ticket['path']}"
            return await session.ws_connect(url)

        tried = await asyncio.gather(*(use(n) for n in range(20)), return_exceptions=True)
        opened = [t for t in tried if isinstance(t, aiohttp.ClientWebSocketResponse)]
        refused = [t.status for t in tried if isinstance(t, aiohttp.WSServerHandshakeError)]
        assert len(opened) == 1
        assert refused == [401] * 19
        for connection in opened:
            await connection.close()


def made_up(member: RoomMember) -> list[dict[str, str]]:
    """Queries of somebody who wants to come back, and lies somewhere."""
    good = {
        "resume": f"{member.log_id}:{member.welcomes[0]['seq']}",
        "member": member.id,
        "secret": member.welcomes[0]["resume_secret"],
    }
    wrong_places = ["", ":", "::", "log", f"{member.log_id}:", f"{member.log_id}:-1", ":5"]
    wrong_places += [
        f"{member.log_id}:{n}" for n in ("9" * 400, "1e3", "٣", "0x1", "99999", "\x00")
    ]
    wrong_places += [f"{'x' * 5000}:1", *NASTY_TEXT]
    lies = [good | {"secret": secret} for secret in ("", "x", "x" * 5000, *NASTY_TEXT)]
    lies += [good | {"member": id_} for id_ in ("", "m_nobody", "x" * 5000, *NASTY_TEXT)]
    lies += [{"resume": place, "member": "m_x", "secret": "y"} for place in wrong_places]
    return lies


async def test_resume_strings_that_are_made_up_make_a_newcomer(servers: Servers) -> None:
    async with (
        party(servers, "resumes", "Ann", "Bob") as (ann, bob),
        aiohttp.ClientSession() as session,
    ):
        lies = made_up(bob)
        for number, lie in enumerate(lies):
            url = f"{servers[number % 2].ws_url}/ws"
            query = {"room": "resumes", "name": "Mallory", **lie}
            async with session.ws_connect(url, params=query) as connection:
                welcome = await connection.receive_json(timeout=20.0)
                snapshot = await connection.receive_json(timeout=20.0)
            assert welcome["type"] == "welcome", lie
            assert welcome["member_id"] not in (ann.id, bob.id)
            assert welcome["role"] == "member"
            assert snapshot["type"] == "room.snapshot"
        assert bob.close_codes == []
        await ann.wait(lambda: len(ann.told("member.left")) == len(lies))


async def test_who_comes_back_from_a_place_that_is_none_gets_a_snapshot(servers: Servers) -> None:
    async with party(servers, "places", "Ann", "Bob") as (ann, bob):
        await bob.wait_for("room.snapshot")
        for number, seq in enumerate((10**11, -5, 99_999)):
            bob._seq = seq
            await bob.drop()
            await bob.wait(lambda: len(bob.welcomes) == number + 2)  # noqa: B023
            await bob.wait(lambda: len(bob.told("room.snapshot")) == number + 2)  # noqa: B023
            assert bob.id == bob.welcomes[0]["member_id"]
        await ann.do("chat.send", text="hello")
        await bob.wait_for("chat")
        assert bob.texts == ["hello"]


# ---- out of order and again


async def test_commands_for_what_is_gone_or_never_was_change_nothing(servers: Servers) -> None:
    async with party(servers, "stale", "Ann", "Bob") as (ann, bob):
        item = {"kind": "mp4", "url": "https://example.org/film.mp4"}
        await ann.do("queue.add", item=item)
        queue = await bob.wait_for("queue")
        item_id = queue["items"][0]["item_id"]
        await ann.do("chat.send", text="gone soon")
        message = (await bob.wait_for("chat"))["id"]
        await ann.do("chat.delete", message_id=message)
        await bob.do("queue.remove", item_id=item_id)
        await bob.do("chat.send", text="begin")
        await ann.wait_for("chat", lambda m: m["text"] == "begin")
        told = len(ann.messages)
        refused = [
            await ann.refused("chat.edit", message_id=message, text="back"),
            await ann.refused("chat.react", message_id=message, emoji="👍"),
            await bob.refused("queue.move", item_id=item_id, to=0),
            await bob.refused("playback.command", action="item", item_id=item_id),
            await ann.refused("member.kick", member_id="m_nobody"),
            await bob.refused("room.close"),
        ]
        assert refused[:2] == ["no_message"] * 2
        assert refused[-1] == "not_granted"
        await bob.send("playback.ready", epoch=10**9)
        await bob.send("playback.report", drift_ms=-1e9, round_trip_ms=1e6)
        await bob.do("chat.send", text="end")
        await ann.wait_for("chat", lambda m: m["text"] == "end")
        events = [m for m in ann.messages[told:] if m["type"] not in ("error", "metrics", "chat")]
        assert events == []


async def test_a_command_sent_a_hundred_times_is_done_as_often_as_it_says(servers: Servers) -> None:
    async with party(servers, "replay", "Ann", "Bob") as (ann, bob):
        for _ in range(50):
            await ann.send("chat.send", text="once", id="again")
        await ann.wait(lambda: len([m for m in ann.told("ack") if m["id"] == "again"]) == 50)
        await ann.do("chat.send", text="end")
        await bob.wait_for("chat", lambda m: m["text"] == "end")
        assert bob.texts == ["once", "end"]
        page = await asyncio.to_thread(servers.json, 1, "/api/v1/rooms/replay/chat")
        assert [m["text"] for m in page["messages"]] == ["once", "end"]
