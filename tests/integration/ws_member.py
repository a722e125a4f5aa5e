"""Members of a room, from the outside: a good one, and a raw socket that does as it likes."""

import asyncio
import base64
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.live import LiveServer

Json = dict[str, Any]
PIECE_BYTES = 3200
"""0.1 s of 16 kHz linear16."""


class Member:
    """A well-behaved client of ``WS /ws``. Remembers all it was told, and when."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self.messages: list[tuple[float, Json]] = []
        self.closed_at: float | None = None
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.connection:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.messages.append((time.monotonic(), json.loads(message.data)))
        self.closed_at = time.monotonic()

    async def send(self, type_: str, **fields: Any) -> None:
        await self.connection.send_json({"type": type_, **fields})

    async def say(self, pcm: bytes, pace: float = 0.0) -> None:
        """Send linear16; `pace` 1 is the speed of speech, 0 all at once."""
        started = time.monotonic()
        for at in range(0, len(pcm), PIECE_BYTES):
            await self.connection.send_bytes(pcm[at : at + PIECE_BYTES])
            due = started + pace * (at + PIECE_BYTES) / 32_000
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def told(self, type_: str) -> list[Json]:
        """All messages of a type so far."""
        return [message for _, message in self.messages if message["type"] == type_]

    async def wait_for(
        self,
        type_: str,
        match: Callable[[Json], bool] = lambda message: True,
        timeout_s: float = 60.0,
    ) -> Json:
        """Wait for a message; one that came already counts."""
        async with asyncio.timeout(timeout_s):
            while True:
                for message in self.told(type_):
                    if match(message):
                        return message
                if self.closed_at is not None:
                    raise AssertionError(f"closed ({self.connection.close_code}) before {type_}")
                await asyncio.sleep(0.01)

    async def wait_closed(self, timeout_s: float = 30.0) -> int | None:
        """Wait until the server closes; return the code."""
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._reading)
        return self.connection.close_code

    async def leave(self, timeout_s: float = 60.0) -> int | None:
        """Leave in good order; return the close code."""
        await self.send("leave")
        return await self.wait_closed(timeout_s)

    @property
    def errors(self) -> list[str]:
        """Codes of all problems."""
        return [message["problem"]["code"] for message in self.told("error")]

    def final_text(self, track_id: str | None = None) -> str:
        """What is final, an utterance after the other."""
        return " ".join(
            caption["text"]
            for caption in self.told("caption")
            if caption["final"] and track_id in (None, caption["track_id"])
        )

    def check_captions(self) -> None:
        """Final words never change, and a caption that is final comes once."""
        words: dict[str, list[Json]] = {}
        done: set[str] = set()
        seq = 0
        for caption in self.told("caption"):
            assert caption["caption_id"] not in done
            if caption["seq"] is not None:  # it came from the log
                assert caption["seq"] > seq
                seq = caption["seq"]
            final = [word for word in caption["words"] if word["final"]]
            before = words.get(caption["caption_id"], [])
            assert final[: len(before)] == before
            words[caption["caption_id"]] = final
            if caption["final"]:
                done.add(caption["caption_id"])
                assert final == caption["words"]
        assert done == set(words)


@asynccontextmanager
async def join(
    server: LiveServer, room: str, name: str = "", **query: str
) -> AsyncIterator[Member]:
    """Join a room; on leaving the block the connection is closed."""
    async with aiohttp.ClientSession(headers=server.headers) as session:
        connection = await session.ws_connect(
            f"{server.ws_url}/ws",
            params={"room": room, "name": name, **query},
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
        )
        member = Member(connection)
        try:
            await member.wait_for("welcome")
            yield member
        finally:
            await connection.close()
            await member.wait_closed()


class RawMember:
    """A WebSocket client by hand: it answers no ping and reads only when told to."""

    def __init__(
        self,
        server: LiveServer,
        room: str,
        receive_buffer: int | None = None,
        path: str | None = None,
    ) -> None:
        address = urlsplit(server.url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10.0)
        self.socket.connect((address.hostname, address.port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f"GET {path or f'/ws?room={room}&name=raw'} HTTP/1.1",
            f"Host: {address.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in server.headers.items()),
        ]
        self.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert b" 101 " in answer.splitlines()[0], answer

    def send_frame(self, payload: bytes, opcode: int = 1, length: int | None = None) -> None:
        """Send a masked frame; `length` may lie."""
        size = len(payload) if length is None else length
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        self.socket.sendall(head + bytes(4) + payload)  # a mask of zeros

    def send(self, type_: str, **fields: Any) -> None:
        self.send_frame(json.dumps({"type": type_, **fields}).encode())

    def gone_within(self, timeout_s: float) -> float | None:
        """Read on until the server ends the connection; return how long that took."""
        started = time.monotonic()
        self.socket.settimeout(0.2)
        while time.monotonic() - started < timeout_s:
            try:
                if not self.socket.recv(65536):
                    return time.monotonic() - started
            except TimeoutError:
                continue
            except OSError:
                return time.monotonic() - started
        return None

    def close(self) -> None:
        self.socket.close()

    def flood(self, opcode: int, payload: bytes, seconds: float) -> tuple[int, int | None]:
        """Send a frame as often as the server takes it, and read all answers.

        Returns how many were sent, and the code that the server closed with, if it did.
        """
        opening = b""
        if opcode == 0:  # of a message that never ends
            opening = struct.pack("!BBI", 1, 0x80, 0)
        first = opcode if opcode == 0 else 0x80 | opcode
        frame = struct.pack("!BBI", first, 0x80 | len(payload), 0) + payload
        self.socket.sendall(opening)
        self.socket.setblocking(False)
        blob, until, sent, got = frame * 200, time.monotonic() + seconds, 0.0, bytearray()
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                readable, writable, _ = select.select([self.socket], [self.socket], [], 0.1)
                if readable:
                    data = self.socket.recv(1 << 20)
                    got += data
                    if not data:
                        break
                if writable:
                    done = self.socket.send(blob)
                    sent += done / len(frame)
                    blob = blob[done:] + blob[:done]
        return int(sent), close_code_of(got)


def close_code_of(received: bytes | bytearray) -> int | None:
    """The code of the close frame among what a server sent."""
    at = 0
    while at + 2 <= len(received):
        opcode, size = received[at] & 15, received[at + 1] & 127
        at += 2
        if size == 126:
            size, at = struct.unpack_from("!H", received, at)[0], at + 2
        elif size == 127:
            size, at = struct.unpack_from("!Q", received, at)[0], at + 8
        if opcode == 8:
            return int(struct.unpack_from("!H", received, at)[0])
        at += size
    return None
