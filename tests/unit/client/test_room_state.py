"""What a client knows of a room, by its messages."""

import dataclasses
from typing import Any

import pytest
from mediaserver_client.messages import Caption, Chat, ServerMessage, TrackStarted, Welcome
from mediaserver_client.room_events import (
    Ack,
    ChatDeleted,
    ChatEdited,
    ChatReacted,
    Granted,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    PlaybackMessage,
    QueueMessage,
    RoomResumed,
    RoomSnapshot,
    RoomStatus,
    RoomUpdated,
)
from mediaserver_client.room_state import RoomState
from mediaserver_client.room_types import (
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomInfo,
    RoomSettings,
)

SETTINGS = RoomSettings(
    title="Film", visibility="public", persistent=False, slow_mode_s=0.0, everyone_controls=True
)
IDLE = PlaybackState(0, 0, None, False, 0.0, 1.0, 0.0)


def member(id_: str, **more: Any) -> MemberInfo:
    return MemberInfo(**{"member_id": id_, "name": id_, "role": "member", "kind": "guest",
                         "joined_at": 1.0, **more})  # fmt: skip


def chat(seq: int, id_: str, text: str = "hello", **more: Any) -> Chat:
    return Chat(seq=seq, id=id_, member_id="m_2", name="Bob", text=text, sent_at=1.0, **more)


def snapshot(seq: int = 5, log_id: str = "log") -> RoomSnapshot:
    return RoomSnapshot(
        seq=seq,
        log_id=log_id,
        room=RoomInfo(room="film", settings=SETTINGS, created_at=1.0, members=1),
        members=(member("m_1"),),
        queue=(),
        playback=IDLE,
    )


def welcome(seq: int = 5) -> Welcome:
    return Welcome(
        session_id="s", room="film", member_id="m_1", name="Ann", role="member",
        grants=Grants(can_chat=True), log_id="log", seq=seq, resume_secret="shh",
    )  # fmt: skip


@pytest.fixture
def state() -> RoomState:
    state = RoomState()
    assert state.resume() == {}
    state.welcomed(welcome())
    assert state.apply(snapshot())
    return state


def test_events_change_what_is_known(state: RoomState) -> None:
    item = QueueItem(item_id="q", kind="mp4", title="x", added_by="m_1")
    playback = dataclasses.replace(IDLE, epoch=1, seq=1, item_id="q", playing=True)
    changed = dataclasses.replace(SETTINGS, slow_mode_s=3.0)
    events: list[ServerMessage] = [
        MemberJoined(seq=6, member=member("m_2")),
        QueueMessage(seq=7, items=(item,)),
        PlaybackMessage(seq=8, state=playback),
        MemberUpdated(seq=9, member=member("m_1", role="host")),
        RoomUpdated(seq=10, settings=changed),
        Granted(role="host", grants=Grants(room_admin=True)),
        RoomStatus(state="away"),
    ]
    assert all(state.apply(event) for event in events)
    assert list(state.members) == ["m_1", "m_2"]
    assert (state.queue, state.playback, state.settings) == ((item,), playback, changed)
    assert (state.role, state.grants.room_admin, state.away) == ("host", True, True)
    assert state.apply(MemberLeft(seq=11, member_id="m_2", reason="left"))
    assert list(state.members) == ["m_1"]
    assert state.resume() == {"resume": "log:11", "member": "m_1", "secret": "shh"}


def test_an_ack_that_comes_before_its_event_does_not_hide_it(state: RoomState) -> None:
    assert state.apply(Ack(id="1", seq=6))
    assert state.seq == 5
    assert state.apply(MemberJoined(seq=6, member=member("m_2")))
    assert "m_2" in state.members


def test_what_comes_again_after_a_loss_counts_once(state: RoomState) -> None:
    joined = MemberJoined(seq=6, member=member("m_2"))
    said = chat(7, "c_1")
    assert state.apply(joined)
    assert state.apply(said)
    state.welcomed(welcome(8))
    assert state.apply(RoomResumed(seq=7, count=1))
    assert not state.apply(joined)
    assert not state.apply(said)
    assert state.apply(chat(8, "c_2"))
    assert (state.seq, list(state.chat)) == (8, ["c_1", "c_2"])


def test_a_snapshot_of_a_new_log_counts_anew(state: RoomState) -> None:
    state.apply(chat(7, "c_1"))
    state.apply(MemberJoined(seq=900, member=member("m_2")))
    assert state.apply(snapshot(3, "other"))
    assert (state.seq, state.log_id, list(state.members)) == (3, "other", ["m_1"])
    assert not state.apply(chat(2, "c_1")), "it was told already"
    assert state.apply(chat(1, "c_0")), "said meanwhile"
    assert state.apply(MemberJoined(seq=4, member=member("m_3")))


def test_chat_is_kept_as_it_is_now(state: RoomState) -> None:
    for seq, id_ in enumerate(("c_1", "c_2"), 6):
        state.apply(chat(seq, id_))
    state.apply(ChatEdited(seq=8, message_id="c_1", text="bye", edited_at=2.0))
    state.apply(ChatReacted(seq=9, message_id="c_1", reactions={"🎉": ("m_1",)}))
    state.apply(ChatDeleted(seq=10, message_id="c_2", by="m_1"))
    state.apply(ChatEdited(seq=11, message_id="gone", text="?", edited_at=2.0))
    [kept] = state.chat.values()
    assert (kept.text, kept.edited_at, kept.reactions) == ("bye", 2.0, {"🎉": ("m_1",)})
    for seq in range(12, 400):
        state.apply(chat(seq, f"d_{seq}"))
    assert len(state.chat) == 200


def test_history_is_what_was_said_before_one_came(state: RoomState) -> None:
    before, after = chat(4, "c_1"), chat(6, "c_2")
    state.apply(before)
    state.apply(after)
    assert (state.is_history(before), state.is_history(after)) == (True, False)


def test_captions_without_a_number_do_not_move_the_place(state: RoomState) -> None:
    caption = Caption(
        seq=None, track_id="t", caption_id="t.0", speaker="Bob", member_id="m_2", start_s=0.0,
        end_s=1.0, language="en", task="transcribe", text="So", words=(), final=False,
    )  # fmt: skip
    assert state.apply(caption)
    assert state.seq == 5
    assert state.apply(dataclasses.replace(caption, seq=6, final=True))
    assert state.apply(TrackStarted(seq=7, track_id="t", member_id="m_2", speaker="Bob"))
    assert (state.seq, list(state.tracks)) == (7, ["t"])


def test_one_is_told_why_one_is_not_in_the_room_any_more(state: RoomState) -> None:
    state.apply(MemberLeft(seq=6, member_id="m_1", reason="lost"))
    assert state.left == "lost"
    state.apply(MemberJoined(seq=7, member=member("m_1")))
    assert state.left is None
    state.apply(MemberLeft(seq=8, member_id="m_1", reason="kicked"))
    assert state.left == "kicked"
