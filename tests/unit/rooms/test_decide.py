"""Whatever members do, in whatever order: the state stays sound, and its events tell all of it."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediaserver.kernel.errors import (
    Conflict,
    Forbidden,
    Gone,
    MediaServerError,
    Overloaded,
    TooManyRequests,
)
from mediaserver.protocol.messages import Chat, parse_client_message
from mediaserver.protocol.rooms import BroadcastInfo, Grants, RoomChange, RoomRole
from mediaserver.rooms.decide import MemberCommand, decide, decide_for_server
from mediaserver.rooms.decision import (
    Broadcasting,
    ChangeSettings,
    CloseRoom,
    Context,
    Decision,
    Depart,
    Join,
    Resume,
    ServerCommand,
    SweepInstance,
    Tick,
    Watch,
)
from mediaserver.rooms.grants import ALL, grants_of
from mediaserver.rooms.state import (
    HOST_GRACE_S,
    MAX_MEMBERS,
    PLACE_KEPT_S,
    RoomState,
    ad_hoc_settings,
    new_state,
)
from mediaserver.rooms.view import apply, view_of

START_S = 1_000_000.0
BROADCASTS = (None, BroadcastInfo(audio=True, video=False), BroadcastInfo(audio=True, video=True))


class House:
    """One room in virtual time, with its chat, as Redis would keep them."""

    def __init__(self, owner: str | None = None) -> None:
        self.now_s = START_S
        self.ids: Iterator[int] = itertools.count()
        self.state: RoomState = new_state("r", ad_hoc_settings(), owner, self.now_s)
        self.chat: dict[str, Chat] = {}

    @property
    def context(self) -> Context:
        return Context(self.now_s, lambda prefix: f"{prefix}{next(self.ids)}", 0.0, self.chat)

    def take(self, decision: Decision) -> Decision:
        """Commit; the events say all that members are shown of it."""
        view = view_of(self.state)
        for event in decision.events:
            assert event.model_dump()["seq"] == 0
            view = apply(view, event)
        if self.state.closed is None and decision.state.closed is None:
            assert view == view_of(decision.state)
        self.state = RoomState.model_validate_json(decision.state.model_dump_json())
        assert self.state == decision.state
        if decision.chat is not None:
            if decision.chat.after is None:
                del self.chat[decision.chat.message_id]
            else:
                self.chat[decision.chat.message_id] = decision.chat.after
        return decision

    def server(self, command: ServerCommand) -> Decision:
        return self.take(decide_for_server(self.state, command, self.context))

    def do(self, actor: str, type_: str, /, **fields: object) -> Decision:
        message = parse_client_message(json.dumps({"type": type_, **fields}))
        return self.take(decide(self.state, actor, as_command(message), self.context))

    def join(
        self,
        name: str = "x",
        subject: str = "",
        grants: Grants = ALL,
        role: RoomRole | None = None,
        invited: bool = False,
        instance: str = "i0",
        resume: Resume | None = None,
    ) -> str:
        number = next(self.ids)
        decision = self.server(
            Join(
                member_id=f"m{number}",
                name=name,
                kind="guest" if subject else "local",
                subject=subject,
                grants=grants,
                role=role,
                invited=invited,
                instance=instance,
                connection=f"n{number}",
                secret_hash=resume.secret_hash if resume else f"s{number}",
                resume=resume,
            )
        )
        assert decision.member is not None
        return decision.member.member_id

    def leave(self, member_id: str) -> None:
        member = self.state.members[member_id]
        self.server(Depart(member_id, member.connection, "lost"))


def as_command(message: object) -> MemberCommand:
    return message  # type: ignore[return-value] # the tests send nothing else


ITEM = {"kind": "mp4", "url": "https://example.org/film.mp4", "duration_s": 60}


# ---- coming and going


def test_who_comes_first_is_host_and_others_are_members() -> None:
    house = House()
    ann, bob = house.join("Ann"), house.join("Bob")
    assert house.state.members[ann].role == "host"
    assert house.state.members[bob].role == "member"


def test_in_an_owned_room_the_owner_is_host_whoever_came_first() -> None:
    house = House(owner="user:ann")
    bob = house.join(subject="user:bob")
    ann = house.join(subject="user:ann")
    assert house.state.members[ann].role == "host"
    assert house.state.members[bob].role == "member"


def test_a_place_is_kept_for_ten_minutes_and_only_for_who_has_the_secret() -> None:
    house = House()
    ann = house.join(subject="guest:a")
    secret = house.state.members[ann].secret_hash
    house.leave(ann)
    house.now_s += PLACE_KEPT_S - 1
    assert house.join(subject="guest:a", resume=Resume(ann, "guessed")) != ann
    assert house.join(subject="guest:b", resume=Resume(ann, secret)) != ann
    assert house.join(subject="guest:a", resume=Resume(ann, secret)) == ann
    house.leave(ann)
    house.now_s += PLACE_KEPT_S
    assert house.join(subject="guest:a", resume=Resume(ann, secret)) != ann


def test_the_end_of_an_old_connection_does_not_remove_who_came_back() -> None:
    house = House()
    ann = house.join()
    old = house.state.members[ann]
    house.join(resume=Resume(ann, old.secret_hash), instance="i1")
    house.server(Depart(ann, old.connection, "lost"))
    house.server(SweepInstance("i0"))
    assert ann in house.state.members
    house.server(SweepInstance("i1"))
    assert ann not in house.state.members


def test_a_host_that_comes_back_in_time_is_host_and_later_a_cohost() -> None:
    house = House()
    ann, bob, cy = house.join(), house.join(), house.join()
    secret = house.state.members[ann].secret_hash
    house.do(ann, "member.role", member_id=cy, role="cohost")
    house.leave(ann)
    house.now_s += HOST_GRACE_S - 0.1
    house.server(Tick())
    assert house.state.host is None
    house.join(resume=Resume(ann, secret))
    assert house.state.members[ann].role == "host"
    house.leave(ann)
    house.now_s += HOST_GRACE_S
    house.server(Tick())
    assert house.state.members[cy].role == "host", "a co-host before who was there longer"
    assert house.state.members[bob].role == "member"
    house.join(resume=Resume(ann, secret))
    assert house.state.members[ann].role == "cohost"


def test_a_full_room_lets_nobody_in_but_those_who_come_back() -> None:
    house = House()
    ids = [house.join() for _ in range(MAX_MEMBERS)]
    with pytest.raises(Overloaded) as refused:
        house.join()
    assert refused.value.specific_code == "room_full"
    secret = house.state.members[ids[7]].secret_hash
    assert house.join(resume=Resume(ids[7], secret)) == ids[7]


def test_a_private_room_needs_an_invitation() -> None:
    house = House(owner="user:ann")
    house.server(ChangeSettings(RoomChange(visibility="private")))
    with pytest.raises(Forbidden) as refused:
        house.join(subject="user:bob")
    assert refused.value.specific_code == "invitation_needed"
    house.join(subject="user:bob", invited=True)
    house.join(subject="user:ann")


def test_who_is_banned_stays_out_under_any_name_until_the_ban_is_over() -> None:
    house = House()
    ann, bob = house.join(), house.join("Bob", subject="guest:b")
    secret = house.state.members[bob].secret_hash
    house.do(ann, "member.ban", member_id=bob, duration_s=60)
    for resume in (None, Resume(bob, secret)):
        with pytest.raises(Forbidden) as refused:
            house.join("Robert", subject="guest:b", resume=resume)
        assert refused.value.specific_code == "banned"
    house.now_s += 61
    assert house.join("Bob", subject="guest:b", resume=Resume(bob, secret)) != bob


def test_nobody_bans_an_account_that_is_its_own_or_the_hosts() -> None:
    house = House()
    ann = house.join(subject="user:ann")
    phone, bob = house.join(subject="user:ann"), house.join("Bob", subject="user:bob")
    with pytest.raises(Conflict) as refused:
        house.do(ann, "member.ban", member_id=phone)
    assert refused.value.specific_code == "yourself"
    house.do(ann, "member.role", member_id=bob, role="cohost")
    with pytest.raises(Forbidden):
        house.do(bob, "member.ban", member_id=phone)
    assert not house.state.bans


def test_a_kicked_member_may_come_back_but_not_to_its_place() -> None:
    house = House()
    ann, bob = house.join(), house.join()
    secret = house.state.members[bob].secret_hash
    house.do(ann, "member.role", member_id=bob, role="cohost")
    house.do(ann, "member.kick", member_id=bob)
    again = house.join(resume=Resume(bob, secret))
    assert again != bob
    assert house.state.members[again].role == "member"


def test_a_closed_room_lets_nobody_in() -> None:
    house = House()
    house.join()
    house.server(CloseRoom("over"))
    with pytest.raises(Gone):
        house.join()


# ---- grants


def test_a_role_gives_no_more_than_the_ticket_allows() -> None:
    house = House()
    bot = house.join(grants=Grants(room_join=True, can_subscribe=True), role="host")
    member = house.state.members[bot]
    assert member.role == "host"
    allowed = grants_of(member, house.state.settings)
    assert allowed == Grants(room_join=True, can_subscribe=True)
    with pytest.raises(Forbidden):
        house.do(bot, "chat.send", text="hello")


def test_cohosts_do_not_moderate_hosts_or_each_other() -> None:
    house = House()
    ann, bob, cy = house.join(), house.join(), house.join()
    for member in (bob, cy):
        house.do(ann, "member.role", member_id=member, role="cohost")
    for target in (ann, cy):
        with pytest.raises(Forbidden):
            house.do(bob, "member.kick", member_id=target)
    house.do(ann, "member.mute", member_id=cy, chat=True)
    with pytest.raises(Forbidden) as refused:
        house.do(cy, "chat.send", text="but")
    assert refused.value.specific_code == "muted"


# ---- chat


def test_slow_mode_counts_for_each_subject_also_after_coming_back() -> None:
    house = House()
    ann, bob = house.join(), house.join(subject="guest:b")
    house.do(ann, "room.update", change={"slow_mode_s": 5})
    house.do(bob, "chat.send", text="one")
    house.leave(bob)
    bob = house.join(subject="guest:b")
    house.now_s += 4.0
    with pytest.raises(TooManyRequests) as refused:
        house.do(bob, "chat.send", text="two")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    house.do(ann, "chat.send", text="hosts are exempt")
    house.do(ann, "chat.send", text="at any pace")
    house.now_s += 1.0
    house.do(bob, "chat.send", text="two")


def test_a_message_can_be_changed_for_ten_minutes() -> None:
    house = House()
    ann = house.join()
    (message,) = house.do(ann, "chat.send", text="one").events
    assert isinstance(message, Chat)
    house.now_s += 600.0
    house.do(ann, "chat.edit", message_id=message.id, text="two")
    assert house.chat[message.id].text == "two"
    house.now_s += 0.1
    with pytest.raises(Conflict) as refused:
        house.do(ann, "chat.edit", message_id=message.id, text="three")
    assert refused.value.specific_code == "too_late"


# ---- watching


def test_the_first_item_is_loaded_and_the_next_follows_its_end_once() -> None:
    house = House()
    ann = house.join()
    for _ in range(2):
        house.do(ann, "queue.add", item=ITEM)
    first, second = house.state.queue
    assert house.state.playback.item_id == first.item_id
    assert not house.state.playback.playing
    house.do(ann, "playback.command", action="play")
    house.now_s += 61.0
    base = {"epoch": house.state.playback.epoch, "seq": house.state.playback.seq}
    house.do(ann, "playback.command", action="next", ended=True, base=base)
    assert house.state.playback.item_id == second.item_id
    assert house.do(ann, "playback.command", action="next", ended=True, base=base).events == ()


def test_a_start_waits_for_players_and_for_nobody_who_has_left() -> None:
    house = House()
    ann, bob, cy = house.join(), house.join(), house.join()
    house.server(Watch(ann))
    house.server(Watch(bob))
    house.do(ann, "queue.add", item=ITEM)
    house.do(ann, "playback.command", action="item", item_id=house.state.queue[0].item_id)
    assert set(house.state.playback.waiting_for) == {ann, bob}
    assert cy not in house.state.playback.waiting_for
    house.do(ann, "playback.ready", epoch=house.state.playback.epoch)
    house.leave(bob)
    assert house.state.playback.waiting_for == ()
    assert house.state.playback.wait_until_s is None


# ---- anything, in any order


class AnyParty(RuleBasedStateMachine):
    """Members of three accounts on two instances do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.secrets: dict[str, tuple[str, str]] = {}

    def attempt(self, member: int, type_: str, /, **fields: object) -> None:
        ids = list(self.house.state.members) or ["m_gone"]
        try:
            self.house.do(ids[member % len(ids)], type_, **fields)
        except MediaServerError:
            return

    def someone(self, number: int) -> str:
        ids = list(self.house.state.members) or ["m_gone"]
        return ids[number % len(ids)]

    @rule(account=st.integers(0, 3), instance=st.integers(0, 1))
    def come(self, account: int, instance: int) -> None:
        subject = f"guest:{account}" if account else ""
        try:
            member = self.house.join(subject=subject, instance=f"i{instance}")
        except MediaServerError:
            return
        self.secrets[member] = (subject, self.house.state.members[member].secret_hash)

    @rule(number=st.integers(0, 50), instance=st.integers(0, 1))
    def come_back(self, number: int, instance: int) -> None:
        if not self.secrets:
            return
        member, (subject, secret) = list(self.secrets.items())[number % len(self.secrets)]
        try:
            self.house.join(subject=subject, instance=f"i{instance}", resume=Resume(member, secret))
        except MediaServerError:
            return

    @rule(number=st.integers(0, 50))
    def go(self, number: int) -> None:
        member = self.house.state.members.get(self.someone(number))
        if member is not None:
            self.house.leave(member.member_id)

    @rule(instance=st.integers(0, 1))
    def die(self, instance: int) -> None:
        self.house.server(SweepInstance(f"i{instance}"))

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        self.house.now_s += seconds
        self.house.server(Tick())

    @rule(
        actor=st.integers(0, 50),
        whom=st.integers(0, 50),
        what=st.sampled_from(["kick", "ban", "mute", "host", "cohost", "listener", "member"]),
    )
    def moderate(self, actor: int, whom: int, what: str) -> None:
        member_id = self.someone(whom)
        match what:
            case "kick" | "ban":
                self.attempt(actor, f"member.{what}", member_id=member_id)
            case "mute":
                publish = actor % 3 == 0
                self.attempt(actor, "member.mute", member_id=member_id, chat=True, publish=publish)
            case _:
                self.attempt(actor, "member.role", member_id=member_id, role=what)

    @rule(actor=st.integers(0, 50), what=st.sampled_from(BROADCASTS), old=st.booleans())
    def broadcast(self, actor: int, what: BroadcastInfo | None, old: bool) -> None:
        member = self.house.state.members.get(self.someone(actor))
        if member is not None:
            connection = "n_old" if old else member.connection
            self.house.server(Broadcasting(member.member_id, connection, what))

    @invariant()
    def who_may_not_publish_broadcasts_nothing(self) -> None:
        state = self.house.state
        for member in state.members.values():
            assert member.broadcast is None or grants_of(member, state.settings).can_publish

    @rule(actor=st.integers(0, 50), slow=st.booleans())
    def say(self, actor: int, slow: bool) -> None:
        if slow:
            self.attempt(actor, "room.update", change={"slow_mode_s": 3})
        self.attempt(actor, "chat.send", text="hello")

    @rule(
        actor=st.integers(0, 50),
        message=st.integers(0, 50),
        what=st.sampled_from(["edit", "delete", "react"]),
        on=st.booleans(),
    )
    def touch(self, actor: int, message: int, what: str, on: bool) -> None:
        ids = list(self.house.chat) or ["c_gone"]
        more: dict[str, dict[str, object]] = {
            "edit": {"text": "changed"},
            "delete": {},
            "react": {"emoji": "👍", "on": on},
        }
        self.attempt(actor, f"chat.{what}", message_id=ids[message % len(ids)], **more[what])

    @rule(
        actor=st.integers(0, 50),
        item=st.integers(0, 5),
        what=st.sampled_from(["add", "remove", "move", "play", "pause", "next", "item", "ready"]),
    )
    def watch(self, actor: int, item: int, what: str) -> None:
        queue = self.house.state.queue
        item_id = queue[item % len(queue)].item_id if queue else "q_gone"
        self.house.server(Watch(self.someone(actor)))
        match what:
            case "add":
                self.attempt(actor, "queue.add", item=ITEM, at=item)
            case "remove":
                self.attempt(actor, "queue.remove", item_id=item_id)
            case "move":
                self.attempt(actor, "queue.move", item_id=item_id, to=item)
            case "ready":
                self.attempt(actor, "playback.ready", epoch=self.house.state.playback.epoch)
            case "item":
                self.attempt(actor, "playback.command", action="item", item_id=item_id)
            case _:
                self.attempt(actor, "playback.command", action=what)

    @invariant()
    def there_is_one_host_at_most(self) -> None:
        hosts = [m for m in self.house.state.members.values() if m.role == "host"]
        assert len(hosts) <= 1

    @invariant()
    def nobody_is_there_twice(self) -> None:
        state = self.house.state
        assert not state.members.keys() & state.places.keys()
        connections = [m.connection for m in state.members.values()]
        assert len(set(connections)) == len(connections)

    @invariant()
    def nobody_banned_is_there(self) -> None:
        state = self.house.state
        banned = {s for s, ban in state.bans.items() if ban.until is None}
        assert not [m for m in state.members.values() if m.subject in banned and m.role != "host"]

    @invariant()
    def what_is_played_is_in_the_queue_and_starts_wait_for_members(self) -> None:
        state = self.house.state
        assert state.playback.item_id in {None, *(item.item_id for item in state.queue)}
        if state.playback.waits(self.house.now_s):
            assert set(state.playback.waiting_for) <= set(state.members)


AnyParty.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyParty = AnyParty.TestCase
