"""JSON Web Tokens: signed with EdDSA, nothing else is taken (RFC 8725, RFC 9068)."""

from dataclasses import dataclass
from typing import Any

import jwt
from jwt.types import Options

from mediaserver.identity.signing import SigningKeys
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unauthorized

ALGORITHM = "EdDSA"
LEEWAY_S = 5.0
"""By which the clocks of two instances may differ."""
DEFAULT_ISSUER = "urn:mediaserver"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a token is for; none passes for another."""

    typ: str
    """The header's `typ`."""
    audience: str
    required: tuple[str, ...]
    """Claims beside iss, aud, exp, iat and jti."""


ACCESS = Kind("at+jwt", "api", ("sub", "sid", "sst", "role", "name", "scope"))
"""A user's access token. `sst`: when the session started, microseconds of Redis' clock."""
ROOM = Kind("room+jwt", "room", ("sub", "room", "name", "grants", "room_role"))
"""A room token."""
INVITATION = Kind("invite+jwt", "invitation", ("room", "room_role"))
"""An invitation to a room; `jti` is its id."""


def looks_like_token(text: str) -> bool:
    """Whether `text` has the form of a JWT."""
    return text.startswith("eyJ") and text.count(".") == 2


class Tokens:
    """Signs and verifies with the server's keys."""

    def __init__(self, keys: SigningKeys, clock: Clock, issuer: str) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer

    def sign(self, kind: Kind, token_id: str, expires_at: float, claims: dict[str, Any]) -> str:
        """Return a token. Raises Unavailable."""
        key = self._keys.signing
        payload = {
            **claims,
            "iss": self._issuer,
            "aud": kind.audience,
            "iat": int(self._clock.wall_s()),
            "exp": int(expires_at),
            "jti": token_id,
        }
        headers = {"typ": kind.typ, "kid": key.kid}
        return jwt.encode(payload, key.private, algorithm=ALGORITHM, headers=headers)

    async def verify(self, kind: Kind, token: str) -> dict[str, Any]:
        """Return the claims of a token of this kind. Raises Unauthorized, Unavailable."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _invalid() from None
        kid = header.get("kid")
        if header.get("alg") != ALGORITHM or header.get("typ") != kind.typ:
            raise _invalid()
        key = await self._keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise _invalid()
        options: Options = {
            "require": ["iss", "aud", "exp", "iat", "jti", *kind.required],
            "strict_aud": True,
            "enforce_minimum_key_length": True,
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=kind.audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options=options,
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("this token has expired; refresh it", code="expired") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _invalid() from None
        return claims

    def kind_of(self, token: str) -> Kind | None:
        """Return what a token says it is for; `verify` says whether that is true."""
        try:
            typ = jwt.get_unverified_header(token).get("typ")
        except jwt.PyJWTError:
            return None
        return next((kind for kind in (ACCESS, ROOM, INVITATION) if kind.typ == typ), None)


def _invalid() -> Unauthorized:
    return Unauthorized("this token is not valid here; log in again", code="invalid_token")
