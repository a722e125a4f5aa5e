"""A member that comes back: to the next server, with what it saw last, as the clients do."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.live import LiveServer

Json = dict[str, Any]
_ids = itertools.count()


class RoomMember:
    """Joins a room on the first of `servers`; after a loss on the next one, with resume."""

    def __init__(self, servers: Sequence[LiveServer], room: str, name: str, **query: str) -> None:
        self.servers = list(servers)
        self.room, self.name, self.query = room, name, query
        self.at = 0
        self.welcomes: list[Json] = []
        self.messages: list[Json] = []
        self.back_at: list[float] = []
        self.close_codes: list[int | None] = []
        self.reconnects = True
        self._seq = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- the connection -----------------------------------------------------------------------

    async def start(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._task = asyncio.create_task(self._run())
        await self.wait_for("welcome")

    async def stop(self) -> None:
        self.reconnects = False
        if self._socket is not None:
            await self._socket.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def drop(self) -> None:
        """Lose the connection, and come back at once."""
        assert self._socket is not None
        await self._socket.close(code=3000)

    async def _run(self) -> None:
        wait_s = 0.1
        while True:
            try:
                await self._connect()
                wait_s = 0.1
            except (aiohttp.ClientError, OSError):
                self.at = (self.at + 1) % len(self.servers)
            if not self.reconnects:
                return
            await asyncio.sleep(wait_s * random.random())
            wait_s = min(wait_s * 2, 1.0)

    async def _connect(self) -> None:
        server = self.servers[self.at]
        query = {"room": self.room, "name": self.name, **self.query}
        if self.welcomes:
            last = self.welcomes[-1]
            query |= {
                "resume": f"{self.log_id}:{self._seq}",
                "member": last["member_id"],
                "secret": last["resume_secret"],
            }
        async with self._session.ws_connect(
            f"{server.ws_url}/ws", params=query, headers=server.headers, max_msg_size=0
        ) as socket:
            self._socket = socket
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.json())
            self.close_codes.append(socket.close_code)
            self._socket = None
            self._changed.set()

    def _take(self, message: Json) -> None:
        kind, seq = message["type"], message.get("seq") or 0
        if kind == "welcome":
            self.welcomes.append(message)
            self.log_id = message["log_id"]
            self.back_at.append(time.monotonic())
        elif kind == "room.snapshot":
            self.log_id, self._seq = message["log_id"], seq
        elif kind == "room.resumed":
            assert seq == self._seq
        elif kind not in ("track.started", "caption", "chat", "ack") and seq:
            assert seq > self._seq, (kind, seq, self._seq)
            self._seq = seq
        elif kind == "chat":
            self._seq = max(seq, self._seq)
        self.messages.append(message)
        self._changed.set()

    # ---- what it does -------------------------------------------------------------------------

    async def send(self, type_: str, **fields: Any) -> None:
        assert self._socket is not None, "not connected"
        await self._socket.send_json({"type": type_, **fields})

    async def ask(self, type_: str, timeout_s: float = 20.0, **fields: Any) -> Json:
        """Send a command; return its `ack`, `error` or other answer."""
        id_ = fields.setdefault("id", f"q{next(_ids)}")
        seen = len(self.messages)
        await self.send(type_, **fields)
        answer: Json = await self.wait(
            lambda: next((m for m in self.messages[seen:] if _answers(m, id_)), None), timeout_s
        )
        return answer

    async def do(self, type_: str, **fields: Any) -> Json:
        """As `ask`; it has to be done."""
        answer = await self.ask(type_, **fields)
        assert answer["type"] == "ack", answer
        return answer

    async def refused(self, type_: str, **fields: Any) -> str:
        """As `ask`; it has to be refused. Returns the problem's code."""
        answer = await self.ask(type_, **fields)
        assert answer["type"] == "error", answer
        return str(answer["problem"]["code"])

    async def say(self, text: str, id_: str) -> None:
        """Say something until it is acknowledged, over reconnects."""
        while True:
            with contextlib.suppress(AssertionError, TimeoutError, OSError, aiohttp.ClientError):
                answer = await self.ask("chat.send", text=text, id=id_, timeout_s=1.0)
                if answer["type"] == "ack":
                    return
            await asyncio.sleep(0.05)

    # ---- what it sees -------------------------------------------------------------------------

    async def wait(self, look: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Wait until `look` finds something."""
        async with asyncio.timeout(timeout_s):
            while not (found := look()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def until(self, look: Callable[["RoomMember"], Any], timeout_s: float = 20.0) -> Any:
        """Wait until `look` finds something in this member."""
        return await self.wait(lambda: look(self), timeout_s)

    async def wait_for(
        self, type_: str, match: Callable[[Json], bool] = lambda _: True, timeout_s: float = 20.0
    ) -> Json:
        found: Json = await self.wait(
            lambda: next((m for m in self.told(type_) if match(m)), None), timeout_s
        )
        return found

    def told(self, type_: str) -> list[Json]:
        return [m for m in self.messages if m["type"] == type_]

    @property
    def id(self) -> str:
        return str(self.welcomes[-1]["member_id"])

    @property
    def texts(self) -> list[str]:
        """All chat that it was told, in the order of the telling."""
        return [m["text"] for m in self.told("chat")]


def _answers(message: Json, id_: str) -> bool:
    if message["type"] in ("ack", "video.source"):
        return bool(message["id"] == id_)
    return bool(message["type"] == "error" and message["in_reply_to"] == id_)


@asynccontextmanager
async def party(
    servers: Sequence[LiveServer], room: str, *names: str, **query: str
) -> AsyncIterator[list[RoomMember]]:
    """Members of a room, one after the other on the servers in turn."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        members: list[RoomMember] = []
        try:
            for number, name in enumerate(names):
                turn = number % len(servers)
                order = [*servers[turn:], *servers[:turn]]
                member = RoomMember(order, room, name, **query)
                members.append(member)
                await member.start(session)
            yield members
        finally:
            await asyncio.gather(*(member.stop() for member in members))
