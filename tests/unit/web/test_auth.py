import pytest
from aiohttp import WSServerHandshakeError, web

from mediaserver.web.routing import Routes

from .conftest import KEY, Serve


async def ok(request: web.Request) -> web.StreamResponse:
    return web.Response(text="in")


async def socket(request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse(protocols=("token",))
    await ws.prepare(request)
    await ws.send_str("in")
    await ws.close()
    return ws


def doors() -> Routes:
    return (
        Routes("t")
        .add("GET", "/private", ok, summary="x")
        .add("POST", "/private", ok, summary="x")
        .add("GET", "/open/{name}", ok, summary="x", public=True)
        .add("OPTIONS", "/whip/{room}", ok, summary="x")
        .add("POST", "/whip/{room}", ok, summary="x")
        .add("GET", "/ws", socket, summary="x")
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {KEY}"},
        {"Authorization": f"Token {KEY}"},
    ],
)
async def test_the_key_opens_in_each_of_its_places(serve: Serve, headers: dict[str, str]) -> None:
    client = await serve(doors(), api_key=KEY)
    assert (await client.get("/private", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": "schlüssel"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Sec-WebSocket-Protocol": KEY},
    ],
)
async def test_anything_else_is_401(serve: Serve, headers: dict[str, str]) -> None:
    client = await serve(doors(), api_key=KEY)
    for method in ("GET", "POST", "HEAD", "DELETE"):
        assert (await client.request(method, "/private", headers=headers)).status == 401
    assert (await client.get("/metrics", headers=headers)).status == 401
    assert (await client.get("/no/such/thing", headers=headers)).status == 401


async def test_what_is_public_needs_no_key(serve: Serve) -> None:
    client = await serve(doors(), api_key=KEY)
    assert (await client.get("/open/sesame")).status == 200
    assert (await client.head("/open/sesame")).status == 200
    assert (await client.options("/whip/room")).status == 200
    assert (await client.post("/whip/room")).status == 401
    assert (await client.post("/open/sesame")).status == 401


async def test_without_a_key_in_the_settings_all_are_let_in(serve: Serve) -> None:
    client = await serve(doors())
    assert (await client.get("/private")).status == 200


async def test_a_websocket_carries_the_key_as_a_subprotocol(serve: Serve) -> None:
    client = await serve(doors(), api_key=KEY)
    async with client.ws_connect("/ws", protocols=("token", KEY)) as ws:
        assert ws.protocol == "token"
        assert await ws.receive_str() == "in"
    for protocols in ((), ("token",), ("token", "wrong"), (KEY, "token")):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/ws", protocols=protocols)
        assert refused.value.status == 401
