"""Ways into a server: how a session gets its first connection, and those after a loss."""

from collections.abc import Callable
from typing import Protocol

import aiohttp

from mediaserver_client.api import Api
from mediaserver_client.connection import Closed, Connection, endpoint
from mediaserver_client.errors import Refused, ServerUnreachable
from mediaserver_client.messages import Welcome

EXPIRED = 4401
_ELSEWHERE = ("wrong_ticket", "draining", "redis_down", "sessions_full", "unavailable")
"""Refusals that another instance, or a new ticket, may not repeat."""


class Door(Protocol):
    """Where a `Link` gets its connections from."""

    @property
    def headers(self) -> dict[str, str]:
        """Sent with every HTTP request of the session."""
        ...

    async def enter(self, http: aiohttp.ClientSession) -> Connection:
        """Connect. Raises ServerUnreachable, Refused, ProtocolError."""
        ...

    def final(self, closed: Closed) -> bool:
        """Whether connecting again is pointless after this."""
        ...


class NamedDoor:
    """``/ws?room=…&name=…``, on an open server or with a key."""

    def __init__(
        self, url: str, params: dict[str, str], *, api_key: str | None, connect_timeout_s: float
    ) -> None:
        self._url, self._params, self._timeout_s = url, params, connect_timeout_s
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    async def enter(self, http: aiohttp.ClientSession) -> Connection:
        """See `Door`."""
        return await Connection.open(http, self._url, self._params, self._timeout_s)

    def final(self, closed: Closed) -> bool:
        """See `Door`."""
        return closed.final


class TicketDoor:
    """``/ws?ticket=…``: a fresh ticket for each connection, on any of the servers."""

    def __init__(
        self,
        api: Api,
        room: str,
        name: str,
        *,
        invitation: str | None,
        connect_timeout_s: float,
        resume: Callable[[], dict[str, str]],
        welcomed: Callable[[Welcome], None],
    ) -> None:
        self.headers: dict[str, str] = {}
        self._api, self._room, self._name = api, room, name
        self._invitation, self._invited = invitation, False
        self._timeout_s = connect_timeout_s
        self._resume, self._welcomed = resume, welcomed

    async def enter(self, http: aiohttp.ClientSession) -> Connection:
        """See `Door`. Each server is tried once."""
        for tries_left in reversed(range(len(self._api.servers))):
            try:
                return await self._enter(http)
            except ServerUnreachable:
                if not tries_left:
                    raise
            except Refused as error:
                if error.code not in _ELSEWHERE or not tries_left:
                    raise
            self._api.next_server()
        raise AssertionError("an Api has at least one server")

    def final(self, closed: Closed) -> bool:
        """See `Door`. Who can get new credentials may come back with them."""
        renewable = self._api.credentials.renewable or self._invitation is not None
        return closed.final and not (closed.code == EXPIRED and renewable)

    async def _enter(self, http: aiohttp.ClientSession) -> Connection:
        ticket = await self._ticket()
        params = {"ticket": ticket, "room": self._room, **self._resume()}
        url = endpoint(self._api.server, "/ws", websocket=True)
        connection = await Connection.open(http, url, params, self._timeout_s)
        self._welcomed(connection.welcome)
        return connection

    async def _ticket(self) -> str:
        """Ask for a ticket; the invitation is used once, for it may be good for once only."""
        if self._invited:
            try:
                return (await self._api.join(self._room, name=self._name)).ticket
            except Refused as error:
                if error.problem.status != 401 and error.code != "invitation_needed":
                    raise
            self._api.credentials.forget_guest()
        ticket = await self._api.join(self._room, name=self._name, invitation=self._invitation)
        self._invited = self._invitation is not None
        if ticket.token is not None:
            self._api.credentials.become_guest(self._room, ticket.token)
        return ticket.ticket
