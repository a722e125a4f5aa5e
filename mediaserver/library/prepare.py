"""The program that makes of an uploaded file what browsers play, in a process of its own.

    python -m mediaserver.library.prepare SOURCE FOLDER

It writes one line of JSON at a time to standard output: `Found`, `Progress`, and at the end `Done`
or `Problem`. What it reads is hostile: it has limits on memory, files and threads, low priority and
none of the server's secrets. It ends when its standard input does, that is, with the server.
"""

import errno
import os
import resource
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import av
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mediaserver.kernel.errors import UnsupportedMedia
from mediaserver.library.converting import CannotCopy, convert
from mediaserver.library.media_kinds import MAX_DURATION_S, Plan, encoding_all, plan
from mediaserver.library.probing import Source, Unplayable, probe, reason

TOLD_EVERY_S = 0.5
MEMORY_BYTES = 6 * 2**30
SPARE_BYTES = 256 * 2**20
NO_SPACE = os.EX_CANTCREAT
"""The exit code where the disk is full or fails: it is no fault of the file's."""
GROWTH = 4
"""How many times as large as the source the result may be, besides `SPARE_BYTES`."""
TOLERANCE_S = 1.0
TOLERANCE = 0.01


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Found(_Line):
    """The file can be opened."""

    duration_s: Annotated[float, Field(ge=0, le=MAX_DURATION_S)] | None


class Progress(_Line):
    """How much is done."""

    progress: Annotated[float, Field(ge=0, le=1)]


class Done(_Line):
    """It can be played."""

    file: Literal["media.mp4", "media.webm"]
    """In the folder that was given."""
    content_type: Literal["video/mp4", "video/webm", "audio/mp4", "audio/webm"]
    duration_s: Annotated[float, Field(gt=0, le=2 * MAX_DURATION_S)]
    width: Annotated[int, Field(ge=1, le=100_000)] | None
    height: Annotated[int, Field(ge=1, le=100_000)] | None


class Problem(_Line):
    """It cannot be played; trying again would not help."""

    problem: Annotated[str, Field(min_length=1, max_length=1000)]


Line = Found | Progress | Done | Problem
LINES: TypeAdapter[Line] = TypeAdapter(Line)


class _Teller:
    """Writes progress, now and then."""

    def __init__(self, duration_s: float | None) -> None:
        self._duration_s = duration_s
        self._told_at = time.monotonic()

    def __call__(self, done_s: float) -> None:
        if not self._duration_s or time.monotonic() - self._told_at < TOLD_EVERY_S:
            return
        self._told_at = time.monotonic()
        _write(Progress(progress=min(0.99, max(0.0, done_s / self._duration_s))))


def prepare(source_path: Path, folder: Path) -> Done:
    """Write `media.mp4` or `media.webm` into `folder`. Raises Unplayable."""
    source = probe(source_path)
    _write(Found(duration_s=source.duration_s))
    first = _plan(source)
    plans = [first, encoding_all(source.video, source.audio)] if first.copies else [first]
    for number, chosen in enumerate(plans, 1):
        target = folder / f"media.{chosen.container}"
        try:
            read_s = convert(source, source_path, target, chosen, _Teller(source.duration_s))
            _check_source(source, read_s)
            return _check_result(target, chosen, read_s)
        except CannotCopy as error:
            target.unlink(missing_ok=True)
            if number == len(plans):
                raise Unplayable(f"it cannot be converted ({error})") from error
    raise AssertionError("there is always a plan")


def _plan(source: Source) -> Plan:
    try:
        return plan(source.format, source.video, source.audio)
    except UnsupportedMedia as error:
        raise Unplayable(error.detail) from error


def _check_source(source: Source, read_s: float) -> None:
    """Raise Unplayable where a part of the source is missing."""
    announced_s = source.announced_s
    if announced_s is not None and announced_s - read_s > _tolerance_s(announced_s):
        raise Unplayable(
            f"only {read_s:.1f} of its {announced_s:.1f} seconds can be read: it is cut off or "
            "damaged; upload it again"
        )


def _check_result(target: Path, chosen: Plan, read_s: float) -> Done:
    """Open the result again. Raises CannotCopy where it is not what it should be."""
    try:
        made = probe(target)
    except Unplayable as error:
        raise CannotCopy(str(error)) from error
    if (made.video is None, made.audio is None) != (chosen.video is None, chosen.audio is None):
        raise CannotCopy("a stream was lost")
    made_s = made.duration_s or 0.0
    if made_s <= 0 or abs(made_s - read_s) > _tolerance_s(read_s):
        raise CannotCopy(f"the result has {made_s:.1f} s instead of {read_s:.1f} s")
    width, height = (None, None) if made.video is None else made.video.shown
    return Done.model_validate(
        {
            "file": target.name,
            "content_type": chosen.content_type,
            "duration_s": made_s,
            "width": width,
            "height": height,
        }
    )


def _tolerance_s(duration_s: float) -> float:
    return max(TOLERANCE_S, TOLERANCE * duration_s)


def _write(line: Line) -> None:
    print(line.model_dump_json(), flush=True)


def _limit(source_size_bytes: int) -> None:
    """Limit what this process may take."""
    os.nice(10)
    size_bytes = GROWTH * source_size_bytes + SPARE_BYTES
    limits = (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, size_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    )
    for what, most in limits:
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(what, (most, most))
    with suppress(OSError):  # where memory runs short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent() -> None:
    """End when standard input does."""
    while os.read(0, 1024):
        pass
    os._exit(os.EX_TEMPFAIL)


def main(arguments: list[str]) -> int:
    """Run the program; return its exit code: 0 where the last line says how it went, `NO_SPACE`."""
    source, folder = (Path(argument) for argument in arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit(source.stat().st_size)
    av.logging.set_level(None)
    try:
        _write(prepare(source, folder))
    except Unplayable as error:
        _write(Problem(problem=str(error)[:1000]))
    except MemoryError:
        _write(Problem(problem="reading it takes more memory than it may"))
    except (av.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) == errno.EFBIG:
            _write(Problem(problem="what would become of it is too large"))
        elif getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            print(reason(error), file=sys.stderr)
            return NO_SPACE
        else:
            _write(Problem(problem=f"it cannot be read ({reason(error)}); it may be damaged"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
