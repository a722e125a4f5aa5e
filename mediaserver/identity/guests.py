"""Those who come to a room by a token: let in, renewed, listed, and ended one by one or together.

What is revoked here is refused by every instance from its next look at Redis. Whoever is in the
room by it is sent away by the room: the subjects that are returned say who that is.
"""

import contextlib
from collections.abc import Iterable, Iterator

from mediaserver.identity.invitations import Invitations
from mediaserver.identity.principal import Principal
from mediaserver.identity.room_tokens import RoomTokens
from mediaserver.identity.sessions import UserSessions
from mediaserver.identity.token_register import TokenRegister
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Forbidden, NotFound, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import RoomTokenAnswer, RoomTokenInfo, RoomTokenRequest
from mediaserver.protocol.rooms import Grants
from mediaserver.stores.redis import RedisStore

log = get_logger(__name__)


class Guests:
    """Room tokens and invitations together. Without Redis all methods raise Unavailable."""

    def __init__(
        self,
        redis: RedisStore,
        room_tokens: RoomTokens,
        invitations: Invitations,
        sessions: UserSessions,
        clock: Clock,
    ) -> None:
        self._room_tokens = room_tokens
        self._invitations = invitations
        self._sessions = sessions
        self._clock = clock
        self._register = TokenRegister(redis)

    # ---- coming and staying -------------------------------------------------------------------

    async def mint(self, room: str, asked: RoomTokenRequest, maker: Principal) -> RoomTokenAnswer:
        """Make a token for a user of the maker's own. Raises Overloaded (``tokens_full``)."""
        minted = self._room_tokens.for_subject(room, asked, maker)
        await self._keep(await self._room_tokens.verify(minted.token), minted)
        return minted

    async def invited(self, room: str, invitation: str, principal: Principal) -> Principal:
        """Use an invitation as somebody with an account or key; return it with the role it gives.

        Raises Unauthorized, Forbidden (``invitation_revoked``, ``invitation_used_up``).
        """
        taken = await self._invitations.take(invitation, room, principal.subject)
        given = {"room": room, "room_role": taken.role, "invitation_id": taken.id}
        return principal.model_copy(update=given)

    async def welcome(
        self, room: str, invitation: str, name: str, grants: Grants
    ) -> tuple[Principal, RoomTokenAnswer]:
        """Use an invitation as somebody without credentials: a guest, with a token of its own.

        Raises as `invited`; Overloaded (``tokens_full``).
        """
        guest_id = new_id("guest")
        guest = Principal(kind="guest", id=guest_id, name=name)
        taken = await self._invitations.take(invitation, room, guest.subject)
        minted = self._room_tokens.for_guest(taken, guest_id, name, grants)
        principal = await self._room_tokens.verify(minted.token)
        await self._keep(principal, minted)
        return principal, minted

    async def renew(self, guest: Principal) -> RoomTokenAnswer:
        """Make a later token for a guest, whose id stays, and that of its token.

        Raises Forbidden: its invitation is revoked or over, or it did not come by one.
        """
        if guest.kind != "guest" or guest.room is None or guest.invitation_id is None:
            raise Forbidden(
                "this is for guests who came by an invitation; others get a new token where they "
                "got this one",
                code="not_renewable",
            )
        if not await self._invitations.is_good(guest.room, guest.invitation_id):
            raise Forbidden(
                "the invitation is over, or was taken back; ask for another one",
                code="invitation_revoked",
            )
        minted = self._room_tokens.again(guest)
        await self._keep(guest, minted)
        return minted

    async def _keep(self, holder: Principal, minted: RoomTokenAnswer) -> None:
        assert holder.room_role is not None
        assert holder.grants is not None
        info = RoomTokenInfo(
            id=minted.id,
            subject=minted.subject,
            name=holder.name,
            role=holder.room_role,
            grants=holder.grants,
            created_at=self._clock.wall_s(),
            expires_at=minted.expires_at,
            invitation_id=holder.invitation_id,
        )
        await self._register.add(minted.room, info)

    # ---- who is there, and the end ------------------------------------------------------------

    async def all(self, room: str) -> list[RoomTokenInfo]:
        """Return the room's tokens that are good, the newest first."""
        return await self._register.all(room)

    async def get(self, room: str, token_id: str) -> RoomTokenInfo:
        """Return what is known of a token. Raises NotFound."""
        return await self._register.get(room, token_id)

    async def revoke(self, room: str, token_id: str) -> None:
        """End a token."""
        await self._register.revoke(room, token_id)
        self._sessions.ask_anew()
        log.info("room_token.revoked", id=token_id, room=room)

    async def kicked(self, room: str, subjects: Iterable[str]) -> None:
        """End all tokens that these subjects (``guest:…``) have for the room. Raises nothing."""
        with _as_far_as_possible(room):
            for info in await self._of(room, subjects):
                await self.revoke(room, info.id)

    async def banned(self, room: str, subjects: Iterable[str]) -> None:
        """Take the invitations back that these subjects came by; others who did may stay.

        The room itself refuses the subjects, for as long as the ban lasts. Raises nothing.
        """
        with _as_far_as_possible(room):
            for invitation_id in {i.invitation_id for i in await self._of(room, subjects)} - {None}:
                assert invitation_id is not None
                with contextlib.suppress(NotFound):
                    await self._invitations.revoke(room, invitation_id, keep_guests=True)
                    log.info("invitation.revoked", id=invitation_id, room=room, why="ban")

    async def closed(self, room: str) -> None:
        """End all invitations and tokens of a room that is closed: its name may be taken again.

        Raises nothing.
        """
        with _as_far_as_possible(room):
            await self._invitations.revoke_all(room)
            for info in await self._register.all(room):
                await self._register.revoke(room, info.id)
            self._sessions.ask_anew()

    async def revoke_invitation(
        self, room: str, invitation_id: str, *, keep_guests: bool
    ) -> frozenset[str]:
        """Take an invitation back, and (unless `keep_guests`) end those who came by it.

        Returns their subjects. Raises NotFound.
        """
        ended = await self._invitations.revoke(room, invitation_id, keep_guests=keep_guests)
        self._sessions.ask_anew()
        if not keep_guests:
            await self._register.forget(room, invitation_id)
        log.info("invitation.revoked", id=invitation_id, room=room, ended=len(ended))
        return ended

    async def _of(self, room: str, subjects: Iterable[str]) -> list[RoomTokenInfo]:
        wanted = {s for s in subjects if s.startswith("guest:")}
        if not wanted:
            return []
        return [
            info for info in await self._register.all(room) if f"guest:{info.subject}" in wanted
        ]


@contextlib.contextmanager
def _as_far_as_possible(room: str) -> Iterator[None]:
    """What these follow from was done, and cannot be undone where Redis is away now."""
    try:
        yield
    except Unavailable:
        log.warning("room_token.not_revoked", room=room)
