"""WHIP over HTTP: RFC 9725's table."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.messages import CaptionOptions, Chat, IceServer
from mediaserver.rtc.peer import RtcConfig
from mediaserver.rtc.sdp import MAX_SDP_BYTES, check_offer
from mediaserver.rtc.whip import FRAGMENT_TYPE, MAX_FRAGMENT_BYTES
from mediaserver.web import whip, whip_requests
from mediaserver.web.openapi import build
from mediaserver.web.routing import MountedRoutes
from tests.integration.webrtc_client import (
    Client,
    PictureTrack,
    SpeechTrack,
    delay_and_correlation,
    speech,
    to_16_khz,
    until,
)
from tests.integration.whip_server import KEY, SDP, TRICKLE, Start, problem, start
from tests.unit.rtc.offers import FFMPEG_WHIP

__all__ = ["start"]


async def test_publishing_is_answered_with_201_and_speech_is_captioned(start: Start) -> None:
    server = await start()
    spoken = speech(2.0)
    client = Client.new(SpeechTrack(spoken, then_silence=True), PictureTrack(), data=False)
    for transceiver in client.connection.getTransceivers():
        transceiver.direction = "sendonly"
    response = await server.post(
        await client.offer(), "/whip/studio?name=Anna&language=en&task=translate"
    )
    assert response.status == 201
    assert response.headers["Content-Type"] == "application/sdp"
    assert response.headers["Location"].startswith("/whip/studio/whip_")
    assert len(response.headers["Location"]) > len("/whip/studio/") + 30
    assert response.headers["ETag"].startswith('"')
    assert "s_0/transcript.vtt" in response.headers["Link"]
    assert "ice-server" not in response.headers["Link"]
    answer = await response.text()
    assert answer.count("a=recvonly") == 2
    assert "a=candidate" in answer
    await client.answer(answer)

    assert (server.session.room, server.session.name) == ("studio", "Anna")
    track = server.session.tracks[0]
    assert (track.options.language, track.options.task) == ("en", "translate")
    await until(lambda: track.audio_s > 1.9)
    _, correlation = delay_and_correlation(track.heard, to_16_khz(spoken))
    assert correlation > 0.85  # Opus keeps more of one voice than of another

    gone = await server.client.delete(response.headers["Location"], headers={"If-Match": '"x"'})
    assert gone.status == 200
    assert len(server.peers) == 0
    await until(lambda: server.session.closed_with == ["left"])
    again = await server.client.delete(response.headers["Location"])
    assert again.status == 200
    await problem(await server.client.get(response.headers["Location"]), 404)
    await client.close()


async def test_defaults_are_those_of_a_publisher_without_a_name(start: Start) -> None:
    server = await start()
    assert (await server.post(FFMPEG_WHIP)).status == 201
    assert server.session.name == "publisher"
    assert server.session.tracks[0].options == CaptionOptions()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
async def test_another_content_type_is_unsupported(start: Start, content_type: str) -> None:
    server = await start()
    headers = {"Content-Type": content_type} if content_type else None
    response = await server.client.post("/whip/studio", data=b"v=0", headers=headers)
    assert "application/sdp" in (await problem(response, 415))["detail"]


async def test_bad_sdp_is_400_and_an_unusable_section_422_and_neither_leaves_a_peer(
    start: Start,
) -> None:
    server = await start()
    await problem(await server.post("hello"), 400)
    await problem(await server.client.post("/whip/studio", data=b"\xff\xfe", headers=SDP), 400)
    error = await problem(await server.post(FFMPEG_WHIP.replace("H264/90000", "AV1/90000")), 422)
    assert "AV1" in error["detail"]
    await problem(await server.post(FFMPEG_WHIP.replace("a=sendonly", "a=recvonly")), 422)
    await until(lambda: len(server.peers) == 0)
    assert server.fake.sessions == []


async def test_a_huge_body_is_413_without_being_read(start: Start) -> None:
    server = await start()
    await problem(await server.post("v=0" + "x" * MAX_SDP_BYTES), 413)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    response = await server.client.post("/whip/studio", data=endless(), headers=SDP)
    await problem(response, 413)


async def test_overload_and_draining_are_503_with_retry_after(start: Start) -> None:
    server = await start()
    server.fake.draining = True
    response = await server.post(FFMPEG_WHIP)
    assert response.headers["Retry-After"] == "5"
    await problem(response, 503)
    server.fake.draining, server.fake.full = False, True
    response = await server.post(FFMPEG_WHIP)
    assert response.headers["Retry-After"] == "7"
    await problem(response, 503)
    await until(lambda: len(server.peers) == 0)
    await until(lambda: server.session.closed_with == ["failed"])
    await server.peers.aclose()
    await problem(await server.post(FFMPEG_WHIP), 503)


@pytest.mark.parametrize("path", ["/whip/no%20room", "/whip/-x", "/whip/" + "a" * 65])
async def test_a_bad_room_is_400(start: Start, path: str) -> None:
    server = await start()
    await problem(await server.post(FFMPEG_WHIP, path), 400)


@pytest.mark.parametrize("query", ["language=english", "task=summarise", "name=" + "x" * 81])
async def test_bad_options_are_400_and_named(start: Start, query: str) -> None:
    server = await start()
    error = await problem(await server.post(FFMPEG_WHIP, f"/whip/studio?{query}"), 400)
    assert query.partition("=")[0] in error["detail"]


async def test_servers_for_ice_are_told_by_link_headers(start: Start) -> None:
    turn = IceServer(urls=("turn:127.0.0.1:9",), username="user", credential="secret")
    server = await start(ice=(IceServer(urls=("stun:127.0.0.1:9",)), turn))
    response = await server.post(FFMPEG_WHIP)
    links = response.headers.getall("Link")
    assert '<stun:127.0.0.1:9>; rel="ice-server"' in links
    assert any('username="user"; credential="secret"' in link for link in links)


async def test_options_tell_what_is_taken_even_without_the_key(start: Start) -> None:
    server = await start(api_key=KEY)
    for path, header, value in (
        ("/whip/studio", "Accept-Post", "application/sdp"),
        ("/whip/studio/x", "Accept-Patch", FRAGMENT_TYPE),
    ):
        response = await server.client.options(path)
        assert response.status == 200
        assert response.headers[header] == value
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert {"Location", "ETag", "Link"} <= set(exposed.split(", "))
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Access-Control-Allow-Methods"] == response.headers["Allow"]
        assert await response.text() == ""


async def test_everything_else_needs_the_key_where_there_is_one(start: Start) -> None:
    server = await start(api_key=KEY)
    await problem(await server.post(FFMPEG_WHIP), 401)
    bearer = {"Authorization": f"Bearer {KEY}"}
    response = await server.post(FFMPEG_WHIP, headers=bearer | {"Origin": "https://studio.example"})
    assert response.status == 201
    location = response.headers["Location"]
    await problem(await server.client.delete(location), 401)
    assert (await server.client.delete(location, headers=bearer)).status == 200


async def test_other_methods_are_405(start: Start) -> None:
    server = await start()
    await problem(await server.client.get("/whip/studio"), 405)
    await problem(await server.client.put("/whip/studio", data=b""), 405)
    location = (await server.post(FFMPEG_WHIP)).headers["Location"]
    await problem(await server.client.post(location, data=b""), 405)


async def test_a_get_of_the_resource_is_empty(start: Start) -> None:
    server = await start()
    published = await server.post(FFMPEG_WHIP)
    for method in ("GET", "HEAD"):
        response = await server.client.request(method, published.headers["Location"])
        assert response.status == 204
        assert await response.read() == b""
        assert response.headers["ETag"] == published.headers["ETag"]
    await problem(await server.client.get("/whip/studio/whip_nothing"), 404)
    elsewhere = published.headers["Location"].replace("studio", "kitchen")
    await problem(await server.client.get(elsewhere), 404)


async def test_candidates_are_trickled_by_patch(start: Start) -> None:
    server = await start()
    client = Client.new(SpeechTrack(speech(1.0), then_silence=True), data=False)
    offer = await client.offer()
    bare = "".join(
        line
        for line in offer.splitlines(keepends=True)
        if not line.startswith(("a=candidate", "a=end-of"))
    )
    candidate = next(line for line in offer.splitlines() if line.startswith("a=candidate"))
    published = await server.post(bare.replace("a=sendrecv", "a=sendonly"))
    location, etag = published.headers["Location"], published.headers["ETag"]
    checked = check_offer(bare)
    head = f"a=ice-ufrag:{checked.ufrag}\r\na=ice-pwd:{checked.pwd}\r\n"
    fragment = head + f"m=audio 9 RTP/AVP 0\r\na=mid:0\r\n{candidate}\r\na=end-of-candidates\r\n"

    async def patch(body: str, **headers: str) -> Any:
        return await server.client.patch(location, data=body, headers=TRICKLE | headers)

    await problem(await patch(fragment), 428)
    await problem(await patch(fragment, **{"If-Match": '"stale"'}), 412)
    await problem(await server.client.patch(location, data=fragment, headers=SDP), 415)
    await problem(await patch("nonsense", **{"If-Match": etag}), 400)
    await problem(await patch("a=candidate:1 2 3", **{"If-Match": etag}), 400)
    await problem(await patch("a=x\r\n" * MAX_FRAGMENT_BYTES, **{"If-Match": etag}), 413)
    restart = "a=ice-ufrag:Anew\r\na=ice-pwd:AnewAnewAnewAnewAnewAnew\r\n"
    assert "restart" in (await problem(await patch(restart, **{"If-Match": "*"}), 422))["detail"]

    taken = await patch(fragment, **{"If-Match": etag})
    assert taken.status == 204
    assert "ETag" not in taken.headers
    await client.answer(await published.text())
    await until(lambda: server.session.tracks[0].chunks)
    await client.close()
    await until(lambda: server.session.closed_with == ["left"])


async def test_a_publisher_that_never_connects_is_let_go(start: Start) -> None:
    server = await start(RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=0.5))
    published = await server.post(FFMPEG_WHIP)
    await until(lambda: server.session.closed_with == ["failed"])
    await problem(await server.client.get(published.headers["Location"]), 404)
    assert len(server.peers) == 0


async def test_a_publisher_with_a_data_channel_hears_the_room_and_cannot_speak(
    start: Start,
) -> None:
    server = await start()
    client = Client.new(SpeechTrack(speech(1.0), then_silence=True))
    await client.answer(await (await server.post(await client.offer())).text())
    await until(lambda: len(client.channels) == 3)
    chat = Chat(seq=1, id="c1", member_id="m1", name="Bo", text="hello", sent_at=0.0)
    server.session.deliver(chat, None)
    client.channels["captions"].send('{"type":"chat.send","text":"no"}')
    await until(lambda: client.received["chat"] and client.received["captions"])
    assert json.loads(client.received["chat"][0])["text"] == "hello"
    assert json.loads(client.received["captions"][0])["problem"]["status"] == 400
    await client.close()


def test_the_routes_are_documented() -> None:
    paths = build(MountedRoutes([whip.routes()]))["paths"]
    assert set(paths["/whip/{room}"]) >= {"post", "options"}
    assert set(paths["/whip/{room}/{resource}"]) >= {"get", "patch", "delete", "options"}


@given(st.text(max_size=300))
def test_a_name_is_taken_or_refused_with_400(name: str) -> None:
    request = make_mocked_request("POST", "/whip/studio?" + urlencode({"name": name}))
    try:
        taken = whip_requests.name_of(request)
    except BadInput:
        return
    assert 0 < len(taken) <= 80
