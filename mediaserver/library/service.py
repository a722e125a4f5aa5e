"""The library, put together: uploads, records, signed addresses, and what prepares videos."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import BadInput, Conflict, Forbidden, Gone
from mediaserver.kernel.logging import get_logger
from mediaserver.library import signing
from mediaserver.library.folder import Folder
from mediaserver.library.preparing import Preparing
from mediaserver.library.records import Records, Video, no_video
from mediaserver.library.uploads import Upload as Upload
from mediaserver.library.uploads import Uploads
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
LONGEST_SESSION_S = 12 * 3600


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
        self._clock = clock
        self._secret = secret
        self._records = Records(database)
        self._folder = Folder(settings.videos_dir)
        self._preparing = Preparing(self._records, self._folder, clock)
        self._uploads = Uploads(
            self._records,
            self._folder,
            clock,
            max_bytes=settings.max_video_bytes,
            on_complete=self._preparing.wake,
        )

    async def start(self) -> None:
        """Make the folder, and begin to prepare what waits. Raises Unavailable."""
        await self._folder.open()
        self._uploads.start()
        self._preparing.start()

    async def aclose(self) -> None:
        """Stop preparing; another instance, or this one when it starts again, takes over."""
        await self._uploads.aclose()
        await self._preparing.aclose()
        self._folder.close()

    async def ping(self) -> None:
        """Ask whether videos can be written. Raises Unavailable."""
        await self._folder.check()

    # ---- uploads

    async def create(self, *, title: str, size_bytes: int, owner_id: str, owner: str) -> Upload:
        """Begin an upload of `size_bytes`. Raises BadInput, TooLarge, InsufficientStorage."""
        return await self._uploads.create(
            title=title, size_bytes=size_bytes, owner_id=owner_id, owner=owner
        )

    async def upload(self, video_id: str) -> Upload:
        """Return how far an upload is; one that is complete stays so. Raises NotFound."""
        return await self._uploads.get(video_id)

    async def append(self, video_id: str, offset: int, chunks: AsyncIterator[bytes]) -> Upload:
        """Append what comes, from `offset` on. What was written stays, whatever is raised.

        Raises NotFound (``no_upload``), Conflict (``wrong_offset``), Locked while another request
        appends, TooLarge for more than was announced (nothing over it is kept),
        InsufficientStorage. `chunks` has to end by itself where nothing more comes.
        """
        return await self._uploads.append(video_id, offset, chunks)

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
