"""The bare application: middlewares in their order, limits, headers, metrics."""

from aiohttp import web

from mediaserver.settings import Settings
from mediaserver.web import keys
from mediaserver.web.auth import authenticate
from mediaserver.web.cors import add_cors, answer_preflights
from mediaserver.web.limits import add_limit_headers, limit_addresses, limit_keys
from mediaserver.web.metrics import HttpMetrics, measure, new_registry
from mediaserver.web.problems import problems
from mediaserver.web.security import (
    MAX_REQUEST_BODY_BYTES,
    add_security_headers,
    check_host,
    check_origin,
)


def new_application(settings: Settings) -> web.Application:
    """Return an application with all middlewares, limits, headers and a metrics registry.

    The caller adds the parts that handlers need (`web.keys`) and mounts the routes. The order
    matters: everything is measured; everything that fails becomes a problem; addresses are limited
    before credentials are looked at, so that guessing is; who asks is known before the page that it
    comes from is judged.
    """
    app = web.Application(
        middlewares=[
            measure,
            problems,
            check_host(settings),
            answer_preflights(settings),
            limit_addresses,
            authenticate(settings),
            limit_keys,
            check_origin(settings),
        ],
        client_max_size=MAX_REQUEST_BODY_BYTES,
    )
    app.on_response_prepare.append(add_security_headers)
    app.on_response_prepare.append(add_limit_headers)
    app.on_response_prepare.append(add_cors(settings))
    registry = new_registry(settings)
    app[keys.SETTINGS] = settings
    app[keys.METRICS] = registry
    app[keys.HTTP_METRICS] = HttpMetrics(registry)
    return app
