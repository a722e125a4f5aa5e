"""API keys in SQL: ``ms_ID.SECRET``, of which only SHA-256 of the secret is stored."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from mediaserver.identity.principal import ROLE_SCOPES, Principal
from mediaserver.identity.tables import API_KEYS, USERS
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Forbidden, NotFound, Unauthorized
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.identity import ApiKeyInfo
from mediaserver.stores.database import Database

PREFIX = "ms"
CACHE_S = 2.0
"""How long a key that was revoked elsewhere may go on being taken."""
CACHE_SIZE = 4096
LAST_USE_RESOLUTION_S = 60.0
MAX_LISTED = 10_000


@dataclass(slots=True)
class _Known:
    principal: Principal
    secret_sha256: str
    last_used_at: float | None
    read_at: float
    """Monotonic."""


def looks_like_key(text: str) -> bool:
    """Whether `text` has the form of an API key of ours."""
    return text.startswith(f"{PREFIX}_") and "." in text


class ApiKeys:
    """The table of API keys. Every method may raise Unavailable (``database_down``)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._cache: OrderedDict[str, _Known] = OrderedDict()

    async def create(
        self, name: str, scopes: frozenset[str], *, user_id: str | None, expires_in_s: float | None
    ) -> ApiKeyInfo:
        """Make a key; the answer is the only place where it can be read."""
        key_id, secret = new_id(PREFIX, 16), secrets.token_urlsafe(32)
        now = self._clock.wall_s()
        values = {
            "id": key_id,
            "name": name,
            "secret_sha256": _sha256(secret),
            "scopes": " ".join(sorted(scopes)),
            "user_id": user_id,
            "created_at": now,
            "expires_at": None if expires_in_s is None else now + expires_in_s,
            "last_used_at": None,
            "revoked_at": None,
        }
        async with self._database.begin() as connection:
            await connection.execute(sa.insert(API_KEYS).values(values))
        return _info(values, key=f"{key_id}.{secret}")

    async def all(self, user_id: str | None = None) -> list[ApiKeyInfo]:
        """Return all keys (of that user), the newest first."""
        query = sa.select(API_KEYS).order_by(API_KEYS.c.created_at.desc()).limit(MAX_LISTED)
        if user_id is not None:
            query = query.where(API_KEYS.c.user_id == user_id)
        async with self._database.begin() as connection:
            return [_info(dict(row._mapping)) for row in await connection.execute(query)]

    async def revoke(self, key_id: str, user_id: str | None = None) -> None:
        """Make a key worthless (if it is that user's). Raises NotFound."""
        condition = API_KEYS.c.id == key_id
        if user_id is not None:
            condition &= API_KEYS.c.user_id == user_id
        statement = (
            sa.update(API_KEYS)
            .where(condition)
            .values(revoked_at=sa.func.coalesce(API_KEYS.c.revoked_at, self._clock.wall_s()))
        )
        async with self._database.begin() as connection:
            done = await connection.execute(statement)
        self._cache.pop(key_id, None)
        if done.rowcount == 0:
            raise NotFound(f"there is no key {key_id}", code="no_such_key")

    async def verify(self, presented: str) -> Principal:
        """Return whose key it is. Raises Unauthorized."""
        key_id, _, secret = presented.partition(".")
        known = self._cache.get(key_id)
        if known is None or self._clock.monotonic_s() - known.read_at > CACHE_S:
            known = await self._read(key_id)
        digest = _sha256(secret)
        if known is None or not hmac.compare_digest(known.secret_sha256, digest):
            raise _wrong()
        now = self._clock.wall_s()
        expires_at = known.principal.expires_at
        if expires_at is not None and expires_at <= now:
            raise Unauthorized("this API key has expired; make a new one", code="key_expired")
        if known.last_used_at is None or now - known.last_used_at >= LAST_USE_RESOLUTION_S:
            known.last_used_at = now
            async with self._database.begin() as connection:
                await connection.execute(
                    sa.update(API_KEYS).where(API_KEYS.c.id == key_id).values(last_used_at=now)
                )
        return known.principal

    async def is_revoked(self, key_id: str) -> bool:
        """Whether a key is worthless by now, as far as `CACHE_S` tells."""
        known = self._cache.get(key_id)
        if known is None or self._clock.monotonic_s() - known.read_at > CACHE_S:
            known = await self._read(key_id)
        if known is None:
            return True
        expires_at = known.principal.expires_at
        return expires_at is not None and expires_at <= self._clock.wall_s()

    async def _read(self, key_id: str) -> _Known | None:
        self._cache.pop(key_id, None)
        query = (
            sa.select(API_KEYS, USERS.c.role.label("owner_role"), USERS.c.disabled)
            .select_from(API_KEYS.outerjoin(USERS, API_KEYS.c.user_id == USERS.c.id))
            .where(API_KEYS.c.id == key_id)
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.revoked_at is not None or row.disabled:
            return None
        scopes = frozenset(row.scopes.split())
        if row.owner_role is not None:  # a key never does more than its owner may today
            scopes &= ROLE_SCOPES[row.owner_role]
        principal = Principal(
            kind="key",
            id=row.id,
            name=row.name,
            scopes=scopes,
            user_id=row.user_id,
            expires_at=row.expires_at,
        )
        known = _Known(principal, row.secret_sha256, row.last_used_at, self._clock.monotonic_s())
        self._cache[key_id] = known
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return known


def check_scopes(asked: frozenset[str], maker: Principal) -> None:
    """Raise Forbidden where a key would be mightier than who makes it."""
    if missing := sorted(asked - maker.scopes):
        raise Forbidden(
            f"you cannot give what you do not have: {', '.join(missing)}", code="scope_missing"
        )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _wrong() -> Unauthorized:
    return Unauthorized("the key is wrong, or was revoked", code="wrong_key")


def _info(row: Mapping[str, object], key: str | None = None) -> ApiKeyInfo:
    kept = {name: value for name, value in row.items() if name != "secret_sha256"}
    return ApiKeyInfo.model_validate({**kept, "scopes": str(row["scopes"]).split(), "key": key})
