"""Room tokens: a JWT that says which room, as whom, with which grants."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mediaserver.identity.principal import GUEST_SCOPES, Principal
from mediaserver.identity.tokens import ROOM, Tokens
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unauthorized
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.identity import RoomTokenAnswer, RoomTokenRequest
from mediaserver.protocol.rooms import Grants, RoomRole

GUEST_TOKEN_S = 12 * 3600.0


class RoomTokens:
    """Mints and reads room tokens."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def for_subject(self, room: str, asked: RoomTokenRequest, maker: Principal) -> RoomTokenAnswer:
        """Mint for a user of the maker's own: its id becomes ``MAKER:SUBJECT``.

        What an API key minted ends with the key.
        """
        return self.mint(
            room,
            subject=f"{maker.id}:{asked.subject}",
            name=asked.name or asked.subject,
            role=asked.role,
            grants=asked.grants,
            lives_s=asked.expires_in_s,
            extra={"key": maker.id} if maker.kind == "key" else None,
        )

    def for_guest(self, room: str, name: str, role: RoomRole, grants: Grants) -> RoomTokenAnswer:
        """Mint for somebody without an account."""
        return self.mint(
            room,
            subject=new_id("guest"),
            name=name,
            role=role,
            grants=grants,
            lives_s=GUEST_TOKEN_S,
        )

    def for_user(
        self, room: str, user: Principal, role: RoomRole, grants: Grants, lives_s: float
    ) -> RoomTokenAnswer:
        """Mint for a user of this server; it ends with the session that it is made in."""
        extra: dict[str, Any] = {"user": user.user_id or user.id}
        if user.session_id is not None:
            extra |= {"sid": user.session_id, "sst": user.session_started_us}
        return self.mint(
            room,
            subject=user.id,
            name=user.name,
            role=role,
            grants=grants,
            lives_s=lives_s,
            extra=extra,
        )

    def mint(
        self,
        room: str,
        *,
        subject: str,
        name: str,
        role: RoomRole,
        grants: Grants,
        lives_s: float,
        extra: Mapping[str, Any] | None = None,
    ) -> RoomTokenAnswer:
        """Sign a room token. Raises Unavailable."""
        token_id = new_id("rt")
        expires_at = float(int(self._clock.wall_s() + lives_s))
        claims = {
            **(extra or {}),
            "sub": subject,
            "room": room,
            "name": name,
            "room_role": role,
            "grants": [name for name, given in grants.model_dump().items() if given],
        }
        return RoomTokenAnswer(
            token=self._tokens.sign(ROOM, token_id, expires_at, claims),
            id=token_id,
            room=room,
            subject=subject,
            expires_at=expires_at,
        )

    async def verify(self, token: str) -> Principal:
        """Return whose token it is. Raises Unauthorized, Unavailable."""
        claims = await self._tokens.verify(ROOM, token)
        try:
            user_id = claims.get("user")
            return Principal(
                kind="guest" if user_id is None else "user",
                id=claims["sub"],
                name=claims["name"],
                scopes=GUEST_SCOPES,
                user_id=user_id,
                session_id=claims.get("sid"),
                session_started_us=claims.get("sst"),
                token_id=claims["jti"],
                key_id=claims.get("key"),
                expires_at=claims["exp"],
                room=claims["room"],
                room_role=claims["room_role"],
                grants=Grants.model_validate(dict.fromkeys(claims["grants"], True)),
            )
        except (ValidationError, TypeError):  # of another version of the server
            raise Unauthorized("this token is not understood", code="invalid_token") from None
