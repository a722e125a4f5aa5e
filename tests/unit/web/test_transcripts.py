import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from mediaserver.kernel.errors import NotFound
from mediaserver.sessions.transcripts import TranscriptStore
from mediaserver.settings import Settings
from mediaserver.web import keys, transcripts
from mediaserver.web.application import new_application
from mediaserver.web.routing import mount
from mediaserver.web.transcripts import Patience

from ..captions.test_transcript import say
from ..captions.test_transcript_formats import read_srt, read_vtt
from ..sessions.test_transcripts import Spoken, new_store, spoken

Client = TestClient[web.Request, web.Application]
ID = "s_0123456789abcdef"
BASE = f"/api/v1/sessions/{ID}/transcript"


class LiveSessions:
    """The sessions that live now."""

    def __init__(self) -> None:
        self.live: dict[str, Spoken] = {}

    def get(self, session_id: str) -> Spoken:
        try:
            return self.live[session_id]
        except KeyError:
            raise NotFound("no such session") from None


@pytest.fixture
def sessions() -> LiveSessions:
    return LiveSessions()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TranscriptStore]:
    store = new_store(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture
def patience() -> Patience:
    return Patience()


@pytest.fixture
async def client(
    aiohttp_client: AiohttpClient,
    sessions: LiveSessions,
    store: TranscriptStore,
    patience: Patience,
) -> Client:
    app = new_application(Settings())
    app[keys.SESSIONS] = cast(Any, sessions)
    app[keys.TRANSCRIPTS] = store
    mount(app, [transcripts.routes(patience)])
    return await aiohttp_client(app)


async def test_a_live_transcript_is_served_in_four_formats(
    client: Client, sessions: LiveSessions
) -> None:
    session = sessions.live[ID] = Spoken()
    say(session.transcript, "This was said, all of it.")
    vtt = await client.get(f"{BASE}.vtt")
    assert (vtt.content_type, vtt.charset) == ("text/vtt", "utf-8")
    assert vtt.headers["Cache-Control"] == "no-store"
    assert read_vtt(await vtt.text())[0][3:] == ("Ann", "This was said, all of it.")
    assert (
        read_srt(await (await client.get(f"{BASE}.srt")).text())[0][3]
        == "This was said, all of it."
    )
    assert await (await client.get(f"{BASE}.txt")).text() == "This was said, all of it.\n"
    document = await (await client.get(f"{BASE}.json")).json()
    words = ["This", "was", "said,", "all", "of", "it."]
    assert document["ended"] is False
    assert [w["text"] for w in document["cues"][0]["words"]] == words
    say(session.transcript, "And this.", start_s=10, utterance=2)
    later = await (await client.get(f"{BASE}.vtt", params={"since": 1})).text()
    assert [row[0] for row in read_vtt(later)] == ["2"]


async def test_after_the_end_it_is_served_from_disk(client: Client, store: TranscriptStore) -> None:
    await store.save(spoken())
    response = await client.get(f"{BASE}.vtt", params={"download": 1})
    assert response.headers["Content-Disposition"] == f'attachment; filename="{ID}.vtt"'
    assert read_vtt(await response.text())[0][4] == "What was said & is <kept>."
    assert (await (await client.get(f"{BASE}.json")).json())["ended"] is True
    followed = await client.get(f"{BASE}.vtt", params={"follow": 1})
    assert len(read_vtt(await followed.text())) == 1


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/sessions/s_unknown0unknown0/transcript.{kind}"
        for kind in ("vtt", "srt", "json", "txt")
    ]
    + [
        f"{BASE}.doc",
        "/api/v1/sessions/..%2f..%2fetc/transcript.vtt",
        "/api/v1/sessions/s_/transcript.vtt",
    ],
)
async def test_what_is_not_there_is_a_404_problem(client: Client, path: str) -> None:
    response = await client.get(path)
    assert response.status == 404
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("query", ["since=-1", "since=x", "since=²", "follow=maybe", "download=2"])
async def test_a_senseless_query_is_400(client: Client, sessions: LiveSessions, query: str) -> None:
    sessions.live[ID] = Spoken()
    assert (await client.get(f"{BASE}.vtt?{query}")).status == 400


async def read_some(response: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(20):
        return (await response.content.readany()).decode()


async def test_a_follower_gets_each_cue_as_it_closes_and_ends_with_the_session(
    client: Client, sessions: LiveSessions
) -> None:
    session = sessions.live[ID] = Spoken()
    say(session.transcript, "Before you came.")
    async with client.get(f"{BASE}.vtt", params={"follow": 1}) as response:
        text = ""
        while "Before" not in text:
            text += await read_some(response)
        for number in range(2, 5):
            say(session.transcript, f"Sentence number {number}.", 10.0 * number, number)
            while f"number {number}." not in text:
                text += await read_some(response)
        session.transcript.close()
        async with asyncio.timeout(20):
            text += (await response.read()).decode()
    assert [row[0] for row in read_vtt(text)] == ["1", "2", "3", "4"]


async def test_a_reader_that_leaves_harms_nobody(client: Client, sessions: LiveSessions) -> None:
    session = sessions.live[ID] = Spoken()
    staying = await client.get(f"{BASE}.vtt", params={"follow": 1})
    leaving = await client.get(f"{BASE}.vtt", params={"follow": 1})
    await read_some(leaving)
    leaving.close()
    for number in range(1, 400):
        say(session.transcript, f"Sentence number {number}.", 10.0 * number, number)
        if number % 40 == 0:
            await asyncio.sleep(0.01)
    session.transcript.close()
    async with asyncio.timeout(20):
        rows = read_vtt((await staying.read()).decode())
    assert len(rows) == 399
    async with asyncio.timeout(20):
        while session.transcript._listeners:  # followers unsubscribe
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("patience", [Patience(write_s=0.3)])
async def test_a_reader_that_takes_nothing_is_let_go(
    client: Client, sessions: LiveSessions
) -> None:
    session = sessions.live[ID] = Spoken()
    _reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(f"GET {BASE}.vtt?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await writer.drain()
    async with asyncio.timeout(60):
        number = 0
        while session.transcript._listeners or not number:
            for _ in range(2000):
                number += 1
                say(session.transcript, f"Sentence number {number}.", 10.0 * number, number)
            await asyncio.sleep(0.02)
    writer.close()


async def test_a_head_request_does_not_follow(client: Client, sessions: LiveSessions) -> None:
    sessions.live[ID] = Spoken()
    async with asyncio.timeout(20):
        response = await client.head(f"{BASE}.vtt", params={"follow": 1})
    assert response.status == 200


@pytest.mark.parametrize("patience", [Patience(keep_alive_s=0.05)])
async def test_a_silent_session_sends_empty_lines(client: Client, sessions: LiveSessions) -> None:
    session = sessions.live[ID] = Spoken()
    async with client.get(f"{BASE}.vtt", params={"follow": 1}) as response:
        text = ""
        while not text.endswith("\n\n\n\n"):
            text += await read_some(response)
        say(session.transcript, "At last.")
        session.transcript.close()
        text += (await response.read()).decode()
    assert [row[4] for row in read_vtt(text)] == ["At last."]
