"""``WS /ws``: a room session. Messages of `protocol.messages`; binary messages are audio."""

from aiohttp import web

from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.problems import ErrorMessage, problem_of
from mediaserver.web import keys
from mediaserver.web.door import newcomer_of
from mediaserver.web.routing import Content, Parameter, Routes
from mediaserver.web.ws_connection import MemberConnection

log = get_logger(__name__)

HEARTBEAT_S = 3.0
"""aiohttp pings this often and takes a member for gone half of it later: 4.5 s at most."""
RECEIVE_LIMIT_BYTES = 12 * 1024 * 1024
"""What aiohttp takes before it drops the connection without a word; our own limits lie below, so
that who exceeds them is told."""


async def _ws(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S,
        autoping=False,  # the member's pings are counted and answered by its connection
        max_msg_size=RECEIVE_LIMIT_BYTES,
        timeout=2.0,
        protocols=("token",),
    )
    connection = MemberConnection(request, socket)
    try:
        room, newcomer, principal = await newcomer_of(request)
        session, joined = await request.app[keys.SESSIONS].enter(
            kind="ws", room=room, newcomer=newcomer, attendee=connection
        )
    except MediaServerError as error:
        if request.query.get("refuse") != "close":
            raise
        return await _refused(request, socket, error)
    connection.entered(session, joined, principal)
    try:
        await socket.prepare(request)
    except BaseException:
        await connection.session.close("failed", 1.0)
        raise
    await connection.run()
    return socket


async def _refused(
    request: web.Request, socket: web.WebSocketResponse, error: MediaServerError
) -> web.StreamResponse:
    """Open, say why not, close: a browser's page cannot read an HTTP answer to an upgrade."""
    await socket.prepare(request)
    message = ErrorMessage(problem=problem_of(error, request.get(keys.REQUEST_ID)))
    log.info("ws.refused", code=error.specific_code)
    await socket.send_str(message.wire_text())
    reason = error.detail.encode()[:120].decode(errors="ignore").encode()
    await socket.close(code=error.ws_close_code, message=reason)
    return socket


def routes() -> Routes:
    """``WS /ws``."""
    return Routes("sessions").add(
        "GET",
        "/ws",
        _ws,
        summary="A room session (WebSocket)",
        scope="rooms",
        description="JSON messages and binary audio; docs/protocol.md describes them all.",
        parameters=(
            Parameter("ticket", "From POST /api/v1/rooms/{room}/join; instead of a key", str),
            Parameter("room", "The room to join; `lobby` if none is named", str),
            Parameter("name", "The name others see", str),
            Parameter("invitation", "An invitation's token", str),
            Parameter("resume", "LOG_ID:SEQ, where a connection broke off", str),
            Parameter("member", "The member that it was", str),
            Parameter("secret", "Its resume secret", str),
            Parameter("refuse", "`close`: open, say why not, and close, instead of 4xx", str),
        ),
        responses={101: Content("The WebSocket is open")},
    )
