"""The links of this instance to others: one for each broadcast that is watched here."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import MediaServerError, NotFound, Overloaded, Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.relay.feeding import BUSY_RETRY_S, HEARTBEAT_S
from mediaserver.relay.link import Link, no_broadcast
from mediaserver.relay.tickets import TICKET_HEADER, LinkTickets
from mediaserver.relay.wire import MAX_MESSAGE_BYTES

log = get_logger(__name__)

PATH = "/internal/v1/broadcasts/{room}/{member_id}"
MAX_LINKS = 100
"""Links of an instance to others at once."""
LINGER_S = 3.0
"""How long a link is kept that nobody uses: a viewer that reconnects finds it."""
OPEN_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
_RETRY_S = 1.0

Locate = Callable[[str, str], Awaitable[str | None]]
"""Where the instance of a member of a room is reached. Raises NotFound, Unavailable."""


class Links:
    """Opens links, shares them, and closes what nobody uses."""

    def __init__(
        self, locate: Locate, tickets: LinkTickets, clock: Clock, most: int = MAX_LINKS
    ) -> None:
        self._locate = locate
        self._tickets = tickets
        self._clock = clock
        self._most = most
        self._links: dict[tuple[str, str], Link] = {}
        self._scope = TaskScope("links")
        self._http: aiohttp.ClientSession | None = None

    def __len__(self) -> int:
        return len(self._links)

    async def hold(self, room: str, member_id: str) -> Link:
        """Return a link to a broadcast, and keep it until `release`.

        Raises NotFound (`no_broadcast`), Unavailable (`relay_unreachable`), Overloaded
        (`watch_full`).
        """
        key = (room, member_id)
        link = self._links.get(key)
        if link is None or link.end_reason is not None:
            link = self._open(key)
        link.users += 1
        if link.lingering is not None:
            link.lingering.cancel()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.shield(link.ready)
        except BaseException as error:
            self.release(link)
            if isinstance(error, TimeoutError):
                raise _unreachable("it does not answer") from None
            raise
        return link

    def release(self, link: Link) -> None:
        """Use a link no more; some seconds after its last user it is closed."""
        link.users -= 1
        if link.users == 0 and link.end_reason is None and not self._scope.closed:
            link.lingering = self._scope.spawn("linger", self._linger(link))

    async def aclose(self) -> None:
        """Close all."""
        for link in tuple(self._links.values()):
            link.end("ended")
        await self._scope.aclose()
        if self._http is not None:
            await self._http.close()

    def _open(self, key: tuple[str, str]) -> Link:
        if self._scope.closed:
            raise Unavailable("this server is stopping", code="draining", retry_after_s=5.0)
        if len(self._links) >= self._most:
            raise Overloaded(
                f"{self._most} broadcasts of other instances are watched here, the limit",
                code="watch_full",
                retry_after_s=BUSY_RETRY_S,
            )
        link = self._links[key] = Link(partial(self._dial, *key), self._clock)
        link.running = self._scope.spawn(f"link {key[1]}", link.run())
        link.running.add_done_callback(lambda _: self._forget(key, link))
        return link

    def _forget(self, key: tuple[str, str], link: Link) -> None:
        if self._links.get(key) is link:
            del self._links[key]

    async def _linger(self, link: Link) -> None:
        await asyncio.sleep(LINGER_S)
        link.end("ended")
        if link.running is not None:
            link.running.cancel()

    async def _dial(self, room: str, member_id: str) -> Any:
        """Raises NotFound, Unavailable, Overloaded."""
        try:
            url = await self._locate(room, member_id)
            ticket = await self._tickets.issue(room, member_id)
        except NotFound:
            raise no_broadcast() from None
        except Unavailable as error:
            raise _unreachable(error.detail) from error
        if url is None:
            raise _unreachable("its address is not known")
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        path = PATH.format(room=room, member_id=member_id)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                socket = await self._http.ws_connect(
                    f"{url.rstrip('/')}{path}",
                    headers={TICKET_HEADER: ticket},
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error.status) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _unreachable(type(error).__name__) from error
        log.info("link.opened", member_id=member_id)
        return socket


def _refused(status: int) -> MediaServerError:
    if status == 404:
        return no_broadcast()
    if status == 503:
        return Overloaded(
            "the instance that the broadcast is on has no more room for viewers elsewhere",
            code="watch_full",
            retry_after_s=BUSY_RETRY_S,
        )
    return _unreachable(f"it answered with {status}")


def _unreachable(why: str) -> Unavailable:
    return Unavailable(
        f"the instance that the broadcast is on cannot be reached ({why}); try again",
        code="relay_unreachable",
        retry_after_s=_RETRY_S,
    )
