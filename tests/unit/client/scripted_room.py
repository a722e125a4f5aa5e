"""A scripted room behind real sockets: tickets, logins, and a WebSocket that says what a test says.

Only the room is scripted: its events are made by the test, and a member that comes back is told
what the log has after the place that it names.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
GRANTS = {"room_join": True, "can_subscribe": True, "can_chat": True, "can_control": True}
SETTINGS = {
    "title": "",
    "visibility": "public",
    "persistent": False,
    "slow_mode_s": 0,
    "everyone_controls": True,
}
IDLE = {
    "epoch": 0,
    "seq": 0,
    "item_id": None,
    "playing": False,
    "position_s": 0,
    "rate": 1,
    "anchor_s": 0,
}


def token_that_lives(lives_s: float, number: int) -> str:
    """A token that says when it expires; nobody here checks its signature."""
    claims = json.dumps({"exp": time.time() + lives_s, "n": number}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.sig"


@dataclass
class ScriptedRoom:
    """The room, and what it saw."""

    token_lives_s: float = 900.0
    expires_in_s: float | None = None
    """Of the credentials of a WebSocket."""
    refuse_joins: list[Json] = field(default_factory=list)
    swallow: list[str] = field(default_factory=list)
    """Types of messages at which the connection breaks, once each, after they were done."""
    close_with: list[tuple[int, str]] = field(default_factory=list)
    """How the next connections are closed at `close.me`."""
    log: list[Json] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    joins: list[tuple[Json, str]] = field(default_factory=list)
    logins: list[Json] = field(default_factory=list)
    refreshes: list[str] = field(default_factory=list)
    renewals: list[str] = field(default_factory=list)
    """What guests' tokens were renewed with."""
    refuse_renewals: Json | None = None
    seen: list[Json] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    tickets: set[str] = field(default_factory=set)
    issued: int = 0
    url: str = ""

    async def tell(self, type_: str, **fields: Any) -> None:
        """Put an event into the log and tell it."""
        event = {"type": type_, "seq": len(self.log) + 1, **fields}
        self.log.append(event)
        for socket in self.sockets:
            if not socket.closed:
                await socket.send_json(event)

    async def say(self, text: str, id_: str | None = None, client_id: str | None = None) -> None:
        """Somebody says something."""
        number = len(self.log) + 1
        await self.tell(
            "chat",
            id=id_ or f"c_{number}",
            client_id=client_id,
            member_id="m_bot" if client_id else "m_2",
            name="x",
            text=text,
            sent_at=1.0,
        )

    def cut(self) -> None:
        """Break all connections without a goodbye."""
        for socket in self.sockets:
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()

    # ---- HTTP ------------------------------------------------------------------------------

    async def login(self, request: web.Request) -> web.StreamResponse:
        self.logins.append(await request.json())
        return self._tokens()

    async def refresh(self, request: web.Request) -> web.StreamResponse:
        self.refreshes.append((await request.json())["refresh_token"])
        await asyncio.sleep(0.05)  # so that callers overlap
        return self._tokens()

    def _tokens(self) -> web.Response:
        self.issued += 1
        return web.json_response(
            {
                "access_token": token_that_lives(self.token_lives_s, self.issued),
                "token_type": "Bearer",
                "expires_in_s": self.token_lives_s,
                "refresh_token": f"refresh-{self.issued}",
            }
        )

    async def rooms(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"rooms": []})

    async def join(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.joins.append((body, request.headers.get("Authorization", "")))
        if self.refuse_joins:
            problem = self.refuse_joins.pop(0)
            return web.json_response(
                problem, status=problem["status"], content_type="application/problem+json"
            )
        ticket = f"ticket-{len(self.joins)}"
        self.tickets.add(ticket)
        guest = body["invitation"] is not None and "Authorization" not in request.headers
        return web.json_response(
            {
                "ticket": ticket,
                "path": f"/ws?ticket={ticket}",
                "expires_in_s": 30,
                "room": request.match_info["room"],
                "role": None,
                "grants": GRANTS,
                "token": "guest-token" if guest else None,
            }
        )

    async def renew(self, request: web.Request) -> web.StreamResponse:
        self.renewals.append(request.headers["Authorization"])
        if self.refuse_renewals is not None:
            problem = self.refuse_renewals
            return web.json_response(
                problem, status=problem["status"], content_type="application/problem+json"
            )
        token = token_that_lives(900, len(self.renewals))
        info = {"id": "rt_1", "room": "film", "subject": "guest_1", "expires_at": time.time() + 900}
        return web.json_response({"token": token, **info})

    # ---- the WebSocket ---------------------------------------------------------------------

    async def ws(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        self.tickets.remove(request.query["ticket"])
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        self.sockets.append(socket)
        expires_at = time.time() + self.expires_in_s if self.expires_in_s is not None else None
        await socket.send_json(
            {
                "type": "welcome",
                "session_id": f"s_{len(self.sockets)}",
                "room": "film",
                "member_id": "m_bot",
                "name": "bot",
                "role": "member",
                "grants": GRANTS,
                "log_id": "log",
                "seq": len(self.log),
                "resume_secret": "shh",
                "expires_at": expires_at,
            }
        )
        await self._so_far(socket, request.query.get("resume"))
        async for frame in socket:
            await self._take(json.loads(frame.data), socket)
        return socket

    async def _so_far(self, socket: web.WebSocketResponse, resume: str | None) -> None:
        if resume is not None and resume.startswith("log:"):
            seq = int(resume.partition(":")[2])
            missed = self.log[seq:]
            await socket.send_json({"type": "room.resumed", "seq": seq, "count": len(missed)})
            for event in missed:
                await socket.send_json(event)
            return
        info = {"room": "film", "settings": SETTINGS, "created_at": 1, "members": 1}
        await socket.send_json(
            {
                "type": "room.snapshot",
                "seq": len(self.log),
                "log_id": "log",
                "room": info,
                "members": [],
                "queue": [],
                "playback": IDLE,
            }
        )
        for event in self.log:
            if event["type"] == "chat":
                await socket.send_json(event)

    async def _take(self, message: Json, socket: web.WebSocketResponse) -> None:
        if message["type"] == "ping":
            await socket.send_json({"type": "pong", "id": message["id"], "server_time": 0.0})
            return
        self.seen.append(message)
        if message["type"] == "leave":
            await socket.close()
            return
        known = [event for event in self.log if event.get("client_id") == message.get("id")]
        if message["type"] == "chat.send" and not known:
            await self.say(message["text"], client_id=message["id"])
        if message["type"] == "member.kick":
            refusal = {"type": "error", "in_reply_to": message["id"], "problem": NOT_GRANTED}
            await socket.send_json(refusal)
        elif message["type"] in self.swallow:
            self.swallow.remove(message["type"])
            self.cut()
        elif message["type"] == "member.update" and self.close_with:
            code, reason = self.close_with.pop(0)
            await socket.close(code=code, message=reason.encode())
        elif message.get("id") is not None:
            await socket.send_json({"type": "ack", "id": message["id"], "seq": None})


NOT_GRANTED = {
    "type": "urn:mediaserver:problem:not_granted",
    "title": "Forbidden",
    "status": 403,
    "detail": "only hosts",
    "code": "not_granted",
    "retryable": False,
}


@asynccontextmanager
async def running(room: ScriptedRoom) -> AsyncIterator[ScriptedRoom]:
    """Serve on a free loopback port."""
    app = web.Application()
    app.router.add_get("/ws", room.ws)
    app.router.add_post("/api/v1/rooms/{room}/join", room.join)
    app.router.add_post("/api/v1/rooms/{room}/tokens/renew", room.renew)
    app.router.add_get("/api/v1/rooms", room.rooms)
    app.router.add_post("/api/v1/auth/login", room.login)
    app.router.add_post("/api/v1/auth/refresh", room.refresh)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    room.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield room
    finally:
        await runner.cleanup()
