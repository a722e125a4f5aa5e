"""Uploads that can be resumed: how far one is, is the size of its file.

A client makes one, sends bytes from the offset on in as many requests as it takes, and asks for the
offset after a request that failed (tus 1.0.0 has the same semantics).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import (
    BadInput,
    Conflict,
    InsufficientStorage,
    Locked,
    MediaServerError,
    NotFound,
    TooLarge,
    Unavailable,
)
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.library.folder import Folder, Writer, no_upload
from mediaserver.library.records import Records, Video

log = get_logger(__name__)

KEPT_FREE_BYTES = 2**30
UPLOAD_IDLE_S = 24 * 3600
"""An upload that nothing was added to for so long is deleted."""
TIDIED_EVERY_S = 60.0
_BUFFER_BYTES = 1 << 20
_NOTED_EVERY_S = 1.0
_CLOSING_S = 5.0
_SYNC_S = 120.0
"""How long a disk may take for the whole of a large file."""
_IDS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Upload:
    """How far an upload is."""

    video_id: str
    offset: int
    size_bytes: int
    expires_at: float
    """Unix seconds: when it is deleted if nothing more comes."""

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.offset >= self.size_bytes


class Uploads:
    """What goes on of uploads. Methods may raise Unavailable."""

    def __init__(
        self,
        records: Records,
        folder: Folder,
        clock: Clock,
        *,
        max_bytes: int,
        on_complete: Callable[[], None],
    ) -> None:
        self._records = records
        self._folder = folder
        self._clock = clock
        self._max_bytes = max_bytes
        self._on_complete = on_complete
        self._scope = TaskScope("uploads")

    def start(self) -> None:
        """Begin to look after uploads that were left."""
        self._scope.spawn("uploads: tidying", self._tidy_all())

    async def aclose(self) -> None:
        """End that."""
        await self._scope.aclose()

    async def create(self, *, title: str, size_bytes: int, owner_id: str, owner: str) -> Upload:
        """Begin an upload of `size_bytes`. Raises BadInput, TooLarge, InsufficientStorage."""
        if size_bytes < 1:
            raise BadInput("the file is empty")
        if size_bytes > self._max_bytes:
            raise TooLarge(
                f"{size_bytes} bytes are more than this server takes, "
                f"{self._max_bytes} (MEDIASERVER_MAX_VIDEO_BYTES)"
            )
        needed = 2 * size_bytes + await self._records.reserved_bytes() + KEPT_FREE_BYTES
        if await self._folder.free_bytes() < needed:
            raise InsufficientStorage(
                "there is no room for this video and its prepared copy; delete some videos, "
                "or give the server more disk"
            )
        now = self._clock.wall_s()
        video = Video(
            id=new_id("v"),
            title=title,
            state="uploading",
            created_at=now,
            owner_id=owner_id,
            owner=owner,
            size_bytes=size_bytes,
            received_bytes=0,
            touched_at=now,
        )
        await self._records.add(video)
        try:
            await self._folder.make(video.id)
        except BaseException:
            await self._records.remove(video.id)
            raise
        log.info("video.created", video_id=video.id, size_bytes=size_bytes)
        return _upload(video, 0)

    async def get(self, video_id: str) -> Upload:
        """Return how far an upload is; one that is complete stays so. Raises NotFound."""
        video = await self._records.find(video_id)
        if video is None:
            raise no_upload()
        if video.state != "uploading":
            return _upload(video, video.size_bytes)
        offset = await self._folder.received_bytes(video_id)
        if offset is None:
            raise no_upload()
        return _upload(video, offset)

    async def append(self, video_id: str, offset: int, chunks: AsyncIterator[bytes]) -> Upload:
        """Append what comes, from `offset` on. What was written stays, whatever is raised.

        Raises NotFound (``no_upload``), Conflict (``wrong_offset``), Locked while another request
        appends, TooLarge for more than was announced (nothing over it is kept),
        InsufficientStorage. `chunks` has to end by itself where nothing more comes.
        """
        video = await self._records.find(video_id)
        if video is None:
            raise no_upload()
        if video.state != "uploading":
            _check_offset(offset, video.size_bytes)
            await _nothing_more(chunks)
            return _upload(video, video.size_bytes)
        writer = await self._folder.writer(video_id)
        try:
            _check_offset(offset, writer.offset)
            await self._receive(video, writer, chunks)
        except BaseException:
            with contextlib.suppress(MediaServerError):  # what was raised first says more
                await self._end_append(video, writer)
            raise
        await self._end_append(video, writer)
        video = await self._records.find(video_id)
        if video is None:
            raise no_upload()
        return _upload(video, writer.offset)

    async def _receive(self, video: Video, writer: Writer, chunks: AsyncIterator[bytes]) -> None:
        """Write what comes, and note how far it is about once a second."""
        buffer = bytearray()
        noted_s = self._clock.monotonic_s()
        try:
            async for chunk in chunks:
                room = video.size_bytes - writer.offset - len(buffer)
                buffer += chunk[:room]
                if len(chunk) > room:
                    raise TooLarge(
                        f"more came than the {video.size_bytes} bytes that were announced; "
                        "the rest was not kept"
                    )
                if len(buffer) >= _BUFFER_BYTES:
                    await _flush(buffer, writer)
                now_s = self._clock.monotonic_s()
                if now_s - noted_s >= _NOTED_EVERY_S:
                    noted_s = now_s
                    await _flush(buffer, writer)
                    if not await self._note(video.id, writer.offset):
                        raise no_upload()
        except BaseException:
            with contextlib.suppress(MediaServerError, TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await _flush(buffer, writer)
            raise
        await _flush(buffer, writer)

    async def _end_append(self, video: Video, writer: Writer) -> None:
        try:
            complete = writer.offset >= video.size_bytes
            async with asyncio.timeout(_SYNC_S if complete else _CLOSING_S):
                if complete:
                    await writer.sync()
                await self._note(video.id, writer.offset)
                if complete:
                    await self._complete(video.id)
        except TimeoutError:
            raise Unavailable(
                "the disk is too slow; ask for the offset and go on from there",
                code="storage_down",
            ) from None
        finally:
            await writer.close()

    async def _note(self, video_id: str, offset: int) -> bool:
        return await self._records.received(video_id, offset, self._clock.wall_s())

    async def _complete(self, video_id: str) -> None:
        if await self._records.uploaded(video_id):
            log.info("video.uploaded", video_id=video_id)
            self._on_complete()

    # ---- what is left

    async def _tidy_all(self) -> None:
        while True:
            try:
                await self.tidy()
            except MediaServerError as error:
                log.warning("library.tidying_waits", why=error.detail)
            await asyncio.sleep(TIDIED_EVERY_S)

    async def tidy(self) -> None:
        """Complete uploads that are complete, delete those that nobody goes on with, and remove
        files that no record names."""
        now_s = self._clock.wall_s()
        for video in await self._records.uploads():
            received = await self._folder.received_bytes(video.id)
            if received is not None and received >= video.size_bytes:
                await self._finish(video)
            elif now_s - video.touched_at >= UPLOAD_IDLE_S:
                await self._expire(video)
        await self._folder.sweep()
        await self._remove_orphans()

    async def _finish(self, video: Video) -> None:
        """Its last byte is here, but whoever took it was stopped before saying so."""
        with contextlib.suppress(Locked, NotFound):
            writer = await self._folder.writer(video.id)
            await self._end_append(video, writer)

    async def _expire(self, video: Video) -> None:
        try:
            writer = await self._folder.writer(video.id)
        except Locked:  # somebody goes on with it after all
            return
        except NotFound:  # only its record is left
            pass
        else:
            await writer.close()
        log.info("video.upload_expired", video_id=video.id)
        await self._folder.remove(video.id)
        await self._records.remove(video.id)

    async def _remove_orphans(self) -> None:
        """Remove folders without a record. Those with media stay: the database may be another
        one than it was, and nobody could bring them back."""
        found = await self._folder.video_ids(UPLOAD_IDLE_S)
        for start in range(0, len(found), _IDS_AT_ONCE):
            some = found[start : start + _IDS_AT_ONCE]
            existing = await self._records.existing(some)
            for video_id in some:
                if video_id in existing:
                    continue
                if await self._folder.has_media(video_id):
                    log.warning("library.media_without_record", video_id=video_id)
                else:
                    await self._folder.remove(video_id)


def _upload(video: Video, offset: int) -> Upload:
    return Upload(video.id, offset, video.size_bytes, video.touched_at + UPLOAD_IDLE_S)


def _check_offset(offset: int, real: int) -> None:
    if offset != real:
        raise Conflict(
            f"the upload goes on from byte {real}, not {offset}; ask for the offset",
            code="wrong_offset",
        )


async def _nothing_more(chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        if chunk:
            raise TooLarge("all of this upload is here already; the rest was not kept")


async def _flush(buffer: bytearray, writer: Writer) -> None:
    if buffer:
        data = bytes(buffer)
        buffer.clear()
        await writer.write(data)
