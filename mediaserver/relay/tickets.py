"""Tickets for links: who can write to the instances' Redis, and nobody else, can make one.

Single use (GETDEL), for `TICKET_S`, bound to one member of one room.
"""

import secrets
from typing import Any

from mediaserver.kernel.errors import Unauthorized
from mediaserver.stores.redis import RedisStore

TICKET_S = 30.0
TICKET_HEADER = "X-Link-Ticket"
"""Not in the URL, which proxies log."""
_BYTES = 32
_CHARACTERS = 43
"""Of `_BYTES` as URL-safe base64."""


class LinkTickets:
    """Issues and takes tickets. Without Redis both raise Unavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis

    async def issue(self, room: str, member_id: str) -> str:
        """Return a ticket for a member's broadcast."""
        ticket = secrets.token_urlsafe(_BYTES)
        with self._redis.guard():
            await self._redis.client.set(
                _key(ticket), _bound_to(room, member_id), px=round(TICKET_S * 1000)
            )
        return ticket

    async def take(self, ticket: str, room: str, member_id: str) -> None:
        """Use a ticket up, for whatever it is. Raises Unauthorized, Unavailable."""
        stored: Any = None
        if len(ticket) == _CHARACTERS and ticket.isascii():
            with self._redis.guard():
                stored = await self._redis.client.getdel(_key(ticket))
        if stored is None or not secrets.compare_digest(
            stored, _bound_to(room, member_id).encode()
        ):
            raise Unauthorized(
                "this is for the other instances of this server, which come with a ticket",
                code="wrong_ticket",
            )


def _bound_to(room: str, member_id: str) -> str:
    return f"{room} {member_id}"


def _key(ticket: str) -> str:
    return f"ms:link:{ticket}"
