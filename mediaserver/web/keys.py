"""What the application and a request carry, typed. `app.py` puts the application's parts in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mediaserver.identity.gcra import Decision
    from mediaserver.identity.principal import Principal
    from mediaserver.identity.service import Identity
    from mediaserver.kernel.clocks import Clock
    from mediaserver.library.service import Library
    from mediaserver.protocol.messages import IceServer
    from mediaserver.relay.feeding import Feeds
    from mediaserver.relay.links import Links
    from mediaserver.relay.tickets import LinkTickets
    from mediaserver.rooms.hub import RoomHub
    from mediaserver.rtc.containers import DecoderPool
    from mediaserver.rtc.peer import Peers
    from mediaserver.sessions.figures import Figures
    from mediaserver.sessions.registry import Sessions
    from mediaserver.sessions.transcripts import TranscriptStore
    from mediaserver.sessions.watching import Watching
    from mediaserver.settings import Settings
    from mediaserver.stores.database import Database
    from mediaserver.stores.redis import RedisStore
    from mediaserver.web.health import Readiness
    from mediaserver.web.metrics import HttpMetrics
    from mediaserver.web.routing import MountedRoutes

SETTINGS: web.AppKey[Settings] = web.AppKey("settings")
CLOCK: web.AppKey[Clock] = web.AppKey("clock")
REDIS: web.AppKey[RedisStore] = web.AppKey("redis")
DATABASE: web.AppKey[Database] = web.AppKey("database")
IDENTITY: web.AppKey[Identity] = web.AppKey("identity")
ROOMS: web.AppKey[RoomHub] = web.AppKey("rooms")
LIBRARY: web.AppKey[Library] = web.AppKey("library")
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions")
TRANSCRIPTS: web.AppKey[TranscriptStore] = web.AppKey("transcripts")
PEERS: web.AppKey[Peers] = web.AppKey("peers")
WATCHING: web.AppKey[Watching] = web.AppKey("watching")
LINKS: web.AppKey[Links] = web.AppKey("links")
LINK_TICKETS: web.AppKey[LinkTickets] = web.AppKey("link_tickets")
FEEDS: web.AppKey[Feeds] = web.AppKey("feeds")
DECODERS: web.AppKey[DecoderPool] = web.AppKey("decoders")
ICE_SERVERS: web.AppKey[tuple[IceServer, ...]] = web.AppKey("ice_servers")
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
METRICS: web.AppKey[CollectorRegistry] = web.AppKey("metrics")
HTTP_METRICS: web.AppKey[HttpMetrics] = web.AppKey("http_metrics")
FIGURES: web.AppKey[Figures] = web.AppKey("figures")
ROUTES: web.AppKey[MountedRoutes] = web.AppKey("routes")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id")
"""Names the request in logs, problems and the ``X-Request-ID`` header."""
AUTHENTICATED: web.RequestKey[bool] = web.RequestKey("authenticated")
"""True where the request carried a right key or token in a header; false where none is needed."""
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal")
"""As whom the request is made. Always there in handlers of routes that are not public."""
LIMITED: web.RequestKey[list[Decision]] = web.RequestKey("limited")
"""The rate limits that the request counted against."""
STARTED: web.RequestKey[bool] = web.RequestKey("started")
"""Set once the response's head is on its way, so that it can no longer become a problem."""
