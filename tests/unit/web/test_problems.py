import json

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError, web
from pytest_aiohttp.plugin import AiohttpClient

from mediaserver.kernel import errors
from mediaserver.kernel.errors import MediaServerError, Overloaded
from mediaserver.sessions.figures import Figures
from mediaserver.settings import Settings
from mediaserver.web import keys
from mediaserver.web.application import new_application
from mediaserver.web.routing import Routes, mount

from .conftest import KEY, Serve


def raising(error: Exception) -> Routes:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise error

    return (
        Routes("t").add("GET", "/x", handler, summary="x").add("POST", "/x", handler, summary="x")
    )


def tree(kind: type[MediaServerError]) -> list[type[MediaServerError]]:
    return [kind, *(c for sub in kind.__subclasses__() for c in tree(sub))]


@pytest.mark.parametrize("kind", tree(MediaServerError), ids=lambda kind: kind.__name__)
async def test_every_kernel_error_is_a_problem_with_its_status(
    serve: Serve, kind: type[MediaServerError]
) -> None:
    client = await serve(raising(kind("what and why")))
    response = await client.get("/x")
    assert response.status == kind.status
    assert response.content_type == "application/problem+json"
    problem = await response.json(content_type=None)
    assert problem["type"] == f"urn:mediaserver:problem:{kind.code}"
    assert problem["status"] == kind.status
    assert problem["detail"] == "what and why"
    assert problem["retryable"] is kind.retryable
    assert problem["instance"] == response.headers["X-Request-ID"]


async def test_overload_says_when_to_come_again(serve: Serve) -> None:
    client = await serve(raising(Overloaded("full", retry_after_s=7.4)))
    assert (await client.get("/x")).headers["Retry-After"] == "7"
    client = await serve(raising(errors.Unavailable("no worker")))
    assert int((await client.get("/x")).headers["Retry-After"]) > 0


async def test_a_refusal_for_want_of_capacity_is_counted(aiohttp_client: AiohttpClient) -> None:
    app = new_application(Settings())
    app[keys.FIGURES] = Figures(app[keys.METRICS])
    mount(app, [raising(Overloaded("full", code="sessions_full"))])
    client = await aiohttp_client(app)
    for _ in range(3):
        await client.get("/x")
    await client.get("/missing")
    labels = {"code": "sessions_full"}
    assert app[keys.METRICS].get_sample_value("mediaserver_refused_total", labels) == 3


async def test_an_unexpected_exception_tells_nothing_of_its_inside(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = await serve(raising(RuntimeError("password=hunter2 in /srv/secret.py")))
    response = await client.get("/x")
    assert response.status == 500
    body = await response.text()
    assert "hunter2" not in body
    assert "Traceback" not in body
    assert response.headers["X-Request-ID"] in body


async def test_aiohttps_own_errors_are_problems_too(serve: Serve) -> None:
    client = await serve(raising(web.HTTPGone(text="it was moved out")))
    gone = await client.get("/x")
    assert (gone.status, (await gone.json(content_type=None))["detail"]) == (
        410,
        "it was moved out",
    )
    missing = await client.get("/nowhere")
    assert (await missing.json(content_type=None))["code"] == "not_found"
    wrong = await client.delete("/x")
    assert wrong.status == 405
    assert set(wrong.headers["Allow"].split(",")) >= {"GET", "POST"}
    assert wrong.content_type == "application/problem+json"


async def test_a_redirect_stays_a_redirect(serve: Serve) -> None:
    client = await serve(raising(web.HTTPFound("/elsewhere")))
    response = await client.get("/x", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/elsewhere")


async def test_a_body_over_the_limit_is_413(serve: Serve) -> None:
    async def read(request: web.Request) -> web.StreamResponse:
        return web.json_response(await request.json())

    client = await serve(Routes("t").add("POST", "/x", read, summary="x"))
    response = await client.post("/x", data=b"[" + b"1," * 2_000_000 + b"1]")
    assert response.status == 413
    assert (await response.json(content_type=None))["code"] == "too_large"
    broken = await client.post("/x", data=b"{half")
    assert broken.status == 400
    assert (await broken.json(content_type=None))["code"] == "bad_json"
    fine = await client.post("/x", data=json.dumps([1]))
    assert await fine.json() == [1]


async def test_a_failure_in_the_middle_of_an_answer_cuts_the_connection(serve: Serve) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of")
        raise RuntimeError("then this")

    client = await serve(Routes("t").add("GET", "/x", half, summary="x"))
    response = await client.get("/x")
    with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
        await response.read()


async def test_401_names_the_scheme(serve: Serve) -> None:
    client = await serve(raising(RuntimeError()), api_key=KEY)
    response = await client.get("/x")
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
