"""Finished transcripts on disk: written whole or not at all, found again, cleaned up."""

import asyncio
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from pydantic import ValidationError

from mediaserver.captions.events import Word
from mediaserver.captions.transcript import Cue, Transcript
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.transcripts import SessionTranscript, TranscriptCue, TranscriptWord
from mediaserver.settings import Settings

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_ID = re.compile(r"[a-z]{1,4}_[a-z0-9]{8,64}")
_DAY_S = 86_400.0
_CLEAN_EVERY_S = 3600.0
_CLEAN_EVERY_SAVES = 100


class TranscribedSession(Protocol):
    """What is needed of a session."""

    @property
    def id(self) -> str:
        """Names the transcript."""

    @property
    def name(self) -> str:
        """The publisher's name."""

    @property
    def started_at(self) -> float:
        """Unix seconds."""

    @property
    def transcript(self) -> Transcript:
        """All finals of the session."""


def is_session_id(text: str) -> bool:
    """Whether `text` can be a session's id (and so a safe file name)."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class SessionText:
    """What was said in a session up to some moment. Cheap to take, and safe in any thread."""

    session_id: str
    name: str
    started_at: float
    ended: bool
    dropped_cues: int
    cues: tuple[Cue, ...]
    """By start time."""

    def to_json(self) -> str:
        """Return it as `SessionTranscript`. For a long session this takes a while."""
        return SessionTranscript(
            session_id=self.session_id,
            name=self.name,
            started_at=round(self.started_at, 3),
            ended=self.ended,
            dropped_cues=self.dropped_cues,
            cues=tuple(_to_wire(cue) for cue in self.cues),
        ).model_dump_json()

    @staticmethod
    def from_json(text: bytes) -> "SessionText":
        """Read what `to_json` wrote. Raises ValidationError."""
        told = SessionTranscript.model_validate_json(text)
        return SessionText(
            told.session_id,
            told.name,
            told.started_at,
            told.ended,
            told.dropped_cues,
            tuple(_from_wire(cue) for cue in told.cues),
        )


def text_of(session: TranscribedSession) -> SessionText:
    """Return a session's transcript as it is now."""
    transcript = session.transcript
    return SessionText(
        session.id,
        session.name,
        round(session.started_at, 3),
        transcript.closed,
        transcript.dropped_cues,
        transcript.cues(),
    )


def _to_wire(cue: Cue) -> TranscriptCue:
    return TranscriptCue(
        number=cue.number,
        track_id=cue.track_id,
        speaker=cue.speaker,
        language=cue.language,
        start_s=cue.start_s,
        end_s=cue.end_s,
        text=cue.text,
        words=tuple(
            TranscriptWord(
                text=word.text,
                start_s=word.start_s,
                end_s=word.end_s,
                probability=round(word.probability, 3),
            )
            for word in cue.words
        ),
    )


def _from_wire(cue: TranscriptCue) -> Cue:
    return Cue(
        cue.number,
        cue.track_id,
        cue.speaker,
        cue.language,
        cue.start_s,
        cue.end_s,
        tuple(Word(w.text, w.start_s, w.end_s, w.probability) for w in cue.words),
    )


class TranscriptStore:
    """One JSON file a session in `folder`.

    From `keep` on `find` knows the transcript, written or not. Files older than
    `transcript_retention_days` and, above `transcript_retention_files`, the oldest are deleted:
    at `start`, every hour, and every hundred saves.
    """

    def __init__(self, folder: Path, settings: Settings, clock: Clock) -> None:
        self.folder = folder
        self._retention_s = settings.transcript_retention_days * _DAY_S
        self._retention_files = settings.transcript_retention_files
        self._clock = clock
        self._unwritten: dict[str, SessionText] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._saves = 0
        self._scope = TaskScope("transcripts")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transcripts")

    def start(self) -> None:
        """Begin to clean up regularly."""
        self._scope.spawn("clean", self._clean_regularly())

    def keep(self, session: TranscribedSession) -> None:
        """Write an ended session's transcript, without waiting. One without words is not kept."""
        saved = text_of(session)
        if self._retention_s <= 0 or not saved.cues:
            return
        self._unwritten[saved.session_id] = saved
        task = self._scope.spawn(f"save.{saved.session_id}", self._write(saved))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def save(self, session: TranscribedSession) -> None:
        """Write an ended session's transcript, also when the caller is cancelled meanwhile."""
        self.keep(session)
        await self.flush()

    async def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all that was kept is on disk."""
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=timeout_s)

    async def find(self, session_id: str) -> SessionText | None:
        """Return what was kept under `session_id`, or None."""
        if not is_session_id(session_id):
            return None
        if (saved := self._unwritten.get(session_id)) is not None:
            return saved
        return await self._on_disk(self._read, session_id)

    async def clean(self) -> int:
        """Delete what is too old or too much; return how many files."""
        count = await self._on_disk(self._delete_old)
        if count:
            log.info("transcripts.cleaned", files=count)
        return count

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Finish all writes, then stop."""
        await self.flush(timeout_s)
        await self._scope.aclose()
        self._disk.shutdown(wait=False)

    async def _clean_regularly(self) -> None:
        while True:
            await self.clean()
            await asyncio.sleep(_CLEAN_EVERY_S)

    async def _write(self, saved: SessionText) -> None:
        try:
            await self._on_disk(self._write_file, saved)
        except OSError as error:
            log.error("transcript.not_saved", session_id=saved.session_id, exc_info=error)
        finally:
            self._unwritten.pop(saved.session_id, None)
        self._saves += 1
        if self._saves % _CLEAN_EVERY_SAVES == 0:
            await self.clean()

    async def _on_disk(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)

    # ---- in the disk's thread ----

    def _path(self, session_id: str) -> Path:
        return self.folder / f"{session_id}.json"

    def _write_file(self, saved: SessionText) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".unfinished-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(saved.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path(saved.session_id))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self, session_id: str) -> SessionText | None:
        try:
            return SessionText.from_json(self._path(session_id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.error("transcript.unreadable", session_id=session_id, exc_info=error)
            return None

    def _delete_old(self) -> int:
        now_s, rows, count = self._clock.wall_s(), [], 0
        try:
            files = list(self.folder.iterdir())
        except FileNotFoundError:
            return 0
        for path in files:
            try:
                modified_s = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if path.name.startswith(".unfinished-"):
                if now_s - modified_s > _CLEAN_EVERY_S:
                    path.unlink(missing_ok=True)
            elif path.suffix == ".json" and is_session_id(path.stem):
                rows.append((modified_s, path))
        rows.sort(key=lambda row: row[0], reverse=True)
        for place, (modified_s, path) in enumerate(rows):
            if place >= self._retention_files or now_s - modified_s > self._retention_s:
                path.unlink(missing_ok=True)
                count += 1
        return count
