"""``WS /v1/listen``: live captions by Deepgram's protocol, for its SDKs and for bots."""

import uuid
from typing import Annotated

from aiohttp import web
from pydantic import Field

from mediaserver import __version__
from mediaserver.kernel.errors import BadInput, MediaServerError
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.deepgram import (
    ClientMessage,
    ListenMessage,
    ListenProblem,
    ModelInfo,
    ResultsMetadata,
)
from mediaserver.protocol.deepgram_query import ListenQuery, parse_listen_query
from mediaserver.protocol.problems import PROBLEM_TYPE, problem_of
from mediaserver.web import keys
from mediaserver.web.auth import KEY_SUBPROTOCOLS
from mediaserver.web.listen_connection import ListenConnection
from mediaserver.web.listen_inbox import ListenLimits
from mediaserver.web.problems import problem_response
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

REQUEST_ID_HEADER = "dg-request-id"
ERROR_HEADER = "dg-error"
_NAME = "listen"
_CUT_OFF_BYTES = 12 * 1024 * 1024
"""A larger message is cut off by aiohttp while it is sent, so that many clients never read the
reason; up to here it is read, dropped, and answered in good order."""


def routes(limits: ListenLimits | None = None) -> Routes:
    """``WS /v1/listen``."""
    bounds = limits or ListenLimits()

    async def listen(request: web.Request) -> web.StreamResponse:
        return await _listen(request, bounds)

    return (
        Routes("captions")
        .add(
            "GET",
            "/v1/listen",
            listen,
            summary="Live captions by Deepgram's protocol (WebSocket)",
            scope="listen",
            description="Send audio as binary messages; words come back as `Results`. Works with "
            "Deepgram's SDKs. docs/protocol.md says where this server differs.",
            parameters=_parameters(),
            responses={
                101: Content(
                    "Switching to the WebSocket protocol; messages: `ListenMessage` from the "
                    "server, `ListenClientMessage` from the client",
                    headers=((REQUEST_ID_HEADER, "Names the connection; also in every message"),),
                ),
                400: Content("A parameter is wrong", PROBLEM_TYPE, ListenProblem),
            },
        )
        .describe("ListenMessage", ListenMessage)
        .describe("ListenClientMessage", ClientMessage)
    )


def _parameters() -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            name,
            field.description or "Taken and ignored.",
            Annotated[field.annotation, *field.metadata, Field(default=field.default)],
        )
        for name, field in ListenQuery.model_fields.items()
    )


async def _listen(request: web.Request, limits: ListenLimits) -> web.StreamResponse:
    request_id = str(uuid.uuid4())
    socket = web.WebSocketResponse(
        protocols=KEY_SUBPROTOCOLS,
        max_msg_size=_CUT_OFF_BYTES,
        timeout=limits.close_s,
        autoping=False,  # the client's pings are counted and answered by its connection
        compress=False,  # audio does not get smaller, and inflating it costs more than it saves
    )
    try:
        query = parse_listen_query(request.query.items())
        if not socket.can_prepare(request).ok:
            raise BadInput(
                "this address speaks WebSocket; connect with ws:// or wss://",
                code="websocket_needed",
            )
        connection = await _open(request, socket, query, request_id, limits)
    except MediaServerError as error:
        log.info("listen.refused", code=error.specific_code, request_id=request_id)
        return _refusal(error, request_id)
    socket.headers[REQUEST_ID_HEADER] = request_id
    try:
        await socket.prepare(request)
    except BaseException:
        await connection.release("failed")
        raise
    await connection.run()
    return socket


async def _open(
    request: web.Request,
    socket: web.WebSocketResponse,
    query: ListenQuery,
    request_id: str,
    limits: ListenLimits,
) -> ListenConnection:
    app = request.app
    model = app[keys.SETTINGS].speech_model
    metadata = ResultsMetadata(
        request_id=request_id,
        model_info=ModelInfo(name=model, version=__version__, arch="whisper"),
        model_uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:mediaserver:model:{model}")),
    )
    session = app[keys.SESSIONS].open(kind="listen", name=_NAME)
    try:
        return ListenConnection(
            request, socket, session, query, app[keys.DECODERS], metadata, limits
        )
    except BaseException:
        await session.close("failed", limits.close_s)
        raise


def _refusal(error: MediaServerError, request_id: str) -> web.Response:
    """Render `error` as a problem that Deepgram's clients can read too."""
    response = problem_response(error, request_id)
    problem = ListenProblem(
        **problem_of(error, request_id).model_dump(),
        err_code=error.specific_code.upper(),
        err_msg=error.detail,
        request_id=request_id,
    )
    response.body = problem.model_dump_json(exclude_none=True).encode()
    response.headers[REQUEST_ID_HEADER] = request_id
    response.headers[ERROR_HEADER] = "".join(c if " " <= c <= "~" else "?" for c in error.detail)
    return response
