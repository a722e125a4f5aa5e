"""Which room tokens are good, and which were revoked.

``ms:tokens:{ROOM}`` is a hash of what is known of a room's tokens, by id; ``…:ends`` has the same
ids by when they end (both forget what has ended). ``…:revoked:ID`` stands for as long as a token of
that id could live: a token is refused for this alone, so one that was never registered is good.
"""

import json
from typing import Any

from pydantic import ValidationError

from mediaserver.identity.invitations import revoked_key
from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import NotFound, Overloaded, Unauthorized
from mediaserver.protocol.identity import RoomTokenInfo
from mediaserver.stores.redis import RedisStore

MAX_TOKENS = 10_000
"""Of one room that are good at once."""
REVOKED_KEPT_S = 90_000.0
"""Longer than any room token lives."""
_TIDIED_AT_ONCE = 500

_ADD = """
-- KEYS[1] hash, KEYS[2] ends, KEYS[3] revoked; ARGV id, what is known, when it ends, most, at once
-- returns 1 added, 0 too many, -1 revoked
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local now = redis.call('TIME')[1]
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[5])
if #over > 0 then
  redis.call('HDEL', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
local known = redis.call('HEXISTS', KEYS[1], ARGV[1])
if known == 0 and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
for i = 1, 2 do
  if redis.call('EXPIRETIME', KEYS[i]) < tonumber(ARGV[3]) then
    redis.call('EXPIREAT', KEYS[i], ARGV[3])
  end
end
return 1
"""
_REVOKE = """
-- KEYS[1] hash, KEYS[2] ends, KEYS[3] revoked; ARGV id, milliseconds that KEYS[3] stands
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
return 1
"""


class TokenRegister:
    """Without Redis all methods raise Unavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._add = redis.script(_ADD)
        self._revoke = redis.script(_REVOKE)

    async def add(self, room: str, info: RoomTokenInfo) -> None:
        """Note a token, or that it lives longer now.

        Raises Overloaded (``tokens_full``); Unauthorized where it was revoked.
        """
        known = info.model_dump_json(exclude={"members"})
        done = await self._add(
            [_hash(room), f"{_hash(room)}:ends", _revoked(room, info.id)],
            [info.id, known, int(info.expires_at), MAX_TOKENS, _TIDIED_AT_ONCE],
        )
        if done == 0:
            raise Overloaded(
                f"room {room} has {MAX_TOKENS} tokens that are good, its limit; revoke some",
                code="tokens_full",
                retry_after_s=60.0,
            )
        if done == -1:
            raise Unauthorized("this token was revoked", code="revoked")

    async def all(self, room: str) -> list[RoomTokenInfo]:
        """Return a room's tokens that are good, the newest first."""
        client: Any = self._redis.client  # its types do not know that answers are bytes
        with self._redis.guard():
            kept = await client.hgetall(_hash(room))
            seconds, _ = await client.time() if kept else (0, 0)
        found = []
        for text in kept.values():
            try:
                info = RoomTokenInfo.model_validate(json.loads(text))
            except ValidationError:  # of another version of the server
                continue
            if info.expires_at > seconds:
                found.append(info)
        return sorted(found, key=lambda info: -info.created_at)

    async def get(self, room: str, token_id: str) -> RoomTokenInfo:
        """Return what is known of a token. Raises NotFound."""
        client: Any = self._redis.client
        with self._redis.guard():
            text = await client.hget(_hash(room), token_id)
        if text is None:
            raise NotFound(f"room {room} has no token {token_id}", code="no_such_token")
        return RoomTokenInfo.model_validate(json.loads(text))

    async def revoke(self, room: str, token_id: str) -> None:
        """Make a token worthless, and all that it was renewed by."""
        await self._revoke(
            [_hash(room), f"{_hash(room)}:ends", _revoked(room, token_id)],
            [token_id, round(REVOKED_KEPT_S * 1000)],
        )

    async def forget(self, room: str, invitation_id: str) -> None:
        """Forget the tokens of guests who ended with their invitation."""
        for info in await self.all(room):
            if info.invitation_id == invitation_id:
                await self.revoke(room, info.id)


def marks_of(principal: Principal) -> list[str]:
    """Return the keys of which none may stand: what ends a room token, or who came invited."""
    if principal.room is None:
        return []
    found = []
    if principal.token_id is not None:
        found.append(_revoked(principal.room, principal.token_id))
    if principal.invitation_id is not None:
        found.append(revoked_key(principal.room, principal.invitation_id))
    return found


def _hash(room: str) -> str:
    return f"ms:tokens:{{{room}}}"


def _revoked(room: str, token_id: str) -> str:
    return f"ms:tokens:{{{room}}}:revoked:{token_id}"
