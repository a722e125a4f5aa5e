"""Videos as resources: who sees which, pages, titles, deletion, and asking for an address."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.films import make_film
from mediaserver.web import keys
from mediaserver.web.uploads import Patience
from tests.integration.fuzz_strategies import NASTY_TEXT
from tests.integration.identity_instance import Instance, Instances
from tests.integration.video_client import KEY, VideoClient

FILM_S = 2.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", FILM_S)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def instance(instances: Instances) -> Instance:
    return await instances.start(library=Patience(), api_key=KEY)


@pytest.fixture
async def admin(instance: Instance, http: aiohttp.ClientSession) -> VideoClient:
    """Has every scope."""
    return VideoClient(http, instance.origin)


@pytest.fixture
async def member(instance: Instance, http: aiohttp.ClientSession) -> VideoClient:
    """May watch, and no more."""
    tokens = await instance.user("anna")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    key = await instance.user("ada", "admin")
    made = await instance.post(
        "keys", {"name": "watcher", "scopes": ["videos"]}, token=key["access_token"]
    )
    assert (await instance.get("me", headers=headers)).body["role"] == "member"
    return VideoClient(http, instance.origin, key=made.body["key"])


async def ids(client: VideoClient, query: str = "") -> list[str]:
    told = await client.ask("GET", f"/api/videos{query}")
    assert told.status == 200, told.json
    assert told.headers["Cache-Control"] == "no-store"
    return [video["video_id"] for video in told.json["videos"]]


async def test_who_only_watches_sees_what_is_ready(
    admin: VideoClient, member: VideoClient, film: Path
) -> None:
    ready = await admin.upload(film, "Ready")
    await admin.ready(ready)
    begun = (await admin.begin(10, "Begun")).rpartition("/")[2]
    noise = film.with_name("noise.mp4")
    await asyncio.to_thread(noise.write_bytes, bytes(range(256)) * 40)
    failed = await admin.upload(noise, "Noise")
    assert (await admin.ready(failed, "failed"))["problem"]
    assert await ids(admin) == [failed, begun, ready]
    assert await ids(member) == [ready]
    video = await member.video(ready)
    assert (video["title"], video["state"], video["progress"]) == ("Ready", "ready", 1.0)
    assert video["content_type"] == "video/mp4"
    assert abs(video["duration_s"] - FILM_S) < 0.2
    assert (video["width"], video["height"]) == (320, 180)
    for hidden in (begun, failed):
        assert (await member.ask("GET", f"/api/videos/{hidden}")).refused == (404, "no_video")
        told = await member.ask("POST", "/api/videos/sign", json={"video_id": hidden})
        assert told.refused == (404, "no_video")
        told = await admin.ask("POST", "/api/videos/sign", json={"video_id": hidden})
        assert told.refused == (409, "video_not_ready")
    for method in ("PATCH", "DELETE"):
        told = await member.ask(method, f"/api/videos/{ready}", json={"title": "Mine"})
        assert told.refused == (403, "scope_missing")
    assert (await admin.video(ready))["title"] == "Ready"


async def test_pages_follow_each_other_and_miss_nothing(admin: VideoClient) -> None:
    made = [(await admin.begin(10, f"Film {n}")).rpartition("/")[2] for n in range(7)]
    seen: list[str] = []
    after = ""
    for _ in range(10):
        told = await admin.ask("GET", f"/api/videos?limit=2{after}")
        seen += [video["video_id"] for video in told.json["videos"]]
        if told.json["next"] is None:
            break
        newer = (await admin.begin(10, "Newer")).rpartition("/")[2]
        assert newer not in seen
        after = f"&after={told.json['next']}"
    assert seen == made[::-1], "what is new does not shift the pages"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=00000500", "limit=1e1"],
)
async def test_limits_that_cannot_be_are_refused(admin: VideoClient, query: str) -> None:
    assert (await admin.ask("GET", f"/api/videos?{query}")).refused == (400, "bad_limit")


@pytest.mark.parametrize(
    "after", ["", "x", "1~", "~v_x", "1~v_x~v_y", "%00", "1e999~v_x", "NaN~v_x", "9" * 300, "💥"]
)
async def test_cursors_that_are_none_are_refused(admin: VideoClient, after: str) -> None:
    told = await admin.ask("GET", f"/api/videos?after={after}")
    assert told.status == 400, told.json


async def test_a_title_can_be_changed_and_is_only_text(admin: VideoClient) -> None:
    video_id = (await admin.begin(10)).rpartition("/")[2]
    for title in NASTY_TEXT:
        told = await admin.ask("PATCH", f"/api/videos/{video_id}", json={"title": title})
        possible = title and not any(ord(c) < 32 or ord(c) == 127 for c in title)
        assert told.status == (200 if possible else 400), repr(title)
        if possible:
            assert told.json["title"] == title
            assert (await admin.video(video_id))["title"] == title
    more: dict[str, Any] = {"title": "x", "state": "ready"}
    bodies: list[Any] = [{}, {"title": None}, {"title": "x" * 201}, more, []]
    for body in bodies:
        told = await admin.ask("PATCH", f"/api/videos/{video_id}", json=body)
        assert told.refused == (400, "bad_body")
    told = await admin.ask("PATCH", "/api/videos/v_nobody", json={"title": "x"})
    assert told.refused == (404, "no_video")


async def test_a_deleted_video_is_gone(admin: VideoClient, instance: Instance, film: Path) -> None:
    video_id = await admin.upload(film)
    await admin.ready(video_id)
    url = (await admin.sign(video_id))["url"]
    assert (await admin.play(url)).status == 200
    assert (await admin.ask("DELETE", f"/api/videos/{video_id}")).status == 204
    assert (await admin.play(url)).refused == (404, "no_video")
    for method in ("GET", "DELETE"):
        told = await admin.ask(method, f"/api/videos/{video_id}")
        assert told.refused == (404, "no_video")
    folder = instance.app[keys.SETTINGS].videos_dir
    assert [path for path in folder.rglob("*") if video_id in str(path)] == []


async def test_a_video_can_be_deleted_while_it_is_prepared(
    admin: VideoClient, instance: Instance, tmp_path: Path
) -> None:
    long = await asyncio.to_thread(make_film, tmp_path / "long.mp4", 60.0)
    video_id = await admin.upload(long)
    assert (await admin.ask("DELETE", f"/api/videos/{video_id}")).status == 204
    assert await ids(admin) == []
    other = await admin.upload(long, "Other")
    await admin.ready(other)
    folder = instance.app[keys.SETTINGS].videos_dir
    async with asyncio.timeout(10):
        while [path.name for path in folder.iterdir() if not path.name.startswith(".")] != [other]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, (400, "bad_body")),
        ({"video_id": ""}, (400, "bad_body")),
        ({"video_id": "v_nobody"}, (404, "no_video")),
        ({"video_id": "../x"}, (404, "no_video")),
        ({"video_id": "a\x00b"}, (404, "no_video")),
        ({"video_id": "v_x", "expires_in": 29}, (400, "bad_body")),
        ({"video_id": "v_x", "expires_in": 3601}, (400, "bad_body")),
        ({"video_id": "v_x", "expires_in": 1e308}, (400, "bad_body")),
        ({"video_id": "v_x", "subject": "a\nb"}, (400, "bad_body")),
        ({"video_id": "v_x", "subject": ""}, (400, "bad_body")),
        ({"video_id": "v_x", "path": "/etc"}, (400, "bad_body")),
    ],
)
async def test_what_cannot_be_signed_is_refused(
    admin: VideoClient, body: Any, refused: tuple[int, str]
) -> None:
    assert (await admin.ask("POST", "/api/videos/sign", json=body)).refused == refused


async def test_without_credentials_nothing_is_told(
    instance: Instance, http: aiohttp.ClientSession, admin: VideoClient
) -> None:
    video_id = (await admin.begin(10)).rpartition("/")[2]
    nobody = VideoClient(http, instance.origin, key=None)
    for method, path in (
        ("GET", "/api/videos"),
        ("GET", f"/api/videos/{video_id}"),
        ("PATCH", f"/api/videos/{video_id}"),
        ("DELETE", f"/api/videos/{video_id}"),
        ("POST", "/api/videos/sign"),
    ):
        told = await nobody.ask(method, path, json={"title": "x", "video_id": video_id})
        assert told.refused == (401, "key_needed"), (method, path)


async def test_a_page_elsewhere_changes_nothing_on_an_open_server(
    instances: Instances, http: aiohttp.ClientSession
) -> None:
    one = await instances.start(library=Patience(), access="open")
    nobody = VideoClient(http, one.origin, key=None)
    assert await ids(nobody) == []
    evil = {"Origin": "https://evil.example"}
    for method, path in (("POST", "/api/videos/sign"), ("DELETE", "/api/videos/v_x")):
        told = await nobody.ask(method, path, headers=evil, json={"video_id": "v_x"})
        assert told.status == 403
        assert told.code in ("wrong_origin", "scope_missing")


async def test_readiness_tells_of_the_storage(
    instances: Instances, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere"
    one = await instances.start(library=Patience(), api_key=KEY, storage_url=place.as_uri())
    told = await one.get("/readyz")
    assert told.body["parts"]["storage"] == {"ready": True, "detail": ""}
    place.rename(tmp_path / "unmounted")
    told = await one.get("/readyz")
    assert told.status == 503
    assert not told.body["parts"]["storage"]["ready"]
    assert str(tmp_path) not in str(told.body), "paths are for the log"
    assert (await VideoClient(http, one.origin).create(10)).refused == (503, "storage_down")
    (tmp_path / "unmounted").rename(place)
    assert (await one.get("/readyz")).body["parts"]["storage"]["ready"]
    assert (await VideoClient(http, one.origin).create(10)).status == 201


async def test_two_instances_on_postgresql_share_the_library(
    instances: Instances, http: aiohttp.ClientSession, postgres_url: str, film: Path
) -> None:
    one, two = [
        await instances.start(library=Patience(), api_key=KEY, database_url=postgres_url)
        for _ in range(2)
    ]
    here, there = VideoClient(http, one.origin), VideoClient(http, two.origin)
    data = film.read_bytes()
    place = await here.begin(len(data), "In halves")
    half = len(data) // 2
    assert (await here.patch(place, 0, data[:half])).status == 204
    assert (await there.patch(place, half, data[half:])).status == 204
    video_id = place.rpartition("/")[2]
    assert (await here.ready(video_id)) == (await there.ready(video_id))
    newer = (await there.begin(10, "Newer")).rpartition("/")[2]
    first = await here.ask("GET", "/api/videos?limit=1")
    assert [video["video_id"] for video in first.json["videos"]] == [newer]
    assert await ids(there, f"?after={first.json['next']}") == [video_id]
    url = (await here.sign(video_id))["url"]
    assert (await there.play(url.replace(one.origin, two.origin))).status == 200
    for video in (video_id, newer):
        assert (await there.ask("DELETE", f"/api/videos/{video}")).status == 204
    assert await ids(here) == []
    assert (await there.ask("GET", "/api/videos/a\u20ac")).refused == (404, "no_video")
    assert (await there.ask("GET", "/api/videos?after=%F0%9F%92%A5")).status == 400
