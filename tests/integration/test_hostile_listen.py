"""``/v1/listen`` with clients that flood, or do not read: they are sent away, and delay nobody."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.integration.ws_member import RawMember
from tests.live import LiveServer

PATH = "/v1/listen?encoding=linear16&sample_rate=16000"
DELAY_S = 2.0
"""How long an answer to others may take while somebody floods, on a busy machine."""
FLOOD_S = 6.0


@contextlib.asynccontextmanager
async def asking(server: LiveServer) -> AsyncIterator[list[float]]:
    """A client that asks for finals again and again; yields how long each answer took."""
    delays: list[float] = []
    over = asyncio.Event()

    async def ask(socket: aiohttp.ClientWebSocketResponse) -> None:
        while not over.is_set():
            began = time.monotonic()
            await socket.send_json({"type": "Finalize"})
            answer: dict[str, Any] = {}
            while not answer.get("from_finalize"):
                answer = await socket.receive_json(timeout=30.0)
            delays.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    async with (
        aiohttp.ClientSession(headers=server.headers) as session,
        session.ws_connect(f"{server.ws_url}{PATH}") as socket,
    ):
        task = asyncio.create_task(ask(socket))
        try:
            yield delays
        finally:
            over.set()
            await task
        await socket.send_json({"type": "CloseStream"})
        async for message in socket:
            assert json.loads(message.data)["type"] == "Metadata"
        assert socket.close_code == 1000


FLOODS: dict[str, tuple[int, bytes]] = {
    "pings": (9, b""),
    "pongs": (10, b""),
    "fragments": (0, b""),
    "keep-alives": (1, b'{"type":"KeepAlive"}'),
    "finalizes": (1, b'{"type":"Finalize"}'),
    "nonsense": (1, b"nonsense"),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_who_floods_is_sent_away_and_delays_nobody(
    live_server: LiveServer, kind: str
) -> None:
    async with asking(live_server) as delays:
        mallory = await asyncio.to_thread(RawMember, live_server, "", None, PATH)
        sent, code = await asyncio.to_thread(mallory.flood, *FLOODS[kind], FLOOD_S)
        mallory.close()
        assert code == 1008, f"not sent away after {sent} frames"
        assert sent > 500
    assert max(delays) < DELAY_S, delays
    assert "Traceback" not in live_server.log


async def test_audio_in_tiny_pieces_is_taken_and_delays_nobody(live_server: LiveServer) -> None:
    async with asking(live_server) as delays:
        mallory = await asyncio.to_thread(RawMember, live_server, "", None, PATH)
        sent, code = await asyncio.to_thread(mallory.flood, 2, b"\0\0", 3.0)
        mallory.close()
        assert code is None, "it is audio, and sent away is who breaks rules"
        assert sent > 500
    assert max(delays) < DELAY_S, delays


async def test_pings_are_answered_and_keep_nobody_who_says_nothing(
    live_server: LiveServer,
) -> None:
    """Deepgram's rule: without audio or `KeepAlive` for 10 s it is over, pings or not."""
    async with (
        aiohttp.ClientSession(headers=live_server.headers) as session,
        session.ws_connect(f"{live_server.ws_url}{PATH}", autoping=False) as socket,
    ):
        began = time.monotonic()
        kinds: list[str] = []
        pongs = 0
        while not socket.closed:
            await socket.ping(b"1")
            with contextlib.suppress(TimeoutError):
                message = await socket.receive(timeout=1.0)
                if message.type is aiohttp.WSMsgType.PONG:
                    pongs += 1
                    await asyncio.sleep(0.5)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    kinds.append(json.loads(message.data)["type"])
                else:
                    break
        assert 9.0 < time.monotonic() - began < 20.0
        assert pongs > 10
        assert kinds == ["Error"]
        assert socket.close_code == 1011
