"""``POST /api/v1/rooms/{room}/tokens``: a server lets its own users into rooms."""

from aiohttp import web

from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import RoomTokenAnswer, RoomTokenRequest
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.login import JSON, answer
from mediaserver.web.routing import Content, Routes

log = get_logger(__name__)

_ROOM = "{room:[A-Za-z0-9][A-Za-z0-9._-]{0,63}}"


async def _mint(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RoomTokenRequest)
    room, maker = request.match_info["room"], principal_of(request)
    minted = request.app[keys.IDENTITY].room_tokens.for_subject(room, asked, maker)
    log.info("room_token.minted", id=minted.id, room=room, by=maker.id)
    return answer(minted, status=201)


def routes() -> Routes:
    """Room tokens."""
    return Routes("rooms").add(
        "POST",
        f"/api/v1/rooms/{_ROOM}/tokens",
        _mint,
        summary="Make a room token for a user of one's own",
        description="For servers that know their users themselves. What is not granted is denied.",
        scope="rooms:tokens",
        request=(Content("Who, and what it may do", JSON, RoomTokenRequest),),
        responses={201: Content("The token", JSON, RoomTokenAnswer)},
    )
