"""clients/js in Chromium: a room's events over a WebSocket and data channels, either of which loses
some. The page's own parts stay out of it: the client alone is used, as a module of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.browser.conftest import OpenPage, Visit
from tests.integration.room_client import RoomMember, party
from tests.live import LiveServer

ITEM = {"kind": "mp4", "url": "https://example.org/film.mp4"}
JOIN = """async (room) => {
  const { MediaSession, Room } = await import("/clients/js/index.js");
  const world = (window.world = { sockets: [], channels: [], chats: [], seqs: [], queues: 0 });
  const environment = {
    WebSocket: class extends WebSocket {
      constructor(...args) { super(...args); world.sockets.push(this); }
    },
    RTCPeerConnection: class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        this.addEventListener("datachannel", ({ channel }) => world.channels.push(channel));
      }
    },
  };
  const session = new MediaSession("/ws", { room, name: "Page", tickets: true, environment });
  world.session = session;
  world.room = new Room(session);
  world.room.on("chat", ({ kind, message }) => kind === "added" && world.chats.push(message.text));
  world.room.on("queue", () => (world.queues += 1));
  session.on("message", ({ type, seq }) => {
    if (type === "room.snapshot") world.snapshot = seq;
    const own = ["welcome", "room.snapshot", "room.resumed", "ack", "pong"].includes(type);
    if (!own && typeof seq === "number" && seq > world.snapshot) world.seqs.push(seq);
  });
  await session.connect();
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").fillRect(0, 0, 9, 9);
  await session.publish(canvas.captureStream(5));
}"""
OPEN = 'world.channels.filter((c) => c.readyState === "open").length >= 3'
DEAFEN = "world.channels.forEach((c) => (c.onmessage = null))"
"""From now on the channels lose what comes."""


class Wire:
    """The TCP connections between a page and a server, which can be cut."""

    def __init__(self, server: LiveServer) -> None:
        address = urlsplit(server.url)
        self._target = (address.hostname, address.port)
        self._ends: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """Yields the address at this end."""
        listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
            self.cut()

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(*self._target)
        self._ends |= {back, forth}
        await asyncio.gather(self._pump(near, forth), self._pump(far, back))

    async def _pump(self, source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                drain.write(data)
                await drain.drain()
        drain.close()
        self._ends.discard(drain)

    def cut(self) -> None:
        """Break all connections."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()


@asynccontextmanager
async def both(
    open_page: OpenPage, server: LiveServer, room: str, origin: str | None = None
) -> AsyncIterator[tuple[Visit, RoomMember]]:
    """A page with open data channels, and somebody who chats."""
    visit = await open_page(server, path="/docs", origin=origin)
    async with party([server], room, "Bob") as (bob,):
        await visit.page.evaluate(JOIN, room)
        await until(visit, OPEN)
        await bob.do("chat.send", text="heard")
        await heard(visit, "heard")
        yield visit, bob
        await visit.page.evaluate("world.session.close()")


async def until(visit: Visit, expression: str) -> None:
    """Wait until `expression` is true (the page's policy forbids `wait_for_function`)."""
    async with asyncio.timeout(40.0):
        while not await visit.page.evaluate(expression):
            await asyncio.sleep(0.05)


async def heard(visit: Visit, *texts: str) -> None:
    """Wait until the page has these messages, in this order, each once; and check the numbers."""
    page = visit.page
    await until(visit, f"world.chats.length >= {len(texts)}")
    assert await page.evaluate("world.chats") == list(texts)
    seqs: list[int] = await page.evaluate("world.seqs")
    first: int = await page.evaluate("world.snapshot")
    assert seqs == list(range(first + 1, first + 1 + len(seqs)))


async def sessions(visit: Visit) -> int:
    found: Any = await visit.page.evaluate("world.session.sessionIds.length")
    return int(found)


async def test_what_a_channel_lost_comes_without_a_new_connection(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    async with both(open_page, server_without_speech, "js-channel") as (visit, bob):
        await visit.page.evaluate(DEAFEN)
        await bob.do("chat.send", text="lost")
        await bob.do("queue.add", item=ITEM)
        await heard(visit, "heard", "lost")
        await bob.do("chat.send", text="lost, and nothing after it")
        await heard(visit, "heard", "lost", "lost, and nothing after it")
        assert await visit.page.evaluate("world.queues") == 2, "the snapshot's, and the new one"
        assert await sessions(visit) == 1


async def test_what_both_ways_lost_comes_with_the_next_connection(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    wire = Wire(server_without_speech)
    async with (
        wire.laid() as origin,
        both(open_page, server_without_speech, "js-both", origin) as (visit, bob),
    ):
        visit.expect_error("WebSocket connection|ERR_")
        await visit.page.evaluate(DEAFEN)
        await bob.do("chat.send", text="lost")
        last = await bob.do("queue.add", item=ITEM)
        wire.cut()
        await bob.do("chat.send", text="said meanwhile")
        await heard(visit, "heard", "lost", "said meanwhile")
        seqs: list[int] = await visit.page.evaluate("world.seqs")
        assert seqs[-1] > last["seq"]
        assert await sessions(visit) == 2
        await until(visit, OPEN)
        await bob.do("chat.send", text="afterwards")
        await heard(visit, "heard", "lost", "said meanwhile", "afterwards")
