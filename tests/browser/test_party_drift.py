"""Two browsers on two servers see the same moment; the minute is benchmarks/watch_party.py."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from benchmarks.films import Cinema, cinema, make_film
from benchmarks.watch_party import TARGET_P95_MS, sample, start_party
from tests.browser.conftest import OpenPage
from tests.browser.test_page_party import expect_together
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

SECONDS = 10.0
FILM_S = SECONDS + 60


@pytest.fixture
def servers(valkey_server: ValkeyProcess, tmp_path: Path) -> Iterator[Servers]:
    with run_servers(tmp_path, valkey_server, 2) as running:
        yield running


@pytest.fixture
async def films(tmp_path: Path) -> AsyncIterator[Cinema]:
    async with cinema(make_film(tmp_path / "film.mp4", FILM_S), FILM_S) as running:
        yield running


async def test_two_pages_on_two_servers_stay_together(
    servers: Servers, films: Cinema, open_page: OpenPage
) -> None:
    room = f"/?room=drift-{secrets.token_hex(5)}"
    ann = await open_page(servers[0], path=room, name="Ann", foreign=films.host)
    await expect(ann.state).to_have_text("Connected")
    ben = await open_page(servers[1], path=room, name="Ben", foreign=films.host)
    await expect(ben.state).to_have_text("Connected")
    await ann.tab("People")
    await expect(ann.page.locator(".person")).to_have_count(2)
    await start_party([ann.page, ben.page], films.url())
    await expect_together(ann, ben)
    apart = await sample(ann.page, ben.page, SECONDS)
    p95 = apart.percentile(95)
    print(f"apart: p50 {apart.percentile(50):.0f} ms, p95 {p95:.0f} ms")
    assert len(apart.distances_ms) > SECONDS * 3
    assert p95 <= TARGET_P95_MS, f"p95 {p95:.0f} ms, p50 {apart.percentile(50):.0f} ms"
