"""Playing by signed addresses: what is served to whom, for how long, and in which pieces."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.cookies import Morsel
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import av
import pytest

from benchmarks.films import make_film
from mediaserver.web.uploads import Patience
from tests.integration.identity_instance import Instance, Instances, ShiftedClock
from tests.integration.video_client import KEY, Told, VideoClient

FILM_S = 2.0
ORIGIN = "https://app.example"
REFUSED = (403, "bad_signature")
DAY_S = 86_400.0


@dataclass
class Cinema:
    """An instance with a clock that can be moved, and a video that is ready."""

    instance: Instance
    clock: ShiftedClock
    client: VideoClient
    video_id: str
    media: bytes
    """What is played."""

    async def sign(self, **more: Any) -> Any:
        return await self.client.sign(self.video_id, **more)

    async def play(self, url: str, **headers: Any) -> Told:
        return await self.client.play(url, **headers)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", FILM_S)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def open_cinema(
    instances: Instances, http: aiohttp.ClientSession, film: Path, **settings: Any
) -> Cinema:
    clock = ShiftedClock()
    instance = await instances.start(library=Patience(), clock=clock, api_key=KEY, **settings)
    client = VideoClient(http, instance.origin)
    video_id = await client.upload(film)
    await client.ready(video_id)
    told = await client.play(
        urlsplit((await client.sign(video_id))["url"])
        ._replace(scheme="http", netloc=urlsplit(instance.origin).netloc)
        .geturl()
    )
    assert told.status == 200
    return Cinema(instance, clock, client, video_id, told.body)


@pytest.fixture
async def cinema(instances: Instances, http: aiohttp.ClientSession, film: Path) -> Cinema:
    return await open_cinema(instances, http, film)


def changed(url: str, **values: str | None) -> str:
    """The URL with other values in its query; None takes one out."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **values}
    text = urlencode({name: value for name, value in query.items() if value is not None})
    return parts._replace(query=text).geturl()


def at(url: str, path: str) -> str:
    return urlsplit(url)._replace(path=path).geturl()


def cookie_of(told: Told) -> tuple[str, Morsel[str]]:
    """What a browser sends back, and the cookie with its attributes."""
    [(name, morsel)] = told.cookies.items()
    return f"{name}={morsel.value}", morsel


# ---- who is let in -------------------------------------------------------------------------


async def test_a_signed_address_plays(cinema: Cinema) -> None:
    signed = await cinema.sign()
    assert signed["url"].startswith(f"{cinema.instance.origin}/media/videos/{cinema.video_id}/")
    assert (signed["provider"], signed["content_type"]) == ("local", "video/mp4")
    assert (signed["expires_in"], signed["refresh_after"]) == (300, 240)
    assert urlsplit(signed["url"]).path == signed["manifest_path"]
    told = await cinema.play(signed["url"])
    assert told.status == 200
    assert told.headers["Content-Type"] == "video/mp4"
    assert told.headers["Content-Length"] == str(len(told.body))
    assert told.headers["Accept-Ranges"] == "bytes"
    assert told.headers["Cache-Control"] == "private, max-age=300"
    assert told.headers["X-Content-Type-Options"] == "nosniff"
    assert told.headers["Cross-Origin-Resource-Policy"] == "same-site"
    with av.open(BytesIO(told.body), "r") as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - FILM_S) < 0.2
        assert len(list(container.decode(video=0))) >= 49


async def test_what_was_changed_is_refused(cinema: Cinema) -> None:
    url = (await cinema.sign(subject="ann@example"))["url"]
    query = dict(parse_qsl(urlsplit(url).query))
    assert (await cinema.play(url)).status == 200
    signature = query["sig"]
    flipped = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    later, day = str(int(query["exp"]) + 1), int(query["kid"][1:])
    for wrong in (
        changed(url, sig=flipped),
        changed(url, sig=signature[:-1]),
        changed(url, sig=signature + "="),
        changed(url, sig=""),
        changed(url, sig=None),
        changed(url, sig="💥"),
        changed(url, sig="x" * 4000),
        changed(url, exp=later),
        changed(url, exp="0" + query["exp"]),
        changed(url, exp="9" * 12),
        changed(url, exp="-1"),
        changed(url, exp="NaN"),
        changed(url, exp=None),
        changed(url, kid=f"d{day + 1}"),
        changed(url, kid=f"d{day - 1}"),
        changed(url, kid=None),
        changed(url, sub="bob@example"),
        changed(url, sub=None),
        changed(url, sub="-"),
        url + f"&sig={signature}",
        url + "&sub=bob@example",
        at(url, urlsplit(url).path).partition("?")[0],
    ):
        told = await cinema.play(wrong)
        assert told.refused == REFUSED, wrong
        assert not told.cookies
    assert (await cinema.play(url + "&utm_source=x")).status == 200, "other things do not matter"


async def test_one_videos_address_is_no_others(cinema: Cinema, film: Path) -> None:
    other = await cinema.client.upload(film, "Other")
    await cinema.client.ready(other)
    url, others = (await cinema.sign())["url"], (await cinema.client.sign(other))["url"]
    cookie, _ = cookie_of(await cinema.play(url))
    assert (await cinema.play(at(url, urlsplit(others).path))).refused == REFUSED
    bare = others.partition("?")[0]
    assert (await cinema.play(bare)).refused == REFUSED
    assert (await cinema.play(bare, Cookie=cookie)).refused == REFUSED
    assert (await cinema.play(bare, Cookie=cookie.partition("=")[2])).refused == REFUSED
    expired = (await cinema.client.sign(other, expires_in=30))["url"]
    cinema.clock.offset_s = 31
    assert (await cinema.play(expired, Cookie=cookie)).refused == (410, "url_expired")


async def test_paths_that_can_be_read_in_two_ways_are_refused(cinema: Cinema) -> None:
    url = (await cinema.sign())["url"]
    path = urlsplit(url).path
    folder, _, name = path.rpartition("/")
    host, port = cinema.instance.client.host, cinema.instance.client.port
    for wrong in (
        f"{folder}/../{cinema.video_id}/{name}",
        f"{folder}/./{name}",
        f"{folder}//{name}",
        f"{folder}%2f{name}",
        f"{folder}/%2e%2e%2f{name}",
        f"{folder}/..%5c{name}",
        f"{folder}/{name}%00",
        f"{folder}/{name}/",
        f"{folder}/upload",
        f"{folder}/",
        f"{folder}/{name.upper()}",
        f"{folder}/%252e%252e",
        f"{folder}/%ff",
    ):
        reader, writer = await asyncio.open_connection(host, port)
        query = urlsplit(url).query
        writer.write(
            f"GET {wrong}?{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            status = (await reader.readline()).split()[1]
            await reader.read()
        writer.close()
        await writer.wait_closed()
        assert status in (b"400", b"401", b"403", b"404"), wrong


async def test_an_expired_address_is_410_unless_the_cookie_carries_on(cinema: Cinema) -> None:
    signed = await cinema.sign(expires_in=30)
    first = await cinema.play(signed["url"])
    cookie, morsel = cookie_of(first)
    assert morsel.key == signed["segment_auth"]["name"]
    assert morsel["path"] == signed["segment_auth"]["path"] == f"/media/videos/{cinema.video_id}/"
    assert int(morsel["max-age"]) == signed["segment_auth"]["expires_in"] == 3602
    assert (morsel["httponly"], morsel["samesite"]) == (True, "Lax")
    assert not morsel["secure"], "over plain HTTP it would never come back"
    cinema.clock.offset_s = 29
    assert (await cinema.play(signed["url"])).status == 200
    for offset_s in (31, 3000):
        cinema.clock.offset_s = offset_s
        told = await cinema.play(signed["url"])
        assert told.refused == (410, "url_expired")
        assert not told.cookies
        told = await cinema.play(signed["url"], Cookie=cookie)
        assert (told.status, told.body) == (200, cinema.media)
        assert not told.cookies, "it is not made longer"
        told = await cinema.play(signed["url"], Cookie=cookie, Range="bytes=100-199")
        assert (told.status, told.body) == (206, cinema.media[100:200])
    cinema.clock.offset_s = 3700
    assert (await cinema.play(signed["url"], Cookie=cookie)).refused == (410, "url_expired")


async def test_cookies_that_were_changed_do_not_help(cinema: Cinema) -> None:
    url = (await cinema.sign(expires_in=30))["url"]
    cookie, morsel = cookie_of(await cinema.play(url))
    cinema.clock.offset_s = 60
    name, _, value = cookie.partition("=")
    fields = value.split(".")
    longer = ".".join([fields[0], str(int(fields[1]) + 9999), *fields[2:]])
    signature = dict(parse_qsl(urlsplit(url).query))["sig"]
    swapped = ".".join([*fields[:2], signature, *fields[3:]])
    for wrong in (
        "",
        "x",
        "....",
        value[:-1] + "x.",
        longer,
        swapped,
        value.upper(),
        "💥",
        "." * 999,
    ):
        told = await cinema.play(url, Cookie=f"{name}={wrong}")
        assert told.refused == (410, "url_expired"), wrong
    assert morsel.value == value


async def test_keys_change_daily_and_old_ones_end(cinema: Cinema) -> None:
    url = (await cinema.sign())["url"]
    today = re.search(r"kid=(d\d+)", url)
    cinema.clock.offset_s = DAY_S
    assert (await cinema.play(url)).refused == (410, "url_expired")
    tomorrow = (await cinema.sign())["url"]
    assert today is not None
    assert today[1] not in tomorrow
    assert (await cinema.play(tomorrow)).status == 200
    cinema.clock.offset_s = -2 * DAY_S
    assert (await cinema.play(tomorrow)).refused == REFUSED, "of a day that is yet to come"


async def test_two_instances_know_each_others_addresses(
    instances: Instances, http: aiohttp.ClientSession, film: Path, cinema: Cinema
) -> None:
    two = await instances.start(library=Patience(), api_key=KEY)
    there = VideoClient(http, two.origin)
    url = (await cinema.sign(expires_in=30))["url"]
    cookie, _ = cookie_of(await cinema.play(url))
    path = url.removeprefix(cinema.instance.origin)
    told = await there.play(two.origin + path, Range="bytes=0-99")
    assert (told.status, told.body) == (206, cinema.media[:100])
    back = (await there.sign(cinema.video_id))["url"]
    assert back.startswith(two.origin)
    assert (await cinema.play(cinema.instance.origin + back.removeprefix(two.origin))).status == 200
    late = ShiftedClock(60)
    three = await instances.start(library=Patience(), clock=late, api_key=KEY)
    assert (await there.play(three.origin + path)).refused == (410, "url_expired")
    assert (await there.play(three.origin + path, Cookie=cookie)).status == 200


async def test_over_tls_the_cookie_is_for_tls_and_addresses_are_public(
    instances: Instances, http: aiohttp.ClientSession, film: Path
) -> None:
    cinema = await open_cinema(instances, http, film, public_url="https://videos.example/")
    url = (await cinema.sign())["url"]
    assert url.startswith("https://videos.example/media/videos/")
    own = url.replace("https://videos.example", cinema.instance.origin)
    _, morsel = cookie_of(await cinema.play(own))
    assert morsel["secure"]


async def test_pages_of_listed_origins_may_read(
    instances: Instances, http: aiohttp.ClientSession, film: Path
) -> None:
    cinema = await open_cinema(instances, http, film, cors_origins=(ORIGIN,))
    url = (await cinema.sign())["url"]
    told = await cinema.play(url, Origin=ORIGIN, Range="bytes=0-9")
    assert told.status == 206
    assert told.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert told.headers["Access-Control-Allow-Credentials"] == "true"
    exposed = told.headers["Access-Control-Expose-Headers"]
    for name in ("Content-Range", "Accept-Ranges", "Content-Length", "ETag"):
        assert name in exposed
    assert told.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    other = await cinema.play(url, Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in other.headers
    expired = await cinema.play(changed(url, exp="1"), Origin=ORIGIN)
    assert expired.headers["Access-Control-Allow-Origin"] == ORIGIN, "errors are readable too"
    preflight = await cinema.client.ask(
        "OPTIONS",
        url,
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"},
    )
    assert "Range" in preflight.headers["Access-Control-Allow-Headers"]


# ---- pieces --------------------------------------------------------------------------------


async def test_ranges_are_as_rfc_9110_has_them(cinema: Cinema) -> None:
    url, media = (await cinema.sign())["url"], cinema.media
    size = len(media)
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, size),
        ("bytes=-100", size - 100, size),
        (f"bytes={size - 1}-", size - 1, size),
        (f"bytes=0-{size * 10}", 0, size),
        (f"bytes=-{size * 10}", 0, size),
        ("BYTES=5-9", 5, 10),
    ):
        told = await cinema.play(url, Range=asked)
        assert (told.status, told.body) == (206, media[start:end]), asked
        assert told.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        assert told.headers["Content-Length"] == str(end - start)
    for asked in (
        f"bytes={size}-",
        f"bytes={size}-{size + 5}",
        "bytes=9-5",
        "bytes=" + "9" * 99 + "-",
    ):
        told = await cinema.play(url, Range=asked)
        assert (told.status, told.body) == (416, b""), asked
        assert told.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=0-,0-,0-,0-,0-",
        "bytes=0-0, -1",
        "items=0-5",
        "seconds=1-2",
        "",
        "garbage",
    ],
)
async def test_ranges_that_need_not_count_get_everything(cinema: Cinema, asked: str) -> None:
    told = await cinema.play((await cinema.sign())["url"], Range=asked)
    assert (told.status, told.body) == (200, cinema.media)
    assert "Content-Range" not in told.headers


@pytest.mark.parametrize("asked", ["bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--5"])
async def test_ranges_that_cannot_be_read_are_416(cinema: Cinema, asked: str) -> None:
    told = await cinema.play((await cinema.sign())["url"], Range=asked)
    assert (told.status, told.body) == (416, b"")
    assert told.headers["Content-Range"] == f"bytes */{len(cinema.media)}"


async def test_conditions_are_looked_at(cinema: Cinema) -> None:
    url = (await cinema.sign())["url"]
    whole = await cinema.play(url)
    tag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
    for unchanged in ({"If_None_Match": tag}, {"If_Modified_Since": date}):
        told = await cinema.play(url, **unchanged)
        assert (told.status, told.body) == (304, b"")
    assert (await cinema.play(url, If_None_Match='"other"')).status == 200
    assert (await cinema.play(url, If_Match='"other"')).status == 412
    for condition, status in (
        (tag, 206),
        (date, 206),
        ('"other"', 200),
        (f"W/{tag}", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ):
        told = await cinema.play(url, Range="bytes=0-9", If_Range=condition)
        assert told.status == status, condition
        assert told.body == (cinema.media[:10] if status == 206 else cinema.media)


async def test_head_tells_the_same_without_the_bytes(cinema: Cinema) -> None:
    url = (await cinema.sign())["url"]
    told = await cinema.client.ask("HEAD", url, headers={"X-API-Key": None})
    assert (told.status, told.body) == (200, b"")
    assert told.headers["Content-Length"] == str(len(cinema.media))
    assert told.headers["Content-Type"] == "video/mp4"
    assert told.headers["Accept-Ranges"] == "bytes"
    wrong = await cinema.client.ask("HEAD", changed(url, sig="x"), headers={"X-API-Key": None})
    assert wrong.status == 403
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        told = await cinema.client.ask(method, url)
        assert told.status == 405


async def test_playing_is_not_limited(
    instances: Instances, http: aiohttp.ClientSession, film: Path
) -> None:
    cinema = await open_cinema(instances, http, film, rate_limit=200)
    url = (await cinema.sign())["url"]
    answers = await asyncio.gather(
        *(cinema.play(url, Range=f"bytes={n}-{n + 9}") for n in range(300))
    )
    assert {told.status for told in answers} == {206}
