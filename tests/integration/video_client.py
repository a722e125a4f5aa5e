"""Uploads by tus and watches videos of real instances, as plain HTTP."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

KEY = "static-key-of-the-video-tests"
UPLOADS = "/api/videos/uploads"
OFFSET_TYPE = "application/offset+octet-stream"
READY_S = 90.0


@dataclass(frozen=True)
class Told:
    """A response, read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    json: Any
    cookies: Mapping[str, Any]

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        return str(self.json["code"])

    @property
    def refused(self) -> tuple[int, str]:
        """Status and code of a problem."""
        return self.status, self.code


class VideoClient:
    """Requests to one instance. It keeps no cookies."""

    def __init__(self, http: aiohttp.ClientSession, server: str, key: str | None = KEY) -> None:
        self.http = http
        self.server = server.rstrip("/")
        self.key = key

    async def ask(self, method: str, path: str, **more: Any) -> Told:
        """`path` may be a whole URL; `headers` of None are left out."""
        headers = {"X-API-Key": self.key, **more.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        url = path if path.startswith("http") else self.server + path
        async with (
            asyncio.timeout(30),
            self.http.request(method, url, headers=headers, **more) as answer,
        ):
            body = await answer.read()
            kind = answer.headers.get("Content-Type", "")
            json = await answer.json(content_type=None) if "json" in kind and body else None
            return Told(answer.status, answer.headers, body, json, answer.cookies)

    # ---- tus -------------------------------------------------------------------------------

    async def tus(self, method: str, path: str, headers: Any = None, **more: Any) -> Told:
        """A request with Tus-Resumable."""
        sent = {"Tus-Resumable": "1.0.0", **(headers or {})}
        return await self.ask(method, path, headers=sent, **more)

    async def create(self, size_bytes: object, title: str = "Film", **headers: Any) -> Told:
        metadata = f"title {b64encode(title.encode()).decode()}"
        asked = {"Upload-Length": str(size_bytes), "Upload-Metadata": metadata, **headers}
        return await self.tus("POST", UPLOADS, asked)

    async def begin(self, size_bytes: int, title: str = "Film") -> str:
        """Create an upload; return its address."""
        made = await self.create(size_bytes, title)
        assert made.status == 201, made.json
        return made.headers["Location"]

    async def patch(
        self, place: str, offset: object, data: bytes | AsyncIterable[bytes], **headers: Any
    ) -> Told:
        asked = {"Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE, **headers}
        return await self.tus("PATCH", place, asked, data=data)

    async def offset(self, place: str) -> int:
        told = await self.tus("HEAD", place)
        assert told.status == 200, told
        return int(told.headers["Upload-Offset"])

    async def until_offset(self, place: str, offset: int, timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.offset(place) < offset:
                await asyncio.sleep(0.02)

    # ---- videos ----------------------------------------------------------------------------

    async def upload(self, file: Path, title: str = "Film") -> str:
        """Upload a whole file; return the video's id."""
        data = await asyncio.to_thread(file.read_bytes)
        place = await self.begin(len(data), title)
        told = await self.patch(place, 0, data)
        assert (told.status, told.headers["Upload-Offset"]) == (204, str(len(data))), told
        return place.rpartition("/")[2]

    async def video(self, video_id: str) -> Any:
        told = await self.ask("GET", f"/api/videos/{video_id}")
        assert told.status == 200, told
        return told.json

    async def ready(self, video_id: str, state: str = "ready", timeout_s: float = READY_S) -> Any:
        """Wait until it is prepared; return it."""
        async with asyncio.timeout(timeout_s):
            while (video := await self.video(video_id))["state"] not in ("ready", "failed"):
                await asyncio.sleep(0.1)
        assert video["state"] == state, video
        return video

    async def sign(self, video_id: str, **more: Any) -> Any:
        told = await self.ask("POST", "/api/videos/sign", json={"video_id": video_id, **more})
        assert told.status == 200, told.json
        return told.json

    async def play(self, url: str, **headers: Any) -> Told:
        """GET a signed URL, without any key; `Range` and the like as keywords."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", url, headers={"X-API-Key": None, **sent})


async def trickle(data: bytes, gate: asyncio.Event) -> AsyncIterator[bytes]:
    """Send `data`, then nothing until the gate opens, then one byte."""
    yield data
    await gate.wait()
    yield b"!"


async def hold(client: VideoClient, place: str, data: bytes, gate: asyncio.Event) -> Told:
    """Send `data` to a new upload, and keep at it until the gate opens."""
    while (told := await client.patch(place, 0, trickle(data, gate))).status == 423:
        await asyncio.sleep(0.02)  # who looks whether it is held held it
    return told


async def until_held(client: VideoClient, place: str) -> Told:
    """Wait until somebody sends; return how another is refused meanwhile."""
    async with asyncio.timeout(20):
        while (told := await client.patch(place, 9, b"")).status != 423:
            assert told.refused == (409, "wrong_offset"), told
            await asyncio.sleep(0.05)
    return told
