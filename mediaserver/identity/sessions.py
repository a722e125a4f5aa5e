"""Sessions of users in Redis: refresh tokens that rotate, and what was revoked.

``ms:auth:session:{ID}`` is a hash, one a session; ``ms:auth:user:{ID}`` says since when (Redis
time) all older sessions of a user are over; `token_register.py` has what ends room tokens. Each
rotation is one Lua call, so all instances agree. `rotation.py` explains and defines it.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from mediaserver.identity.principal import Principal
from mediaserver.identity.rotation import (
    GRACE_MS,
    IDLE_MS,
    LONGEST_MS,
    Outcome,
    successor_of,
    token_hash,
)
from mediaserver.identity.token_register import marks_of
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unauthorized, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.stores.redis import RedisStore

log = get_logger(__name__)

REVOCATION_CACHE_S = 1.0
"""How long an instance may go on taking a session that was revoked."""
CACHE_SIZE = 16_384
REVOKED_KEPT_MS = 3_600_000
"""Longer than any access token lives."""

_NOW = """
local t = redis.call('TIME')
local now_us = t[1] * 1000000 + t[2]
local now = math.floor(now_us / 1000)
"""
_OPEN = (
    _NOW
    + """
-- KEYS[1] session; ARGV user, hash of the token, idle ms, longest ms
local ends = now + ARGV[4]
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'current', ARGV[2],
  'started_us', string.format('%.0f', now_us), 'ends', string.format('%.0f', ends))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(now + ARGV[3], ends)))
return string.format('%.0f', now_us)
"""
)
_ROTATE = (
    _NOW
    + """
-- KEYS[1] session; ARGV hash presented, hash of its successor, nonce, grace ms, idle ms, kept ms
local f = redis.call('HMGET', KEYS[1], 'user', 'current', 'previous', 'nonce', 'rotated', 'ends',
  'revoked', 'started_us')
local ends = tonumber(f[6] or 0)
if not f[1] or now >= ends then return {'unknown'} end
if f[7] then return {'revoked'} end
if f[2] == ARGV[1] then
  redis.call('HSET', KEYS[1], 'current', ARGV[2], 'previous', ARGV[1], 'nonce', ARGV[3],
    'rotated', string.format('%.0f', now))
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(now + ARGV[5], ends)))
  return {'rotated', f[1], f[8], ARGV[3]}
end
if f[3] == ARGV[1] and now - tonumber(f[5]) <= tonumber(ARGV[4]) then
  return {'same', f[1], f[8], f[4]}
end
redis.call('HSET', KEYS[1], 'revoked', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return {'replayed', f[1]}
"""
)
_REVOKE = """
-- KEYS[1] session; ARGV kept ms
redis.call('HSET', KEYS[1], 'revoked', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
_REVOKE_USER = (
    _NOW
    + """
-- KEYS[1] user; ARGV kept ms
redis.call('SET', KEYS[1], string.format('%.0f', now_us), 'PX', ARGV[1])
return 1
"""
)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session and the refresh token that is good for it now."""

    session_id: str
    user_id: str
    started_us: int
    refresh_token: str


class UserSessions:
    """Opens, refreshes and revokes sessions. Without Redis all raise Unavailable."""

    def __init__(self, redis: RedisStore, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._open = redis.script(_OPEN)
        self._rotate = redis.script(_ROTATE)
        self._revoke = redis.script(_REVOKE)
        self._revoke_user = redis.script(_REVOKE_USER)
        self._asked: OrderedDict[tuple[str, ...], tuple[float, bool]] = OrderedDict()
        """When (monotonic) Redis was asked about somebody, and whether it is revoked."""

    async def open(self, user_id: str) -> OpenedSession:
        """Begin a session. Raises Unavailable."""
        session_id = new_id("ses")
        token = f"{session_id}.{secrets.token_urlsafe(32)}"
        started = await self._open(
            [_session(session_id)], [user_id, token_hash(token), IDLE_MS, LONGEST_MS]
        )
        return OpenedSession(session_id, user_id, int(started), token)

    async def refresh(self, token: str, server_secret: bytes) -> OpenedSession:
        """Exchange a refresh token for its successor.

        Raises Unauthorized (``invalid_grant``); after a replay the whole session is revoked.
        Raises Unavailable.
        """
        session_id = token.partition(".")[0]
        nonce = secrets.token_urlsafe(16)
        successor = successor_of(server_secret, token, nonce)
        told = await self._rotate(
            [_session(session_id)],
            [token_hash(token), token_hash(successor), nonce, GRACE_MS, IDLE_MS, REVOKED_KEPT_MS],
        )
        outcome: Outcome = told[0].decode()
        if outcome not in ("rotated", "same"):
            if outcome == "replayed":
                log.warning("session.replayed", session_id=session_id, user_id=told[1].decode())
                self._asked.clear()
            raise _invalid_grant()
        user_id, started_us = told[1].decode(), int(told[2])
        if await self._user_revoked(user_id, started_us):
            raise _invalid_grant()
        if outcome == "same":
            successor = successor_of(server_secret, token, told[3].decode())
        return OpenedSession(session_id, user_id, started_us, successor)

    async def owner_of(self, token: str) -> str | None:
        """Return the session of a refresh token if it is the current or the last one."""
        session_id = token.partition(".")[0]
        with self._redis.guard():
            current, previous = await self._redis.client.hmget(
                _session(session_id), ["current", "previous"]
            )
        return session_id if token_hash(token).encode() in (current, previous) else None

    async def revoke(self, session_id: str) -> None:
        """End a session everywhere. Raises Unavailable."""
        await self._revoke([_session(session_id)], [REVOKED_KEPT_MS])
        self._asked.clear()

    async def revoke_user(self, user_id: str) -> None:
        """End all sessions that a user has now. Raises Unavailable."""
        await self._revoke_user([_user(user_id)], [LONGEST_MS])
        self._asked.clear()

    def ask_anew(self) -> None:
        """Something was revoked here: take nothing for granted that Redis said before."""
        self._asked.clear()

    async def is_revoked(self, principal: Principal) -> bool:
        """Whether what `principal` was recognised by is revoked; false while Redis is away.

        Redis is asked at most once in `REVOCATION_CACHE_S` for each.
        """
        marks = marks_of(principal)
        if principal.session_id is None and not marks:
            return False
        name = (principal.session_id or "", *marks)
        now = self._clock.monotonic_s()
        known = self._asked.get(name)
        if known is not None and now - known[0] < REVOCATION_CACHE_S:
            return known[1]
        try:
            revoked = await self._ask(principal, marks)
        except Unavailable:
            return known[1] if known is not None else False
        self._asked[name] = (now, revoked)
        self._asked.move_to_end(name)
        while len(self._asked) > CACHE_SIZE:
            self._asked.popitem(last=False)
        return revoked

    async def _ask(self, principal: Principal, marks: list[str]) -> bool:
        if marks:
            with self._redis.guard():
                if await self._redis.client.exists(*marks):
                    return True
        if principal.session_id is not None:
            with self._redis.guard():
                if await self._redis.client.hget(_session(principal.session_id), "revoked"):
                    return True
        if principal.user_id is None or principal.session_started_us is None:
            return False
        return await self._user_revoked(principal.user_id, principal.session_started_us)

    async def _user_revoked(self, user_id: str, started_us: int) -> bool:
        with self._redis.guard():
            since = await self._redis.client.get(_user(user_id))
        return since is not None and started_us <= int(since)


def _session(session_id: str) -> str:
    return f"ms:auth:session:{{{session_id}}}"


def _user(user_id: str) -> str:
    return f"ms:auth:user:{{{user_id}}}"


def _invalid_grant() -> Unauthorized:
    return Unauthorized(
        "this refresh token is not valid (any more); log in again", code="invalid_grant"
    )
