"""``/api/v1/rooms/{room}/tokens``: who may come to a room by a token, and who may not any more."""

from aiohttp import web

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import Forbidden, NotFound
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import (
    RoomTokenAnswer,
    RoomTokenInfo,
    RoomTokenList,
    RoomTokenRequest,
)
from mediaserver.protocol.rooms import RoomRole
from mediaserver.rooms.grants import grants_of
from mediaserver.rooms.state import RoomState
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.login import JSON, answer
from mediaserver.web.room_access import expel, members_of, room_of, rules, seen
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

_ROOM = "{room:[A-Za-z0-9][A-Za-z0-9._-]{0,63}}"
_PATH = f"/api/v1/rooms/{_ROOM}/tokens"
MAX_LISTED = 1000
_RANK: dict[RoomRole, int] = {"host": 3, "cohost": 2, "member": 1, "listener": 0}
_ABOVE_ALL = 4


async def _mint(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RoomTokenRequest)
    room, maker = request.match_info["room"], principal_of(request)
    minted = await request.app[keys.IDENTITY].guests.mint(room, asked, maker)
    log.info("room_token.minted", id=minted.id, room=room, by=maker.id)
    return answer(minted, status=201)


async def _renew(request: web.Request) -> web.StreamResponse:
    state = await seen(request)
    renewed = await request.app[keys.IDENTITY].guests.renew(principal_of(request))
    log.info("room_token.renewed", id=renewed.id, room=state.room)
    return answer(renewed)


async def _list(request: web.Request) -> web.StreamResponse:
    state, rank = await _moderated(request)
    if rank < _RANK["cohost"]:
        raise Forbidden("only hosts and co-hosts may do this", code="not_granted")
    found = await request.app[keys.IDENTITY].guests.all(room_of(request))
    shown = [_with_members(info, state) for info in found[:MAX_LISTED]]
    return answer(RoomTokenList(tokens=shown))


async def _revoke(request: web.Request) -> web.StreamResponse:
    guests, token_id = request.app[keys.IDENTITY].guests, request.match_info["id"]
    room, principal = room_of(request), principal_of(request)
    if token_id != principal.token_id:  # one's own may always go
        state, rank = await _moderated(request)
        if rank < _RANK["cohost"]:
            raise Forbidden("only hosts and co-hosts may do this", code="not_granted")
        info = await guests.get(room, token_id)
        if _rank_of(info, state) >= rank:
            raise Forbidden("you cannot moderate a host or another co-host", code="not_granted")
        subject = f"guest:{info.subject}"
    else:
        subject = principal.subject
    await guests.revoke(room, token_id)
    await expel(request, room, [subject])
    return web.Response(status=204)


async def _moderated(request: web.Request) -> tuple[RoomState | None, int]:
    """Return the room, if it is there, and the request's rank in it.

    Who may make tokens for any room may end them too, rooms that are not there included. Raises
    NotFound, Forbidden.
    """
    principal = principal_of(request)
    if principal.may("rooms:tokens"):
        try:
            return await request.app[keys.ROOMS].directory.load(room_of(request)), _ABOVE_ALL
        except NotFound:
            return None, _ABOVE_ALL
    if not principal.may("rooms"):
        raise Forbidden("this needs the scope rooms or rooms:tokens", code="scope_missing")
    state = await seen(request)
    return state, _rank(principal, state)


def _rank(principal: Principal, state: RoomState) -> int:
    if rules(principal, state):
        return _ABOVE_ALL
    ranks = [
        _RANK[member.role]
        for member in members_of(principal, state)
        if grants_of(member, state.settings).can_moderate
    ]
    return max(ranks, default=0)


def _rank_of(info: RoomTokenInfo, state: RoomState | None) -> int:
    """Of whom a token is: what it gives, or what its holder has become in the room."""
    members = state.members.values() if state is not None else ()
    held = [_RANK[m.role] for m in members if m.subject == f"guest:{info.subject}"]
    return max([_RANK[info.role], *held])


def _with_members(info: RoomTokenInfo, state: RoomState | None) -> RoomTokenInfo:
    if state is None:
        return info
    ids = [m.member_id for m in state.members.values() if m.subject == f"guest:{info.subject}"]
    return info.model_copy(update={"members": tuple(ids)})


def routes() -> Routes:
    """Room tokens."""
    table = Routes("rooms")
    table.add(
        "POST",
        _PATH,
        _mint,
        summary="Make a room token for a user of one's own",
        description="For servers that know their users themselves. What is not granted is denied.",
        scope="rooms:tokens",
        request=(Content("Who, and what it may do", JSON, RoomTokenRequest),),
        responses={201: Content("The token", JSON, RoomTokenAnswer)},
    )
    table.add(
        "GET",
        _PATH,
        _list,
        summary="The room tokens that are good",
        description="Guests' and those that servers made. For the room's hosts and co-hosts, its "
        "owner, admins, and keys with the scope `rooms:tokens`.",
        scope="any",
        responses={200: Content(f"The newest {MAX_LISTED}", JSON, RoomTokenList)},
    )
    table.add(
        "POST",
        f"{_PATH}/renew",
        _renew,
        summary="Exchange a guest's room token for a later one",
        description="As long as the invitation that the guest came by is good. It stays the same "
        "guest: give the new token to an open WebSocket by `auth`.",
        scope="rooms",
        responses={200: Content("The token", JSON, RoomTokenAnswer)},
    )
    table.add(
        "DELETE",
        f"{_PATH}/{{id}}",
        _revoke,
        summary="Revoke a room token",
        description="Whoever is in the room by it is sent away (4403). For who may list them; a "
        "co-host cannot revoke those of hosts and co-hosts. One's own may always go.",
        scope="any",
        parameters=(Parameter("id", "The token's id", str, "path"),),
        responses={204: Content("It is worthless")},
    )
    return table
