"""An application that serves WHIP alone, on sessions without speech workers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.kernel.errors import Overloaded, Unavailable
from mediaserver.protocol.messages import CaptionOptions, IceServer
from mediaserver.rooms.presence import Attendee, Newcomer
from mediaserver.rtc.peer import Peers, RtcConfig
from mediaserver.rtc.whip import FRAGMENT_TYPE
from mediaserver.settings import Settings
from mediaserver.web import keys, whip
from mediaserver.web.application import new_application
from mediaserver.web.routing import mount

KEY = "0123456789abcdef0123"
SDP = {"Content-Type": "application/sdp"}
TRICKLE = {"Content-Type": FRAGMENT_TYPE}


class FakeTrack:
    """Keeps what is pushed."""

    def __init__(self, options: CaptionOptions) -> None:
        self.options = options
        self.chunks: list[AudioChunk] = []

    def push(self, chunk: AudioChunk) -> None:
        self.chunks.append(chunk)

    @property
    def heard(self) -> np.ndarray:
        out = np.zeros(round(self.chunks[-1].end_s * SAMPLE_RATE_HZ) + 1, np.float32)
        for chunk in self.chunks:
            at = round(chunk.start_s * SAMPLE_RATE_HZ)
            out[at : at + len(chunk.samples)] = chunk.samples
        return out

    @property
    def audio_s(self) -> float:
        return sum(chunk.duration_s for chunk in self.chunks)


class FakeSession:
    """A session without a speech worker."""

    def __init__(self, number: int, room: str | None, name: str, deliver: Any) -> None:
        self.id = f"s_{number}"
        self.room, self.name, self.deliver = room, name, deliver
        self.tracks: list[FakeTrack] = []
        self.closed_with: list[str] = []
        self.full = False

    def open_track(self, options: CaptionOptions) -> FakeTrack:
        if self.full:
            raise Overloaded("all streams are taken", retry_after_s=7)
        self.tracks.append(FakeTrack(options))
        return self.tracks[-1]

    def showing(self, source: object) -> None:
        return None

    async def close(self, reason: str = "ended") -> None:
        self.closed_with.append(reason)


class FakeSessions:
    """Opens fake sessions, unless it is told to refuse."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.draining = False
        self.full = False

    async def enter(
        self, *, kind: str, room: str, newcomer: Newcomer, attendee: Attendee
    ) -> tuple[FakeSession, None]:
        assert kind == newcomer.kind == "whip"
        if self.draining:
            raise Unavailable("this server is stopping", retry_after_s=5)
        session = FakeSession(len(self.sessions), room, newcomer.name, attendee.deliver)
        session.full = self.full
        self.sessions.append(session)
        return session, None


class Server:
    """A small application that serves WHIP alone."""

    def __init__(
        self, client: TestClient[web.Request, web.Application], fake: FakeSessions
    ) -> None:
        self.client, self.fake = client, fake
        self.peers: Peers = client.app[keys.PEERS]

    @property
    def session(self) -> FakeSession:
        return self.fake.sessions[-1]

    @property
    def url(self) -> str:
        return str(self.client.make_url("/whip/studio"))

    async def post(self, sdp: str, path: str = "/whip/studio", **more: Any) -> Any:
        return await self.client.post(path, data=sdp, headers=SDP | more.pop("headers", {}), **more)


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start(aiohttp_client: Any) -> AsyncIterator[Start]:
    servers: list[Server] = []

    async def serve(
        config: RtcConfig | None = None, ice: tuple[IceServer, ...] = (), **settings: Any
    ) -> Server:
        app = new_application(Settings(**settings))
        fake = FakeSessions()
        app[keys.SESSIONS] = cast(Any, fake)
        app[keys.PEERS] = Peers(config or RtcConfig(ice_interfaces=("127.0.0.1",)))
        app[keys.ICE_SERVERS] = ice
        app.on_response_prepare.append(whip.add_cors)
        mount(app, [whip.routes()])
        servers.append(Server(await aiohttp_client(app), fake))
        return servers[-1]

    yield serve
    for server in servers:
        await server.peers.aclose()


async def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    body: dict[str, Any] = await response.json()
    assert body["detail"]
    return body
