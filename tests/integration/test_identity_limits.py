"""Rate limits over two instances, addresses behind proxies, CORS."""

import asyncio
import os
import re
import signal
import time

import pytest
from aiohttp import web

from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.stores.redis import RedisStore
from mediaserver.web.routing import Routes
from tests.integration.identity_instance import PASSWORD, Instance, Instances

STATIC_KEY = "static-key-0123456789"


async def ok(request: web.Request) -> web.StreamResponse:
    return web.Response()


def doors() -> Routes:
    return (
        Routes("t")
        .add("GET", "/page", ok, summary="x", public=True, hidden=True)
        .add("GET", "/thing", ok, summary="x", public=True)
        .add("POST", "/thing", ok, summary="x", public=True)
    )


def fields(header: str) -> dict[str, tuple[int, int]]:
    """``"name";a=1;b=2, …`` as {name: (1, 2)}."""
    return {
        name: (int(first), int(second))
        for name, first, second in re.findall(r'"(\w+)";[qr]=(\d+);[wt]=(\d+)', header)
    }


async def hammer(instance: Instance, times: int, path: str = "/thing", **headers: str) -> int:
    """Return how many of `times` requests were let through."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answers = await asyncio.gather(*(instance.get(path, headers=sent) for _ in range(times)))
    return sum(answer.status == 200 for answer in answers)


async def test_an_address_has_100_a_minute_over_all_instances(instances: Instances) -> None:
    one = await instances.start(doors(), rate_limit=100)
    two = await instances.start(doors(), rate_limit=100)
    started = time.monotonic()
    first = await one.get("/thing")
    assert fields(first.headers["RateLimit-Policy"]) == {"default": (100, 60)}
    assert fields(first.headers["RateLimit"]) == {"default": (99, 1)}
    through = 1 + await hammer(one, 60) + await hammer(two, 60)
    grown = (time.monotonic() - started) * 100 / 60
    assert 100 <= through <= 101 + grown, "a little grows back while it takes its time"
    async with asyncio.timeout(30):
        while (refused := await two.get("/thing")).status == 200:
            pass
    assert refused.status == 429
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert (refused.body["code"], refused.body["retryable"]) == ("too_many_requests", True)
    left, reset_s = fields(refused.headers["RateLimit"])["default"]
    assert left == 0
    assert int(refused.headers["Retry-After"]) >= reset_s > 50


async def test_pages_probes_and_preflights_are_not_limited(instances: Instances) -> None:
    one = await instances.start(doors(), rate_limit=1)
    for path in ("/page", "/healthz", "/readyz"):
        assert await hammer(one, 5, path) == 5
        assert "RateLimit" not in (await one.get(path)).headers
    assert await hammer(one, 5) == 1


async def test_0_is_no_limit(instances: Instances) -> None:
    one = await instances.start(doors(), rate_limit=0)
    assert await hammer(one, 200) == 200
    assert "RateLimit" not in (await one.get("/thing")).headers


async def test_a_key_is_limited_from_whatever_address(instances: Instances) -> None:
    one = await instances.start(
        doors(), rate_limit=5, api_key=STATIC_KEY, trusted_proxies=("127.0.0.0/8",)
    )
    statuses = []
    for last in range(8):
        headers = {"X-API-Key": STATIC_KEY, "X-Forwarded-For": f"203.0.113.{last}"}
        answer = await one.get("/thing", headers=headers)
        statuses.append(answer.status)
    assert statuses == [200] * 5 + [429] * 3
    assert set(fields(answer.headers["RateLimit"])) == {"default", "key"}


async def test_the_client_is_whom_a_trusted_proxy_names(instances: Instances) -> None:
    one = await instances.start(doors(), rate_limit=2, trusted_proxies=("127.0.0.1",))
    assert await hammer(one, 3, X_Forwarded_For="203.0.113.1") == 2
    assert await hammer(one, 3, X_Forwarded_For="203.0.113.2") == 2
    # what a client writes itself stands left of what the proxy adds
    assert await hammer(one, 3, X_Forwarded_For="203.0.113.3, 203.0.113.2") == 0
    assert await hammer(one, 2, X_Forwarded_For="2001:db8:1:1::1") == 2
    assert await hammer(one, 2, X_Forwarded_For="2001:db8:1:1:ffff::2") == 0, "one /64"


async def test_nobody_else_names_a_client(instances: Instances) -> None:
    one = await instances.start(doors(), rate_limit=2)
    through = [await hammer(one, 1, X_Forwarded_For=f"203.0.113.{n}") for n in range(4)]
    assert through == [1, 1, 0, 0]


async def test_an_address_may_try_10_logins_a_minute(instances: Instances) -> None:
    one, two = (
        await instances.start(rate_limit=1000),
        await instances.start(rate_limit=1000),
    )
    started = time.monotonic()
    statuses: list[int] = []
    while 429 not in statuses:  # one grows back every 6 s
        instance = (one, two)[len(statuses) % 2]
        asked = {"name": f"user{len(statuses)}", "password": "wrong"}
        refused = await instance.post("login", asked)
        statuses.append(refused.status)
        assert len(statuses) <= 12 + (time.monotonic() - started) / 6
    assert statuses[:10] == [401] * 10
    assert int(refused.headers["Retry-After"]) > 30


async def test_an_account_may_be_tried_10_times_from_all_addresses(instances: Instances) -> None:
    one = await instances.start(rate_limit=1000, trusted_proxies=("127.0.0.1",))
    stored = await one.identity.passwords.hash(PASSWORD)
    await one.identity.users.add("anna", "member", stored, display_name="", must_change=False)
    started = time.monotonic()
    statuses: list[int] = []
    while 429 not in statuses:  # one grows back every 6 s
        answer = await one.post(
            "login",
            {"name": "ANNA" if len(statuses) % 2 else "anna", "password": "wrong"},
            headers={"X-Forwarded-For": f"203.0.113.{len(statuses)}"},
        )
        statuses.append(answer.status)
        assert len(statuses) <= 12 + (time.monotonic() - started) / 6
    assert statuses[:10] == [401] * 10
    right = {"name": "anna", "password": PASSWORD}
    headers = {"X-Forwarded-For": "203.0.113.99"}
    tried = [(await one.post("login", right, headers=headers)).status for _ in range(2)]
    assert 429 in tried, "one may have grown back by now"


async def test_while_redis_is_away_each_instance_limits_alone_and_logins_wait(
    instances: Instances, valkey: EmbeddedValkey, redis: RedisStore
) -> None:
    one = await instances.start(doors(), rate_limit=20)
    pid = (await redis.client.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        through, started = 0, time.monotonic()
        for _ in range(30):
            through += (await one.get("/thing")).status == 200
        assert 20 <= through <= 21 + (time.monotonic() - started) * 20 / 60
        two = {"X-API-Key": "x"}
        login = await one.post("login", {"name": "a", "password": "b"}, headers=two)
        assert login.status in (429, 503)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_without_redis_a_login_is_503(
    instances: Instances, valkey: EmbeddedValkey, redis: RedisStore
) -> None:
    one = await instances.start(rate_limit=1000)
    pid = (await redis.client.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = await one.post("login", {"name": "anna", "password": PASSWORD})
        assert (answer.status, answer.body["code"]) == (503, "redis_down")
    finally:
        os.kill(pid, signal.SIGCONT)


# ---- CORS ----------------------------------------------------------------------------------

ORIGIN = "https://app.example"


async def test_listed_origins_may_ask_and_read(instances: Instances) -> None:
    one = await instances.start(doors(), cors_origins=(ORIGIN,), rate_limit=100, api_key=STATIC_KEY)
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    preflight = await one.ask("OPTIONS", "/thing", headers=asked)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    answer = await one.post("/thing", headers={"Origin": ORIGIN})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "RateLimit" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"
    refused = await one.get("users", headers={"Origin": ORIGIN})
    assert refused.status == 401
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN, "errors are readable too"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example"])
async def test_other_origins_may_not(instances: Instances, origin: str) -> None:
    one = await instances.start(doors(), cors_origins=(ORIGIN,))
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = await one.ask("OPTIONS", "/thing", headers=asked)
    assert preflight.status == 405
    assert "Access-Control-Allow-Origin" not in preflight.headers
    answer = await one.post("/thing", headers={"Origin": origin})
    assert (answer.status, answer.body["code"]) == (403, "wrong_origin")
    read = await one.get("/thing", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in read.headers
