import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mediaserver.captions.transcript import Transcript
from mediaserver.kernel.clocks import MonotonicTime, SystemClock, WallTime
from mediaserver.sessions.transcripts import TranscriptStore, is_session_id, text_of
from mediaserver.settings import Settings

from ..captions.test_transcript import say


@dataclass
class Spoken:
    """A session as the store sees it."""

    id: str = "s_0123456789abcdef"
    name: str = "Ann"
    started_at: float = 1.7e9
    transcript: Transcript = field(default_factory=Transcript)


@dataclass
class Calendar:
    now_s: float = 2e9

    def wall_s(self) -> WallTime:
        return WallTime(self.now_s)

    def monotonic_s(self) -> MonotonicTime:
        return MonotonicTime(self.now_s)


def spoken(session_id: str = "s_0123456789abcdef") -> Spoken:
    session = Spoken(session_id)
    say(session.transcript, "What was said & is <kept>.")
    session.transcript.close()
    return session


def new_store(folder: Path, **settings: Any) -> TranscriptStore:
    return TranscriptStore(folder, Settings(**settings), SystemClock())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TranscriptStore]:
    store = new_store(tmp_path / "transcripts")
    yield store
    await store.aclose()


async def test_a_kept_transcript_is_found_before_and_after_it_is_written(
    store: TranscriptStore,
) -> None:
    session = spoken()
    store.keep(session)
    assert await store.find(session.id) == text_of(session)
    await store.flush()
    assert [path.name for path in store.folder.iterdir()] == [f"{session.id}.json"]
    found = await store.find(session.id)
    assert found == text_of(session)
    assert found.cues == session.transcript.cues()


async def test_it_is_found_after_a_restart(store: TranscriptStore) -> None:
    session = spoken()
    await store.save(session)
    again = new_store(store.folder)
    assert await again.find(session.id) == text_of(session)
    await again.aclose()


async def test_a_stop_waits_for_what_is_being_written(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    saving = asyncio.create_task(store.save(spoken()))
    await asyncio.sleep(0)
    saving.cancel()
    await store.aclose()
    assert (tmp_path / "s_0123456789abcdef.json").is_file()


async def test_silence_is_not_kept(store: TranscriptStore) -> None:
    await store.save(Spoken())
    assert not store.folder.exists()


async def test_with_no_retention_nothing_is_written(tmp_path: Path) -> None:
    store = new_store(tmp_path / "t", transcript_retention_days=0)
    await store.save(spoken())
    assert not (tmp_path / "t").exists()
    await store.aclose()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "s_../x",
        "s_0123456789abcdef/..",
        "",
        "s_",
        "S_0123456789",
        "a\0b",
        "s_0123456789abcdef\n",
    ],
)
async def test_only_ids_name_files(store: TranscriptStore, name: str) -> None:
    await store.save(spoken())
    assert not is_session_id(name)
    assert await store.find(name) is None


async def test_a_damaged_file_is_no_transcript(store: TranscriptStore) -> None:
    session = spoken()
    await store.save(session)
    (store.folder / f"{session.id}.json").write_text('{"half":')
    assert await store.find(session.id) is None


async def test_a_full_disk_is_logged_and_harms_nobody(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    store = new_store(blocked / "transcripts")
    await store.save(spoken())
    assert await store.find("s_0123456789abcdef") is None
    await store.aclose()


async def test_old_and_surplus_files_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    calendar = Calendar()
    store = TranscriptStore(tmp_path, Settings(transcript_retention_files=3), calendar)
    ages_days = {
        "s_aaaaaaaa": 8.0,
        "s_bbbbbbbb": 6.0,
        "s_cccccccc": 5.0,
        "s_dddddddd": 4.0,
        "s_eeeeeeee": 3.0,
    }
    for session_id, days in ages_days.items():
        await store.save(spoken(session_id))
        at = calendar.now_s - days * 86_400
        os.utime(tmp_path / f"{session_id}.json", (at, at))
    other = tmp_path / "notes.json"
    other.write_text("somebody's")
    os.utime(other, (0, 0))
    left_over = tmp_path / ".unfinished-x"
    left_over.write_text("")
    os.utime(left_over, (0, 0))
    assert await store.clean() == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "notes.json",
        "s_cccccccc.json",
        "s_dddddddd.json",
        "s_eeeeeeee.json",
    ]
    await store.aclose()


async def test_cleaning_happens_by_itself_after_the_start(tmp_path: Path) -> None:
    old = tmp_path / "s_aaaaaaaa.json"
    old.write_text("{}")
    os.utime(old, (0, 0))
    store = new_store(tmp_path)
    store.start()
    async with asyncio.timeout(5):
        while old.exists():
            await asyncio.sleep(0.01)
    await store.aclose()
