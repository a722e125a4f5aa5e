"""A video of this server in a room: queued on one instance, opened and played on both."""

import asyncio
import base64
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.films import make_film
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

KEY = "static-key-of-these-tests"
FILM_S = 4.0
READY_S = 60.0


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("videos")
    with run_servers(folder, valkey_server, 2, api_key=KEY, access="open") as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", FILM_S).read_bytes()


def tus(server: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    asked = urllib.request.Request(server + path, data=body, method=method)
    for name, value in {"Tus-Resumable": "1.0.0", "X-API-Key": KEY, **headers}.items():
        asked.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.headers


def begin_upload(server: str, title: str, size: int) -> str:
    """Return the video's id."""
    metadata = f"title {base64.b64encode(title.encode()).decode()}"
    path = "/api/videos/uploads"
    made = tus(server, "POST", path, b"", Upload_Length=str(size), Upload_Metadata=metadata)
    return str(made["Location"]).rpartition("/")[2]


def send(server: str, video_id: str, data: bytes) -> None:
    kind = "application/offset+octet-stream"
    path = f"/api/videos/uploads/{video_id}"
    tus(server, "PATCH", path, data, Upload_Offset="0", Content_Type=kind)


async def ready(servers: Servers, video_id: str) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            path = f"/api/videos/{video_id}"
            status, info = await asyncio.to_thread(servers.ask, 1, "GET", path, None, KEY)
            assert status == 200, info
            assert info["state"] != "failed", info
            if info["state"] == "ready":
                return
            await asyncio.sleep(0.1)


async def add(member: RoomMember, video_id: str, **more: object) -> dict[str, Any]:
    answer: dict[str, Any] = await member.ask(
        "queue.add", item={"kind": "vod", "video_id": video_id, **more}
    )
    return answer


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    """GET without any credentials."""
    asked = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_a_video_is_queued_on_one_instance_and_opened_on_both(
    servers: Servers, film: bytes
) -> None:
    one = servers[0].url
    video_id = await asyncio.to_thread(begin_upload, one, "The film", len(film))
    async with party(servers, "films", "Ann", "Bob") as both:
        ann, bob = both
        problem = (await add(ann, video_id))["problem"]
        assert (problem["code"], problem["status"]) == ("video_not_ready", 409)
        await asyncio.to_thread(send, one, video_id, film)
        await ready(servers, video_id)
        assert (await add(ann, video_id, duration_s=5000))["type"] == "ack"
        for server, member in zip(servers, both, strict=True):
            queue = await member.wait_for("queue")
            (item,) = queue["items"]
            assert (item["kind"], item["video_id"], item["title"]) == ("vod", video_id, "The film")
            assert item["duration_s"] == pytest.approx(FILM_S, abs=0.1)
            told = await member.ask("video.open", item_id=item["item_id"])
            assert (told["type"], told["item_id"]) == ("video.source", item["item_id"])
            source = told["source"]
            assert source["url"].startswith(f"/media/videos/{video_id}/")
            assert (source["provider"], source["content_type"]) == ("local", "video/mp4")
            assert (source["expires_in"], source["refresh_after"]) == (300, 240)
            assert member.id in source["url"]
            status, whole = await asyncio.to_thread(fetch, server.url + source["url"])
            assert status == 200
            assert whole[4:8] == b"ftyp"
            part = await asyncio.to_thread(fetch, server.url + source["url"], Range="bytes=64-127")
            assert part == (206, whole[64:128])
        elsewhere = await asyncio.to_thread(fetch, servers[0].url + source["url"])
        assert elsewhere[0] == 200  # made by the other instance
        unsigned = source["url"].partition("?")[0]
        assert (await asyncio.to_thread(fetch, servers[0].url + unsigned))[0] == 403
        assert (await bob.ask("chat.send", text="still here"))["type"] == "ack"
    for server in servers:
        assert "sig=" not in server.log


async def test_what_cannot_be_opened_is_said(servers: Servers) -> None:
    async with party(servers, "no-films", "Ann") as (ann,):
        assert await ann.refused("video.open", item_id="q_none") == "no_item"
        film = {"kind": "mp4", "url": "https://films.example/film.mp4"}
        await ann.do("queue.add", item=film)
        (item,) = (await ann.wait_for("queue"))["items"]
        assert await ann.refused("video.open", item_id=item["item_id"]) == "not_a_video"
        answer = await add(ann, "v_none")
        assert (answer["problem"]["code"], answer["problem"]["status"]) == ("no_video", 404)


async def test_opening_again_and_again_is_refused(servers: Servers) -> None:
    async with party(servers, "eager", "Ann") as (ann,):
        codes = [await ann.refused("video.open", item_id="q_none") for _ in range(12)]
        assert codes[:10] == ["no_item"] * 10
        assert codes[-1] == "too_many_requests"


async def test_a_deleted_video_is_gone_for_the_rooms(servers: Servers, film: bytes) -> None:
    one = servers[0].url
    video_id = await asyncio.to_thread(begin_upload, one, "Gone soon", len(film))
    await asyncio.to_thread(send, one, video_id, film)
    await ready(servers, video_id)
    async with party(servers, "gone", "Ann", "Bob") as (ann, bob):
        await add(ann, video_id)
        (item,) = (await bob.wait_for("queue"))["items"]
        source = (await bob.ask("video.open", item_id=item["item_id"]))["source"]
        path = f"/api/videos/{video_id}"
        assert (await asyncio.to_thread(servers.ask, 0, "DELETE", path, None, KEY))[0] == 204
        assert await bob.refused("video.open", item_id=item["item_id"]) == "no_video"
        assert (await asyncio.to_thread(fetch, servers[1].url + source["url"]))[0] == 404
