from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from mediaserver.protocol.messages import CaptionOptions, ClientMessage, ServerMessage
from mediaserver.web import health, openapi, static, transcripts
from mediaserver.web.openapi import build
from mediaserver.web.routing import Content, MountedRoutes, Parameter, Routes

from .conftest import KEY, Serve
from .test_auth import ok


def example() -> Routes:
    return (
        Routes("things")
        .add(
            "POST",
            r"/things/{id:[a-z]{3}}/{rest:.+}",
            ok,
            summary="Change a thing",
            parameters=(Parameter("deep", "how deep", int), Parameter("id", "which", place="path")),
            request=(Content("the thing", "application/json", CaptionOptions),),
            responses={
                201: Content("done", "audio/wav", bytes, headers=(("Location", "where"),)),
                204: Content("nothing to do"),
            },
        )
        .add("GET", "/ws", ok, summary="Talk", responses={101: Content("a WebSocket")})
        .describe("ClientMessage", ClientMessage)
        .describe("ServerMessage", ServerMessage)
    )


def test_the_document_is_valid_and_says_what_the_routes_say() -> None:
    document = build(
        MountedRoutes(
            [example(), health.routes(), openapi.routes(), static.routes(), transcripts.routes()]
        )
    )
    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/things/{id}/{rest}"]["post"]
    places = {(p["name"], p["in"], p["required"]) for p in operation["parameters"]}
    assert places == {("id", "path", True), ("rest", "path", True), ("deep", "query", False)}
    assert operation["responses"]["201"]["headers"]["Location"]
    assert operation["responses"]["default"]["content"]["application/problem+json"]
    assert "security" not in operation
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "/" not in document["paths"], "pages for people are left out"
    assert {"Caption", "Problem", "Health", "ClientMessage"} <= set(
        document["components"]["schemas"]
    )


async def test_the_document_and_its_reader_are_served_without_a_key(serve: Serve) -> None:
    client = await serve(openapi.routes(), example(), api_key=KEY)
    document: dict[str, Any] = await (await client.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    page = await (await client.get("/docs")).text()
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert asset in page
        response = await client.get(f"/docs/assets/{asset}")
        assert response.status == 200
        assert len(await response.read()) > 10_000
    assert "http" not in page, "nothing comes from elsewhere"


def test_two_routes_of_one_path_are_two_operations() -> None:
    async def other(request: web.Request) -> web.StreamResponse:
        return web.Response()

    routes = Routes("t").add("GET", "/x", ok, summary="a").add("PUT", "/x", other, summary="b")
    assert set(build(MountedRoutes([routes]))["paths"]["/x"]) == {"get", "put"}


@pytest.mark.parametrize(
    ("path", "template"),
    [("/a", "/a"), ("/a/{b}", "/a/{b}"), (r"/a/{b:\d{1,3}}.{c}", "/a/{b}.{c}")],
)
def test_patterns_are_not_part_of_the_template(path: str, template: str) -> None:
    route = Routes("t").add("GET", path, ok, summary="x").entries[0]
    assert route.template == template
