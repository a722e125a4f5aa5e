"""The route registry: what is served, and what OpenAPI says about it, in one place.

A resource's module has ``def routes() -> Routes``; `mount` adds all of them to the application.
A route needs credentials with its `scope` unless it says `public`; `openapi.py` makes the document
from the same entries, so that no route is undocumented.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler

from mediaserver.protocol.identity import Scope
from mediaserver.web import keys

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query, path or header parameter."""

    name: str
    description: str
    schema: Any = str
    """Any type pydantic knows; `str` where it does not matter."""
    place: Literal["query", "path", "header"] = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A request's or a response's body."""

    description: str
    content_type: str | None = None
    """None: no body."""
    schema: Any = str
    """Any type pydantic knows; `bytes` for binary bodies."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names and descriptions of headers worth knowing."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """As aiohttp takes it: ``/things/{id}`` or ``/files/{path:.+}``."""
    handler: Handler
    summary: str
    tag: str
    description: str = ""
    public: bool = False
    """Whether it is served without credentials."""
    scope: Scope | Literal["any"] | None = None
    """What the credentials must allow. None: any full account or key, but neither room tokens nor
    logins whose password must be changed first. `any`: those too; the handler looks itself."""
    limit: Literal["default", "login", "none"] = "default"
    """The class of its rate limit; what is `hidden` has none."""
    hidden: bool = False
    """Left out of OpenAPI: pages and files for people."""
    parameters: tuple[Parameter, ...] = ()
    request: tuple[Content, ...] = ()
    """The bodies that may be sent, one a content type."""
    responses: Mapping[int, Content] = field(default_factory=dict)

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it, without patterns."""
        return _VARIABLE.sub(r"{\1}", self.path)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the path's variables."""
        return tuple(_VARIABLE.findall(self.path))


class Routes:
    """The routes of one resource, collected by its module."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.entries: list[Route] = []
        self.schemas: dict[str, Any] = {}

    def add(
        self, method: str, path: str, handler: Handler, *, summary: str, **more: Any
    ) -> "Routes":
        """Add a route; `more` are fields of `Route`. Returns self."""
        self.entries.append(
            Route(method=method, path=path, handler=handler, summary=summary, tag=self.tag, **more)
        )
        return self

    def describe(self, name: str, schema: Any) -> "Routes":
        """Name a type in OpenAPI that no HTTP body shows (WebSocket messages). Returns self."""
        self.schemas[name] = schema
        return self


class MountedRoutes:
    """All routes of an application."""

    def __init__(self, tables: Iterable[Routes]) -> None:
        tables = list(tables)
        self.entries: tuple[Route, ...] = tuple(entry for t in tables for entry in t.entries)
        self.schemas: dict[str, Any] = {n: s for t in tables for n, s in t.schemas.items()}
        self._by_name = {(e.method, e.template): e for e in self.entries}

    def find(self, request: web.Request) -> Route | None:
        """Return the route that `request` asks for; None where there is none."""
        resource = request.match_info.route.resource
        if resource is None:
            return None
        method = "GET" if request.method == "HEAD" else request.method
        return self._by_name.get((method, resource.canonical))

    def is_public(self, request: web.Request) -> bool:
        """Whether what `request` asks for is served without credentials.

        OPTIONS always is: browsers send a preflight without credentials, and it changes nothing.
        """
        if request.method == "OPTIONS":
            return True
        route = self.find(request)
        return route is not None and route.public


def mount(app: web.Application, tables: Iterable[Routes]) -> None:
    """Add the routes of `tables` to `app`."""
    mounted = MountedRoutes(tables)
    app[keys.ROUTES] = mounted
    for entry in mounted.entries:
        if entry.method == "GET":
            app.router.add_get(entry.path, entry.handler)  # answers HEAD too
        else:
            app.router.add_route(entry.method, entry.path, entry.handler)
