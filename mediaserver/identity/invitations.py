"""Invitations: a signed token names room, role and end; Redis counts its uses and revokes it.

``ms:invitations:{ROOM}:ID`` is a hash that goes at the invitation's end; an invitation without it
is revoked. ``ms:invitations:{ROOM}`` is the set of a room's ids. The hash tag is the room, as that
of all keys of a room.
"""

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
-- KEYS[1] invitation; returns 1 used, 0 revoked or over, -1 used up
local f = redis.call('HMGET', KEYS[1], 'uses', 'max_uses')
if not f[1] then return 0 end
if f[2] ~= '' and tonumber(f[1]) >= tonumber(f[2]) then return -1 end
redis.call('HINCRBY', KEYS[1], 'uses', 1)
return 1
"""


class Invitations:
    """Makes, lists, revokes and takes invitations. Without Redis all raise Unavailable."""

    def __init__(self, redis: RedisStore, tokens: Tokens, clock: Clock) -> None:
        self._redis = redis
        self._tokens = tokens
        self._clock = clock
        self._create = redis.script(_CREATE)
        self._use = redis.script(_USE)

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

    async def revoke(self, room: str, invitation_id: str) -> None:
        """Make an invitation worthless. Raises NotFound."""
        with self._redis.guard():
            gone = await self._redis.client.delete(_key(room, invitation_id))
            await self._redis.client.srem(_set(room), invitation_id)
        if not gone:
            raise NotFound(f"there is no invitation {invitation_id}", code="no_such_invitation")

    async def revoke_all(self, room: str) -> None:
        """Of a room that is closed."""
        for invitation in await self.all(room):
            await self.revoke(room, invitation.id)

    async def read(self, token: str) -> tuple[str, RoomRole, str]:
        """Return room, role and id of an invitation without using it. Raises Unauthorized."""
        claims = await self._tokens.verify(INVITATION, token)
        return claims["room"], claims["room_role"], claims["jti"]

    async def take(self, token: str) -> tuple[str, RoomRole]:
        """Use an invitation once; return room and role.

        Raises Unauthorized (forged, expired), Forbidden (revoked, used up), Unavailable.
        """
        room, role, invitation_id = await self.read(token)
        match int(await self._use([_key(room, invitation_id)], [])):
            case 1:
                return room, role
            case 0:
                raise Forbidden("this invitation was revoked", code="invitation_revoked")
            case _:
                raise Forbidden("this invitation is used up", code="invitation_used_up")


def _key(room: str, invitation_id: str) -> str:
    return f"ms:invitations:{{{room}}}:{invitation_id}"


def _set(room: str) -> str:
    return f"ms:invitations:{{{room}}}"
