"""Every message of the room session, good and bad, against real servers: nobody is harmed."""

import asyncio
import contextlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.messages import ServerMessage, parse_client_message
from mediaserver.protocol.room_commands import Command
from tests.integration.fuzz_strategies import TYPES, conversations, dumps, texts
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer
from tests.unit.rtc.offers import CHROMIUM
from tests.valkey import ValkeyProcess

Json = dict[str, Any]
T = TypeVar("T")
TIMEOUT_S = 30.0
CLOSE_CODES = {1000, 1003, 1008, 1009, 1013, 4401, 4403, 4404, 4409, 4410}
"""What docs/protocol.md says, without what would be the server's fault: 1001, 1006, 1011."""
UNORDERED = {"welcome", "ack", "pong", "room.resumed"}
"""Messages whose `seq` is another event's."""
SERVER_MESSAGE: TypeAdapter[Any] = TypeAdapter(ServerMessage)
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Watcher:
    """A connection that checks all it is told: each message's form, the events' order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, name: str) -> None:
        self.socket, self.name = socket, name
        self.messages: list[Json] = []
        self.faults: list[str] = []
        self._seq: int | None = None
        self._unnumbered = 0
        self._changed = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(str(message.data))
            self._changed.set()
        self._changed.set()

    def _take(self, text: str) -> None:
        SERVER_MESSAGE.validate_json(text)
        told: Json = json.loads(text, parse_constant=_no_constant)
        kind, seq = told["type"], told.get("seq")
        if kind == "room.snapshot":
            self._seq = seq
        elif seq is None and kind in ("track.started", "track.ended", "caption"):
            self._unnumbered += 1  # told at once; the log's event of it is not told again
        elif self._seq is not None and seq and kind not in UNORDERED:
            if seq > self._seq:  # else it is of the room's history, told to newcomers
                self._unnumbered -= seq - self._seq - 1
                if self._unnumbered < 0:
                    self.faults.append(f"{self.name}: {kind} {seq} after {self._seq}")
                self._seq = seq
            elif kind not in ("chat", "caption", "track.started"):
                self.faults.append(f"{self.name}: {kind} {seq} again")
        self.messages.append(told)

    async def wait(self, look: Callable[[Json], bool], since: int = 0) -> Json | None:
        """Return the first message that fits; None where the server closed instead."""
        at = since
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for message in self.messages[at:]:
                    if look(message):
                        return message
                at = len(self.messages)
                if self.reading.done():
                    self.reading.result()
                    return None
                self._changed.clear()
                await self._changed.wait()

    async def welcome(self) -> Json:
        told = await self.wait(lambda m: m["type"] == "welcome")
        assert told is not None
        return told

    async def close(self) -> None:
        await self.socket.close()
        await self.reading


def _no_constant(name: str) -> None:
    raise AssertionError(f"the server wrote {name}, which is no JSON")


class Attack:
    """A room on two servers with witnesses on both, and connections that send what they like."""

    def __init__(self, servers: Servers, room: str) -> None:
        self.servers, self.room = servers, room
        self.ids: dict[str, str] = {}
        self._numbers = itertools.count()

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self.host = await self.join(self.servers[0], "Host")
        self.witness = await self.join(self.servers[1], "Witness")
        await self.host.socket.send_json({"type": "chat.send", "text": "first"})
        item = {"kind": "mp4", "url": "https://example.org/film.mp4"}
        await self.host.socket.send_json({"type": "queue.add", "item": item})
        chat = await self.witness.wait(lambda m: m["type"] == "chat")
        queue = await self.witness.wait(lambda m: m["type"] == "queue")
        assert chat is not None
        assert queue is not None
        self.ids = {"$message": chat["id"], "$item": queue["items"][0]["item_id"]}
        self.ids["$other"] = (await self.host.welcome())["member_id"]
        self.ids["$witness"] = (await self.witness.welcome())["member_id"]

    async def join(self, server: LiveServer, name: str) -> Watcher:
        socket = await self._session.ws_connect(
            f"{server.ws_url}/ws", params={"room": self.room, "name": name}, max_msg_size=0
        )
        watcher = Watcher(socket, name)
        await watcher.welcome()
        return watcher

    async def send_all(self, sent: list[str | bytes]) -> None:
        """Send it on a connection of its own; check the answers."""
        number = next(self._numbers)
        attacker = await self.join(self.servers[number % 2], f"Mallory <b>{number}</b>")
        own = self.ids | {"$self": (await attacker.welcome())["member_id"]}
        code = await self.play(attacker, sent, own)
        await attacker.close()
        assert code is None or code in CLOSE_CODES, code
        check_problems(attacker)

    async def play(
        self, attacker: Watcher, sent: list[str | bytes], own: dict[str, str]
    ) -> int | None:
        """Send it, wait until all is answered; return the close code where the server closed."""
        expected: dict[str, int] = {}
        try:
            for data in sent:
                if isinstance(data, bytes):
                    await attacker.socket.send_bytes(data)
                    continue
                for stand_in, real in own.items():
                    data = data.replace(stand_in, real)
                count_answer(data, expected)
                await attacker.socket.send_str(data)
            await attacker.socket.send_json({"type": "ping", "id": "end"})
        except ConnectionError:  # the server closed while we sent
            await attacker.reading
        end = await attacker.wait(lambda m: m["type"] == "pong" and m["id"] == "end")
        if end is None:
            return attacker.socket.close_code
        await self._answers(attacker, expected)
        return None

    async def _answers(self, attacker: Watcher, expected: dict[str, int]) -> None:
        """Each command with an id was answered; more than one answer an id is for repeats."""
        for id_, count in expected.items():
            async with asyncio.timeout(TIMEOUT_S):
                while sum(_answers(m, id_) for m in attacker.messages) < count:
                    if attacker.reading.done():
                        return
                    attacker._changed.clear()
                    await attacker._changed.wait()

    async def check_witnesses(self) -> None:
        """What one says now, the other hears, on both sides; nothing was lost or odd."""
        number = next(self._numbers)
        for speaker, hearer in ((self.host, self.witness), (self.witness, self.host)):
            text = f"{speaker.name} {number} <i>&amp;"
            since = len(hearer.messages)
            await speaker.socket.send_json({"type": "chat.send", "text": text})
            heard = await hearer.wait(
                lambda m, text=text: m["type"] == "chat" and m["text"] == text,  # type: ignore[misc]
                since,
            )
            assert heard is not None, f"{hearer.name} was closed: {hearer.socket.close_code}"
        for watcher in (self.host, self.witness):
            assert watcher.faults == []
            errors = [m for m in watcher.messages if m["type"] == "error"]
            assert errors == []
            del watcher.messages[:]

    async def stop(self) -> None:
        for watcher in (self.host, self.witness):
            await watcher.close()
        await self._session.close()


def count_answer(text: str, expected: dict[str, int]) -> None:
    """Note that a command asks for an answer."""
    try:
        parsed = parse_client_message(text)
    except (MediaServerError, ValueError):
        return
    id_ = getattr(parsed, "id", None)
    if id_ and (isinstance(parsed, Command) or parsed.type == "chat.send"):
        expected[id_] = expected.get(id_, 0) + 1


def _answers(message: Json, id_: str) -> bool:
    if message["type"] == "ack":
        return bool(message["id"] == id_)
    return bool(message["type"] == "error" and message["in_reply_to"] == id_)


def check_problems(watcher: Watcher) -> None:
    """Errors say what is wrong, and it is never the server."""
    for message in watcher.messages:
        if message["type"] == "error":
            problem = message["problem"]
            assert problem["detail"]
            assert problem["code"] != "internal", problem
            assert 400 <= problem["status"] < 500 or problem["status"] == 503, problem


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("fuzz"), valkey_server, 2) as servers:
        yield servers
        for server in servers:
            assert server.process.poll() is None
            assert re.search(r"^\W*Traceback \(", server.log, re.MULTILINE) is None, server.log


class Runner:
    """One event loop for all examples of a test, in a thread of its own: it goes on, and answers
    the servers' pings, while the next example is made up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it; return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@pytest.fixture
def runner() -> Iterator[Runner]:
    with asyncio.Runner() as running:
        loop = running.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield Runner(loop)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


async def host_attack(servers: Servers, session: aiohttp.ClientSession, sent: list[Any]) -> None:
    """A host does what it likes in a room of its own; whom it does not send away loses nothing."""
    attack = Attack(servers, new_id("fuzz", 10))
    attack._session = session
    mallory = await attack.join(servers[0], "Mallory")
    victim = attack.host = await attack.join(servers[1], "Victim")
    attack.ids = {"$witness": (await victim.welcome())["member_id"]}
    attack.ids["$self"] = attack.ids["$other"] = (await mallory.welcome())["member_id"]
    code = await attack.play(mallory, sent, attack.ids)
    with contextlib.suppress(ConnectionError):
        await mallory.socket.send_json({"type": "room.close", "id": "close"})
    refused = await mallory.wait(lambda m: m["type"] == "error" and m["in_reply_to"] == "close")
    if code is None and refused is None:
        await victim.wait(lambda _: False)
        assert mallory.socket.close_code == 4410
        assert victim.socket.close_code in (4403, 4410)
    for watcher in (mallory, victim):
        await watcher.close()
        assert watcher.faults == []
        assert watcher.socket.close_code in CLOSE_CODES, watcher.name
        check_problems(watcher)


BY_MEMBERS = tuple(sorted(set(TYPES) - {"leave"}))
BY_HOSTS = tuple(sorted(set(TYPES) - {"leave", "room.close", "offer", "candidate", "audio.start"}))


def test_whatever_a_member_sends_the_others_notice_nothing(
    servers: Servers, runner: Runner
) -> None:
    attack = Attack(servers, "fuzz-member")
    runner.run(attack.start())

    @settings(FUZZ, max_examples=120)
    @given(conversations(BY_MEMBERS))
    def run(sent: list[str | bytes]) -> None:
        runner.run(attack.send_all(sent))
        runner.run(attack.check_witnesses())

    try:
        run()
    finally:
        runner.run(attack.stop())


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def test_whatever_a_host_sends_is_answered_and_those_who_stay_lose_nothing(
    servers: Servers, runner: Runner
) -> None:
    session = runner.run(_session())

    @settings(FUZZ, max_examples=60)
    @given(conversations(BY_HOSTS))
    def run(sent: list[str | bytes]) -> None:
        runner.run(host_attack(servers, session, sent))

    try:
        run()
    finally:
        runner.run(session.close())


@st.composite
def spoiled_offers(draw: st.DrawFn) -> str:
    """An offer of a real browser with lines lost, doubled, moved or changed."""
    lines = CHROMIUM.split("\r\n")
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines[at])
            case 2:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case 3:
                lines[at] = lines[at][:2] + draw(texts)
            case _:
                lines[at] = lines[at].replace("1", draw(st.sampled_from(["", "-1", "9" * 30])), 1)
        if not lines:
            break
    return "\r\n".join(lines)


def test_offers_with_faults_are_answered_or_refused(servers: Servers, runner: Runner) -> None:
    attack = Attack(servers, "fuzz-offers")
    runner.run(attack.start())

    @settings(FUZZ, max_examples=100)
    @given(st.lists(spoiled_offers(), min_size=1, max_size=3))
    def run(offers: list[str]) -> None:
        runner.run(attack.send_all([dumps({"type": "offer", "sdp": sdp}) for sdp in offers]))

    try:
        run()
        runner.run(attack.check_witnesses())
    finally:
        runner.run(attack.stop())
