"""A scripted recogniser and a real WebSocket server around it, for tests of the client alone.

The server speaks the session protocol over real sockets; only what it hears is scripted: words
at known times of the audio. What it says about them is computed from the audio that it received,
so audio that never came gives no words, and audio that came twice gives them twice.
"""

import asyncio
import itertools
import json
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

RATE_HZ = 16_000


@dataclass(frozen=True)
class Spoken:
    """A word in the audio."""

    text: str
    start_s: float
    end_s: float


def speech(
    text: str, *, start_s: float = 0.5, word_s: float = 0.3, pause_s: float = 0.8
) -> list[Spoken]:
    """Place words on a time line; a full stop is followed by a pause."""
    words, at = [], start_s
    for token in text.split():
        words.append(Spoken(token, round(at, 3), round(at + word_s - 0.05, 3)))
        at += word_s + (pause_s if token.endswith(".") else 0.0)
    return words


def pcm_of(words: list[Spoken], tail_s: float = 1.0, rate_hz: int = RATE_HZ) -> bytes:
    """Audio that carries its own position: sample n holds n's word number + 1, or 0 for silence."""
    samples = array("h", bytes(2 * round((words[-1].end_s + tail_s) * rate_hz)))
    for number, word in enumerate(words, 1):
        for at in range(round(word.start_s * rate_hz), round(word.end_s * rate_hz)):
            samples[at] = number
    return samples.tobytes()


def heard_words(pcm: bytes, words: list[Spoken], rate_hz: int = RATE_HZ) -> list[Spoken]:
    """Which words of `words` the audio holds (those cut to less than half are not heard)."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    out, at = [], 0
    for number, run in itertools.groupby(samples):
        first, at = at, at + sum(1 for _ in run)
        if not number:
            continue
        word = words[number - 1]
        if at - first >= 0.5 * (word.end_s - word.start_s) * rate_hz:
            out.append(Spoken(word.text, first / rate_hz, at / rate_hz))
    return out


@dataclass
class ScriptedTrack:
    """One track on the scripted server: audio in, captions out, as the real one sends them."""

    track_id: str
    words: list[Spoken]
    endpoint_s: float = 0.5
    settle_words: int = 2
    """The newest words are tentative."""
    rate_hz: int = RATE_HZ
    vary: Callable[[Spoken], Spoken] = lambda word: word
    """How this run hears a word."""
    pcm: bytearray = field(default_factory=bytearray)
    complete: int = 0

    def utterances(self) -> list[list[Spoken]]:
        """What was heard so far, cut at pauses."""
        groups: list[list[Spoken]] = []
        if not self.words:
            return groups
        for word in map(self.vary, heard_words(bytes(self.pcm), self.words, self.rate_hz)):
            if groups and word.start_s - groups[-1][-1].end_s < self.endpoint_s:
                groups[-1].append(word)
            else:
                groups.append([word])
        return groups

    def captions(self, *, end: bool = False) -> list[dict[str, Any]]:
        """The messages that the audio so far gives and that were not sent yet."""
        out = []
        groups = self.utterances()
        for number, group in enumerate(groups):
            silence_s = len(self.pcm) / 2 / self.rate_hz - group[-1].end_s
            done = end or number < len(groups) - 1 or silence_s >= self.endpoint_s
            if number < self.complete or (number == self.complete and not group):
                continue
            out.append(self._caption(number, group, done))
            if done:
                self.complete = number + 1
        return out

    def _caption(self, number: int, group: list[Spoken], done: bool) -> dict[str, Any]:
        final = len(group) if done else max(0, len(group) - self.settle_words)
        return {
            "type": "caption",
            "seq": 0,
            "track_id": self.track_id,
            "caption_id": f"{self.track_id}.{number}",
            "speaker": "bot",
            "member_id": "m_bot",
            "start_s": group[0].start_s,
            "end_s": group[-1].end_s,
            "language": "en",
            "task": "transcribe",
            "text": " ".join(word.text for word in group),
            "words": [
                {
                    "text": word.text,
                    "start_s": word.start_s,
                    "end_s": word.end_s,
                    "probability": 0.9,
                    "final": at < final,
                }
                for at, word in enumerate(group)
            ],
            "final": done,
        }


@dataclass
class ScriptedServer:
    """What the server does besides, and what it saw."""

    words: list[Spoken] = field(default_factory=list)
    ping_interval_s: float = 2.0
    queue_depth_s: float = 0.0
    metrics_every_s: float | None = None
    drop_at_s: list[float] = field(default_factory=list)
    """Break the connection when a track has received this much; one entry a connection."""
    refuse: list[dict[str, Any]] = field(default_factory=list)
    """Problems with which to answer the next HTTP upgrades."""
    refuse_audio: list[dict[str, Any]] = field(default_factory=list)
    """Problems with which to answer the next `audio.start`s."""
    silent_connections: int = 0
    """That many of the first connections say nothing after `welcome`."""
    on_message: Callable[[dict[str, Any], web.WebSocketResponse], Any] | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    received_s: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    close_code: int | None = None
    connections: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        self.queries.append(dict(request.query))
        if self.refuse:
            problem = self.refuse.pop(0)
            return web.json_response(
                problem, status=problem["status"], content_type="application/problem+json"
            )
        ws = web.WebSocketResponse(max_msg_size=2**20, timeout=1.0)
        await ws.prepare(request)
        self.connections += 1
        number = self.connections
        welcome = {
            "type": "welcome",
            "protocol": 1,
            "session_id": f"s_{number}",
            "room": request.query.get("room", "lobby"),
            "member_id": "m_bot",
            "name": request.query.get("name", ""),
            "role": "host",
            "grants": {"room_join": True, "can_chat": True, "can_subscribe": True},
            "log_id": "log",
            "seq": 0,
            "resume_secret": "secret",
            "expires_at": None,
            "ice_servers": [],
            "ping_interval_s": self.ping_interval_s,
            "a_field_of_a_newer_server": 1,
        }
        await ws.send_json(welcome)
        metrics = asyncio.create_task(self._metrics(ws)) if self.metrics_every_s else None
        try:
            await self._converse(ws, number)
        finally:
            if metrics is not None:
                metrics.cancel()
        return ws

    async def _metrics(self, ws: web.WebSocketResponse) -> None:
        while not ws.closed:
            await asyncio.sleep(self.metrics_every_s or 1.0)
            await ws.send_json(
                {
                    "type": "metrics",
                    "at": 0.0,
                    "audio_kbps": 0,
                    "video_kbps": 0,
                    "jitter_ms": 0,
                    "packets_lost": 0,
                    "loss_ratio": 0,
                    "round_trip_ms": None,
                    "caption_delay_ms": None,
                    "queue_depth_s": self.queue_depth_s,
                    "dropped": 0,
                }
            )

    async def _converse(self, ws: web.WebSocketResponse, number: int) -> None:
        track: ScriptedTrack | None = None
        tracks = 0
        async for frame in ws:
            if number <= self.silent_connections:
                continue
            if frame.type is web.WSMsgType.BINARY:
                assert track is not None, "audio before audio.start"
                track.pcm += frame.data
                self.received_s[-1] += len(frame.data) / 2 / RATE_HZ
                if self.drop_at_s and self.received_s[-1] >= self.drop_at_s[0]:
                    self.drop_at_s.pop(0)
                    assert ws._req is not None
                    assert ws._req.transport is not None
                    ws._req.transport.abort()
                    return
                for caption in track.captions():
                    await ws.send_json(caption)
                continue
            message = json.loads(frame.data)
            self.seen.append(message)
            if self.on_message is not None and await self.on_message(message, ws):
                continue
            match message["type"]:
                case "ping":
                    await ws.send_json({"type": "pong", "id": message["id"], "server_time": 0.0})
                case "audio.start" if self.refuse_audio:
                    error = {
                        "type": "error",
                        "problem": self.refuse_audio.pop(0),
                        "in_reply_to": "audio.start",
                    }
                    await ws.send_json(error)
                case "audio.start":
                    tracks += 1
                    track = ScriptedTrack(f"t_{number}_{tracks}", self.words)
                    self.received_s.append(0.0)
                    await ws.send_json({"type": "audio.started", "track_id": track.track_id})
                case "finalize":
                    for caption in track.captions(end=True) if track else ():
                        await ws.send_json(caption)
                    await ws.send_json({"type": "finalized", "track_id": None})
                case "audio.stop":
                    assert track is not None
                    for caption in track.captions(end=True):
                        await ws.send_json(caption)
                    ended = {"type": "track.ended", "track_id": track.track_id, "reason": "ended"}
                    await ws.send_json(ended)
                case "chat.send":
                    await ws.send_json(
                        {
                            "type": "chat",
                            "seq": 1,
                            "id": "c1",
                            "client_id": message["id"],
                            "member_id": "m_bot",
                            "name": "bot",
                            "text": message["text"],
                            "sent_at": 1.0,
                        }
                    )
                case "leave":
                    await ws.close(code=1000)
        self.close_code = ws.close_code


def problem(
    code: str, status: int, *, retryable: bool = False, retry_after_s: float | None = None
) -> dict[str, Any]:
    """A problem as the server writes it."""
    return {
        "type": f"urn:mediaserver:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": "for the test",
        "code": code,
        "retryable": retryable,
        "retry_after_s": retry_after_s,
    }


@asynccontextmanager
async def running(server: ScriptedServer) -> AsyncIterator[ScriptedServer]:
    """Serve on a free loopback port."""
    app = web.Application()
    app.router.add_get("/ws", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
