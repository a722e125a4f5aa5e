"""A room tells everybody the same in one order, and who comes later how things stand."""

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import Overloaded
from mediaserver.protocol.messages import (
    Caption,
    Chat,
    ServerMessage,
    Status,
    TrackEnded,
    TrackStarted,
)
from mediaserver.rooms.room import KEPT_CHAT, KEPT_FINALS, MAX_MEMBERS, Member, Room, Rooms


class Seat:
    def __init__(self) -> None:
        self.got: list[ServerMessage] = []
        self.keys: list[Hashable | None] = []

    def member(self, member_id: str) -> Member:
        return Member(member_id, member_id.title(), self.deliver)

    def deliver(self, message: ServerMessage, key: Hashable | None) -> None:
        self.got.append(message)
        self.keys.append(key)


def caption(room: Room, number: int, text: str, *, final: bool) -> Caption:
    return Caption(
        seq=room.next_seq(),
        track_id="t",
        caption_id=f"t.{number}",
        speaker="Ann",
        member_id="m",
        start_s=0.0,
        end_s=1.0,
        language="en",
        task="transcribe",
        text=text,
        words=(),
        final=final,
    )


def chat(room: Room, text: str) -> Chat:
    seq = room.next_seq()
    return Chat(seq=seq, id=f"c{seq}", member_id="m", name="Ann", text=text, sent_at=0.0)


TRACK = TrackStarted(track_id="t", member_id="m", speaker="Ann")


def test_everybody_gets_the_same_in_the_same_order() -> None:
    room, seats = Room("r"), [Seat(), Seat(), Seat()]
    for i, seat in enumerate(seats):
        room.join(seat.member(f"m{i}"))
    partial, hi = caption(room, 0, "hel", final=False), chat(room, "hi")
    live = Status(captions="live")
    room.track_started(TRACK)
    room.caption(partial)
    room.chat(hi)
    room.tell(live)
    assert all(seat.got == [TRACK, partial, hi, live] for seat in seats)


def test_a_publisher_without_ears_is_a_member_too() -> None:
    room = Room("r")
    room.join(Member("whip", "OBS", None))
    room.chat(chat(room, "hi"))
    assert len(room) == 1


def test_an_unfinished_caption_may_be_replaced_and_a_final_one_not() -> None:
    room, seat = Room("r"), Seat()
    room.join(seat.member("m"))
    room.caption(caption(room, 0, "a", final=False))
    room.caption(caption(room, 0, "a b", final=False))
    room.caption(caption(room, 1, "c", final=False))
    room.caption(caption(room, 0, "a b", final=True))
    first, second, other, final = seat.keys
    assert first == second is not None
    assert other not in (None, first)
    assert final is None


def test_who_comes_later_gets_live_tracks_finals_and_chat() -> None:
    room, late = Room("r"), Seat()
    room.track_started(TRACK)
    room.track_started(TrackStarted(track_id="gone", member_id="m", speaker="Ann"))
    room.track_ended(TrackEnded(track_id="gone"))
    room.caption(caption(room, 0, "partial", final=False))
    final = caption(room, 0, "said", final=True)
    room.caption(final)
    hello = chat(room, "hello")
    room.chat(hello)
    room.join(late.member("late"))
    assert late.got == [TRACK, final, hello]


def test_what_is_kept_for_newcomers_is_bounded() -> None:
    room, late = Room("r"), Seat()
    for i in range(500):
        room.caption(caption(room, i, f"s{i}", final=True))
        room.chat(chat(room, f"c{i}"))
    room.join(late.member("late"))
    assert len(late.got) == KEPT_FINALS + KEPT_CHAT
    texts = [m.text for m in late.got if isinstance(m, Caption | Chat)]
    assert texts[0] == f"s{500 - KEPT_FINALS}"
    assert texts[-1] == "c499"


def test_a_member_who_left_hears_nothing_more() -> None:
    room, seat = Room("r"), Seat()
    room.join(seat.member("m"))
    room.leave("m")
    room.leave("m")
    room.chat(chat(room, "hi"))
    assert seat.got == []


def test_a_member_may_leave_while_being_told() -> None:
    room, last = Room("r"), Seat()
    room.join(Member("a", "A", lambda *_: room.leave("b")))
    room.join(Member("b", "B", lambda *_: None))
    room.join(last.member("c"))
    room.chat(chat(room, "hi"))
    assert len(last.got) == 1
    assert len(room) == 2


def test_a_room_is_bounded() -> None:
    room = Room("r")
    for i in range(MAX_MEMBERS):
        room.join(Member(f"m{i}", "", None))
    with pytest.raises(Overloaded) as refused:
        room.join(Member("one more", "", None))
    assert refused.value.specific_code == "room_full"
    room.leave("m0")
    room.join(Member("one more", "", None))


@given(st.lists(st.tuples(st.sampled_from(["enter", "exit"]), st.integers(0, 5)), max_size=60))
def test_a_room_lives_as_long_as_somebody_is_in_it(steps: list[tuple[str, int]]) -> None:
    rooms, inside = Rooms(), {}
    for i, (step, number) in enumerate(steps):
        if step == "enter":
            inside[f"m{i}"] = rooms.enter(f"r{number}", Member(f"m{i}", "", None))
        elif inside:
            member_id = sorted(inside)[number % len(inside)]
            rooms.exit(inside.pop(member_id), member_id)
        assert len(rooms) == len({id(room) for room in inside.values()})
        assert len(rooms) == len({room.name for room in inside.values()})


def test_leaving_a_room_of_the_past_does_not_end_the_present_one() -> None:
    rooms = Rooms()
    first = rooms.enter("r", Member("a", "", None))
    rooms.exit(first, "a")
    second = rooms.enter("r", Member("b", "", None))
    rooms.exit(first, "a")
    assert second is not first
    assert len(rooms) == 1
    assert len(second) == 1


def test_a_refused_newcomer_leaves_no_empty_room() -> None:
    rooms = Rooms()
    room = rooms.enter("r", Member("m", "", None))
    for i in range(MAX_MEMBERS - 1):
        rooms.enter("r", Member(f"m{i}", "", None))
    with pytest.raises(Overloaded):
        rooms.enter("r", Member("x", "", None))
    assert len(rooms) == 1
    assert len(room) == MAX_MEMBERS
