"""Prepares uploaded videos: one at a time here, each in a process of its own, under a lease in SQL.

Every instance looks for work. Whoever takes a video renews its lease while the process runs; if the
instance dies, another one takes the video once the lease is over. A video whose process died
`MAX_ATTEMPTS` times is given up.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import MediaServerError, Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.library.folder import MEDIA_PREFIX, Folder
from mediaserver.library.prepare import LINES, NO_SPACE, Done, Found, Line, Problem, Progress
from mediaserver.library.records import Prepared, Records, Work

log = get_logger(__name__)

LEASE_S = 30.0
RENEWED_EVERY_S = 1.0
LOOKED_EVERY_S = 5.0
MAX_ATTEMPTS = 3
RETRY_S = 5.0
NO_SPACE_S = 60.0
"""How long a full disk is given; that is not counted as an attempt."""
TIME_LIMIT_S = 600.0
TIME_LIMIT_PER_S = 6.0
"""Seconds of work for each second of the video, besides `TIME_LIMIT_S`."""
END_S = 2.0
_MAX_LINE_BYTES = 16 * 1024
_TAIL_BYTES = 2000
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ")
"""Of the environment, which else holds the server's secrets."""
PROGRAM = (sys.executable, "-m", "mediaserver.library.prepare")


class _Lost(Exception):
    """Somebody else has the lease now, or the video was deleted."""


@dataclass(slots=True)
class _Heard:
    """What a process told so far."""

    base_s: float
    """How long it may take, besides what the duration adds."""
    last: Line | None = None
    progress: float = 0.0
    added_s: float = 0.0
    tail: bytes = b""
    """The end of what it wrote to standard error."""
    garbled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, line: Line) -> None:
        """Take a line."""
        self.last = line
        if isinstance(line, Progress):
            self.progress = line.progress
        elif isinstance(line, Found):
            self.added_s = TIME_LIMIT_PER_S * (line.duration_s or 0.0)

    @property
    def limit_s(self) -> float:
        """How long it may take."""
        return self.base_s + self.added_s


class Preparing:
    """Looks for work and does it, from `start` to `aclose`."""

    def __init__(
        self,
        records: Records,
        folder: Folder,
        clock: Clock,
        *,
        program: Sequence[str] = PROGRAM,
        lease_s: float = LEASE_S,
        retry_s: float = RETRY_S,
        no_space_s: float = NO_SPACE_S,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._records = records
        self._folder = folder
        self._clock = clock
        self._program = tuple(program)
        self._lease_s = lease_s
        self._retry_s = retry_s
        self._no_space_s = no_space_s
        self._time_limit_s = time_limit_s
        self._scope = TaskScope("preparing")
        self._work_there = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process that prepares now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to look for work."""
        self._scope.spawn("preparing", self._prepare_all())

    def wake(self) -> None:
        """There may be work: look now."""
        self._work_there.set()

    async def aclose(self) -> None:
        """Stop at once; what is not done is given back."""
        await self._scope.aclose()

    async def _prepare_all(self) -> None:
        while True:
            self._work_there.clear()
            try:
                work = await self._records.claim(self._lease_s)
                if work is not None:
                    await self._prepare(work)
                    continue
            except MediaServerError as error:
                log.warning("video.preparing_waits", why=error.detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOKED_EVERY_S):
                    await self._work_there.wait()

    async def _prepare(self, work: Work) -> None:
        if work.attempt > MAX_ATTEMPTS:  # the instances that tried died with it
            await self._give_up(work, None)
            return
        log.info("video.preparing", video_id=work.video_id, attempt=work.attempt)
        try:
            place = await self._folder.begin_work(work.video_id, work.lease)
        except Unavailable:
            await self._records.retry(work, self._retry_s)
            raise
        try:
            heard, code = await self._run(work, place)
            await self._conclude(work, place, heard, code)
        except _Lost:
            log.info("video.preparation_lost", video_id=work.video_id)
        except asyncio.CancelledError:
            with contextlib.suppress(MediaServerError, TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._records.give_back(work)
            raise
        finally:
            with contextlib.suppress(MediaServerError, TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._folder.end_work(place)

    async def _run(self, work: Work, place: Path) -> tuple[_Heard, int]:
        """Run the process to its end; return what it told, and its exit code. Raises _Lost."""
        heard = _Heard(self._time_limit_s)
        process = await asyncio.create_subprocess_exec(
            *self._program,
            str(self._folder.upload_path(work.video_id)),
            str(place),
            stdin=asyncio.subprocess.PIPE,  # it ends with this
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            env=_environment(os.environ),
            start_new_session=True,
        )
        self._process = process
        try:
            listening = self._scope.spawn("preparing: told", _listen(process, heard))
            reading = self._scope.spawn("preparing: errors", _keep_tail(process, heard))
            await self._watch(work, heard)
            if heard.garbled or not heard.ended.is_set():
                return heard, -signal.SIGKILL
            async with asyncio.timeout(END_S):
                await asyncio.wait([listening, reading])
                return heard, await process.wait()
        except TimeoutError:  # it closed its output and goes on
            return heard, -signal.SIGKILL
        finally:
            self._process = None
            await _kill(process)

    async def _watch(self, work: Work, heard: _Heard) -> None:
        """Renew the lease until the process ends or its time is over. Raises _Lost."""
        started_s = renewed_s = self._clock.monotonic_s()
        while not heard.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEWED_EVERY_S):
                    await heard.ended.wait()
            now_s = self._clock.monotonic_s()
            try:
                async with asyncio.timeout(self._lease_s / 3):
                    if not await self._records.renew(work, self._lease_s, heard.progress):
                        raise _Lost
                renewed_s = now_s
            except (Unavailable, TimeoutError):
                if now_s - renewed_s >= self._lease_s:
                    raise _Lost from None
            if now_s - started_s > heard.limit_s:
                heard.last = Problem(
                    problem=f"preparing it took longer than {heard.limit_s:.0f} s; "
                    "upload it as MP4 with H.264 and AAC, which needs no work"
                )
                return

    async def _conclude(self, work: Work, place: Path, heard: _Heard, code: int) -> None:
        done = heard.last
        if isinstance(done, Problem):
            await self._fail(work, done.problem)
        elif isinstance(done, Done) and code == 0 and not heard.garbled:
            await self._publish(work, place, done)
        elif code == NO_SPACE:
            told = heard.tail.decode("utf-8", "replace").strip()
            log.error("video.preparing_waits", video_id=work.video_id, why=told)
            await self._records.give_back(work, self._no_space_s)
        else:
            log.error(
                "video.preparation_died",
                video_id=work.video_id,
                code=code,
                attempt=work.attempt,
                told=heard.tail.decode("utf-8", "replace"),
            )
            if work.attempt >= MAX_ATTEMPTS:
                await self._give_up(work, code)
            else:
                await self._records.retry(work, self._retry_s * work.attempt)

    async def _publish(self, work: Work, place: Path, done: Done) -> None:
        suffix = Path(done.file).suffix
        name = f"{MEDIA_PREFIX}{work.lease.removeprefix('l_')[:8]}{suffix}"
        await self._folder.take(place, done.file, name)
        prepared = Prepared(name, done.content_type, done.duration_s, done.width, done.height)
        if not await self._records.publish(work, prepared):
            await self._folder.drop(work.video_id, name)
            raise _Lost
        log.info("video.ready", video_id=work.video_id, duration_s=done.duration_s)
        await self._folder.keep_only(work.video_id, name)

    async def _fail(self, work: Work, problem: str) -> None:
        if not await self._records.fail(work, problem):
            raise _Lost
        log.info("video.failed", video_id=work.video_id, why=problem)
        await self._folder.keep_only(work.video_id, None)

    async def _give_up(self, work: Work, code: int | None) -> None:
        how = "" if code is None else f" (the last time with {_exit(code)})"
        with contextlib.suppress(_Lost):
            await self._fail(
                work,
                f"preparing it ended {MAX_ATTEMPTS} times before it was done{how}; "
                "it may be damaged, or take more memory than there is",
            )


async def _listen(process: asyncio.subprocess.Process, heard: _Heard) -> None:
    """Read what the process tells, up to its end. What is not understood ends it."""
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            heard.hear(LINES.validate_json(line))
    except (ValidationError, ValueError):  # of another program, or a line without end
        heard.garbled = True
    heard.ended.set()
    while heard.garbled and await process.stdout.read(_MAX_LINE_BYTES):
        pass  # up to the end, so that the pipe is closed


async def _keep_tail(process: asyncio.subprocess.Process, heard: _Heard) -> None:
    assert process.stderr is not None
    while data := await process.stderr.read(_MAX_LINE_BYTES):
        heard.tail = (heard.tail + data)[-_TAIL_BYTES:]


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process with all that it started, and wait for its end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        log.error("video.process_stays", pid=process.pid)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name] for name in _PASSED_ON if name in given}


def _exit(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
