"""Uploads by tus 1.0.0: what the protocol says, and what hostile senders do."""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediaserver.web import keys
from mediaserver.web.uploads import Patience
from tests.integration.identity_instance import Instance, Instances
from tests.integration.video_client import (
    KEY,
    OFFSET_TYPE,
    UPLOADS,
    VideoClient,
    hold,
    trickle,
    until_held,
)

ORIGIN = "https://app.example"
Start = Callable[..., Awaitable[VideoClient]]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def instance(instances: Instances) -> Instance:
    return await instances.start(library=Patience(), api_key=KEY, max_video_bytes=10**6)


@pytest.fixture
async def tus(instance: Instance, http: aiohttp.ClientSession) -> VideoClient:
    return VideoClient(http, instance.origin)


def stored(instance: Instance, place: str) -> Path:
    """The file that an upload grows in."""
    return instance.app[keys.SETTINGS].videos_dir / place.rpartition("/")[2] / "upload"


# ---- the protocol --------------------------------------------------------------------------


async def test_a_file_comes_in_pieces_and_head_says_how_far_it_is(
    tus: VideoClient, instance: Instance
) -> None:
    made = await tus.create(10, "A film")
    place = made.headers["Location"]
    assert made.status == 201
    assert place.startswith(f"{UPLOADS}/v_")
    assert made.headers["Tus-Resumable"] == "1.0.0"
    left_s = parsedate_to_datetime(made.headers["Upload-Expires"]).timestamp() - time.time()
    assert 86_000 < left_s <= 86_400
    for method in ("HEAD", "GET"):
        told = await tus.tus(method, place)
        assert (told.status, told.body) == (200, b"")
        assert (told.headers["Upload-Offset"], told.headers["Upload-Length"]) == ("0", "10")
        assert told.headers["Cache-Control"] == "no-store"
    first = await tus.patch(place, 0, b"01234")
    assert (first.status, first.headers["Upload-Offset"]) == (204, "5")
    assert "Upload-Expires" in first.headers
    assert await tus.offset(place) == 5
    video = await tus.video(place.rpartition("/")[2])
    assert (video["state"], video["title"], video["received_bytes"]) == ("uploading", "A film", 5)
    assert stored(instance, place).read_bytes() == b"01234"
    last = await tus.patch(place, 5, b"56789")
    assert (last.status, last.headers["Upload-Offset"]) == (204, "10")
    assert "Upload-Expires" not in last.headers
    assert await tus.offset(place) == 10
    assert (await tus.video(place.rpartition("/")[2]))["state"] != "uploading"


async def test_options_says_what_is_spoken(tus: VideoClient) -> None:
    told = await tus.ask("OPTIONS", UPLOADS, headers={"X-API-Key": None})
    assert told.status == 204
    assert told.headers["Tus-Version"] == "1.0.0"
    assert told.headers["Tus-Extension"] == "creation,termination,expiration"
    assert told.headers["Tus-Max-Size"] == "1000000"


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", "1.0.0, 1.0.0"])
async def test_another_version_is_412(tus: VideoClient, version: str | None) -> None:
    place = await tus.begin(10)
    patch = {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
    for method, path, headers in (
        ("POST", UPLOADS, {"Upload-Length": "10"}),
        ("PATCH", place, patch),
        ("DELETE", place, {}),
        ("GET", place, {}),
        ("POST", place, {"X-HTTP-Method-Override": "PATCH", **patch}),
    ):
        told = await tus.ask(method, path, headers={"Tus-Resumable": version, **headers})
        assert told.refused == (412, "wrong_tus_version"), method
        assert told.headers["Tus-Version"] == told.headers["Tus-Resumable"] == "1.0.0"
    assert await tus.offset(place) == 0


async def test_an_upload_can_be_given_up(tus: VideoClient, instance: Instance) -> None:
    place = await tus.begin(10)
    await tus.patch(place, 0, b"0123")
    file = stored(instance, place)
    assert file.exists()
    assert (await tus.tus("DELETE", place)).status == 204
    assert not file.exists()
    for told in (
        await tus.tus("GET", place),
        await tus.patch(place, 4, b"4"),
        await tus.tus("DELETE", place),
    ):
        assert told.refused == (404, "no_upload")
    assert (await tus.tus("HEAD", place)).status == 404
    assert (await tus.ask("GET", f"/api/videos/{place.rpartition('/')[2]}")).status == 404


async def test_giving_a_finished_upload_up_does_not_delete_the_video(tus: VideoClient) -> None:
    place = await tus.begin(4)
    assert (await tus.patch(place, 0, b"0123")).status == 204
    assert (await tus.tus("DELETE", place)).refused == (409, "upload_complete")
    assert (await tus.video(place.rpartition("/")[2]))["received_bytes"] == 4


async def test_who_cannot_send_patch_sends_post(tus: VideoClient) -> None:
    place = await tus.begin(10)

    async def post(method: str, **headers: str) -> Any:
        sent = {"X-HTTP-Method-Override": method, **headers}
        return await tus.tus("POST", place, sent, data=b"0123")

    patch = {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
    told = await post("PATCH", **patch)
    assert (told.status, told.headers["Upload-Offset"]) == (204, "4")
    told = await post("HEAD")
    assert (told.status, told.headers["Upload-Offset"]) == (200, "4")
    for method in ("", "PUT", "POST", "OPTIONS"):
        assert (await post(method, **patch)).status == 405
    assert (await post("delete")).status == 204
    assert (await tus.tus("HEAD", place)).status == 404


# ---- what is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "refused"),
    [
        ("0", (400, "empty_upload")),
        ("-1", (400, "bad_header")),
        ("1.5", (400, "bad_header")),
        ("ten", (400, "bad_header")),
        ("", (400, "bad_header")),
        ("0x10", (400, "bad_header")),
        ("1_000", (400, "bad_header")),
        ("9" * 200, (400, "bad_header")),
        ("1000001", (413, "too_large")),
        (str(2**63), (413, "too_large")),
        ("9" * 40, (413, "too_large")),
    ],
)
async def test_lengths_that_cannot_be_are_refused(
    tus: VideoClient, length: str, refused: tuple[int, str]
) -> None:
    assert (await tus.create(length)).refused == refused
    assert (await tus.ask("GET", "/api/videos")).json["videos"] == []


async def test_the_length_has_to_be_said(tus: VideoClient) -> None:
    assert (await tus.tus("POST", UPLOADS)).refused == (400, "header_missing")
    told = await tus.tus("POST", UPLOADS, {"Upload-Defer-Length": "1"})
    assert told.refused == (400, "header_missing")


@pytest.mark.parametrize("metadata", ["title %%%", "title /w==", "title QQ==,title QQ==", ",,"])
async def test_metadata_that_is_none_is_refused(tus: VideoClient, metadata: str) -> None:
    asked = {"Upload-Length": "10", "Upload-Metadata": metadata}
    assert (await tus.tus("POST", UPLOADS, asked)).refused == (400, "bad_metadata")


async def test_titles_are_text_and_without_control_characters(tus: VideoClient) -> None:
    markup = "<script>alert(1)</script> ' \" {{x}} 𝕳 ‮"
    place = await tus.begin(10, markup)
    assert (await tus.video(place.rpartition("/")[2]))["title"] == markup
    for title in ("a\x00b", "a\r\nSet-Cookie: x=y", "x" * 201):
        assert (await tus.create(10, title)).refused == (400, "bad_title")


@pytest.mark.parametrize(
    ("offset", "refused"),
    [
        ("0", (409, "wrong_offset")),
        ("4", (409, "wrong_offset")),
        ("6", (409, "wrong_offset")),
        ("11", (409, "wrong_offset")),
        ("9" * 90, (409, "wrong_offset")),
        ("-5", (400, "bad_header")),
        ("+5", (400, "bad_header")),
        ("5 ", (400, "bad_header")),
        ("٥", (400, "bad_header")),
        ("five", (400, "bad_header")),
    ],
)
async def test_wrong_offsets_are_refused_and_change_nothing(
    tus: VideoClient, instance: Instance, offset: str, refused: tuple[int, str]
) -> None:
    place = await tus.begin(10)
    await tus.patch(place, 0, b"01234")
    if offset == "5 ":
        offset = "5 5"
    assert (await tus.patch(place, offset, b"xxxxx")).refused == refused
    assert await tus.offset(place) == 5
    assert stored(instance, place).read_bytes() == b"01234"


async def test_bytes_of_another_kind_are_refused(tus: VideoClient) -> None:
    place = await tus.begin(10)
    for data, headers in (
        (b"01234", {"Content-Type": "application/octet-stream"}),
        (b"01234", {"Content-Type": "text/plain"}),
        (gzip.compress(bytes(1000)), {"Content-Encoding": "gzip"}),
        (zlib.compress(bytes(1000)), {"Content-Encoding": "deflate"}),
    ):
        told = await tus.patch(place, 0, data, **headers)
        assert told.refused == (415, "unsupported_media"), headers
    told = await tus.tus("PATCH", place, {"Content-Type": OFFSET_TYPE}, data=b"0")
    assert told.refused == (400, "header_missing")
    assert await tus.offset(place) == 0


@pytest.mark.parametrize("known_length", [True, False])
async def test_more_than_was_announced_is_not_kept(
    tus: VideoClient, instance: Instance, known_length: bool
) -> None:
    place = await tus.begin(10)
    file = stored(instance, place)
    kept = file.with_name("kept")
    kept.hardlink_to(file)

    async def body() -> AsyncIterator[bytes]:
        yield b"01234"
        yield b"56789abc"

    data: Any = b"0123456789abc" if known_length else body()
    assert (await tus.patch(place, 0, data)).refused == (413, "too_large")
    assert kept.stat().st_size == 10 or not kept.exists()
    assert await tus.offset(place) == 10


async def test_a_finished_upload_takes_nothing_more(tus: VideoClient) -> None:
    place = await tus.begin(4)
    assert (await tus.patch(place, 0, b"0123")).status == 204
    told = await tus.patch(place, 4, b"")
    assert (told.status, told.headers["Upload-Offset"]) == (204, "4")
    assert (await tus.patch(place, 4, b"4")).refused == (413, "too_large")
    assert (await tus.patch(place, 0, b"xxxx")).refused == (409, "wrong_offset")
    assert await tus.offset(place) == 4


@pytest.mark.parametrize("video_id", ["v_nobody", "%00", "..%2f..", "a b", "x" * 300, "💥"])
async def test_what_is_no_upload_is_404(tus: VideoClient, video_id: str) -> None:
    place = f"{UPLOADS}/{video_id}"
    assert (await tus.tus("GET", place)).refused == (404, "no_upload")
    assert (await tus.patch(place, 0, b"x")).refused == (404, "no_upload")
    assert (await tus.tus("DELETE", place)).refused == (404, "no_upload")


# ---- who breaks off, stalls, or comes twice ------------------------------------------------


async def test_one_sender_at_a_time(tus: VideoClient, instance: Instance) -> None:
    place, gate = await tus.begin(10), asyncio.Event()
    first = asyncio.create_task(hold(tus, place, b"01234", gate))
    try:
        second = await until_held(tus, place)
        assert second.refused == (423, "locked")
        assert second.json["retryable"] is True
        assert (await tus.patch(place, 5, b"xxxxx")).refused == (423, "locked")
    finally:
        gate.set()
    told = await first
    assert (told.status, told.headers["Upload-Offset"]) == (204, "6")
    assert stored(instance, place).read_bytes() == b"01234!"
    assert (await tus.patch(place, 6, b"6789")).headers["Upload-Offset"] == "10"


async def test_what_came_before_the_sender_broke_off_is_kept(
    tus: VideoClient, instance: Instance
) -> None:
    place, offset = await tus.begin(500_000), 0
    for _ in range(2):
        _reader, writer = await asyncio.open_connection(instance.client.host, instance.client.port)
        head = (
            f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n"
            f"Tus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\nContent-Type: {OFFSET_TYPE}\r\n"
            f"Content-Length: {500_000 - offset}\r\n\r\n"
        )
        writer.write(head.encode() + bytes(100_000))
        async with asyncio.timeout(30):
            while await tus.offset(place) < offset + 100_000:
                writer.write(b"\0")  # it is written at the latest when something comes later
                await writer.drain()
        writer.transport.abort()
        async with asyncio.timeout(30):
            while (told := await tus.patch(place, 0, b"")).status != 409:
                assert told.status == 423, "the broken one may still be at it"
        assert await tus.offset(place) >= offset + 100_000
        offset = await tus.offset(place)
    assert (await tus.patch(place, offset, bytes(500_000 - offset))).status == 204


async def test_who_stalls_is_given_up_and_what_came_is_kept(
    instances: Instances, http: aiohttp.ClientSession
) -> None:
    hasty = await instances.start(library=Patience(stall_s=0.5), api_key=KEY)
    tus = VideoClient(http, hasty.origin)
    place, gate = await tus.begin(10), asyncio.Event()
    started = time.monotonic()
    told = await tus.patch(place, 0, trickle(b"01234", gate))
    assert told.refused == (408, "request_timeout")
    assert told.json["retryable"] is True
    assert time.monotonic() - started < 20
    assert await tus.offset(place) == 5
    assert (await tus.patch(place, 5, b"56789")).status == 204


async def test_an_upload_may_be_deleted_while_it_is_sent(
    tus: VideoClient, instance: Instance
) -> None:
    place, gate = await tus.begin(10), asyncio.Event()
    sending = asyncio.create_task(hold(tus, place, b"01234", gate))
    try:
        await until_held(tus, place)
        assert (await tus.tus("DELETE", place)).status == 204
    finally:
        gate.set()
    assert (await sending).refused == (404, "no_upload")
    assert not stored(instance, place).exists()


# ---- who may -------------------------------------------------------------------------------


async def test_uploads_need_the_scope(
    instance: Instance, tus: VideoClient, http: aiohttp.ClientSession
) -> None:
    place = await tus.begin(10)
    member = (await instance.user("anna"))["access_token"]
    host = (await instance.user("hugo", "host"))["access_token"]
    admin = (await instance.user("ada", "admin"))["access_token"]
    key = await instance.post("keys", {"name": "k", "scopes": ["videos:manage"]}, token=admin)
    for headers, refused in (
        ({}, (401, "key_needed")),
        ({"Authorization": "Bearer nonsense"}, (401, "wrong_key")),
        ({"Authorization": f"Bearer {member}"}, (403, "scope_missing")),
        ({"Authorization": f"Bearer {host}"}, (403, "scope_missing")),
    ):
        other = VideoClient(http, instance.origin, key=None)
        patch = {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE, **headers}
        for method, path, sent in (
            ("POST", UPLOADS, {"Upload-Length": "10", **headers}),
            ("PATCH", place, patch),
            ("GET", place, headers),
            ("DELETE", place, headers),
            ("POST", place, {"X-HTTP-Method-Override": "DELETE", **patch}),
        ):
            told = await other.tus(method, path, sent)
            assert told.refused == refused, (method, path)
            assert told.headers["Tus-Resumable"] == "1.0.0", "in refusals, too"
    keyed = VideoClient(http, instance.origin, key=key.body["key"])
    assert (await keyed.patch(place, 0, b"01")).status == 204
    owned = await VideoClient(http, instance.origin, key=key.body["key"]).begin(5, "By key")
    assert (await tus.video(owned.rpartition("/")[2]))["owner"]


async def test_on_an_open_server_too_and_not_from_foreign_pages(
    instances: Instances, http: aiohttp.ClientSession
) -> None:
    one = await instances.start(
        library=Patience(), access="open", api_key=KEY, cors_origins=(ORIGIN,)
    )
    nobody = VideoClient(http, one.origin, key=None)
    assert (await nobody.create(10)).refused == (403, "scope_missing")
    tus = VideoClient(http, one.origin)
    place = await tus.begin(10)
    assert (await tus.patch(place, 0, b"01", Origin="https://evil.example")).status == 204, (
        "the key proves who asks"
    )
    preflight = await nobody.ask(
        "OPTIONS",
        place,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "tus-resumable,upload-offset,content-type,x-api-key",
        },
    )
    assert preflight.status == 204
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    for name in ("tus-resumable", "upload-offset", "upload-length", "upload-metadata", "x-api-key"):
        assert name in allowed
    told = await tus.patch(place, 2, b"23", Origin=ORIGIN)
    assert told.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = told.headers["Access-Control-Expose-Headers"]
    for name in ("Location", "Upload-Offset", "Upload-Length", "Tus-Resumable", "Upload-Expires"):
        assert name in exposed


async def test_uploads_count_against_the_limit(
    instances: Instances, http: aiohttp.ClientSession
) -> None:
    one = await instances.start(library=Patience(), api_key=KEY, rate_limit=20)
    tus = VideoClient(http, one.origin)
    place = await tus.begin(1000)
    statuses = [(await tus.patch(place, at, b"x")).status for at in range(30)]
    assert statuses[0] == 204
    assert statuses[-1] == 429
