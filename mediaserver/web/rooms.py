"""``/api/v1/rooms``: rooms as resources, invitations to them, and the tickets that lead in."""

from aiohttp import web

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import BadInput, Conflict, Forbidden, NotFound
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.chat import ChatPage
from mediaserver.protocol.messages import RoomName
from mediaserver.protocol.rooms import (
    Invitation,
    InvitationCreate,
    InvitationList,
    JoinRequest,
    JoinTicket,
    MemberList,
    RoomChange,
    RoomCreate,
    RoomInfo,
    RoomList,
    RoomSettings,
)
from mediaserver.rooms.grants import ALL
from mediaserver.rooms.moderation import clean_name
from mediaserver.rooms.state import RoomState
from mediaserver.rooms.view import view_of
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.door import is_admin, may_enter_any, subject_of
from mediaserver.web.login import JSON, answer
from mediaserver.web.room_access import (
    expel,
    is_here,
    managed,
    owns,
    refuse_banned,
    room_of,
    seen,
)
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

_PATH = "/api/v1/rooms/{room}"
MAX_CHAT_PAGE = 200


# ---- rooms ---------------------------------------------------------------------------------


async def _create(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RoomCreate, may_be_empty=True)
    principal, directory = principal_of(request), request.app[keys.ROOMS].directory
    room = asked.name or new_id("room", 10)
    settings = RoomSettings(
        title=asked.title,
        visibility=asked.visibility,
        persistent=asked.persistent,
        slow_mode_s=asked.slow_mode_s,
        everyone_controls=asked.everyone_controls,
    )
    if not await directory.create(room, settings, subject_of(principal) or None):
        raise Conflict(f"there is a room {room} already; take another name", code="room_exists")
    log.info("room.created", room=room, by=principal.id)
    response = answer(view_of(await directory.load(room)).info, status=201)
    response.headers["Location"] = f"/api/v1/rooms/{room}"
    return response


async def _list(request: web.Request) -> web.StreamResponse:
    principal = principal_of(request)
    subject, all_of_them = subject_of(principal), is_admin(principal)

    def shown(state: RoomState) -> bool:
        if principal.room is not None:
            return state.room == principal.room
        public = state.settings.visibility == "public"
        own = bool(subject) and subject == state.owner
        return public or own or all_of_them or is_here(subject, state)

    rooms = await request.app[keys.ROOMS].directory.list(shown)
    return answer(RoomList(rooms=tuple(rooms)))


async def _get(request: web.Request) -> web.StreamResponse:
    return answer(view_of(await seen(request)).info)


async def _change(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RoomChange)
    state = await managed(request)
    return answer(await request.app[keys.ROOMS].directory.change(state.room, asked))


async def _close(request: web.Request) -> web.StreamResponse:
    state = await managed(request)
    await request.app[keys.ROOMS].directory.close(state.room, "the room was closed")
    await request.app[keys.IDENTITY].guests.closed(state.room)
    log.info("room.closed", room=state.room, by=principal_of(request).id)
    return web.Response(status=204)


async def _members(request: web.Request) -> web.StreamResponse:
    view = view_of(await seen(request))
    return answer(MemberList(members=tuple(view.members.values())))


async def _chat(request: web.Request) -> web.StreamResponse:
    state = await seen(request)
    limit = request.query.get("limit", "50")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:6]) <= MAX_CHAT_PAGE):
        raise BadInput(f"limit: 1 to {MAX_CHAT_PAGE}", code="bad_limit")
    messages = list(await request.app[keys.ROOMS].directory.chat(state.room))
    if before := request.query.get("before"):
        ids = [message.id for message in messages]
        messages = messages[: ids.index(before)] if before in ids else []
    page = messages[-int(limit) :]
    return answer(ChatPage(messages=tuple(page), more=len(page) < len(messages)))


# ---- invitations ---------------------------------------------------------------------------


async def _invite(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, InvitationCreate, may_be_empty=True)
    state = await managed(request)
    made = await request.app[keys.IDENTITY].invitations.create(
        state.room, asked.role, expires_in_s=asked.expires_in_s, max_uses=asked.max_uses
    )
    base = request.app[keys.SETTINGS].public_url or f"{request.scheme}://{request.host}"
    url = f"{base.rstrip('/')}/#room={state.room}&invitation={made.token}"
    return answer(made.model_copy(update={"url": url}), status=201)


async def _invitations(request: web.Request) -> web.StreamResponse:
    state = await managed(request)
    found = await request.app[keys.IDENTITY].invitations.all(state.room)
    return answer(InvitationList(invitations=tuple(found)))


async def _uninvite(request: web.Request) -> web.StreamResponse:
    keep = request.query.get("keep_guests", "false")
    if keep not in ("true", "false"):
        raise BadInput("keep_guests: true or false", code="bad_query")
    state = await managed(request)
    ended = await request.app[keys.IDENTITY].guests.revoke_invitation(
        state.room, request.match_info["invitation"], keep_guests=keep == "true"
    )
    await expel(request, state.room, ended)
    return web.Response(status=204)


# ---- the way in ----------------------------------------------------------------------------


async def _join(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, JoinRequest, may_be_empty=True)
    room, identity = room_of(request), request.app[keys.IDENTITY]
    name = clean_name(asked.name)
    principal, token = await _who_joins(request, room, asked, name)
    await _check_door(request, room, principal)
    update = {"room": room, "name": name or principal.name}
    ticket = await identity.tickets.issue(principal.model_copy(update=update))
    return answer(
        JoinTicket(
            ticket=ticket,
            path=f"/ws?ticket={ticket}",
            expires_in_s=30.0,
            room=room,
            role=principal.room_role,
            grants=principal.grants if principal.grants is not None else ALL,
            token=token,
            token_expires_at=principal.expires_at if token is not None else None,
        )
    )


async def _who_joins(
    request: web.Request, room: str, asked: JoinRequest, name: str
) -> tuple[Principal, str | None]:
    """Return as whom the ticket will be, and a guest's new token.

    Raises Unauthorized, Forbidden, Unavailable.
    """
    identity, principal = request.app[keys.IDENTITY], request.get(keys.PRINCIPAL)
    if asked.invitation is None or (principal is not None and principal.room is not None):
        principal = principal_of(request)
        if not principal.may("rooms"):
            raise Forbidden("this needs the scope rooms", code="scope_missing")
        return principal, None
    if principal is not None:
        return await identity.guests.invited(room, asked.invitation, principal), None
    guest, minted = await identity.guests.welcome(room, asked.invitation, name or "guest", ALL)
    return guest, minted.token


async def _check_door(request: web.Request, room: str, principal: Principal) -> None:
    """Refuse here, where a page can read why, what `/ws` would refuse.

    Raises NotFound, Forbidden, Unavailable.
    """
    try:
        state = await request.app[keys.ROOMS].directory.load(room)
    except NotFound:
        if principal.may("rooms:create"):
            return
        raise
    refuse_banned(request, principal, state)
    private = state.settings.visibility == "private"
    known = may_enter_any(principal) or owns(principal, state)
    known = known or is_here(subject_of(principal), state)
    if private and not known:
        raise Forbidden(
            f"room {room} is private: come with an invitation, or ask its host for one",
            code="invitation_needed",
        )


def routes() -> Routes:
    """Rooms, their invitations, and the way in."""
    room = Parameter("room", "The room", RoomName, "path")
    table = Routes("rooms")
    table.add(
        "POST",
        "/api/v1/rooms",
        _create,
        summary="Make a room",
        scope="rooms:create",
        request=(Content("Name and settings; all optional", JSON, RoomCreate),),
        responses={201: Content("The room", JSON, RoomInfo, (("Location", "Where it is"),))},
    )
    table.add(
        "GET",
        "/api/v1/rooms",
        _list,
        summary="The public rooms, and one's own",
        scope="rooms",
        responses={200: Content("Rooms, the newest first", JSON, RoomList)},
    )
    table.add(
        "GET",
        _PATH,
        _get,
        summary="A room",
        scope="rooms",
        parameters=(room,),
        responses={200: Content("The room", JSON, RoomInfo)},
    )
    table.add(
        "PATCH",
        _PATH,
        _change,
        summary="Change a room's settings",
        scope="rooms",
        parameters=(room,),
        request=(Content("What changes", JSON, RoomChange),),
        responses={200: Content("The room", JSON, RoomInfo)},
    )
    table.add(
        "DELETE",
        _PATH,
        _close,
        summary="Close a room",
        scope="rooms",
        parameters=(room,),
        responses={204: Content("It is closed")},
    )
    table.add(
        "GET",
        f"{_PATH}/members",
        _members,
        summary="Who is in a room",
        scope="rooms",
        parameters=(room,),
        responses={200: Content("The members", JSON, MemberList)},
    )
    table.add(
        "GET",
        f"{_PATH}/chat",
        _chat,
        summary="What was written in a room",
        scope="rooms",
        parameters=(
            room,
            Parameter("before", "Id of a message: older ones than this"),
            Parameter("limit", f"1 to {MAX_CHAT_PAGE}, default 50", int),
        ),
        responses={200: Content("Messages, the oldest first", JSON, ChatPage)},
    )
    return _entrance(table, room)


def _entrance(table: Routes, room: Parameter) -> Routes:
    table.add(
        "POST",
        f"{_PATH}/invitations",
        _invite,
        summary="Invite to a room",
        scope="rooms",
        parameters=(room,),
        request=(Content("As what, how long, how many", JSON, InvitationCreate),),
        responses={201: Content("The invitation, with its token", JSON, Invitation)},
    )
    table.add(
        "GET",
        f"{_PATH}/invitations",
        _invitations,
        summary="The invitations to a room",
        scope="rooms",
        parameters=(room,),
        responses={200: Content("Those that are still good, without tokens", JSON, InvitationList)},
    )
    table.add(
        "DELETE",
        f"{_PATH}/invitations/{{invitation}}",
        _uninvite,
        summary="Take an invitation back",
        description="Whoever came by it is sent away (4403), and guests' tokens end.",
        scope="rooms",
        parameters=(
            room,
            Parameter("invitation", "Its id", str, "path"),
            Parameter("keep_guests", "`true`: those who came by it may stay", bool),
        ),
        responses={204: Content("It is worthless now")},
    )
    return table.add(
        "POST",
        f"{_PATH}/join",
        _join,
        summary="Ask for a ticket to a room",
        description="For `/ws?ticket=…`. Needs the scope `rooms`, or an invitation: who has no "
        "credentials becomes a guest, and gets a room token to come back with.",
        public=True,
        parameters=(room,),
        request=(Content("Name, invitation", JSON, JoinRequest),),
        responses={200: Content("The ticket", JSON, JoinTicket)},
    )
