"""Sends a file by tus 1.0.0, and goes on where it was after every break."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from mediaserver_client.backoff import Backoff
from mediaserver_client.errors import ClientError, ProtocolError, Refused, ServerUnreachable
from mediaserver_client.requests import Requests

TUS_VERSION = "1.0.0"
STALL_S = 60.0
"""A server that takes nothing for so long counts as gone."""
_READ_BYTES = 1024 * 1024
_ASKED_AGAIN = frozenset({408, 423, 425, 429})

OnProgress = Callable[[int, int], None]
"""Called with how many bytes are sent, and of how many; goes back where a connection broke."""


class Upload:
    """One upload: of the file at `path` to the resource at `place`."""

    def __init__(
        self,
        api: Requests,
        place: str,
        path: Path,
        size_bytes: int,
        on_progress: OnProgress | None,
        reconnect_s: float,
    ) -> None:
        self._api = api
        self._place = place
        self._path = path
        self._size = size_bytes
        self._on_progress = on_progress
        self._reconnect_s = reconnect_s

    async def run(self, offset: int | None = 0) -> None:
        """Send what is missing from `offset` on; None asks the server first.

        Raises what ended it where nothing got on for `reconnect_s`: Refused, ServerUnreachable;
        ProtocolError; ClientError where the file changed.
        """
        loop = asyncio.get_running_loop()
        backoff, best = Backoff(), offset or 0
        failing_since_s: float | None = None
        renew = False
        while offset is None or offset < self._size:
            try:
                offset = await (self._ask(renew) if offset is None else self._send(offset, renew))
            except (Refused, ServerUnreachable) as error:
                if _is_unauthorized(error) and not renew and self._api.credentials.renewable:
                    renew = True
                    continue
                failing_since_s = failing_since_s or loop.time()
                if not _is_passing(error) or loop.time() - failing_since_s >= self._reconnect_s:
                    raise
                offset = None
                if isinstance(error, ServerUnreachable):
                    self._api.next_server()
                await asyncio.sleep(backoff.next_s(_wait_s(error)))
                continue
            renew = False
            if offset > best:
                best, failing_since_s, backoff = offset, None, Backoff()

    async def _ask(self, renew: bool) -> int:
        headers = await self._headers(renew)
        async with self._api._answer("GET", self._place, STALL_S, headers=headers) as response:
            return self._offset(response.headers.get("Upload-Offset"))

    async def _send(self, offset: int, renew: bool) -> int:
        headers = {
            **await self._headers(renew),
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self._size - offset),
        }
        limit = asyncio.timeout(STALL_S)
        with contextlib.closing(await asyncio.to_thread(self._path.open, "rb")) as file:
            if await asyncio.to_thread(_seek, file, offset) != self._size:
                raise ClientError(f"{self._path} was changed while it was sent")
            body = self._body(file, offset, limit)
            async with self._api._answer(
                "PATCH", self._place, limit, data=body, headers=headers
            ) as response:
                return self._offset(response.headers.get("Upload-Offset"))

    async def _body(
        self, file: BinaryIO, offset: int, limit: asyncio.Timeout
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while offset < self._size:
            self._tell(offset)
            piece = await asyncio.to_thread(file.read, min(_READ_BYTES, self._size - offset))
            if not piece:
                raise OSError("the file got shorter")  # ends the request
            with contextlib.suppress(RuntimeError):  # the answer came before all was sent
                limit.reschedule(loop.time() + STALL_S)
            yield piece
            offset += len(piece)

    async def _headers(self, renew: bool) -> dict[str, str]:
        given = await self._api.credentials.authorization(renew=renew)
        told = {"Authorization": f"Bearer {given}"} if given else {}
        return {"Tus-Resumable": TUS_VERSION, **told}

    def _offset(self, told: str | None) -> int:
        if told is None or not told.isdecimal() or int(told) > self._size:
            raise ProtocolError("the server does not say how far the upload is")
        self._tell(int(told))
        return int(told)

    def _tell(self, offset: int) -> None:
        if self._on_progress is not None:
            self._on_progress(offset, self._size)


def _seek(file: BinaryIO, offset: int) -> int:
    """Go to `offset`; return how long the file is now."""
    file.seek(offset)
    return os.fstat(file.fileno()).st_size


def _is_unauthorized(error: ClientError) -> bool:
    return isinstance(error, Refused) and error.problem.status == 401


def _is_passing(error: ClientError) -> bool:
    """Whether it is worth asking again."""
    if not isinstance(error, Refused):
        return True
    known = error.problem.status in _ASKED_AGAIN or error.code == "wrong_offset"
    return known or error.retryable


def _wait_s(error: ClientError) -> float | None:
    return error.problem.retry_after_s if isinstance(error, Refused) else None
