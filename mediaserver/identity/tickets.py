"""Tickets: a WebSocket's credentials in its URL, because browsers cannot send it headers.

Single use (GETDEL), for `TICKET_S`, made by a request that did carry credentials.
"""

import secrets

from pydantic import ValidationError

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import Unauthorized
from mediaserver.stores.redis import RedisStore

TICKET_S = 30.0


class Tickets:
    """Issues and takes tickets. Without Redis both raise Unavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis

    async def issue(self, principal: Principal) -> str:
        """Return a ticket for `principal`, and its room if it has one."""
        ticket = secrets.token_urlsafe(32)
        with self._redis.guard():
            await self._redis.client.set(
                _key(ticket), principal.model_dump_json(), px=round(TICKET_S * 1000)
            )
        return ticket

    async def take(self, ticket: str) -> Principal:
        """Return whose ticket it is, once. Raises Unauthorized, Unavailable."""
        with self._redis.guard():
            stored = await self._redis.client.getdel(_key(ticket[:128]))
        if stored is not None:
            try:
                return Principal.model_validate_json(stored)
            except ValidationError:  # of another version of the server
                pass
        raise Unauthorized(
            "this ticket was used, or is older than 30 s; ask for another one", code="wrong_ticket"
        )


def _key(ticket: str) -> str:
    return f"ms:ticket:{ticket}"
