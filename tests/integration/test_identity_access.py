"""Tickets, room tokens, invitations, and what an open server lets people do."""

import asyncio

import pytest
from aiohttp import web

from mediaserver.identity.invitations import Invited
from mediaserver.kernel.errors import Forbidden, NotFound
from mediaserver.web import keys
from mediaserver.web.routing import Routes
from tests.integration.identity_instance import Instances


async def whoami(request: web.Request) -> web.StreamResponse:
    return web.json_response({"name": request[keys.PRINCIPAL].name})


def doors() -> Routes:
    return (
        Routes("t")
        .add("GET", "/listen", whoami, summary="x", scope="listen")
        .add("GET", "/any", whoami, summary="x")
    )


async def test_a_ticket_opens_a_websocket_once_on_any_instance(instances: Instances) -> None:
    async def socket(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        principal = request[keys.PRINCIPAL]
        await ws.send_json({"name": principal.name, "room": principal.room})
        await ws.close()
        return ws

    def table() -> Routes:
        return Routes("t").add("GET", "/ws", socket, summary="x", scope="rooms")

    one, two = await instances.start(table()), await instances.start(table())
    token = (await one.user())["access_token"]
    ticket = (await one.post("tickets", {"room": "party"}, token=token)).body["ticket"]
    foreign = await two.client.get(
        f"/ws?ticket={ticket}",
        headers={"Upgrade": "websocket", "Connection": "upgrade", "Origin": "https://evil.example"},
    )
    assert foreign.status == 403
    ticket = (await one.post("tickets", {"room": "party"}, token=token)).body["ticket"]
    async with two.client.ws_connect(f"/ws?ticket={ticket}") as ws:
        assert await ws.receive_json() == {"name": "anna", "room": "party"}
    for wrong in (ticket, "made-up", ""):
        answer = await one.client.get(
            f"/ws?ticket={wrong}", headers={"Upgrade": "websocket", "Connection": "upgrade"}
        )
        assert answer.status == 401
    assert (await one.client.get(f"/any?ticket={ticket}")).status == 401, "for WebSockets only"
    late = (await one.post("tickets", {"room": "party"}, token=token)).body["ticket"]
    assert (await one.post("logout", token=token)).status == 204
    answer = await one.client.get(
        f"/ws?ticket={late}", headers={"Upgrade": "websocket", "Connection": "upgrade"}
    )
    assert answer.status == 401, "its session is over"


async def test_a_server_lets_its_own_users_into_rooms(instances: Instances) -> None:
    one, two = await instances.start(doors()), await instances.start(doors())
    token = (await one.user("root", "admin"))["access_token"]
    made = await one.post("keys", {"name": "shop", "scopes": ["rooms:tokens"]}, token=token)
    key = {"X-API-Key": made.body["key"]}
    body = {"subject": "customer-7", "name": "Bob", "grants": {"room_join": True, "can_chat": True}}
    minted = await two.post("/api/v1/rooms/party/tokens", body, headers=key)
    assert minted.status == 201
    me = (await one.get("me", token=minted.body["token"])).body
    assert (me["kind"], me["id"], me["name"]) == ("guest", f"{made.body['id']}:customer-7", "Bob")
    assert (me["room"], me["scopes"]) == ("party", ["rooms"])
    granted = {name for name, given in me["grants"].items() if given}
    assert granted == {"room_join", "can_chat"}, "what is not granted is denied"
    assert (await one.get("/any", token=minted.body["token"])).status == 403
    await one.identity.guests.revoke("party", minted.body["id"])
    assert (await one.get("me", token=minted.body["token"])).status == 401, "at once where it was"
    async with asyncio.timeout(10):
        while (await two.get("me", token=minted.body["token"])).status != 401:
            await asyncio.sleep(0.05)


async def test_an_invitation_counts_its_uses_and_can_be_revoked(instances: Instances) -> None:
    one, two = await instances.start(), await instances.start()
    here, there = one.identity.invitations, two.identity.invitations
    made = await here.create("party", "listener", expires_in_s=3600, max_uses=2)
    assert made.token is not None
    with pytest.raises(Forbidden, match="another room"):
        await there.take(made.token, "elsewhere", "")
    expected = Invited(made.id, "party", "listener")
    assert await there.take(made.token, "party", "") == expected
    assert await here.take(made.token, "party", "guest:g_1") == expected
    with pytest.raises(Forbidden, match="used up"):
        await there.take(made.token, "party", "guest:g_2")
    (listed,) = await there.all("party")
    assert (listed.id, listed.uses, listed.max_uses, listed.token) == (made.id, 2, 2, None)
    other = await here.create("party", "member", expires_in_s=60, max_uses=None)
    assert other.token is not None
    assert await there.revoke("party", other.id) == frozenset()
    with pytest.raises(Forbidden, match="revoked"):
        await here.take(other.token, "party", "")
    with pytest.raises(NotFound, match="no invitation"):
        await here.revoke("party", other.id)
    assert [one.id for one in await here.all("party")] == [made.id]
    assert await there.revoke("party", made.id) == {"guest:g_1"}


async def test_everybody_may_ask_who_it_is(instances: Instances) -> None:
    one = await instances.start()
    root = (await one.user("root", "admin"))["access_token"]
    made = await one.post("keys", {"name": "x", "scopes": ["metrics"]}, token=root)
    me = await one.get("me", headers={"X-API-Key": made.body["key"]})
    assert (me.status, me.body["scopes"]) == (200, ["metrics"])
    reset = await one.post("users", {"name": "new"}, token=root)
    first = await one.login("new", reset.body["one_time_password"])
    me = await one.get("me", token=first["access_token"])
    assert (me.status, me.body["name"], me.body["scopes"]) == (200, "new", ["password"])
    assert (await one.get("me")).status == 401
    assert (await one.get("me", token=first["access_token"] + "x")).status == 401


async def test_an_open_server_knows_local_people_as_members(instances: Instances) -> None:
    one = await instances.start(doors(), access="open")
    me = (await one.get("me")).body
    assert (me["kind"], me["id"]) == ("local", "local")
    assert (await one.get("/listen")).status == 200
    for path in ("users", "keys"):
        assert (await one.get(path)).status == 403
    # clients of other protocols always send some key; but ours is never taken for none
    assert (await one.get("/listen", headers={"X-API-Key": "anything"})).status == 200
    assert (await one.get("/listen", headers={"X-API-Key": "ms_abc.def"})).status == 401
    assert (await one.get("/listen", token="eyJhbGciOiJub25lIn0.e30.")).status == 401
    foreign = await one.client.get("/listen", headers={"Host": "evil.example"})
    assert foreign.status == 403
