"""`GET /openapi.json` from the route registry and the wire types, and `/docs` to read it."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from mediaserver import __version__
from mediaserver.protocol.problems import PROBLEM_TYPE, Problem
from mediaserver.web import keys
from mediaserver.web.routing import Content, MountedRoutes, Parameter, Route, Routes
from mediaserver.web.static import serve_folder

Json = dict[str, Any]
"""A JSON object of the document; its shape is OpenAPI 3.1's."""
_REF = "#/components/schemas/{model}"
_DESCRIPTION = """Live captions and watch parties over WebRTC and WebSockets.

Every failed request is answered with an RFC 9457 problem (`application/problem+json`). On a guarded
server all but the routes marked so need a key or a token that has the route's scope. WebSocket
routes appear as GET with a 101 response; their messages are under *Schemas*."""


class _Schemas:
    """Collects the schemas of all types that the document mentions."""

    def __init__(self) -> None:
        self._types: list[tuple[str, str, TypeAdapter[Any]]] = []
        self.named: dict[str, str] = {}

    def add(self, key: str, schema: Any, mode: str) -> None:
        self._types.append((key, mode, TypeAdapter(schema)))

    def build(self) -> tuple[dict[str, Json], Json]:
        inputs = [(key, mode, adapter) for key, mode, adapter in self._types]
        by_key, definitions = TypeAdapter.json_schemas(
            inputs,  # type: ignore[arg-type] # the mode is one of the two literals
            ref_template=_REF,
        )
        schemas = {key: value for (key, _mode), value in by_key.items()}
        return schemas, definitions.get("$defs", {})


def build(routes: MountedRoutes) -> Json:
    """Return the OpenAPI 3.1 document of `routes`."""
    shown = [route for route in routes.entries if not route.hidden]
    collected = _Schemas()
    for route in shown:
        for key, schema, mode in _types(route):
            collected.add(key, schema, mode)
    for name, schema in routes.schemas.items():
        collected.add(name, schema, "serialization")
    collected.add("problem", Problem, "serialization")
    schemas, components = collected.build()
    components |= {name: schemas[name] for name in routes.schemas if name not in components}
    paths: dict[str, Json] = {}
    for route in shown:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mediaserver",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"bearer": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in shown)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _key(route: Route, part: str) -> str:
    return f"{route.method} {route.template} {part}"


def _types(route: Route) -> Iterator[tuple[str, Any, str]]:
    for parameter in route.parameters:
        yield _key(route, f"{parameter.place} {parameter.name}"), parameter.schema, "validation"
    for content in route.request:
        if content.schema is not bytes:
            yield _key(route, f"request {content.content_type}"), content.schema, "validation"
    for status, content in route.responses.items():
        if content.content_type is not None and content.schema is not bytes:
            yield _key(route, f"response {status}"), content.schema, "serialization"


def _operation(route: Route, schemas: dict[str, Json]) -> Json:
    operation: Json = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {},
    }
    description = route.description
    if route.scope is not None and route.scope != "any":
        description = f"{description}\n\nScope: `{route.scope}`.".strip()
        operation["security"] = [{"apiKey": [route.scope]}, {"bearer": [route.scope]}]
    if description:
        operation["description"] = description
    if route.public:
        operation["security"] = []
    if parameters := _parameters(route, schemas):
        operation["parameters"] = parameters
    if route.request:
        operation["requestBody"] = {
            "required": True,
            "description": route.request[0].description,
            "content": {
                content.content_type: _media(
                    content, schemas, _key(route, f"request {content.content_type}")
                )
                for content in route.request
            },
        }
    for status, content in sorted(route.responses.items()):
        operation["responses"][str(status)] = _response(
            content, schemas, _key(route, f"response {status}")
        )
    operation["responses"]["default"] = {
        "description": "What went wrong",
        "content": {PROBLEM_TYPE: {"schema": schemas["problem"]}},
    }
    return operation


def _operation_id(route: Route) -> str:
    words = "".join(c if c.isalnum() else " " for c in route.template).split()
    return "_".join([route.method.lower(), *words]) or route.method.lower()


def _parameters(route: Route, schemas: dict[str, Json]) -> list[Json]:
    told = {p.name for p in route.parameters if p.place == "path"}
    missing = [Parameter(name, name, place="path") for name in route.variables if name not in told]
    rows = []
    for parameter in (*missing, *route.parameters):
        key = _key(route, f"{parameter.place} {parameter.name}")
        rows.append(
            {
                "name": parameter.name,
                "in": parameter.place,
                "description": parameter.description,
                "required": parameter.required or parameter.place == "path",
                "schema": schemas.get(key, {"type": "string"}),
            }
        )
    return rows


def _media(content: Content, schemas: dict[str, Json], key: str) -> Json:
    if content.schema is bytes:
        return {"schema": {"type": "string", "format": "binary"}}
    return {"schema": schemas[key]}


def _response(content: Content, schemas: dict[str, Json], key: str) -> Json:
    response: Json = {"description": content.description}
    if content.content_type is not None:
        response["content"] = {content.content_type: _media(content, schemas, key)}
    if content.headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in content.headers
        }
    return response


# ---- the routes ----------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mediaserver API</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""


def swagger_folder() -> Path:
    """Return the folder of Swagger UI's files inside its wheel, whose Flask code is not imported.

    Raises FileNotFoundError.
    """
    spec = find_spec("flask_swagger_ui")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(place) / "dist").is_dir():
            return folder
    raise FileNotFoundError("the package flask-swagger-ui is not installed")


async def _document(request: web.Request) -> web.StreamResponse:
    body = json.dumps(build(request.app[keys.ROUTES]), ensure_ascii=False)
    response = web.Response(text=body, content_type="application/json")
    response.headers["Cache-Control"] = "no-cache"
    return response


async def _page(_request: web.Request) -> web.StreamResponse:
    return web.Response(text=_PAGE, content_type="text/html")


async def _start(_request: web.Request) -> web.StreamResponse:
    return web.Response(text=_START, content_type="text/javascript")


def routes() -> Routes:
    """`GET /openapi.json` and `/docs`. They tell nothing of this server, so they need no key."""
    assets = serve_folder(swagger_folder(), cache="public, max-age=86400")
    page = {"public": True, "hidden": True}
    return (
        Routes("documentation")
        .add(
            "GET",
            "/openapi.json",
            _document,
            summary="This document",
            public=True,
            responses={200: Content("OpenAPI 3.1", "application/json", dict[str, Any])},
        )
        .add("GET", "/docs", _page, summary="Swagger UI", **page)
        .add("GET", "/docs/start.js", _start, summary="Swagger UI's start", **page)
        .add("GET", "/docs/assets/{path:.+}", assets, summary="Swagger UI's files", **page)
    )
