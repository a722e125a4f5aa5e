import pytest
from aiohttp import WSServerHandshakeError, web
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.web.routing import Routes
from mediaserver.web.security import host_name, is_loopback_name

from .conftest import KEY, Serve
from .test_auth import doors, ok


def host(client: object) -> str:
    return f"{client.host}:{client.port}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", ":80"]
)
async def test_a_foreign_host_name_is_refused_on_an_open_server(serve: Serve, name: str) -> None:
    client = await serve(doors())
    response = await client.get("/private", headers={"Host": name})
    assert response.status == 403
    assert (await response.json(content_type=None))["code"] == "wrong_host"


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost:8080", "LOCALHOST", "app.localhost", "[::1]:8080", "127.9.9.9"]
)
async def test_this_machines_names_are_welcome(serve: Serve, name: str) -> None:
    client = await serve(doors())
    assert (await client.get("/private", headers={"Host": name})).status == 200


async def test_an_allowed_host_name_is_welcome(serve: Serve) -> None:
    client = await serve(doors(), allowed_hosts=("Captions.Example",))
    assert (await client.get("/private", headers={"Host": "captions.example"})).status == 200
    same = {"Host": "proxy:1", "Origin": "https://captions.example"}
    assert (await client.post("/private", headers=same)).status == 403  # the host is wrong
    same["Host"] = host(client)
    assert (await client.post("/private", headers=same)).status == 200


async def test_with_a_key_any_host_name_will_do(serve: Serve) -> None:
    client = await serve(doors(), api_key=KEY)
    headers = {"Host": "captions.example", "X-API-Key": KEY}
    assert (await client.get("/private", headers=headers)).status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://["]
)
async def test_other_sites_cannot_change_anything_or_open_a_websocket(
    serve: Serve, origin: str
) -> None:
    client = await serve(doors())
    refused = await client.post("/private", headers={"Origin": origin})
    assert refused.status == 403
    assert (await refused.json(content_type=None))["code"] == "wrong_origin"
    with pytest.raises(WSServerHandshakeError) as handshake:
        await client.ws_connect("/ws", headers={"Origin": origin})
    assert handshake.value.status == 403


async def test_the_servers_own_page_can(serve: Serve) -> None:
    client = await serve(doors())
    origin = {"Origin": f"http://{host(client)}"}
    assert (await client.post("/private", headers=origin)).status == 200
    async with client.ws_connect("/ws", headers=origin) as ws:
        assert await ws.receive_str() == "in"


async def test_whoever_has_the_key_may_come_from_any_page(serve: Serve) -> None:
    client = await serve(doors(), api_key=KEY)
    headers = {"Origin": "https://other.example", "Authorization": f"Bearer {KEY}"}
    assert (await client.post("/private", headers=headers)).status == 200
    async with client.ws_connect(
        "/ws", protocols=("token", KEY), headers={"Origin": "https://other.example"}
    ) as ws:
        assert await ws.receive_str() == "in"


async def test_every_answer_has_the_security_headers(serve: Serve) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        return response

    client = await serve(
        Routes("t").add("GET", "/a", ok, summary="x").add("GET", "/b", stream, summary="x")
    )
    for path in ("/a", "/b", "/missing"):
        headers = (await client.get(path)).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "microphone=(self)" in headers["Permissions-Policy"]


@given(st.text(max_size=40))
def test_any_host_header_has_a_name_without_failing(authority: str) -> None:
    assert is_loopback_name(host_name(authority)) in (True, False)
