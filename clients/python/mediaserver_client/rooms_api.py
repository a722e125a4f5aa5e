"""Rooms over HTTP: made, changed, invited to, and who may come in."""

from dataclasses import asdict
from typing import Literal, Unpack

from mediaserver_client.requests import ROOMS, Requests, as_list
from mediaserver_client.room_types import (
    ChatPage,
    Grants,
    Invitation,
    JoinTicket,
    MemberInfo,
    RoomChange,
    RoomInfo,
    RoomRole,
    RoomToken,
    RoomTokenInfo,
    SettingChanges,
    Visibility,
)
from mediaserver_client.wire import from_json


class RoomsApi(Requests):
    """The part of `Api` that is about rooms."""

    # ---- rooms -----------------------------------------------------------------------------

    async def create_room(
        self,
        name: str | None = None,
        *,
        title: str = "",
        visibility: Visibility = "public",
        persistent: bool = False,
        slow_mode_s: float = 0.0,
        everyone_controls: bool = True,
    ) -> RoomInfo:
        """Make a room; whoever made it is its host when joining. `name` is made up if None."""
        body = {
            "name": name,
            "title": title,
            "visibility": visibility,
            "persistent": persistent,
            "slow_mode_s": slow_mode_s,
            "everyone_controls": everyone_controls,
        }
        return await self._get(RoomInfo, "POST", ROOMS, body)

    async def rooms(self) -> tuple[RoomInfo, ...]:
        """The public rooms, and one's own."""
        return as_list(RoomInfo, await self._request("GET", ROOMS), "rooms")

    async def room(self, room: str) -> RoomInfo:
        """A room as it is now."""
        return await self._get(RoomInfo, "GET", f"{ROOMS}/{room}")

    async def change_room(self, room: str, **changes: Unpack[SettingChanges]) -> RoomInfo:
        """Change a room's settings; what is not named stays."""
        body = asdict(RoomChange(**changes))
        return await self._get(RoomInfo, "PATCH", f"{ROOMS}/{room}", body)

    async def close_room(self, room: str) -> None:
        """Close a room: all members are sent away."""
        await self._request("DELETE", f"{ROOMS}/{room}")

    async def members(self, room: str) -> tuple[MemberInfo, ...]:
        """Who is in a room."""
        return as_list(MemberInfo, await self._request("GET", f"{ROOMS}/{room}/members"), "members")

    async def chat_history(
        self, room: str, *, before: str | None = None, limit: int = 50
    ) -> ChatPage:
        """Messages in their order: the newest, or those before the message `before`."""
        params = {"limit": str(limit), **({"before": before} if before is not None else {})}
        answer = await self._request("GET", f"{ROOMS}/{room}/chat", params=params)
        return from_json(ChatPage, answer)

    # ---- the way in ------------------------------------------------------------------------

    async def invite(
        self,
        room: str,
        *,
        role: Literal["cohost", "member", "listener"] = "member",
        expires_in_s: int = 86_400,
        max_uses: int | None = None,
    ) -> Invitation:
        """Make an invitation: its `url` is for people, its `token` for `join_room`."""
        body = {"role": role, "expires_in_s": expires_in_s, "max_uses": max_uses}
        return await self._get(Invitation, "POST", f"{ROOMS}/{room}/invitations", body)

    async def invitations(self, room: str) -> tuple[Invitation, ...]:
        """Those that are still good, without tokens."""
        answer = await self._request("GET", f"{ROOMS}/{room}/invitations")
        return as_list(Invitation, answer, "invitations")

    async def revoke_invitation(
        self, room: str, invitation_id: str, *, keep_guests: bool = False
    ) -> None:
        """Take an invitation back; whoever came by it is sent away, unless `keep_guests`."""
        params = {"keep_guests": "true"} if keep_guests else None
        path = f"{ROOMS}/{room}/invitations/{invitation_id}"
        await self._request("DELETE", path, params=params)

    async def join(self, room: str, *, name: str = "", invitation: str | None = None) -> JoinTicket:
        """Ask for a ticket. `join_room` does this by itself."""
        body = {"name": name, "invitation": invitation}
        path = f"{ROOMS}/{room}/join"
        return from_json(JoinTicket, await self._request("POST", path, body, repeatable=True))

    async def make_room_token(
        self,
        room: str,
        subject: str,
        *,
        grants: Grants,
        name: str = "",
        role: RoomRole = "member",
        expires_in_s: int = 3600,
    ) -> RoomToken:
        """Make a token for a user of one's own, who may then `join_room` with it.

        `subject` is your id of that user. Needs the scope `rooms:tokens`.
        """
        body = {
            "subject": subject,
            "name": name,
            "role": role,
            "grants": asdict(grants),
            "expires_in_s": expires_in_s,
        }
        return await self._get(RoomToken, "POST", f"{ROOMS}/{room}/tokens", body)

    async def room_tokens(self, room: str) -> tuple[RoomTokenInfo, ...]:
        """Who may come by a token, guests too; the newest 1000. For hosts and co-hosts.

        Also with the scope `rooms:tokens`.
        """
        answer = await self._request("GET", f"{ROOMS}/{room}/tokens")
        return as_list(RoomTokenInfo, answer, "tokens")

    async def revoke_room_token(self, room: str, token_id: str) -> None:
        """End a token; whoever is in the room by it is sent away."""
        await self._request("DELETE", f"{ROOMS}/{room}/tokens/{token_id}")

    async def renew_room_token(self, room: str) -> RoomToken:
        """Get a later token in exchange for a guest's; `join_room` does this by itself."""
        return await self._get(RoomToken, "POST", f"{ROOMS}/{room}/tokens/renew")
