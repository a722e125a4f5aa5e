"""Sessions own their tracks, tell their room, and leave nothing behind."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mediaserver.kernel.errors import Conflict, NotFound, Overloaded, Unavailable
from mediaserver.protocol.messages import (
    Caption,
    ServerMessage,
    SpeechStarted,
    Status,
    TrackEnded,
    TrackStarted,
)
from mediaserver.rooms.room import Rooms
from mediaserver.sessions.registry import Sessions
from mediaserver.sessions.session import MAX_TRACKS, Session
from mediaserver.sessions.transcripts import TranscriptStore
from mediaserver.settings import Settings
from tests.unit.inference.scripted import Script, random_script
from tests.unit.sessions.conftest import Until
from tests.unit.sessions.scripted_worker import ENGLISH, Heard, Stage, push


@dataclass
class Seat:
    """What a member of a room gets."""

    messages: list[ServerMessage] = field(default_factory=list)

    def deliver(self, message: ServerMessage, key: Hashable | None) -> None:
        self.messages.append(message)

    @property
    def captions(self) -> list[Caption]:
        return [m for m in self.messages if isinstance(m, Caption)]


@dataclass
class House:
    """All sessions of an instance, on a scripted worker."""

    stage: Stage
    rooms: Rooms
    store: TranscriptStore
    sessions: Sessions

    def value(self, name: str, **labels: str) -> float:
        return self.stage.registry.get_sample_value(name, labels or None) or 0.0


def build(stage: Stage, folder: Path, max_sessions: int = 1000) -> House:
    settings = Settings(data_dir=folder)
    rooms = Rooms()
    store = TranscriptStore(folder / "transcripts", settings, stage.clock)
    sessions = Sessions(
        stage.client, rooms, store, stage.clock, stage.figures, max_sessions=max_sessions
    )
    return House(stage, rooms, store, sessions)


@pytest.fixture
async def house(stage: Stage, tmp_path: Path) -> AsyncIterator[House]:
    house = build(stage, tmp_path)
    yield house
    await house.sessions.aclose(1.0)
    await house.store.aclose()


def speak(house: House, session: Session, script: Script, heard: Heard | None = None) -> None:
    """Open a track and push all of the script."""
    track = session.open_track(ENGLISH, heard)
    house.stage.recogniser.add(track.id, script)
    push(track, script)


# ---- one session


async def test_closing_delivers_all_finals_of_all_tracks_first(house: House) -> None:
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    heards, scripts = [Heard(), Heard()], [random_script(1, 9.0), random_script(2, 9.0)]
    for script, heard in zip(scripts, heards, strict=True):
        speak(house, session, script, heard)
    await session.close("left")
    for script, heard in zip(scripts, heards, strict=True):
        assert heard.texts == script.texts
        assert heard.ends == ["left"]
    said = [w.text for cue in session.transcript.cues() for w in cue.words]
    assert sorted(said) == sorted(text for script in scripts for text in script.texts)
    assert session.transcript.closed
    assert session.ended.is_set()
    assert len(house.sessions) == 0
    assert house.value("mediaserver_streams", kind="ws") == 0
    assert house.value("mediaserver_sessions_closed_total", reason="left") == 1


async def test_closing_twice_is_one_end(house: House) -> None:
    session = house.sessions.open(kind="listen", room=None, name="bot")
    heard = Heard()
    speak(house, session, random_script(3, 5.0), heard)
    await asyncio.gather(session.close("left"), session.close("lost"), session.close("ended"))
    assert len(heard.ends) == 1
    assert house.value("mediaserver_streams", kind="listen") == 0


async def test_a_track_that_ends_while_the_session_closes_is_counted_once(house: House) -> None:
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Bob", deliver=seat.deliver)
    heard = Heard()
    speak(house, session, random_script(4, 5.0), heard)
    await asyncio.gather(session.tracks[0].end("ended"), session.close("left"))
    assert len(heard.ends) == 1
    assert sum(isinstance(m, TrackEnded) for m in seat.messages) == 1
    assert house.value("mediaserver_streams", kind="ws") == 0


async def test_a_patient_close_under_way_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """A member left while no worker is there; then the server is stopped."""
    stage = Stage()
    await stage.start([])
    house = build(stage, tmp_path)
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    speak(house, session, random_script(5, 5.0))
    leaving = asyncio.ensure_future(session.close("left", 30.0))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2.0):
        await house.sessions.aclose(0.2)
        await leaving
    await house.store.aclose()
    await stage.aclose()


async def test_a_closed_session_opens_no_track(house: House) -> None:
    session = house.sessions.open(kind="ws", room=None, name="Ann")
    await session.close()
    with pytest.raises(Conflict):
        session.open_track(ENGLISH)


async def test_tracks_of_a_session_are_bounded_and_an_end_makes_room(house: House) -> None:
    session = house.sessions.open(kind="ws", room=None, name="Ann")
    tracks = [session.open_track(ENGLISH) for _ in range(MAX_TRACKS)]
    with pytest.raises(Overloaded):
        session.open_track(ENGLISH)
    await tracks[0].end()
    session.open_track(ENGLISH)
    assert house.value("mediaserver_streams", kind="ws") == MAX_TRACKS
    await session.close()


# ---- in a room


async def test_the_room_hears_tracks_begin_speak_and_end(house: House) -> None:
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Bob", deliver=seat.deliver)
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    script = random_script(6, 10.0)
    speak(house, session, script)
    await session.close("left")
    started, ended = seat.messages[0], seat.messages[-1]
    assert isinstance(started, TrackStarted)
    assert (started.speaker, started.member_id) == ("Ann", session.member_id)
    assert isinstance(ended, TrackEnded)
    assert (ended.track_id, ended.reason) == (started.track_id, "left")
    assert any(isinstance(m, SpeechStarted) for m in seat.messages)
    finals = [c for c in seat.captions if c.final]
    assert " ".join(c.text for c in finals) == " ".join(script.texts)
    assert all(all(word.final for word in c.words) for c in finals)
    assert len({c.caption_id for c in finals}) == len(finals)
    seqs = [c.seq for c in seat.captions]
    assert seqs == sorted(set(seqs))
    assert {(c.speaker, c.language, c.track_id) for c in seat.captions} == {
        ("Ann", "en", started.track_id)
    }


async def test_final_words_of_a_caption_stand_when_it_is_replaced(house: House) -> None:
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Bob", deliver=seat.deliver)
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    speak(house, session, random_script(7, 12.0))
    await session.close()
    final: dict[str, list[str]] = {}
    for caption in seat.captions:
        words = [w.text for w in caption.words if w.final]
        assert words == [w.text for w in caption.words][: len(words)]
        before = final.get(caption.caption_id, [])
        assert words[: len(before)] == before
        final[caption.caption_id] = words


async def test_who_comes_later_gets_the_live_tracks_and_what_was_said(
    house: House, until: Until
) -> None:
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    script, heard = random_script(8, 10.0), Heard()
    speak(house, session, script, heard)
    await session.tracks[0].finalize()
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Late", deliver=seat.deliver)
    assert isinstance(seat.messages[0], TrackStarted)
    assert " ".join(c.text for c in seat.captions) == " ".join(script.texts)
    assert all(c.final for c in seat.captions)


async def test_the_room_is_told_when_captions_pause_and_go_on(house: House, until: Until) -> None:
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Bob", deliver=seat.deliver)
    session = house.sessions.open(kind="ws", room="r", name="Ann")
    speak(house, session, random_script(9, 5.0))
    await house.stage.workers[0].kill()

    def told() -> list[str]:
        return [m.captions for m in seat.messages if isinstance(m, Status)]

    await until(lambda: told() == ["paused"])
    await house.stage.workers[0].start()
    await until(lambda: told() == ["paused", "live"])


# ---- all sessions


async def test_sessions_are_found_by_their_id_while_they_live(house: House) -> None:
    session = house.sessions.open(kind="whip", room="r", name="OBS")
    assert house.sessions.get(session.id) is session
    assert house.sessions.find(session.id) is session
    await session.close()
    assert house.sessions.find(session.id) is None
    with pytest.raises(NotFound):
        house.sessions.get(session.id)


async def test_beyond_the_limit_sessions_are_refused_with_a_hint(
    stage: Stage, tmp_path: Path
) -> None:
    house = build(stage, tmp_path, max_sessions=2)
    first = house.sessions.open(kind="ws", room="a", name="")
    house.sessions.open(kind="ws", room="b", name="")
    with pytest.raises(Overloaded) as refused:
        house.sessions.open(kind="ws", room="c", name="")
    assert refused.value.retry_after_s
    assert len(house.rooms) == 2
    await first.close()
    house.sessions.open(kind="ws", room="c", name="")
    await house.sessions.aclose(1.0)
    await house.store.aclose()


async def test_a_full_room_costs_no_session(house: House) -> None:
    for _ in range(200):
        house.sessions.open(kind="ws", room="full", name="")
    with pytest.raises(Overloaded) as refused:
        house.sessions.open(kind="ws", room="full", name="")
    assert refused.value.specific_code == "room_full"
    assert len(house.sessions) == 200


async def test_a_stop_ends_all_sessions_with_their_finals_and_takes_no_more(house: House) -> None:
    heards, scripts = [], []
    for i in range(3):
        session = house.sessions.open(kind="ws", room=f"r{i}", name="")
        heards.append(Heard())
        scripts.append(random_script(20 + i, 8.0))
        speak(house, session, scripts[-1], heards[-1])
    await house.sessions.aclose(5.0)
    assert [heard.texts for heard in heards] == [script.texts for script in scripts]
    assert len(house.sessions) == len(house.rooms) == 0
    with pytest.raises(Unavailable):
        house.sessions.open(kind="ws", room="r", name="")


async def test_a_stop_lets_those_who_only_listen_hear_the_last_words(house: House) -> None:
    seat = Seat()
    house.sessions.open(kind="ws", room="r", name="Bob", deliver=seat.deliver)
    script = random_script(30, 8.0)
    speak(house, house.sessions.open(kind="ws", room="r", name="Ann"), script)
    await house.sessions.aclose(5.0)
    assert " ".join(c.text for c in seat.captions if c.final) == " ".join(script.texts)
    assert isinstance(seat.messages[-1], TrackEnded)


async def test_many_sessions_opened_and_closed_leave_nothing_behind(house: House) -> None:
    tasks = len(asyncio.all_tasks())
    left: list[weakref.ref[Session]] = []
    for i in range(100):
        session = house.sessions.open(kind="ws", room=f"r{i % 7}", name="")
        speak(house, session, random_script(i % 5, 2.0))
        await session.close("left")
        left.append(weakref.ref(session))
    del session
    await house.store.flush()
    await asyncio.sleep(0.05)
    gc.collect()
    assert len(house.sessions) == len(house.rooms) == 0
    assert [ref for ref in left if ref() is not None] == []
    assert len(asyncio.all_tasks()) <= tasks + 1
    worker = house.stage.workers[0]
    assert worker.dispatcher is not None
    assert len(worker.dispatcher) == 0
    assert not house.stage.client.workers[0].calls
