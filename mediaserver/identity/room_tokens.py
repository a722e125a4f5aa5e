"""Room tokens: a JWT that says which room, as whom, with which grants."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mediaserver.identity.invitations import Invited
from mediaserver.identity.principal import GUEST_SCOPES, Principal
from mediaserver.identity.tokens import ROOM, Tokens
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unauthorized
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.identity import RoomTokenAnswer, RoomTokenRequest
from mediaserver.protocol.rooms import Grants, RoomRole

GUEST_TOKEN_S = 12 * 3600.0
"""Of a guest that came by an invitation; it can be renewed as long as that is good."""


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

    def for_guest(
        self, invited: Invited, guest_id: str, name: str, grants: Grants
    ) -> RoomTokenAnswer:
        """Mint for somebody without an account, who ends with the invitation."""
        return self.mint(
            invited.room,
            subject=guest_id,
            name=name,
            role=invited.role,
            grants=grants,
            lives_s=GUEST_TOKEN_S,
            extra={"inv": invited.id},
        )

    def again(self, guest: Principal) -> RoomTokenAnswer:
        """Mint a later one for a guest that came by an invitation; its id stays."""
        assert guest.room is not None
        assert guest.room_role is not None
        assert guest.grants is not None
        return self.mint(
            guest.room,
            subject=guest.id,
            name=guest.name,
            role=guest.room_role,
            grants=guest.grants,
            lives_s=GUEST_TOKEN_S,
            extra={"inv": guest.invitation_id},
            token_id=guest.token_id,
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
        token_id: str | None = None,
    ) -> RoomTokenAnswer:
        """Sign a room token; with `token_id` one that goes on that token. Raises Unavailable."""
        jwt_id = new_id("rt")
        expires_at = float(int(self._clock.wall_s() + lives_s))
        claims = {
            **(extra or {}),
            **({"of": token_id} if token_id is not None else {}),
            "sub": subject,
            "room": room,
            "name": name,
            "room_role": role,
            "grants": [name for name, given in grants.model_dump().items() if given],
        }
        return RoomTokenAnswer(
            token=self._tokens.sign(ROOM, jwt_id, expires_at, claims),
            id=token_id or jwt_id,
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
                token_id=claims.get("of", claims["jti"]),
                invitation_id=claims.get("inv"),
                key_id=claims.get("key"),
                expires_at=claims["exp"],
                room=claims["room"],
                room_role=claims["room_role"],
                grants=Grants.model_validate(dict.fromkeys(claims["grants"], True)),
            )
        except (ValidationError, TypeError):  # of another version of the server
            raise Unauthorized("this token is not understood", code="invalid_token") from None
