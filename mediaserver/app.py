"""The composition root: settings in, a running server out. Only here all parts meet."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from mediaserver.inference.client import SpeechClient
from mediaserver.inference.supervisor import LocalWorkerConfig, Supervisor
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import Conflict
from mediaserver.kernel.logging import get_logger
from mediaserver.library.service import Library
from mediaserver.protocol.health import PartState
from mediaserver.protocol.messages import IceServer
from mediaserver.relay.addresses import own_url
from mediaserver.relay.feeding import Feeds
from mediaserver.relay.links import Links
from mediaserver.relay.tickets import LinkTickets
from mediaserver.rooms.hub import RoomHub
from mediaserver.rooms.videos import Video
from mediaserver.rtc.containers import DecoderPool
from mediaserver.rtc.peer import Peers, RtcConfig
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.registry import Sessions
from mediaserver.sessions.transcripts import TranscriptStore
from mediaserver.sessions.watching import Watching
from mediaserver.settings import Settings
from mediaserver.web import (
    accounts,
    broadcasts,
    health,
    keys,
    listen,
    login,
    metrics,
    openapi,
    playback,
    room_tokens,
    rooms,
    static,
    transcripts,
    uploads,
    videos,
    whip,
    ws,
)
from mediaserver.web.application import new_application
from mediaserver.web.foundation import add_identity, add_library, add_stores, stores_readiness
from mediaserver.web.routing import mount

log = get_logger(__name__)


def build_app(settings: Settings) -> web.Application:
    """Compose the application. Workers and the rest start and stop with it."""
    settings.check()
    app = new_application(settings)
    clock = SystemClock()
    figures = Figures(app[keys.METRICS])
    client = SpeechClient()
    store = TranscriptStore(settings.data_dir / "transcripts", settings, clock)
    app[keys.CLOCK] = clock
    add_stores(app, settings)
    add_identity(app, settings, announce=lambda text: print(text, flush=True))
    add_library(app, settings)
    app[keys.FIGURES] = figures
    app[keys.TRANSCRIPTS] = store
    app[keys.DECODERS] = DecoderPool()
    app[keys.ICE_SERVERS] = ice_servers(settings.ice_servers)
    app[keys.PEERS] = Peers(rtc_config(settings))
    videos_here = LibraryVideos(app[keys.LIBRARY])
    hub = RoomHub(app[keys.REDIS], clock, settings.instance_id, figures.dropped, videos_here)
    app[keys.ROOMS] = hub
    figures.watch_rooms(lambda: len(hub), lambda: hub.members)
    app[keys.SESSIONS] = Sessions(
        client, hub, store, clock, figures, max_sessions=settings.max_streams
    )
    add_relay(app, hub)
    app.on_response_prepare.append(whip.add_cors)
    app.on_response_prepare.append(uploads.add_tus_headers)
    mount(
        app,
        (
            health.routes(),
            metrics.routes(),
            openapi.routes(),
            static.routes(),
            transcripts.routes(),
            listen.routes(),
            whip.routes(),
            ws.routes(),
            broadcasts.routes(),
            login.routes(),
            accounts.routes(),
            room_tokens.routes(),
            rooms.routes(),
            videos.routes(),
            uploads.routes(),
            playback.routes(),
        ),
    )

    async def readiness() -> Mapping[str, PartState]:
        sessions = app[keys.SESSIONS]
        return {
            "speech": PartState(
                ready=client.ready,
                detail="" if client.ready else "no speech worker answers yet",
            ),
            "server": PartState(
                ready=not sessions.draining, detail="stopping" if sessions.draining else ""
            ),
            **await stores_readiness(app),
        }

    app[keys.READINESS] = readiness
    app.cleanup_ctx.append(lambda app: _run_parts(app, settings, client))
    app.on_shutdown.append(_drain)
    return app


class LibraryVideos:
    """The library as rooms see it."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def find(self, video_id: str) -> Video:
        """See `rooms.videos.Videos`."""
        info = await self._library.get(video_id)
        if info.state != "ready" or info.duration_s is None:
            raise Conflict(
                f"this video is not ready to be watched: it is {info.state}",
                code="video_not_ready",
            )
        return Video(info.title, info.duration_s)


def add_relay(app: web.Application, hub: RoomHub) -> None:
    """Add what broadcasts are watched by, here and from other instances."""
    tickets = app[keys.LINK_TICKETS] = LinkTickets(app[keys.REDIS])
    feeds = app[keys.FEEDS] = Feeds()
    links = app[keys.LINKS] = Links(hub.address_of, tickets, app[keys.CLOCK])
    shown = app[keys.SESSIONS].broadcasts
    watching = Watching(app[keys.PEERS], shown, links, app[keys.CLOCK])
    app[keys.WATCHING] = watching
    app[keys.FIGURES].watch_relay(
        lambda: len(shown), lambda: watching.viewers, lambda: len(links), lambda: len(feeds)
    )


async def _run_parts(
    app: web.Application, settings: Settings, client: SpeechClient
) -> AsyncIterator[None]:
    figures = app[keys.FIGURES]
    supervisor: Supervisor | None = None
    urls = settings.inference_urls
    if not urls:
        supervisor = Supervisor(
            LocalWorkerConfig(
                count=settings.workers,
                model=settings.speech_model,
                data_dir=settings.data_dir,
                device=settings.device,
                threads=settings.worker_threads,
                log_level=settings.log_level,
                log_style=settings.log_style,
            ),
            on_restart=figures.worker_restarted,
        )
        urls = supervisor.urls
        supervisor.start()
        client.on_hung = supervisor.replace
    for url in urls:
        client.add(url)
    app[keys.TRANSCRIPTS].start()
    app[keys.ROOMS].start()
    yield
    await app[keys.ROOMS].aclose()
    await app[keys.TRANSCRIPTS].aclose()
    await client.aclose()
    if supervisor is not None:
        await supervisor.aclose()
    app[keys.DECODERS].close()


async def _drain(app: web.Application) -> None:
    """End all sessions with their pending finals, then the peers."""
    settings = app[keys.SETTINGS]
    await app[keys.SESSIONS].aclose(settings.shutdown_s)
    await app[keys.LINKS].aclose()
    await app[keys.PEERS].aclose()


def rtc_config(settings: Settings) -> RtcConfig:
    """What the peers are told of the settings."""
    return RtcConfig(
        ice_interfaces=settings.ice_interfaces,
        ice_servers=ice_servers(settings.ice_servers),
        include_loopback=settings.on_loopback,
    )


def ice_servers(urls: tuple[str, ...]) -> tuple[IceServer, ...]:
    """Read STUN and TURN URLs; credentials are taken out of ``turn:user:password@host``."""
    servers = []
    for url in urls:
        scheme, _, rest = url.partition(":")
        account, at, host = rest.rpartition("@")
        user, _, password = account.partition(":")
        servers.append(
            IceServer(urls=(f"{scheme}:{host}",), username=user, credential=password)
            if at
            else IceServer(urls=(url,))
        )
    return tuple(servers)


async def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    app = build_app(settings)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        await app[keys.ROOMS].advertise(await _advertised_url(settings, runner))
        print(f"mediaserver is at {site_url(runner)}", flush=True)
        await stop.wait()
        log.info("server.stopping")
    finally:
        await runner.cleanup()
    return 0


async def _advertised_url(settings: Settings, runner: web.AppRunner) -> str:
    """Where other instances reach this one."""
    if settings.advertise_url is not None:
        return settings.advertise_url
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url is not None else None
    return await own_url(settings.host, runner.addresses[0][1], redis_url)


def site_url(runner: web.AppRunner) -> str:
    """Where the server listens."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
