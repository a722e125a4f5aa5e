"""Who may see, change and moderate a room by HTTP, and how somebody is sent away from outside."""

import contextlib
from collections.abc import Iterable

from aiohttp import web

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import Forbidden, NotFound
from mediaserver.rooms.grants import grants_of
from mediaserver.rooms.state import MemberRecord, RoomState
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.door import check_room, is_admin, may_enter_any, room_name, subject_of


def room_of(request: web.Request) -> str:
    """Return the room of the path.

    Raises BadInput, and Forbidden for credentials that are for another room.
    """
    room = room_name(request.match_info["room"])
    principal = request.get(keys.PRINCIPAL)
    if principal is not None:
        check_room(principal, room)
    return room


def is_here(subject: str, state: RoomState) -> bool:
    """Whether somebody is in the room, or has just been."""
    members = (*state.members.values(), *(place.member for place in state.places.values()))
    return bool(subject) and any(member.subject == subject for member in members)


def owns(principal: Principal, state: RoomState) -> bool:
    """Whether it made the room."""
    if state.owner is None:
        return principal.kind == "local"
    return subject_of(principal) == state.owner


def refuse_banned(request: web.Request, principal: Principal, state: RoomState) -> None:
    """Raise Forbidden for whom the room has banned."""
    subject = subject_of(principal)
    ban = state.bans.get(subject) if subject else None
    if ban is not None and (ban.until is None or ban.until > request.app[keys.ROOMS].now_s()):
        raise Forbidden(f"you are banned from room {state.room}", code="banned")


async def seen(request: web.Request) -> RoomState:
    """Return a room that the request may see.

    Raises NotFound (what is private is not told), Forbidden (``banned``).
    """
    room, principal = room_of(request), principal_of(request)
    state = await request.app[keys.ROOMS].directory.load(room)
    refuse_banned(request, principal, state)
    if state.settings.visibility == "public" or may_enter_any(principal):
        return state
    if owns(principal, state) or is_here(subject_of(principal), state):
        return state
    raise NotFound(f"there is no room {room} (any more)", code="no_room")


async def managed(request: web.Request) -> RoomState:
    """Return a room that the request may change. Raises NotFound, Forbidden."""
    principal, state = principal_of(request), await seen(request)
    if rules(principal, state) or any(
        grants_of(m, state.settings).room_admin for m in members_of(principal, state)
    ):
        return state
    raise Forbidden("only the room's host may do this", code="not_granted")


def rules(principal: Principal, state: RoomState) -> bool:
    """Whether it is above the room's host: its owner, or an admin."""
    return is_admin(principal) or owns(principal, state)


def members_of(principal: Principal, state: RoomState) -> list[MemberRecord]:
    """Return as which members it is in the room."""
    subject = subject_of(principal)
    return [m for m in state.members.values() if subject and m.subject == subject]


async def expel(request: web.Request, room: str, subjects: Iterable[str]) -> None:
    """Send members away, wherever they are connected."""
    gone = frozenset(subjects) - {""}
    if gone:
        with contextlib.suppress(NotFound):
            await request.app[keys.ROOMS].directory.expel(room, gone)
