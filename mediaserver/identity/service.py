"""Identity, put together: recognises whoever comes with credentials, and owns all parts of it."""

import contextlib
import hmac
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from mediaserver.identity.accounts import Accounts
from mediaserver.identity.addresses import networks
from mediaserver.identity.api_keys import ApiKeys, looks_like_key
from mediaserver.identity.guests import Guests
from mediaserver.identity.invitations import Invitations
from mediaserver.identity.limits import Limits
from mediaserver.identity.passwords import Passwords
from mediaserver.identity.principal import PASSWORD_SCOPES, ROLE_SCOPES, STATIC, Principal
from mediaserver.identity.room_tokens import RoomTokens
from mediaserver.identity.sessions import UserSessions
from mediaserver.identity.signing import SigningKeys
from mediaserver.identity.tickets import Tickets
from mediaserver.identity.tokens import ACCESS, DEFAULT_ISSUER, ROOM, Tokens, looks_like_token
from mediaserver.identity.users import Users
from mediaserver.identity.vault import Vault
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unauthorized, Unavailable
from mediaserver.kernel.tasks import TaskScope
from mediaserver.settings import Settings
from mediaserver.stores.database import Database
from mediaserver.stores.redis import RedisStore


class Identity:
    """All of identity on one Redis and one database."""

    def __init__(
        self, settings: Settings, redis: RedisStore, database: Database, clock: Clock
    ) -> None:
        self._static = settings.api_key.get_secret_value() if settings.api_key else None
        self._clock = clock
        self._scope = TaskScope("identity")
        self.trusted_proxies = networks(settings.trusted_proxies)
        self.signing = SigningKeys(database, clock, _vault(settings))
        self.tokens = Tokens(self.signing, clock, settings.public_url or DEFAULT_ISSUER)
        self.room_tokens = RoomTokens(self.tokens, clock)
        self.invitations = Invitations(redis, self.tokens, clock)
        self.tickets = Tickets(redis)
        self.sessions = UserSessions(redis, clock)
        self.users = Users(database, clock)
        self.api_keys = ApiKeys(database, clock)
        self.passwords = Passwords()
        self.limits = Limits(redis, clock, settings.rate_limit)
        self.guests = Guests(redis, self.room_tokens, self.invitations, self.sessions, clock)
        self.accounts = Accounts(
            self.users, self.passwords, self.sessions, self.tokens, self.signing, clock
        )

    async def start(self) -> str | None:
        """Read the keys and keep them up to date. At the very first start of all an admin is made;
        return its one-time password then, to be shown once and never logged.

        Raises ConfigurationError where the signing keys are sealed with another secret key.
        """
        await self.signing.reload()
        self._scope.spawn("signing keys", self.signing.maintain())
        return await self.accounts.create_first_admin()

    async def aclose(self) -> None:
        """End what runs."""
        await self._scope.aclose()
        self.passwords.close()

    async def verify_bearer(self, token: str) -> Principal:
        """Return whose key or token it is: static key, API key, access token, or room token.

        Raises Unauthorized; Unavailable where the database is needed and away.
        """
        if self._static is not None and hmac.compare_digest(
            token.encode("utf-8", "replace"), self._static.encode()
        ):
            return STATIC
        if looks_like_key(token):
            return await self.api_keys.verify(token)
        if not looks_like_token(token):
            raise Unauthorized("the key is wrong", code="wrong_key")
        verify = self._verify_room if self.tokens.kind_of(token) is ROOM else self._verify_access
        return await self._unless_revoked(verify, token)

    async def take_ticket(self, ticket: str) -> Principal:
        """Return whose ticket it is, once. Raises Unauthorized, Unavailable."""
        return await self._unless_revoked(self.tickets.take, ticket)

    async def is_revoked(self, principal: Principal) -> bool:
        """Whether what `principal` came with was revoked since; false where that cannot be known.

        Cheap: asks Redis at most once a second for each session, SQL every 2 s for each key.
        """
        key_id = principal.id if principal.kind == "key" else principal.key_id
        if key_id is not None and await self._key_is_revoked(key_id):
            return True
        return await self.sessions.is_revoked(principal)

    async def _key_is_revoked(self, key_id: str) -> bool:
        with contextlib.suppress(Unavailable):
            return await self.api_keys.is_revoked(key_id)
        return False

    async def _unless_revoked(
        self, verify: Callable[[str], Awaitable[Principal]], token: str
    ) -> Principal:
        principal = await verify(token)
        if await self.is_revoked(principal):
            raise Unauthorized("this session is over; log in again", code="revoked")
        return principal

    async def _verify_room(self, token: str) -> Principal:
        return await self.room_tokens.verify(token)

    async def _verify_access(self, token: str) -> Principal:
        claims = await self.tokens.verify(ACCESS, token)
        try:
            principal = Principal(
                kind="user",
                id=claims["sub"],
                user_id=claims["sub"],
                name=claims["name"],
                role=claims["role"],
                scopes=frozenset(claims["scope"].split()),
                session_id=claims["sid"],
                session_started_us=claims["sst"],
                expires_at=claims["exp"],
            )
        except (ValidationError, AttributeError):  # of another version of the server
            raise Unauthorized("this token is not understood", code="invalid_token") from None
        if principal.scopes == PASSWORD_SCOPES or principal.role is None:
            return principal
        return principal.model_copy(
            update={"scopes": principal.scopes & ROLE_SCOPES[principal.role]}
        )


def _vault(settings: Settings) -> Vault:
    secrets = (settings.secret_key, settings.secret_key_previous)
    now, previous = (s.get_secret_value() if s is not None else None for s in secrets)
    return Vault(now, previous)
