"""What an instance knows of a room: the log in order, and what who comes back has missed."""

import pytest

from mediaserver.protocol.chat import Chat
from mediaserver.protocol.messages import Caption
from mediaserver.protocol.room_events import ChatDeleted, ChatReacted, RoomSnapshot, RoomTold
from mediaserver.rooms.clock import OffsetFilter
from mediaserver.rooms.limits import TokenBucket
from mediaserver.rooms.log import (
    LOG_LENGTH,
    RESUME_WINDOW_S,
    Entry,
    Loaded,
    numbered,
    parse_published,
)
from mediaserver.rooms.replica import TOLD_CHAT, TOLD_FINALS, Gap, Replica
from mediaserver.rooms.state import ad_hoc_settings, new_state

START_S = 1000.0


def chat(seq: int, text: str = "hello") -> Chat:
    return Chat(seq=seq, id=f"c{seq}", member_id="m", name="Ann", text=text, sent_at=START_S)


def entry(seq: int, at_s: float = START_S, version: int = 1) -> Entry:
    return Entry(seq, at_s, version, chat(seq).model_dump_json())


def replica(*entries: Entry, log_id: str = "log") -> Replica:
    state = new_state("r", ad_hoc_settings(), None, START_S)
    last = entries[-1].seq if entries else 0
    return Replica(Loaded(log_id, 1, last, state, entries, ()))


def test_events_are_applied_in_order_once_and_a_gap_is_noticed() -> None:
    known = replica()
    assert known.take(entry(1)) is not None
    assert known.take(entry(1)) is None
    with pytest.raises(Gap):
        known.take(entry(3))
    assert known.seq == 1
    assert known.take(entry(2)) is not None
    assert list(known.chat) == ["c1", "c2"]


def test_who_comes_back_gets_what_it_missed() -> None:
    known = replica(*(entry(seq) for seq in range(1, 11)))
    missed = known.missed("log", 7, START_S)
    assert missed is not None
    assert [m.seq for m in missed if isinstance(m, Chat)] == [8, 9, 10]
    assert known.missed("log", 10, START_S) == []
    assert known.missed("another log", 7, START_S) is None
    assert known.missed("log", 11, START_S) is None, "it never saw that here"
    assert known.missed("log", -1, START_S) is None


def test_what_is_missed_is_told_up_to_1000_events_or_ten_minutes() -> None:
    known = replica()
    for seq in range(1, LOG_LENGTH + 6):
        known.take(entry(seq, START_S + seq))
    now_s = START_S + LOG_LENGTH + 5
    missed = known.missed("log", 5, START_S)
    assert missed is not None
    assert len(missed) == LOG_LENGTH
    assert known.missed("log", 4, START_S) is None
    oldest = round(now_s - RESUME_WINDOW_S - START_S)
    assert known.missed("log", oldest - 1, now_s) is not None
    assert known.missed("log", oldest - 2, now_s) is None


def test_a_snapshot_has_the_newest_chat_and_captions_as_they_are_now() -> None:
    known = replica()
    for seq in range(1, 81):
        known.take(entry(seq))
    reacted = ChatReacted(seq=81, message_id="c80", reactions={"👍": ("m",)})
    known.take(Entry(81, START_S, 1, reacted.model_dump_json()))
    deleted = ChatDeleted(seq=82, message_id="c79", by="m")
    known.take(Entry(82, START_S, 1, deleted.model_dump_json()))
    for number in range(60):
        known.keep_final(caption(number))
    told = known.snapshot()
    assert isinstance(told[0], RoomSnapshot)
    assert told[0].seq == 82
    messages = [m for m in told if isinstance(m, Chat)]
    assert [m.id for m in messages] == [f"c{n}" for n in [*range(30, 79), 80]]
    assert len(messages) == TOLD_CHAT
    assert messages[-1].reactions == {"👍": ("m",)}
    captions = [m.caption_id for m in told if isinstance(m, Caption)]
    assert captions == [f"t.{n}" for n in range(60 - TOLD_FINALS, 60)]


def caption(number: int) -> Caption:
    return Caption(
        seq=None,
        track_id="t",
        caption_id=f"t.{number}",
        speaker="Ann",
        member_id="m",
        start_s=0.0,
        end_s=1.0,
        language="en",
        task="transcribe",
        text="hello",
        words=(),
        final=True,
    )


def test_of_an_event_of_a_newer_version_only_the_number_is_told() -> None:
    known = replica()
    told = known.take(Entry(1, START_S, 1, '{"type":"room.teleported","seq":1}'))
    assert told == RoomTold(seq=1)
    assert known.take(entry(2)) is not None
    again = known.after(known.log_id, 0, START_S)
    assert [getattr(m, "seq", None) for m in again] == [0, 1, 2], "the answer, and both events"


def test_the_state_is_stale_once_events_tell_of_a_newer_one() -> None:
    known = replica()
    known.take(entry(1, version=1))
    assert not known.stale
    known.take(entry(2, version=2))
    assert known.stale
    known.keep_state(known.state, 2)
    assert not known.stale
    known.keep_state(new_state("r", ad_hoc_settings(), "user:x", START_S), 1)
    assert known.state.owner is None, "an older state is not taken"


def test_a_published_event_carries_its_number() -> None:
    text = chat(0, 'say "seq":0').model_dump_json()
    told = parse_published(f"E 17 1500 3 {text}".encode())
    assert told is not None
    assert (told.seq, told.at_s, told.version) == (17, 1.5, 3)
    assert Chat.model_validate_json(told.text) == chat(17, 'say "seq":0').model_copy(
        update={"id": "c0"}
    )
    assert parse_published(b"P i0 {}") is None
    assert numbered(text, 5).count('"seq":5') == 1


# ---- clock and limits


def test_the_exchange_of_least_delay_is_believed() -> None:
    clock = OffsetFilter()
    assert clock.offset_s is None
    clock.add(10.0, 110.5, 11.0)  # 1 s on the way, one way 0.5 s
    clock.add(20.0, 120.009, 20.01)  # 10 ms on the way
    clock.add(30.0, 131.5, 33.0)
    assert clock.offset_s == pytest.approx(100.0, abs=0.005)
    for at in range(40, 48):  # the good one is too old by now
        clock.add(at, at + 100.25, at + 0.5)
    assert clock.offset_s == pytest.approx(100.0)


def test_a_bucket_lets_its_rate_through_and_a_burst() -> None:
    bucket = TokenBucket(30.0, 60.0)
    assert sum(bucket.take(0.0) for _ in range(100)) == 60
    assert bucket.wait_s() == pytest.approx(1 / 30)
    assert not bucket.take(0.03)
    assert bucket.take(0.04)
    assert sum(bucket.take(1.04) for _ in range(100)) == 30
    assert sum(bucket.take(100.0) for _ in range(100)) == 60
