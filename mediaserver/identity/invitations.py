"""Invitations: a signed token names room, role and end; Redis counts its uses and revokes it.

``ms:invitations:{ROOM}:ID`` is a hash that goes at the invitation's end; an invitation without it
is revoked. ``…:ID:came`` is the set of those who came by it, ``…:ID:revoked`` stands where they
were to end with it. ``ms:invitations:{ROOM}`` is the set of a room's ids. The hash tag is the room,
as that of all keys of a room.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

from mediaserver.identity.tokens import INVITATION, Tokens
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Forbidden, NotFound
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.rooms import Invitation, RoomRole
from mediaserver.stores.redis import RedisStore

_CREATE = """
-- KEYS[1] invitation, KEYS[2] set; ARGV id, role, expires_at, max_uses ('' none)
redis.call('HSET', KEYS[1], 'role', ARGV[2], 'expires_at', ARGV[3], 'max_uses', ARGV[4], 'uses', 0)
redis.call('EXPIREAT', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
local ends = redis.call('EXPIRETIME', KEYS[2])
if ends < tonumber(ARGV[3]) then redis.call('EXPIREAT', KEYS[2], ARGV[3]) end
return 1
"""
_USE = """
-- KEYS[1] invitation, KEYS[2] who came; ARGV who comes, how many are kept
-- returns 1 used, 0 revoked or over, -1 used up
local f = redis.call('HMGET', KEYS[1], 'uses', 'max_uses', 'expires_at')
if not f[1] then return 0 end
if f[2] ~= '' and tonumber(f[1]) >= tonumber(f[2]) then return -1 end
redis.call('HINCRBY', KEYS[1], 'uses', 1)
if ARGV[1] ~= '' and redis.call('SCARD', KEYS[2]) < tonumber(ARGV[2]) then
  redis.call('SADD', KEYS[2], ARGV[1])
  redis.call('EXPIREAT', KEYS[2], f[3])
end
return 1
"""
_REVOKE = """
-- KEYS[1] invitation, KEYS[2] set, KEYS[3] who came, KEYS[4] revoked
-- ARGV id, milliseconds that KEYS[4] stands (0: who came may stay); returns who came, or nil
if redis.call('DEL', KEYS[1]) == 0 then return false end
redis.call('SREM', KEYS[2], ARGV[1])
local came = redis.call('SMEMBERS', KEYS[3])
redis.call('DEL', KEYS[3])
if ARGV[2] == '0' then return {} end
redis.call('SET', KEYS[4], 1, 'PX', ARGV[2])
return came
"""
MAX_CAME = 10_000
"""Of how many it is kept who came by an invitation; the others end when they are looked at."""
REVOKED_KEPT_S = 86_400.0
"""Longer than any token lives that was made for a guest."""


@dataclass(frozen=True, slots=True)
class Invited:
    """What an invitation is for."""

    id: str
    room: str
    role: RoomRole


class Invitations:
    """Makes, lists, revokes and takes invitations. Without Redis all raise Unavailable."""

    def __init__(self, redis: RedisStore, tokens: Tokens, clock: Clock) -> None:
        self._redis = redis
        self._tokens = tokens
        self._clock = clock
        self._create = redis.script(_CREATE)
        self._use = redis.script(_USE)
        self._revoke = redis.script(_REVOKE)

    async def create(
        self, room: str, role: RoomRole, *, expires_in_s: float, max_uses: int | None
    ) -> Invitation:
        """Make an invitation; only this answer has its token. The `url` is the caller's to add."""
        invitation_id = new_id("inv", 16)
        expires_at = int(self._clock.wall_s() + expires_in_s)
        await self._create(
            [_key(room, invitation_id), _set(room)],
            [invitation_id, role, expires_at, "" if max_uses is None else max_uses],
        )
        token = self._tokens.sign(
            INVITATION, invitation_id, expires_at, {"room": room, "room_role": role}
        )
        return Invitation(
            id=invitation_id,
            room=room,
            role=role,
            expires_at=expires_at,
            max_uses=max_uses,
            token=token,
        )

    async def all(self, room: str) -> list[Invitation]:
        """Return the room's invitations that are still good, the longest-lived first."""
        client: Any = self._redis.client  # its types do not know that answers are bytes
        found = []
        with self._redis.guard():
            for member in await client.smembers(_set(room)):
                invitation_id = member.decode()
                row = await client.hgetall(_key(room, invitation_id))
                if not row:  # over, or revoked
                    await client.srem(_set(room), invitation_id)
                    continue
                found.append(
                    Invitation.model_validate(
                        {
                            "id": invitation_id,
                            "room": room,
                            "role": row[b"role"].decode(),
                            "expires_at": float(row[b"expires_at"]),
                            "uses": int(row[b"uses"]),
                            "max_uses": int(row[b"max_uses"]) if row[b"max_uses"] else None,
                        }
                    )
                )
        return sorted(found, key=lambda invitation: -invitation.expires_at)

    async def is_good(self, room: str, invitation_id: str) -> bool:
        """Whether it is neither revoked nor over; it may be used up."""
        with self._redis.guard():
            return bool(await self._redis.client.exists(_key(room, invitation_id)))

    async def revoke(
        self, room: str, invitation_id: str, *, keep_guests: bool = False
    ) -> frozenset[str]:
        """Make an invitation worthless; return the subjects of those who end with it.

        With `keep_guests` nobody does. Raises NotFound.
        """
        key = _key(room, invitation_id)
        came = await self._revoke(
            [key, _set(room), f"{key}:came", revoked_key(room, invitation_id)],
            [invitation_id, 0 if keep_guests else round(REVOKED_KEPT_S * 1000)],
        )
        if came is None:
            raise NotFound(f"there is no invitation {invitation_id}", code="no_such_invitation")
        return frozenset(subject.decode() for subject in came)

    async def revoke_all(self, room: str) -> None:
        """Of a room that is closed."""
        for invitation in await self.all(room):
            with contextlib.suppress(NotFound):
                await self.revoke(room, invitation.id)

    async def take(self, token: str, room: str, subject: str) -> Invited:
        """Use an invitation to `room` once, as `subject` ("" where it could be anybody).

        Raises Unauthorized (forged, expired), Forbidden (for another room, revoked, used up),
        Unavailable.
        """
        claims = await self._tokens.verify(INVITATION, token)
        invited = Invited(id=claims["jti"], room=claims["room"], role=claims["room_role"])
        if invited.room != room:
            raise Forbidden("this invitation is for another room", code="wrong_room")
        key = _key(room, invited.id)
        match int(await self._use([key, f"{key}:came"], [subject, MAX_CAME])):
            case 1:
                return invited
            case 0:
                raise Forbidden("this invitation was revoked", code="invitation_revoked")
            case _:
                raise Forbidden("this invitation is used up", code="invitation_used_up")


def revoked_key(room: str, invitation_id: str) -> str:
    """Stands where those who came by it are to end."""
    return f"{_key(room, invitation_id)}:revoked"


def _key(room: str, invitation_id: str) -> str:
    return f"ms:invitations:{{{room}}}:{invitation_id}"


def _set(room: str) -> str:
    return f"ms:invitations:{{{room}}}"
