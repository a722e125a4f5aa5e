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
from mediaserver.protocol.room_events import RoomSnapshot
from mediaserver.protocol.rooms import Grants
from mediaserver.rooms.hub import RoomHub
from mediaserver.rooms.presence import Newcomer
from mediaserver.sessions.registry import Sessions
from mediaserver.sessions.session import MAX_TRACKS, Session, SessionKind
from mediaserver.sessions.transcripts import TranscriptStore
from mediaserver.settings import Settings
from mediaserver.stores.redis import RedisStore
from tests.unit.inference.scripted import Script, random_script
from tests.unit.sessions.conftest import NewStage, Until
from tests.unit.sessions.scripted_worker import ENGLISH, Heard, Stage, push


@dataclass
class Seat:
    """What a member of a room gets."""

    messages: list[ServerMessage] = field(default_factory=list)

    def deliver(self, message: ServerMessage, key: Hashable | None) -> None:
        """As `web.ws_out`: what was told at once comes again, when it has its number."""
        if getattr(message, "seq", None) is not None:
            again = message.model_copy(update={"seq": None})
            if again in self.messages:
                return
        self.messages.append(message)

    def granted(self, grants: Grants) -> None:
        pass

    def dismiss(self, code: int, reason: str) -> None:
        raise AssertionError(f"sent away: {code} {reason}")

    @property
    def captions(self) -> list[Caption]:
        return [m for m in self.messages if isinstance(m, Caption)]


@dataclass
class House:
    """All sessions of an instance, on a scripted worker."""

    stage: Stage
    rooms: RoomHub
    store: TranscriptStore
    sessions: Sessions

    async def enter(
        self, room: str, name: str = "", seat: Seat | None = None, kind: SessionKind = "ws"
    ) -> Session:
        """Open a session in a room; the seat gets what was before, too."""
        seat = seat or Seat()
        session, joined = await self.sessions.enter(
            kind=kind, room=room, newcomer=Newcomer(name), attendee=seat
        )
        seat.messages = [*joined.so_far, *seat.messages]
        return session

    def value(self, name: str, **labels: str) -> float:
        return self.stage.registry.get_sample_value(name, labels or None) or 0.0


def build(stage: Stage, folder: Path, redis: RedisStore, max_sessions: int = 1000) -> House:
    settings = Settings(data_dir=folder)
    rooms = RoomHub(redis, stage.clock, "test")
    rooms.start()
    store = TranscriptStore(folder / "transcripts", settings, stage.clock)
    sessions = Sessions(
        stage.client, rooms, store, stage.clock, stage.figures, max_sessions=max_sessions
    )
    return House(stage, rooms, store, sessions)


@pytest.fixture
async def house(stage: Stage, tmp_path: Path, redis: RedisStore) -> AsyncIterator[House]:
    house = build(stage, tmp_path, redis)
    yield house
    await house.sessions.aclose(1.0)
    await house.rooms.aclose()
    await house.store.aclose()


def speak(house: House, session: Session, script: Script, heard: Heard | None = None) -> None:
    """Open a track and push all of the script."""
    track = session.open_track(ENGLISH, heard)
    house.stage.recogniser.add(track.id, script)
    push(track, script)


# ---- one session


async def test_closing_delivers_all_finals_of_all_tracks_first(house: House) -> None:
    session = await house.enter("r", "Ann")
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
    session = house.sessions.open(kind="listen", name="bot")
    heard = Heard()
    speak(house, session, random_script(3, 5.0), heard)
    await asyncio.gather(session.close("left"), session.close("lost"), session.close("ended"))
    assert len(heard.ends) == 1
    assert house.value("mediaserver_streams", kind="listen") == 0


async def test_a_track_that_ends_while_the_session_closes_is_counted_once(house: House) -> None:
    session = await house.enter("r", "Ann")
    seat = Seat()
    await house.enter("r", "Bob", seat)
    heard = Heard()
    speak(house, session, random_script(4, 5.0), heard)
    await asyncio.gather(session.tracks[0].end("ended"), session.close("left"))
    assert len(heard.ends) == 1
    assert sum(isinstance(m, TrackEnded) for m in seat.messages) == 1
    assert house.value("mediaserver_streams", kind="ws") == 0


async def test_a_patient_close_under_way_does_not_hold_up_the_stop(
    tmp_path: Path, redis: RedisStore, new_stage: NewStage
) -> None:
    """A member left while no worker is there; then the server is stopped."""
    stage = new_stage()
    await stage.start([])
    house = build(stage, tmp_path, redis)
    session = await house.enter("r", "Ann")
    speak(house, session, random_script(5, 5.0))
    leaving = asyncio.ensure_future(session.close("left", 30.0))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(15.0):
        await house.sessions.aclose(0.2)
        await leaving
    await house.rooms.aclose()
    await house.store.aclose()


async def test_a_closed_session_opens_no_track(house: House) -> None:
    session = house.sessions.open(kind="ws", name="Ann")
    await session.close()
    with pytest.raises(Conflict):
        session.open_track(ENGLISH)


async def test_tracks_of_a_session_are_bounded_and_an_end_makes_room(house: House) -> None:
    session = house.sessions.open(kind="ws", name="Ann")
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
    await house.enter("r", "Bob", seat)
    session = await house.enter("r", "Ann")
    script = random_script(6, 10.0)
    speak(house, session, script)
    await session.close("left")
    started = next(m for m in seat.messages if isinstance(m, TrackStarted))
    (ended,) = (m for m in seat.messages if isinstance(m, TrackEnded))
    assert not any(isinstance(m, Caption) for m in seat.messages[seat.messages.index(ended) :])
    assert (started.speaker, started.member_id) == ("Ann", session.member_id)
    assert (ended.track_id, ended.reason) == (started.track_id, "left")
    assert any(isinstance(m, SpeechStarted) for m in seat.messages)
    finals = [c for c in seat.captions if c.final]
    assert " ".join(c.text for c in finals) == " ".join(script.texts)
    assert all(all(word.final for word in c.words) for c in finals)
    assert len({c.caption_id for c in finals}) == len(finals)
    assert all(c.seq is None for c in seat.captions), "told at once, before the log has them"
    assert {(c.speaker, c.language, c.track_id) for c in seat.captions} == {
        ("Ann", "en", started.track_id)
    }


async def test_final_words_of_a_caption_stand_when_it_is_replaced(house: House) -> None:
    seat = Seat()
    await house.enter("r", "Bob", seat)
    session = await house.enter("r", "Ann")
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
    session = await house.enter("r", "Ann")
    script, heard = random_script(8, 10.0), Heard()
    speak(house, session, script, heard)
    await session.tracks[0].finalize()
    seat = Seat()
    await house.enter("r", "Late", seat)
    assert isinstance(seat.messages[0], RoomSnapshot)
    assert isinstance(seat.messages[1], TrackStarted)
    assert " ".join(c.text for c in seat.captions) == " ".join(script.texts)
    assert all(c.final for c in seat.captions)


async def test_the_room_is_told_when_captions_pause_and_go_on(house: House, until: Until) -> None:
    seat = Seat()
    await house.enter("r", "Bob", seat)
    session = await house.enter("r", "Ann")
    speak(house, session, random_script(9, 5.0))
    await house.stage.workers[0].kill()

    def told() -> list[str]:
        return [m.captions for m in seat.messages if isinstance(m, Status)]

    await until(lambda: told() == ["paused"])
    await house.stage.workers[0].start()
    await until(lambda: told() == ["paused", "live"])


# ---- all sessions


async def test_sessions_are_found_by_their_id_while_they_live(house: House) -> None:
    session = await house.enter("r", "OBS", kind="whip")
    assert house.sessions.get(session.id) is session
    assert house.sessions.find(session.id) is session
    await session.close()
    assert house.sessions.find(session.id) is None
    with pytest.raises(NotFound):
        house.sessions.get(session.id)


async def test_beyond_the_limit_sessions_are_refused_with_a_hint(
    stage: Stage, tmp_path: Path, redis: RedisStore
) -> None:
    house = build(stage, tmp_path, redis, max_sessions=2)
    first = await house.enter("a", "")
    await house.enter("b", "")
    with pytest.raises(Overloaded) as refused:
        await house.enter("c", "")
    assert refused.value.retry_after_s
    assert len(house.rooms) == 2
    await first.close()
    await house.enter("c", "")
    await house.sessions.aclose(1.0)
    await house.rooms.aclose()
    await house.store.aclose()


async def test_a_full_room_costs_no_session(house: House) -> None:
    for _ in range(200):
        await house.enter("full", "")
    with pytest.raises(Overloaded) as refused:
        await house.enter("full", "")
    assert refused.value.specific_code == "room_full"
    assert len(house.sessions) == 200


async def test_a_stop_ends_all_sessions_with_their_finals_and_takes_no_more(house: House) -> None:
    heards, scripts = [], []
    for i in range(3):
        session = await house.enter(f"r{i}", "")
        heards.append(Heard())
        scripts.append(random_script(20 + i, 8.0))
        speak(house, session, scripts[-1], heards[-1])
    await house.sessions.aclose(5.0)
    assert [heard.texts for heard in heards] == [script.texts for script in scripts]
    assert len(house.sessions) == 0
    with pytest.raises(Unavailable):
        await house.enter("r", "")


async def test_a_stop_lets_those_who_only_listen_hear_the_last_words(house: House) -> None:
    seat = Seat()
    await house.enter("r", "Bob", seat)
    script = random_script(30, 8.0)
    speak(house, await house.enter("r", "Ann"), script)
    await house.sessions.aclose(5.0)
    assert " ".join(c.text for c in seat.captions if c.final) == " ".join(script.texts)
    assert any(isinstance(m, TrackEnded) for m in seat.messages)


async def test_many_sessions_opened_and_closed_leave_nothing_behind(
    house: House, until: Until
) -> None:
    tasks = len(asyncio.all_tasks())
    left: list[weakref.ref[Session]] = []
    for i in range(100):
        session = await house.enter(f"r{i % 7}", "")
        speak(house, session, random_script(i % 5, 2.0))
        await session.close("left")
        left.append(weakref.ref(session))
    del session
    await house.store.flush()
    await until(lambda: len(house.rooms) == 0)  # let go of within 1.5 s
    gc.collect()
    assert len(house.sessions) == 0
    assert [ref for ref in left if ref() is not None] == []
    await until(lambda: len(asyncio.all_tasks()) <= tasks + 1)
    worker = house.stage.workers[0]
    assert worker.dispatcher is not None
    assert len(worker.dispatcher) == 0
    assert not house.stage.client.workers[0].calls
