"""Links between instances: ``GET /internal/v1/broadcasts/{room}/{member_id}``, a WebSocket.

Not for clients: it takes a ticket that only who can write to the instances' Redis can make. That is
checked here, so the route is public for the middlewares; a refusal costs as much as counting it for
a rate limit would.
"""

from aiohttp import web

from mediaserver.relay.link import no_broadcast
from mediaserver.relay.links import PATH
from mediaserver.relay.tickets import TICKET_HEADER
from mediaserver.web import keys
from mediaserver.web.routing import Parameter, Routes


async def _feed(request: web.Request) -> web.StreamResponse:
    """Raises Unauthorized (`wrong_ticket`), NotFound, Overloaded (`watch_full`), Unavailable."""
    app, room = request.app, request.match_info["room"]
    member_id = request.match_info["member_id"]
    ticket = request.headers.get(TICKET_HEADER, "")
    await app[keys.LINK_TICKETS].take(ticket, room, member_id)
    broadcast = app[keys.SESSIONS].broadcasts.find(room, member_id)
    if broadcast is None:
        raise no_broadcast()
    return await app[keys.FEEDS].answer(request, broadcast)


def routes() -> Routes:
    """The one route."""
    return Routes("internal").add(
        "GET",
        PATH,
        _feed,
        summary="A member's broadcast, for another instance",
        public=True,
        hidden=True,
        parameters=(
            Parameter("room", "The room", str, "path"),
            Parameter("member_id", "Who broadcasts", str, "path"),
        ),
    )
