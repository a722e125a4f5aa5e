"""The connection to Redis or Valkey: URLs, time limits, Lua scripts, and faults as our errors.

Every command is sent at most once: after a fault nobody knows whether it was carried out, so only
the caller can say whether to send it again. Lost connections are made anew by the next command.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from mediaserver.kernel.errors import ConfigurationError, Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope, keep_cancellation

log = get_logger(__name__)

SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0
TLS_CONNECT_TIMEOUT_S = 2.0
"""Handshakes are computed, and many may be at once."""
BLOCKING_TIMEOUT_S = 15.0
"""Of `blocking_client`: longer than any BLOCK that is asked of it."""
MAX_CONNECTIONS = 64
"""Commands at once; more wait for a connection, at most `SOCKET_TIMEOUT_S`."""
_SPARE_CONNECTIONS = 4
"""For a cluster's own questions to its nodes, and Pub/Sub."""
SLOW_S = 0.5
"""A fault that took longer means a hung server. Until a probe gets through, commands fail at once:
each would wait for its time-out otherwise, and callers would pile up."""
PROBE_INTERVAL_S = 0.2
_DEFAULT_PORT, _SENTINEL_PORT = 6379, 26379
_NO = ("0", "f", "false", "n", "no", "F", "False", "FALSE", "N", "No", "NO")
"""What redis-py takes for false in a URL."""
_UNREACHABLE = (
    faults.ConnectionError,
    faults.TimeoutError,
    faults.BusyLoadingError,
    faults.ReadOnlyError,
    faults.ClusterDownError,
    faults.ClusterError,
    faults.RedisClusterException,
    faults.TryAgainError,
    faults.OutOfMemoryError,
    TimeoutError,
    OSError,
)

Argument = str | bytes | int | float


class Script:
    """A Lua script: sent once, then called by its hash."""

    def __init__(self, store: "RedisStore", source: str) -> None:
        self._store = store
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str | bytes], arguments: Sequence[Argument]) -> Any:
        """Run it and return what it returns; strings come as bytes. Raises Unavailable.

        In a cluster all `keys` must carry one hash tag.
        """
        client = self._store.client
        with self._store.guard():
            try:
                return await client.evalsha(self._sha, len(keys), *keys, *arguments)
            except faults.NoScriptError:  # the server was restarted, or never saw it
                return await client.eval(self._source, len(keys), *keys, *arguments)


class RedisStore:
    """One Redis, reached by URL.

    ``redis://``, ``rediss://`` and ``unix://`` as redis-py reads them;
    ``redis+sentinel://[user:password@]host:port,host:port/SERVICE[/db]`` asks Sentinels for the
    master; ``redis+cluster://[user:password@]host:port,host:port`` is a cluster (``rediss+…`` for
    TLS, with ``?ssl_ca_certs=FILE`` for an authority of one's own; Sentinels' own password is
    ``?sentinel_password=…``). Values come and go as bytes.
    """

    def __init__(self, url: str) -> None:
        """Connect at the first command. Raises ConfigurationError for a URL that cannot be."""
        self._url = url
        self._hung = False
        self._scope = TaskScope("redis")
        self._reachable = True
        self._clients: list[Any] = []
        self.client: Redis = self._new_client(SOCKET_TIMEOUT_S, MAX_CONNECTIONS)
        """redis.asyncio's client; use it inside `guard`. A cluster's client has the same methods,
        but commands on several keys need one hash tag."""

    @property
    def place(self) -> str:
        """Where it is, without the password: for logs and messages."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def blocking_client(self, timeout_s: float = BLOCKING_TIMEOUT_S) -> Redis:
        """Return a client with a connection of its own, for XREAD BLOCK and Pub/Sub.

        `timeout_s` bounds one answer, so it must be longer than the BLOCK. Close it with
        ``aclose()`` when done; the store's `aclose` closes what is left.
        """
        client: Redis = self._new_client(timeout_s, 2)
        return client

    def script(self, source: str) -> Script:
        """Return `source` as something to call: ``await script(keys, arguments)``."""
        return Script(self, source)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn faults of the connection into `Unavailable` with code ``redis_down``.

        Errors of the command itself (wrong type, a script's own) pass through.
        """
        if self._hung:
            raise _down()
        started = monotonic()
        try:
            with keep_cancellation():
                yield
        except _UNREACHABLE as error:
            if monotonic() - started > SLOW_S and not self._hung and not self._scope.closed:
                self._hung = True
                self._scope.spawn("probe", self._probe())
            self._noted(reachable=False, why=type(error).__name__)
            raise _down() from error
        self._noted(reachable=True)

    async def _probe(self) -> None:
        """Ask until there is an answer."""
        while True:
            try:
                with keep_cancellation():
                    await self.client.ping()
            except _UNREACHABLE:
                await asyncio.sleep(PROBE_INTERVAL_S)
            else:
                self._hung = False
                self._noted(reachable=True)
                return

    def _noted(self, *, reachable: bool, why: str = "") -> None:
        """Log when it is lost and when it is back, not every command in between."""
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            log.info("redis.reachable", place=self.place)
        else:
            log.warning("redis.unreachable", place=self.place, why=why)

    async def ping(self) -> None:
        """Ask whether it is there. Raises Unavailable."""
        with self.guard():
            await self.client.ping()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._scope.aclose()
        clients, self._clients = self._clients, []
        for client in clients:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    def _new_client(self, timeout_s: float, connections: int) -> Any:
        scheme, plus, kind = urlsplit(self._url).scheme.partition("+")
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": (
                TLS_CONNECT_TIMEOUT_S if scheme == "rediss" else CONNECT_TIMEOUT_S
            ),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        try:
            if not plus:
                client: Any = _single(self._url, connections, options)
            elif kind == "sentinel":
                client = _behind_sentinels(self._url, scheme, connections, options)
            elif kind == "cluster":
                client = _cluster(self._url, scheme, connections, options)
            else:
                raise ValueError("the scheme is unknown")
        except ValueError as error:
            raise ConfigurationError(
                f"MEDIASERVER_REDIS_URL cannot be read ({error}); it looks like redis://host:6379/0"
            ) from None
        self._clients.append(client)
        return client


def _down() -> Unavailable:
    return Unavailable(
        "Redis does not answer, and this needs it; try again shortly",
        code="redis_down",
        retry_after_s=1.0,
    )


def _single(url: str, connections: int, options: dict[str, Any]) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    pool.connection_class = _sharing_trust(pool.connection_class)
    return Redis.from_pool(pool)


def _sharing_trust(kind: type[Any]) -> type[Any]:
    """Return a kind of connection whose instances read only once whom they trust.

    redis-py reads the authorities anew for each connection, which holds the event loop up for some
    50 ms. All connections of one client have the same TLS options.
    """
    if not issubclass(kind, SSLConnection):
        return kind
    shared: list[RedisSSLContext] = []

    class Sharing(kind):  # type: ignore[misc]
        ssl_context: RedisSSLContext

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if not shared:
                shared.append(self.ssl_context)
            self.ssl_context = shared[0]

    return Sharing


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master; whoever finds them all taken waits, as with one server."""


def _behind_sentinels(url: str, scheme: str, connections: int, options: dict[str, Any]) -> Redis:
    service, _, number = urlsplit(url).path.strip("/").partition("/")
    if not service:
        raise ValueError("a Sentinel URL ends with /SERVICE")
    login = _login(url, scheme) | options
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        _hosts(url, _SENTINEL_PORT),
        sentinel_kwargs={
            **{name: value for name, value in login.items() if name.startswith("ssl")},
            "socket_timeout": CONNECT_TIMEOUT_S,
            "socket_connect_timeout": options["socket_connect_timeout"],
            "retry": Retry(NoBackoff(), 0),
            **_query(url, "sentinel_"),
        },
    )
    for one in sentinel.sentinels:  # each connection to the master asks one of them first
        one.connection_pool.connection_class = _sharing_trust(one.connection_pool.connection_class)
    client: Redis = sentinel.master_for(
        service,
        connection_pool_class=_SentinelPool,
        db=int(number or 0),
        max_connections=connections,
        timeout=SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **login,
    )
    pool = client.connection_pool
    pool.connection_class = _sharing_trust(pool.connection_class)
    return client


class _WaitingCluster(RedisCluster):
    """Whoever finds all connections taken waits, as with one server; redis-py's own refuses.

    redis-py sends a command that comes before it knows the nodes to any of them, and at every fifth
    that was sent to the wrong one it closes all connections, also those that others wait on. Here
    the nodes are known first; a slot that moved is noted alone, and a lost node has all of them
    read anew.
    """

    def __init__(self, at_once: int, **options: Any) -> None:
        super().__init__(
            max_connections=at_once + _SPARE_CONNECTIONS, reinitialize_steps=0, **options
        )
        self._free = asyncio.Semaphore(at_once)
        kind = _sharing_trust(self.connection_kwargs["connection_class"])
        self.connection_kwargs["connection_class"] = kind  # of nodes that are found later
        for node in self.startup_nodes:
            node.connection_class = kind

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Raises TimeoutError too."""
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            await self._free.acquire()
        try:
            if self.get_default_node() is None:
                await self.initialize()
            return await super().execute_command(*arguments, **options)
        finally:
            self._free.release()


def _cluster(url: str, scheme: str, connections: int, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in _hosts(url, _DEFAULT_PORT)]
    return _WaitingCluster(
        connections,
        startup_nodes=nodes,
        retry=Retry(NoBackoff(), 1),  # once more, after MOVED or a fail-over
        **_login(url, scheme),
        **options,
    )


def _login(url: str, scheme: str) -> dict[str, Any]:
    parts = urlsplit(url)
    found: dict[str, Any] = {}
    account, at, _ = parts.netloc.rpartition("@")
    if at:
        user, _, password = account.partition(":")
        if user:
            found["username"] = unquote(user)
        found["password"] = unquote(password)
    if scheme not in ("redis", "rediss"):
        raise ValueError("the scheme is unknown")
    if scheme == "rediss":
        found["ssl"] = True
        for name, value in _query(url, "ssl_").items():
            found[f"ssl_{name}"] = value not in _NO if name == "check_hostname" else value
    return found


def _query(url: str, prefix: str) -> dict[str, str]:
    told = parse_qs(urlsplit(url).query)
    return {n.removeprefix(prefix): v[-1] for n, v in told.items() if n.startswith(prefix)}


def _hosts(url: str, default_port: int) -> list[tuple[str, int]]:
    """Read ``host:port,host:port``. Raises ValueError."""
    found = []
    for part in urlsplit(url).netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{part.strip()}")
        if not one.hostname:
            raise ValueError("a host is missing")
        found.append((one.hostname, one.port or default_port))
    return found
