"""Every failed HTTP request ends as one RFC 9457 problem, made here."""

import json

from aiohttp import web
from aiohttp.typedefs import Handler

from mediaserver.kernel.errors import BadInput, MediaServerError, TooLarge
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.protocol.problems import PROBLEM_TYPE, Problem, problem_of
from mediaserver.web import keys

log = get_logger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
_RETRYABLE = frozenset({408, 429, 502, 503, 504})
_DEFAULT_RETRY_S = 5.0


def problem_response(error: MediaServerError, request_id: str | None = None) -> web.Response:
    """Render `error` for HTTP."""
    return _render(problem_of(error, request_id))


def _render(problem: Problem) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None or problem.status in (429, 503):
        wait_s = _DEFAULT_RETRY_S if problem.retry_after_s is None else problem.retry_after_s
        headers["Retry-After"] = str(max(1, round(wait_s)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="mediaserver"'
    body = problem.model_dump_json(exclude_none=True).encode()
    return web.Response(
        status=problem.status, body=body, content_type=PROBLEM_TYPE, headers=headers
    )


def _problem(error: Exception, request_id: str) -> Problem:
    """Describe any exception for the outside; of an unexpected one nothing is told."""
    match error:
        case MediaServerError():
            known = error
        case web.HTTPRequestEntityTooLarge():
            known = TooLarge(f"the body is over the limit: {error.text}")
        case web.HTTPException():
            return _http_problem(error, request_id)
        case json.JSONDecodeError() | UnicodeDecodeError():
            known = BadInput("the body is not valid UTF-8 JSON", code="bad_json")
        case _:
            known = MediaServerError(
                "the server failed to handle this; its log has the reason under this id"
            )
    return problem_of(known, request_id)


def _http_problem(error: web.HTTPException, request_id: str) -> Problem:
    """Describe one of aiohttp's own answers: no such route, wrong method, …"""
    code = error.reason.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    text = error.text or ""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{error.method} is not possible here; allowed: {allowed}"
    elif error.status == 404:
        detail = "there is nothing at this address; GET /openapi.json lists what there is"
    else:
        detail = text if text and not text.startswith(f"{error.status}:") else error.reason
    return Problem(
        type=f"urn:mediaserver:problem:{code}",
        title=error.reason,
        status=error.status,
        detail=detail,
        code=code,
        retryable=error.status in _RETRYABLE,
        instance=request_id,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, and turn whatever it raises into a problem."""
    request_id = new_id("req", 16)
    request[keys.REQUEST_ID] = request_id
    with bind(request_id=request_id):
        try:
            response = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                error.headers[REQUEST_ID_HEADER] = request_id
                raise
            response = _failed(request, error, request_id)
            for name, value in error.headers.items():
                if name not in ("Content-Type", "Content-Length"):
                    response.headers[name] = value
        except ConnectionResetError:
            raise  # the client is gone
        except Exception as error:  # the supervisor of all request handlers
            response = _failed(request, error, request_id)
        if not response.prepared:
            response.headers[REQUEST_ID_HEADER] = request_id
        return response


def _failed(request: web.Request, error: Exception, request_id: str) -> web.Response:
    """Log `error` and describe it; raises ConnectionResetError when the answer has begun."""
    problem = _problem(error, request_id)
    told = {"method": request.method, "path": request.path, "status": problem.status}
    if (
        isinstance(error, (MediaServerError, web.HTTPException, ValueError))
        and problem.status != 500
    ):
        log.info("http.refused", code=problem.code, **told)
    else:
        log.error("http.failed", exc_info=error, **told)
    figures = request.app.get(keys.FIGURES)
    if figures is not None and problem.status in (429, 503):
        figures.refused(problem.code)
    if request.get(keys.STARTED):
        # Half an answer is out: cut the connection, so that nobody takes it for a whole one.
        raise ConnectionResetError("the response failed after it had begun") from error
    return _render(problem)
