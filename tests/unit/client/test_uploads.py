"""Uploads to a scripted tus server, which says what real ones say in bad moments."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mediaserver_client import Api, ClientError, ProtocolError, Refused, ServerUnreachable

from tests.unit.client.scripted import problem

ENDS_S = 20.0
SIZE = 3 * 2**20
VIDEO = "v_scripted"


@dataclass
class ScriptedTus:
    """Takes one upload; `answers` come first, one a request to it."""

    answers: list[web.Response | None] = field(default_factory=list)
    """None: cut the connection after the first piece."""
    received: bytearray = field(default_factory=bytearray)
    told_offset: str | None = None
    """Said instead of the real one."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Method and Authorization."""
    metadata: str = ""
    url: str = ""

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers["Tus-Resumable"] == "1.0.0"
        self.metadata = request.headers["Upload-Metadata"]
        return web.Response(status=201, headers={"Location": f"/api/videos/uploads/{VIDEO}"})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Tus-Resumable"] == "1.0.0"
        self.asked.append((request.method, request.headers.get("Authorization")))
        if self.answers and (answer := self.answers.pop(0)) is not None:
            return answer
        if request.method == "PATCH":
            assert request.content_length == SIZE - len(self.received)
            assert int(request.headers["Upload-Offset"]) == len(self.received)
            cut = len(self.asked) == 1 and self.answers != []
            async for piece in request.content.iter_any():
                self.received += piece
                if cut:
                    assert request.transport is not None
                    request.transport.abort()
                    raise ConnectionResetError
        offset = self.told_offset if self.told_offset is not None else str(len(self.received))
        return web.Response(
            status=204 if request.method == "PATCH" else 200, headers={"Upload-Offset": offset}
        )

    async def video(self, _: web.Request) -> web.Response:
        return web.json_response(self.info())

    def info(self, **more: Any) -> dict[str, Any]:
        return {
            "video_id": VIDEO,
            "title": "x",
            "state": "processing",
            "created_at": 1.0,
            "owner": "me",
            "size_bytes": SIZE,
            "received_bytes": len(self.received),
            "progress": 0,
            **more,
        }


@asynccontextmanager
async def running(script: ScriptedTus) -> AsyncIterator[ScriptedTus]:
    app = web.Application()
    app.router.add_post("/api/videos/uploads", script.create)
    app.router.add_route("*", f"/api/videos/uploads/{VIDEO}", script.upload)
    app.router.add_get(f"/api/videos/{VIDEO}", script.video)
    runner = web.AppRunner(app, shutdown_timeout=0.5, lingering_time=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film, =.mp4"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def refusal(status: int, code: str, **more: Any) -> web.Response:
    body = {**problem(code, status=status), **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


@pytest.mark.parametrize(
    "answer",
    [
        refusal(423, "locked", retryable=True),
        refusal(408, "request_timeout"),
        refusal(409, "wrong_offset"),
        refusal(429, "too_many_requests", retry_after_s=0.1),
        refusal(503, "storage_down", retryable=True),
        web.Response(status=502),
        web.Response(status=500),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_what_passes_is_waited_for_and_the_offset_asked_again(
    file: Path, answer: web.Response
) -> None:
    script = ScriptedTus([answer])
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        video = await api.upload_video(file)
    assert bytes(tus.received) == file.read_bytes()
    assert video.received_bytes == SIZE
    assert [method for method, _ in tus.asked] == ["PATCH", "GET", "PATCH"]


async def test_what_came_before_a_cut_is_not_sent_again(file: Path) -> None:
    script = ScriptedTus([None, None])
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        await api.upload_video(file)
    assert bytes(tus.received) == file.read_bytes()
    assert [method for method, _ in tus.asked] == ["PATCH", "GET", "PATCH"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "no_upload"), (403, "scope_missing"), (413, "too_large"), (507, "insufficient_storage")],
)
async def test_what_does_not_pass_ends_it(file: Path, status: int, code: str) -> None:
    script = ScriptedTus([refusal(status, code)])
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        with pytest.raises(Refused) as refused:
            await api.upload_video(file)
    assert refused.value.code == code
    assert len(tus.asked) == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_token_that_expired_is_renewed_once(file: Path, times: int) -> None:
    tokens = iter(("first", "second", "third"))

    async def source() -> str:
        return next(tokens)

    script = ScriptedTus([refusal(401, "token_expired") for _ in range(times)])
    async with (
        asyncio.timeout(ENDS_S),
        running(script) as tus,
        Api(tus.url, token=source) as api,
    ):
        if times == 1:
            await api.upload_video(file)
        else:
            with pytest.raises(Refused):
                await api.upload_video(file)
    assert [given for _, given in tus.asked] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("offset", ["", "x", "-1", str(SIZE + 1)])
async def test_a_server_that_talks_nonsense_is_not_believed(file: Path, offset: str) -> None:
    script = ScriptedTus(told_offset=offset)
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        with pytest.raises(ProtocolError, match="how far the upload is"):
            await api.upload_video(file)


async def test_a_server_that_takes_nothing_is_given_up(file: Path) -> None:
    script = ScriptedTus([web.Response(status=503) for _ in range(50)])
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        with pytest.raises((ServerUnreachable, Refused)):
            await api.upload_video(file, reconnect_s=0.5)
    assert len(tus.asked) > 1


async def test_a_resumed_upload_asks_first_and_has_to_be_of_that_file(
    file: Path, tmp_path: Path
) -> None:
    script = ScriptedTus(received=bytearray(file.read_bytes()[:1000]))
    told: list[int] = []
    async with asyncio.timeout(ENDS_S), running(script) as tus, Api(tus.url) as api:
        other = tmp_path / "other"
        other.write_bytes(b"x")
        with pytest.raises(ClientError, match="it has 1 bytes instead of"):
            await api.upload_video(other, resume=VIDEO)
        await api.upload_video(file, resume=VIDEO, on_progress=lambda sent, _: told.append(sent))
    assert bytes(tus.received) == file.read_bytes()
    assert told[0] == 1000
    assert [method for method, _ in tus.asked] == ["GET", "PATCH"]


async def test_names_are_told_in_base64(file: Path) -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedTus()) as tus, Api(tus.url) as api:
        await api.upload_video(file, "Größe, 1")
    assert tus.metadata == "title R3LDtsOfZSwgMQ==,filename ZmlsbSwgPS5tcDQ=,filetype dmlkZW8vbXA0"
