"""The library, put together: uploads, records, signed addresses, and what prepares videos."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import (
    BadInput,
    Conflict,
    Forbidden,
    Gone,
    InsufficientStorage,
    TooLarge,
)
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.library import signing
from mediaserver.library.folder import Folder, Writer, no_upload
from mediaserver.library.records import Records, Video, no_video
from mediaserver.protocol.videos import (
    SIGNED_S,
    SegmentAuth,
    SignedPlayback,
    VideoInfo,
    VideoList,
)
from mediaserver.settings import Settings
from mediaserver.stores.database import Database

log = get_logger(__name__)

MEDIA_PATH = "/media/videos/"
COOKIE = "ms_video"
KEPT_FREE_BYTES = 2**30
UPLOAD_IDLE_S = 24 * 3600
"""An upload that nothing was added to for so long is deleted."""
STALLED_S = 30.0
"""How long a sender may send nothing."""
LONGEST_SESSION_S = 12 * 3600
_BUFFER_BYTES = 1 << 20
_NOTED_EVERY_S = 1.0
_CLOSING_S = 5.0


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


@dataclass(frozen=True, slots=True)
class NewCookie:
    """A cookie to be set: HttpOnly, SameSite=Lax, Secure over TLS."""

    name: str
    value: str
    path: str
    max_age_s: int


@dataclass(frozen=True, slots=True)
class Media:
    """A file that may be sent to whoever asked."""

    file: Path
    content_type: str
    cookie: NewCookie | None
    """Lets requests in that follow, once the URL has expired."""


class Library:
    """All of the library on one database and one folder.

    Methods may raise Unavailable: ``database_down``, ``storage_down``.
    """

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, secret: Callable[[], bytes]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._secret = secret
        self._records = Records(database)
        self._folder = Folder(settings.videos_dir)

    async def start(self) -> None:
        """Make the folder, and begin to prepare what waits. Raises Unavailable."""
        await self._folder.open()

    async def aclose(self) -> None:
        """Stop preparing; another instance, or this one when it starts again, takes over."""
        self._folder.close()

    async def ping(self) -> None:
        """Ask whether videos can be written. Raises Unavailable."""
        await self._folder.check()

    # ---- uploads

    async def create(self, *, title: str, size_bytes: int, owner_id: str, owner: str) -> Upload:
        """Begin an upload of `size_bytes`. Raises BadInput, TooLarge, InsufficientStorage."""
        if size_bytes < 1:
            raise BadInput("the file is empty")
        if size_bytes > self._settings.max_video_bytes:
            raise TooLarge(
                f"{size_bytes} bytes are more than this server takes, "
                f"{self._settings.max_video_bytes} (MEDIASERVER_MAX_VIDEO_BYTES)"
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

    async def upload(self, video_id: str) -> Upload:
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
        appends, TooLarge for more than was announced (nothing over it is kept), BadInput
        (``upload_stalled``) when nothing comes for `STALLED_S`, InsufficientStorage.
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
        finally:
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
            async for chunk in _within(STALLED_S, chunks):
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
        finally:
            async with asyncio.timeout(_CLOSING_S):
                await _flush(buffer, writer)

    async def _end_append(self, video: Video, writer: Writer) -> None:
        try:
            async with asyncio.timeout(_CLOSING_S):
                complete = writer.offset >= video.size_bytes
                if complete:
                    await writer.sync()
                await self._note(video.id, writer.offset)
                if complete:
                    await self._complete(video.id)
        finally:
            await writer.close()

    async def _note(self, video_id: str, offset: int) -> bool:
        return await self._records.received(video_id, offset, self._clock.wall_s())

    async def _complete(self, video_id: str) -> None:
        if await self._records.uploaded(video_id):
            log.info("video.uploaded", video_id=video_id)

    # ---- records

    async def get(self, video_id: str, *, only_ready: bool = False) -> VideoInfo:
        """Return a video. Raises NotFound (``no_video``)."""
        return (await self._find(video_id, only_ready=only_ready)).info()

    async def list(self, *, after: str | None, limit: int, only_ready: bool) -> VideoList:
        """Return at most `limit` videos, the newest first. Raises BadInput for a bad `after`."""
        found = await self._records.page(after, limit + 1, only_ready=only_ready)
        shown = found[:limit]
        return VideoList(
            videos=tuple(video.info() for video in shown),
            next=shown[-1].cursor if shown and len(found) > limit else None,
        )

    async def rename(self, video_id: str, title: str) -> VideoInfo:
        """Change the title. Raises NotFound (``no_video``)."""
        return (await self._records.rename(video_id, title)).info()

    async def delete(self, video_id: str) -> None:
        """Delete a video, also while it is uploaded or prepared. Raises NotFound."""
        await self._find(video_id)
        await self._folder.remove(video_id)
        await self._records.remove(video_id)
        log.info("video.deleted", video_id=video_id)

    # ---- playing

    async def sign(
        self, video_id: str, *, subject: str | None = None, expires_in: int = SIGNED_S
    ) -> SignedPlayback:
        """Return where a video's media are for `expires_in` seconds; the URL is relative.

        Raises NotFound (``no_video``), Conflict (``video_not_ready``), BadInput for the subject.
        """
        video = await self._find(video_id)
        if video.state != "ready" or video.media_file is None:
            raise Conflict(
                "this video cannot be played: it is " + video.state, code="video_not_ready"
            )
        path = f"{_prefix(video.id)}{video.media_file}"
        signed = signing.sign_url(
            path,
            secret=self._secret(),
            now_s=self._clock.wall_s(),
            expires_in=expires_in,
            subject=subject,
        )
        duration_s = video.duration_s or 0.0
        return SignedPlayback(
            video_id=video.id,
            title=video.title,
            duration_s=duration_s,
            content_type=video.content_type or "application/octet-stream",
            url=signed.url,
            manifest_path=path,
            kid=signed.kid,
            expires_at=signed.exp,
            expires_in=expires_in,
            refresh_after=expires_in * 4 // 5,
            segment_auth=SegmentAuth(
                name=COOKIE, path=_prefix(video.id), expires_in=_session_s(duration_s)
            ),
        )

    async def media(self, path: str, query: Mapping[str, str], cookie: str | None) -> Media:
        """Return the file that a URL leads to. `path` is as it was sent, not decoded.

        `cookie` is the value of the cookie `COOKIE`, if one was sent. Raises Forbidden
        (``bad_signature``), Gone (``url_expired``), NotFound (``no_video``).
        """
        path = signing.canonical_path(path)
        video_id, _, name = path.removeprefix(MEDIA_PATH).partition("/")
        if not path.startswith(MEDIA_PATH) or not name:
            raise no_video(video_id)
        secret, now_s = self._secret(), self._clock.wall_s()
        goes_on = cookie is not None and _is_session(cookie, path, _prefix(video_id), secret, now_s)
        checked = None
        try:
            checked = signing.check_url(path, query, secret=secret, now_s=now_s)
        except Gone:
            if not goes_on:
                raise
        except Forbidden:
            if not goes_on or "sig" in query:
                raise
        video = await self._records.find(video_id)
        if video is None or video.state != "ready" or video.media_file != name:
            raise no_video(video_id)
        file = self._folder.path(video_id, name)
        if await self._folder.size_bytes(file) is None:
            log.error("library.file_missing", video_id=video_id)
            raise no_video(video_id)
        if not goes_on and checked is not None:
            log.info("video.played", video_id=video_id, subject=checked.subject)
        return Media(
            file=file,
            content_type=video.content_type or "application/octet-stream",
            cookie=self._new_cookie(video, checked.subject) if checked is not None else None,
        )

    def _new_cookie(self, video: Video, subject: str | None) -> NewCookie:
        prefix, max_age_s = _prefix(video.id), _session_s(video.duration_s or 0.0)
        value = signing.sign_session(
            prefix,
            secret=self._secret(),
            now_s=self._clock.wall_s(),
            expires_in=max_age_s,
            subject=subject,
        )
        return NewCookie(COOKIE, value, prefix, max_age_s)

    async def _find(self, video_id: str, *, only_ready: bool = False) -> Video:
        video = await self._records.find(video_id)
        if video is None or (only_ready and video.state != "ready"):
            raise no_video(video_id)
        return video


def _prefix(video_id: str) -> str:
    return f"{MEDIA_PATH}{video_id}/"


def _session_s(duration_s: float) -> int:
    return min(LONGEST_SESSION_S, int(duration_s) + 3600)


def _is_session(cookie: str, path: str, prefix: str, secret: bytes, now_s: float) -> bool:
    with contextlib.suppress(Forbidden, Gone, BadInput):
        signing.check_session(cookie, path, prefix, secret=secret, now_s=now_s)
        return True
    return False


def _upload(video: Video, offset: int) -> Upload:
    return Upload(video.id, offset, video.size_bytes, video.touched_at + UPLOAD_IDLE_S)


def _check_offset(offset: int, real: int) -> None:
    if offset != real:
        raise Conflict(
            f"the upload goes on from byte {real}, not {offset}; ask for the offset",
            code="wrong_offset",
        )


async def _nothing_more(chunks: AsyncIterator[bytes]) -> None:
    async for chunk in _within(STALLED_S, chunks):
        if chunk:
            raise TooLarge("all of this upload is here already; the rest was not kept")


async def _flush(buffer: bytearray, writer: Writer) -> None:
    if buffer:
        data = bytes(buffer)
        buffer.clear()
        await writer.write(data)


async def _within(seconds: float, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks. Raises BadInput (``upload_stalled``) when one takes too long."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadInput(
                f"nothing came for {seconds:g} s; ask for the offset and go on from there",
                code="upload_stalled",
            ) from None
        yield chunk
