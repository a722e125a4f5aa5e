"""Videos in SQL: their records, and who prepares which of them now.

Whoever prepares a video holds a lease on it. Every change of state is a compare-and-set on the
state and the lease, so whoever lost the lease changes nothing any more. Leases go by the database's
clock: the instances' may differ.
"""

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from mediaserver.kernel.errors import BadInput, NotFound
from mediaserver.kernel.ids import new_id
from mediaserver.library.tables import VIDEOS
from mediaserver.protocol.videos import VideoInfo, VideoState
from mediaserver.stores.database import Database

_CURSOR = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,17})?)~([A-Za-z0-9_]{1,40})")


class _Now(FunctionElement[float]):
    """The database's clock: Unix seconds."""

    type = sa.Double()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _sqlite_now(_element: _Now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_Now, "postgresql")
def _postgresql_now(_element: _Now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@dataclass(frozen=True, slots=True)
class Video:
    """A row of `videos`."""

    id: str
    title: str
    state: VideoState
    created_at: float
    owner_id: str
    owner: str
    size_bytes: int
    received_bytes: int
    touched_at: float
    """When something was last uploaded, Unix seconds."""
    progress: float = 0.0
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    content_type: str | None = None
    media_file: str | None = None
    """The name of what is played, in the video's folder."""
    problem: str | None = None
    attempts: int = 0
    """Preparations begun, less those that were given back."""
    lease: str | None = None
    """Names the preparation that goes on."""
    lease_until: float | None = None
    """By the database's clock. Nobody begins a preparation before."""

    @property
    def cursor(self) -> str:
        """Where it stands in the list."""
        return f"{self.created_at!r}~{self.id}"

    def info(self) -> VideoInfo:
        """As the outside is told."""
        progress = self.progress
        if self.state == "uploading":
            progress = self.received_bytes / self.size_bytes
        elif self.state == "ready":
            progress = 1.0
        return VideoInfo(
            video_id=self.id,
            title=self.title,
            state=self.state,
            created_at=self.created_at,
            owner=self.owner,
            size_bytes=self.size_bytes,
            received_bytes=self.received_bytes,
            progress=min(1.0, max(0.0, progress)),
            duration_s=self.duration_s,
            width=self.width,
            height=self.height,
            content_type=self.content_type,
            problem=self.problem,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """A video that is this instance's to prepare, for as long as it renews the lease."""

    video_id: str
    lease: str
    attempt: int
    """1 for the first."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a preparation gave."""

    media_file: str
    content_type: str
    duration_s: float
    width: int | None
    height: int | None


class Records:
    """The table of videos. Every method may raise Unavailable (``database_down``)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, video: Video) -> None:
        """Add a record."""
        values = {column.name: getattr(video, column.name) for column in VIDEOS.columns}
        async with self._database.begin() as connection:
            await connection.execute(sa.insert(VIDEOS).values(values))

    async def find(self, video_id: str) -> Video | None:
        """Return a record."""
        async with self._database.begin() as connection:
            row = (
                await connection.execute(sa.select(VIDEOS).where(VIDEOS.c.id == video_id))
            ).first()
        return None if row is None else _video(row)

    async def page(self, after: str | None, limit: int, *, only_ready: bool) -> list[Video]:
        """Return at most `limit` records, the newest first. Raises BadInput for a bad `after`."""
        query = sa.select(VIDEOS).order_by(VIDEOS.c.created_at.desc(), VIDEOS.c.id.desc())
        if only_ready:
            query = query.where(VIDEOS.c.state == "ready")
        if after is not None:
            cursor = _CURSOR.fullmatch(after)
            if cursor is None:
                raise BadInput("`after` is not what a list gave as `next`")
            created_at, video_id = float(cursor[1]), cursor[2]
            query = query.where(
                (VIDEOS.c.created_at < created_at)
                | ((VIDEOS.c.created_at == created_at) & (VIDEOS.c.id < video_id))
            )
        async with self._database.begin() as connection:
            return [_video(row) for row in await connection.execute(query.limit(limit))]

    async def existing(self, video_ids: list[str]) -> set[str]:
        """Return which of these there are."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                sa.select(VIDEOS.c.id).where(VIDEOS.c.id.in_(video_ids))
            )
            return {row.id for row in rows}

    async def rename(self, video_id: str, title: str) -> Video:
        """Set the title. Raises NotFound (``no_video``)."""
        await self._update(VIDEOS.c.id == video_id, title=title)
        video = await self.find(video_id)
        if video is None:
            raise no_video(video_id)
        return video

    async def remove(self, video_id: str) -> bool:
        """Remove a record; say whether there was one."""
        async with self._database.begin() as connection:
            done = await connection.execute(sa.delete(VIDEOS).where(VIDEOS.c.id == video_id))
        return done.rowcount == 1

    # ---- uploads

    async def reserved_bytes(self) -> int:
        """Return what uploads that go on may still need: what is missing, and a copy of each."""
        missing = VIDEOS.c.size_bytes * 2 - VIDEOS.c.received_bytes
        query = sa.select(sa.func.sum(missing)).where(
            VIDEOS.c.state.in_(("uploading", "processing"))
        )
        async with self._database.begin() as connection:
            return int((await connection.execute(query)).scalar_one() or 0)

    async def received(self, video_id: str, received_bytes: int, now_s: float) -> bool:
        """Note how far an upload is; false where it is no upload (any more)."""
        return await self._update(
            (VIDEOS.c.id == video_id) & (VIDEOS.c.state == "uploading"),
            received_bytes=received_bytes,
            touched_at=now_s,
        )

    async def uploaded(self, video_id: str) -> bool:
        """An upload is complete: it is to be prepared. False where it was none (any more)."""
        return await self._update(
            (VIDEOS.c.id == video_id) & (VIDEOS.c.state == "uploading"),
            state="processing",
            received_bytes=VIDEOS.c.size_bytes,
            progress=0.0,
        )

    async def uploads(self, limit: int = 1000) -> list[Video]:
        """Return the uploads that were untouched for the longest time."""
        query = sa.select(VIDEOS).where(VIDEOS.c.state == "uploading")
        query = query.order_by(VIDEOS.c.touched_at).limit(limit)
        async with self._database.begin() as connection:
            return [_video(row) for row in await connection.execute(query)]

    # ---- preparation

    async def claim(self, lease_s: float) -> Work | None:
        """Take a lease on the video that waits for the longest time; None where none waits."""
        free = VIDEOS.c.lease_until.is_(None) | (VIDEOS.c.lease_until <= _Now())
        waits = (VIDEOS.c.state == "processing") & free
        query = sa.select(VIDEOS.c.id, VIDEOS.c.attempts).where(waits)
        query = query.order_by(VIDEOS.c.created_at, VIDEOS.c.id).limit(8)
        async with self._database.begin() as connection:
            found = [(row.id, row.attempts) for row in await connection.execute(query)]
        for video_id, attempts in found:
            work = Work(video_id, new_id("l"), attempts + 1)
            if await self._update(
                waits & (VIDEOS.c.id == video_id) & (VIDEOS.c.attempts == attempts),
                lease=work.lease,
                lease_until=_Now() + lease_s,
                attempts=work.attempt,
            ):
                return work
        return None

    async def renew(self, work: Work, lease_s: float, progress: float) -> bool:
        """Go on holding a lease; false where it was lost, or the video was deleted."""
        return await self._update(_held(work), lease_until=_Now() + lease_s, progress=progress)

    async def publish(self, work: Work, prepared: Prepared) -> bool:
        """It can be played; false where the lease was lost."""
        return await self._update(
            _held(work),
            state="ready",
            progress=1.0,
            media_file=prepared.media_file,
            content_type=prepared.content_type,
            duration_s=prepared.duration_s,
            width=prepared.width,
            height=prepared.height,
            lease=None,
            lease_until=None,
        )

    async def fail(self, work: Work, problem: str) -> bool:
        """It cannot be played, for good; false where the lease was lost."""
        return await self._update(
            _held(work), state="failed", problem=problem, lease=None, lease_until=None
        )

    async def retry(self, work: Work, after_s: float) -> bool:
        """Its preparation died; another one may begin after a while."""
        return await self._update(
            _held(work), progress=0.0, lease=None, lease_until=_Now() + after_s
        )

    async def give_back(self, work: Work, after_s: float | None = None) -> bool:
        """Its preparation was stopped for other reasons: it does not count."""
        return await self._update(
            _held(work),
            progress=0.0,
            lease=None,
            lease_until=None if after_s is None else _Now() + after_s,
            attempts=work.attempt - 1,
        )

    async def _update(self, condition: sa.ColumnElement[bool], **values: object) -> bool:
        async with self._database.begin() as connection:
            done = await connection.execute(sa.update(VIDEOS).where(condition).values(values))
        return done.rowcount == 1


def no_video(video_id: str) -> NotFound:
    """Return the error for a video that is not there, or not for this caller."""
    return NotFound(f"there is no video {video_id[:64]!r}", code="no_video")


def _held(work: Work) -> sa.ColumnElement[bool]:
    return (
        (VIDEOS.c.id == work.video_id)
        & (VIDEOS.c.state == "processing")
        & (VIDEOS.c.lease == work.lease)
    )


def _video(row: sa.Row[tuple[object, ...]]) -> Video:
    return Video(**row._mapping)
