"""The folder that videos are kept in, which instances share. One folder for each video:

    v_…/upload        what was received so far; its size is the upload's offset
    v_…/work-l_…/     what a preparation writes
    v_…/video-….mp4   what is played
    .deleted-…/       what was deleted and is being removed

Whoever appends holds a `flock` on `upload`, so there is one writer at a time over all processes.
All work on files is done in threads; faults of the disk become our errors.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from mediaserver.kernel.errors import InsufficientStorage, Locked, NotFound, Unavailable
from mediaserver.kernel.logging import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_VIDEO_ID = re.compile(r"v_[a-z0-9]{20}")
_DELETED = ".deleted-"
_UPLOAD = "upload"
MEDIA_PREFIX = "video-"
_WORK = "work-"


class Folder:
    """The storage. Methods may raise Unavailable (``storage_down``)."""

    def __init__(self, place: Path) -> None:
        self.place = place.resolve()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="ThreadPoolExecutor-videos")

    def close(self) -> None:
        """Take no more work; what is under way ends by itself."""
        self._executor.shutdown(wait=False)

    # ---- the whole

    async def open(self) -> None:
        """Make the folder if it is not there."""
        await self.run(partial(self.place.mkdir, parents=True, exist_ok=True))

    async def check(self) -> None:
        """Raise Unavailable unless files can be written here."""
        await self.run(self._check)

    async def free_bytes(self) -> int:
        """Return how much may still be written."""
        return await self.run(lambda: shutil.disk_usage(self.place).free)

    async def video_ids(self, older_than_s: float) -> list[str]:
        """Return whose folders are here, if nothing was made in them for a while."""
        return await self.run(self._video_ids, older_than_s)

    async def sweep(self) -> None:
        """Remove what was deleted, if somebody was stopped while removing it."""
        await self.run(self._sweep)

    # ---- one video

    def path(self, video_id: str, name: str = "") -> Path:
        """Return where a file of a video is. Raises NotFound for what cannot be an id or name."""
        if not _VIDEO_ID.fullmatch(video_id) or "/" in name or name in (".", ".."):
            raise NotFound("there is no such file", code="no_video")
        return self.place / video_id / name if name else self.place / video_id

    def upload_path(self, video_id: str) -> Path:
        """Return where the uploaded file is."""
        return self.path(video_id, _UPLOAD)

    async def make(self, video_id: str) -> None:
        """Begin an upload: the video's folder, and an empty file."""
        await self.run(self._make, self.path(video_id))

    async def received_bytes(self, video_id: str) -> int | None:
        """Return how much of an upload is here; None where there is none."""
        return await self.run(self._size, self.upload_path(video_id))

    async def size_bytes(self, path: Path) -> int | None:
        """Return a file's size; None where there is none."""
        return await self.run(self._size, path)

    async def writer(self, video_id: str) -> "Writer":
        """Open an upload to append to it.

        Raises Locked while somebody else appends; NotFound (``no_upload``).
        """
        future = self._submit(self._writer, self.upload_path(video_id))
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(_close_unused)
            raise

    async def remove(self, video_id: str) -> None:
        """Remove all of a video. At once it is out of reach, whoever still writes into it."""
        await self.run(self._remove, self.path(video_id))

    async def has_media(self, video_id: str) -> bool:
        """Whether there is something that was prepared."""
        return await self.run(lambda: any(self.path(video_id).glob(f"{MEDIA_PREFIX}*")))

    async def begin_work(self, video_id: str, lease: str) -> Path:
        """Return an empty folder for a preparation; what others left of theirs is removed."""
        return await self.run(self._begin_work, self.path(video_id), lease)

    async def end_work(self, work: Path) -> None:
        """Remove a preparation's folder."""
        await self.run(partial(shutil.rmtree, work, ignore_errors=True))

    async def take(self, work: Path, file: str, name: str) -> None:
        """Move what a preparation made to where it is played from. Raises NotFound."""
        await self.run(self._take, work / file, work.parent / name)

    async def drop(self, video_id: str, name: str) -> None:
        """Remove a file of a video."""
        await self.run(partial(self.path(video_id, name).unlink, missing_ok=True))

    async def keep_only(self, video_id: str, name: str | None) -> None:
        """Remove all that a video's folder holds but the file `name`."""
        await self.run(self._keep_only, self.path(video_id), name)

    # ---- in threads

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread."""
        return await asyncio.wrap_future(self._submit(work, *args, **kwargs))

    async def run_surely(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread, also if whoever waits for it is cancelled."""
        await asyncio.shield(asyncio.wrap_future(self._submit(work)))

    def _submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        try:
            return self._executor.submit(_guarded, partial(work, *args, **kwargs))
        except RuntimeError:
            raise Unavailable("this server is stopping", code="draining") from None

    def _check(self) -> None:
        status = os.statvfs(self.place)
        if status.f_flag & os.ST_RDONLY or not os.access(self.place, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "it cannot be written to")

    def _video_ids(self, older_than_s: float) -> list[str]:
        before = time.time() - older_than_s
        found = []
        with os.scandir(self.place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _VIDEO_ID.fullmatch(entry.name) and entry.stat().st_mtime < before:
                        found.append(entry.name)
        return found

    def _sweep(self) -> None:
        for path in self.place.glob(f"{_DELETED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _make(self, place: Path) -> None:
        place.mkdir()
        os.close(os.open(place / _UPLOAD, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
        _sync_folder(self.place)

    def _size(self, path: Path) -> int | None:
        try:
            return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _writer(self, path: Path) -> "Writer":
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise no_upload() from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Writer(self, fd, path, os.fstat(fd).st_size)
        except BlockingIOError:
            os.close(fd)
            raise Locked(
                "somebody sends this upload right now; ask for the offset again in a moment",
                retry_after_s=1.0,
            ) from None
        except BaseException:
            os.close(fd)
            raise

    def _remove(self, place: Path) -> None:
        gone = self.place / f"{_DELETED}{place.name}-{secrets.token_hex(4)}"
        try:
            place.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)  # the rest is swept

    def _begin_work(self, place: Path, lease: str) -> Path:
        for left in place.glob(f"{_WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        work = place / f"{_WORK}{lease}"
        work.mkdir()
        return work

    def _take(self, made: Path, target: Path) -> None:
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.chmod(0o640)
        made.rename(target)
        _sync_folder(target.parent)

    def _keep_only(self, place: Path, name: str | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in list(place.iterdir()):
                if path.name == name:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


class Writer:
    """Appends to one upload; nobody else does meanwhile.

    `offset` is the file's size. A cancelled write still ends, and `close` waits for it.
    """

    def __init__(self, folder: Folder, fd: int, path: Path, offset: int) -> None:
        self.offset = offset
        self._folder = folder
        self._fd = fd
        self._path = path
        self._lock = threading.Lock()

    async def write(self, data: bytes) -> None:
        """Append. Raises InsufficientStorage, with what fitted kept; NotFound once deleted."""
        await self._folder.run(self._write, data)

    async def sync(self) -> None:
        """Have all of it on the disk, whatever happens next."""
        await self._folder.run(self._sync)

    async def close(self) -> None:
        """Let others append."""
        await self._folder.run_surely(self.close_now)

    def _write(self, data: bytes) -> None:
        with self._lock:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.pwrite(self._fd, view, self.offset + len(data) - len(view)) :]
            finally:
                self.offset += len(data) - len(view)
            self._check_there()

    def _sync(self) -> None:
        with self._lock:
            self._check_there()
            os.fsync(self._fd)
            _sync_folder(self._path.parent)

    def _check_there(self) -> None:
        """Raise NotFound if the upload was deleted meanwhile."""
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise no_upload() from None
        ours = os.fstat(self._fd)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise no_upload()

    def close_now(self) -> None:
        """Close, in a thread."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


def no_upload() -> NotFound:
    """Return the error for an upload that is not there."""
    return NotFound("there is no such upload (any more); begin a new one", code="no_upload")


def _close_unused(opened: "Future[Writer]") -> None:
    if opened.exception() is None:
        opened.result().close_now()


def _guarded(work: Callable[[], T]) -> T:
    with _faults():
        return work()


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(
                "there is no room left for videos; delete some, or give the server more disk"
            ) from error
        log.error("library.storage_fault", why=error.strerror, code=error.errno)
        raise Unavailable(
            f"the videos' folder cannot be used ({error.strerror or error}); "
            "the operator finds more in the log",
            code="storage_down",
            retry_after_s=5.0,
        ) from error


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
