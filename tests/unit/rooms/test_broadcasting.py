"""Who broadcasts: told to all, and forgotten with the right, the connection, or the member."""

import pytest

from mediaserver.protocol.room_events import MemberJoined, MemberUpdated
from mediaserver.protocol.rooms import BroadcastInfo
from mediaserver.rooms.decision import Broadcasting, Decision, Limit, Restore, Resume
from mediaserver.rooms.grants import ALL
from tests.unit.rooms.test_decide import House

BOTH = BroadcastInfo(audio=True, video=True)
SOUND = BroadcastInfo(audio=True, video=False)


def show(
    house: House, member_id: str, what: BroadcastInfo | None, connection: str = ""
) -> Decision:
    connection = connection or house.state.members[member_id].connection
    return house.server(Broadcasting(member_id, connection, what))


def shown(house: House, member_id: str) -> BroadcastInfo | None:
    return house.state.members[member_id].info.broadcast


def test_a_broadcast_is_told_once_and_its_end_too() -> None:
    house = House()
    ann = house.join("Ann")
    for what in (SOUND, BOTH, None):
        [told] = show(house, ann, what).events
        assert isinstance(told, MemberUpdated)
        assert told.member.broadcast == what == shown(house, ann)
        assert not show(house, ann, what).events


def test_what_an_old_connection_says_does_not_count() -> None:
    house = House()
    ann = house.join("Ann")
    show(house, ann, BOTH)
    assert not show(house, ann, None, connection="n_old").events
    assert shown(house, ann) == BOTH
    assert not show(house, "m_gone", BOTH, connection="n_old").events


@pytest.mark.parametrize("how", ["mute", "role", "credentials"])
def test_who_may_not_publish_broadcasts_nothing(how: str) -> None:
    house = House()
    ann, bob = house.join("Ann"), house.join("Bob")
    show(house, bob, BOTH)
    if how == "mute":
        house.do(ann, "member.mute", member_id=bob, publish=True)
    elif how == "role":
        house.do(ann, "member.role", member_id=bob, role="listener")
    else:
        [told] = house.server(Limit(bob, ALL.model_copy(update={"can_publish": False}))).events
        assert isinstance(told, MemberUpdated)
    assert shown(house, bob) is None
    assert not show(house, bob, BOTH).events
    assert shown(house, bob) is None


def test_a_mute_of_the_chat_leaves_the_broadcast() -> None:
    house = House()
    ann, bob = house.join("Ann"), house.join("Bob")
    show(house, bob, BOTH)
    house.do(ann, "member.mute", member_id=bob, chat=True)
    assert shown(house, bob) == BOTH


def test_who_comes_back_broadcasts_nothing_at_first() -> None:
    house = House()
    ann = house.join("Ann")
    secret = house.state.members[ann].secret_hash
    show(house, ann, BOTH)
    before = house.state.members[ann].connection
    assert house.join(resume=Resume(ann, secret)) == ann  # its connection is not missed yet
    assert shown(house, ann) is None
    assert not show(house, ann, None, connection=before).events
    show(house, ann, BOTH)
    house.leave(ann)
    assert house.join(resume=Resume(ann, secret)) == ann
    assert shown(house, ann) is None


def test_the_return_of_a_broadcaster_is_told_though_it_never_left() -> None:
    house = House()
    ann = house.join("Ann")
    member = house.state.members[ann]
    show(house, ann, BOTH)
    decision = house.server(Restore((member,)))
    assert not decision.events  # it is there
    house.leave(ann)
    [told] = house.server(Restore((member.model_copy(update={"broadcast": SOUND}),))).events
    assert isinstance(told, MemberJoined)
    assert told.member.broadcast == SOUND


def test_a_hidden_members_broadcast_is_not_told() -> None:
    house = House()
    ghost = house.join("Ghost", grants=ALL.model_copy(update={"hidden": True}))
    assert not show(house, ghost, BOTH).events
