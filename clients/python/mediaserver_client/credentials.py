"""As whom requests are made: a key, a token, or a login whose tokens are renewed by themselves."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from mediaserver_client.errors import Refused

EARLY_S = 60.0
"""Tokens are renewed this much before they expire, or when a fifth of their time is left."""
EARLY_SHARE = 0.2

TokenSource = Callable[[], Awaitable[str]]
"""Gives a new room token, from whoever makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What login and refresh give."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 # RFC 6749's name of the type
    expires_in_s: float
    refresh_token: str | None = None
    """None while the password must be changed."""
    refresh_expires_in_s: float | None = None
    must_change_password: bool = False
    """The access token is good for changing the password only."""


def expiry_of(token: str) -> float | None:
    """Return when a JSON Web Token expires (Unix seconds) by its own word; None for others."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return None


class Credentials:
    """One of: nothing, an API key, a room token or a source of them, a name with a password.

    `authorization` gives what to send now, renewed where it is about to expire. Many callers at
    once renew once: a refresh token works only once.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        token: str | TokenSource | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self._key = api_key
        self._source = token if callable(token) else None
        self._token = token if isinstance(token, str) else None
        self._user, self._password = user, password
        self._guest_of: str | None = None
        self._renewable_guest = False
        self._tokens: Tokens | None = None
        self._renew_at_s = float("-inf")
        self._renewing = asyncio.Lock()
        self._login: Callable[[str, str], Awaitable[Tokens]] | None = None
        self._refresh: Callable[[str], Awaitable[Tokens]] | None = None
        self._renew_guest: Callable[[str, str], Awaitable[str]] | None = None

    def bind(
        self,
        login: Callable[[str, str], Awaitable[Tokens]],
        refresh: Callable[[str], Awaitable[Tokens]],
        renew_guest: Callable[[str, str], Awaitable[str]],
    ) -> None:
        """Say how to log in, to refresh, and to renew a guest's token of a room."""
        self._login, self._refresh, self._renew_guest = login, refresh, renew_guest

    @property
    def renewable(self) -> bool:
        """Whether there will be a new token when this one has expired."""
        others = self._source is not None or self._user is not None or self._refreshable
        return others or self._renewable_guest

    @property
    def _refreshable(self) -> bool:
        return self._tokens is not None and self._tokens.refresh_token is not None

    @property
    def tokens(self) -> Tokens | None:
        """Those of the login, if there was one."""
        return self._tokens

    def take(self, tokens: Tokens | None) -> None:
        """Take what login or refresh gave; None after a logout."""
        self._tokens = tokens
        self._token = tokens.access_token if tokens is not None else None
        if tokens is not None:
            self._key = None
            self._renew_at_s = time.monotonic() + tokens.expires_in_s - early_s(tokens.expires_in_s)

    def become_guest(self, room: str, token: str) -> None:
        """Somebody without credentials was given a token of `room`."""
        if self._key is None and self._user is None and self._source is None:
            self._guest_of, self._renewable_guest = room, True
            self._take_token(token)

    def forget_guest(self) -> None:
        """The guest's token is of no use any more."""
        if self._guest_of is not None:
            self._token, self._guest_of, self._renewable_guest = None, None, False

    def _take_token(self, token: str) -> None:
        self._token = token
        expires_at = expiry_of(token)
        lives_s = float("inf") if expires_at is None else expires_at - time.time()
        self._renew_at_s = time.monotonic() + lives_s - early_s(lives_s)

    async def authorization(self, *, renew: bool = False) -> str | None:
        """Return the key or token to send; with `renew` a new one where that is possible.

        Raises Refused, ServerUnreachable.
        """
        if self._key is not None or not self.renewable:
            return self._key or self._token
        if renew or self._due:
            before = self._token
            async with self._renewing:
                # Another caller may have renewed it while this one waited.
                if self._token == before and (renew or self._due):
                    await self._renew()
        return self._token

    @property
    def _due(self) -> bool:
        return self._token is None or time.monotonic() >= self._renew_at_s

    async def _renew(self) -> None:
        if self._source is not None:
            self._take_token(await self._source())
            return
        if self._guest_of is not None and self._token is not None:
            await self._renew_as_guest(self._guest_of, self._token)
            return
        assert self._login is not None
        assert self._refresh is not None
        if self._tokens is not None and self._tokens.refresh_token is not None:
            try:
                self.take(await self._refresh(self._tokens.refresh_token))
                return
            except Refused as error:
                if error.problem.status != 401 or self._password is None:
                    raise
        assert self._user is not None
        assert self._password is not None
        self.take(await self._login(self._user, self._password))

    async def _renew_as_guest(self, room: str, token: str) -> None:
        """Without its invitation a guest stays for as long as its token lasts."""
        assert self._renew_guest is not None
        try:
            self._take_token(await self._renew_guest(room, token))
        except Refused as error:
            if error.problem.status != 403:
                raise
            self._renewable_guest = False


def early_s(lives_s: float) -> float:
    """How long before its end a token of this life is renewed."""
    return min(EARLY_S, EARLY_SHARE * max(0.0, lives_s)) if lives_s != float("inf") else 0.0
