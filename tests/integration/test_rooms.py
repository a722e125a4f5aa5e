"""Rooms over two real server processes and one real valkey-server: no difference is seen."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from mediaserver.rooms.playback import READY_TIMEOUT_S
from tests.integration.room_client import Json, RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer
from tests.valkey import ValkeyProcess


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("rooms"), valkey_server, 2) as servers:
        yield servers


async def all_see(members: Sequence[RoomMember], type_: str, **fields: object) -> None:
    """Wait until everybody was told of something."""
    for member in members:
        await member.wait_for(type_, lambda m: fields.items() <= m.items())


# ---- presence and roles


async def test_members_of_both_instances_see_each_other(servers: Servers) -> None:
    async with party(servers, "meet", "Ann", "Bob") as (ann, bob):
        joined = await ann.wait_for("member.joined", lambda m: m["member"]["name"] == "Bob")
        assert joined["member"]["member_id"] == bob.id
        snapshot = await bob.wait_for("room.snapshot")
        assert {m["name"]: m["role"] for m in snapshot["members"]} == {
            "Ann": "host",
            "Bob": "member",
        }
        assert ann.welcomes[0]["role"] == "host"
        assert bob.welcomes[0]["grants"]["can_chat"]
        assert not bob.welcomes[0]["grants"]["can_moderate"]
        bob.reconnects = False
        await bob.send("leave")
        left = await ann.wait_for("member.left")
        assert (left["member_id"], left["reason"]) == (bob.id, "left")


async def test_who_comes_back_has_its_place_and_gets_what_it_missed_once(
    servers: Servers,
) -> None:
    async with party(servers, "resume", "Ann", "Bob") as (ann, bob):
        await ann.do("chat.send", text="one")
        await bob.wait_for("chat")
        await ann.drop()
        await bob.do("chat.send", text="two")
        await bob.do("member.update", name="Robert")
        await ann.wait(lambda: len(ann.welcomes) == 2)
        await ann.wait_for("chat", lambda m: m["text"] == "two")
        assert ann.welcomes[1]["member_id"] == ann.welcomes[0]["member_id"]
        assert ann.welcomes[1]["role"] == "host"
        assert ann.told("room.resumed")
        await bob.do("chat.send", text="three")
        for member in (ann, bob):
            await member.wait_for("chat", lambda m: m["text"] == "three")
            assert member.texts == ["one", "two", "three"]
        assert len(ann.told("room.snapshot")) == 1
        updates = [m["member"]["name"] for m in ann.told("member.updated")]
        assert updates == ["Robert"]


async def test_coming_back_on_the_other_instance_takes_the_place_over(servers: Servers) -> None:
    async with party(servers, "over", "Ann", "Bob") as (ann, bob):
        twin = RoomMember(reversed_of(ann.servers), "over", "Ann")
        twin.welcomes, twin.log_id, twin._seq = list(ann.welcomes), ann.log_id, ann._seq
        ann.reconnects = False
        await twin.start(ann._session)
        await twin.wait(lambda: len(twin.welcomes) == 2)
        assert twin.id == ann.id
        await ann.wait(lambda: ann.close_codes == [4409])
        await bob.do("chat.send", text="who is there?")
        await twin.wait_for("chat")
        assert bob.told("member.left") == [], "no zombie, and nobody went"
        await twin.stop()


def reversed_of(servers: list[LiveServer]) -> list[LiveServer]:
    return list(reversed(servers))


async def test_nobody_takes_anothers_place(servers: Servers) -> None:
    async with party(servers, "thief", "Ann") as (ann,):
        thief = RoomMember(servers, "thief", "Ann")
        thief.welcomes = [ann.welcomes[0] | {"resume_secret": "guessed"}]
        thief.log_id, thief._seq = ann.log_id, 0
        await thief.start(ann._session)
        await thief.wait(lambda: len(thief.welcomes) == 2)
        assert thief.id != ann.id
        assert ann.close_codes == []
        await thief.stop()


async def test_a_new_host_is_found_when_the_host_stays_away(servers: Servers) -> None:
    async with party(servers, "heirs", "Ann", "Bob", "Cy") as (ann, bob, cy):
        await ann.do("member.role", member_id=cy.id, role="cohost")
        await ann.stop()
        await bob.wait_for("member.left")
        updated = await bob.wait_for(
            "member.updated", lambda m: m["member"]["role"] == "host", timeout_s=30.0
        )
        assert updated["member"]["member_id"] == cy.id, "the co-host, not who was there longest"
        granted = await cy.wait_for("grants", lambda m: m["role"] == "host")
        assert granted["grants"]["room_admin"]


async def test_the_room_is_handed_over(servers: Servers) -> None:
    async with party(servers, "handover", "Ann", "Bob") as (ann, bob):
        assert await bob.refused("member.role", member_id=bob.id, role="host") == "not_granted"
        await ann.do("member.role", member_id=bob.id, role="host")
        await bob.wait_for("grants", lambda m: m["grants"]["room_admin"])
        await ann.wait_for("grants", lambda m: not m["grants"]["room_admin"])
        await bob.do("member.role", member_id=ann.id, role="listener")
        await ann.wait_for("grants", lambda m: m["role"] == "listener")
        assert await ann.refused("chat.send", text="hm") == "not_granted"


async def test_each_instance_counts_its_own_rooms_and_members(servers: Servers) -> None:
    async with party(servers, "counted", "Ann", "Bob", "Cy"):
        for server, count in zip(servers, (2, 1), strict=True):
            wanted = {"mediaserver_rooms 1.0", f"mediaserver_room_members {count}.0"}
            async with asyncio.timeout(30.0):  # rooms of other tests are let go of by and by
                while not wanted <= set(
                    (await asyncio.to_thread(server.get, "/metrics"))[1].split("\n")
                ):
                    await asyncio.sleep(0.2)


# ---- chat


async def test_chat_has_replies_mentions_reactions_edits_and_deletes(servers: Servers) -> None:
    async with party(servers, "chat", "Ann", "Bob") as both:
        ann, bob = both
        await ann.do("chat.send", text="<i>hi</i>", mentions=[bob.id, "m_nobody"])
        first = await bob.wait_for("chat")
        assert first["text"] == "<i>hi</i>"
        assert first["mentions"] == [bob.id]
        await bob.do("chat.send", text="yes?", reply_to=first["id"])
        reply = await ann.wait_for("chat", lambda m: m["text"] == "yes?")
        assert reply["reply_to"] == first["id"]
        await asyncio.gather(
            ann.do("chat.react", message_id=reply["id"], emoji="👍"),
            bob.do("chat.react", message_id=reply["id"], emoji="👍"),
        )
        told = await ann.wait_for("chat.reacted", lambda m: len(m["reactions"]["👍"]) == 2)
        assert set(told["reactions"]["👍"]) == {ann.id, bob.id}
        assert await ann.refused("chat.edit", message_id=reply["id"], text="no") == "not_yours"
        await bob.do("chat.edit", message_id=reply["id"], text="yes!")
        await all_see(both, "chat.edited", text="yes!")
        assert await bob.refused("chat.delete", message_id=first["id"]) == "not_yours"
        await ann.do("chat.delete", message_id=reply["id"])
        await all_see(both, "chat.deleted", message_id=reply["id"], by=ann.id)
        assert await bob.refused("chat.edit", message_id=reply["id"], text="?") == "no_message"
        async with party(reversed_of(list(servers)), "chat", "Late") as (late,):
            await late.wait_for("chat")
            assert late.texts == ["<i>hi</i>"]


async def test_typing_and_floating_reactions_reach_the_others(servers: Servers) -> None:
    async with party(servers, "moment", "Ann", "Bob", "Cy") as (ann, bob, cy):
        await ann.send("typing")
        await all_see((bob, cy), "member.typing", member_id=ann.id, typing=True)
        await bob.send("react", emoji="🎉")
        await all_see((ann, bob, cy), "reaction", member_id=bob.id, emoji="🎉")
        assert ann.told("member.typing") == []


async def test_a_message_sent_again_is_not_doubled(servers: Servers) -> None:
    async with party(servers, "again", "Ann", "Bob") as (ann, bob):
        first = await ann.do("chat.send", text="once", id="my-1")
        await ann.drop()
        await ann.wait(lambda: len(ann.welcomes) == 2)
        await ann.send("chat.send", text="once", id="my-1")
        await ann.wait(lambda: len([m for m in ann.told("ack") if m["id"] == "my-1"]) == 2)
        assert [m["seq"] for m in ann.told("ack")] == [first["seq"]] * 2
        await bob.do("chat.send", text="end")
        await bob.wait_for("chat", lambda m: m["text"] == "end")
        assert bob.texts == ["once", "end"]


async def test_older_messages_are_had_by_http(servers: Servers) -> None:
    async with party(servers, "pages", "Ann") as (ann,):
        for number in range(120):
            await ann.do("chat.send", text=str(number))
            if number % 20 == 0:
                await asyncio.sleep(0.5)  # 30 a second
        get = servers.json
        newest = await asyncio.to_thread(get, 1, "/api/v1/rooms/pages/chat")
        assert [m["text"] for m in newest["messages"]] == [str(n) for n in range(70, 120)]
        assert newest["more"]
        before = newest["messages"][0]["id"]
        path = f"/api/v1/rooms/pages/chat?before={before}&limit=100"
        older = await asyncio.to_thread(get, 1, path)
        assert [m["text"] for m in older["messages"]] == [str(n) for n in range(70)]
        assert not older["more"]


# ---- moderation


async def test_slow_mode_holds_members_but_not_hosts(servers: Servers) -> None:
    async with party(servers, "slow", "Ann", "Bob") as (ann, bob):
        await ann.do("room.update", change={"slow_mode_s": 4})
        await bob.wait_for("room.updated", lambda m: m["settings"]["slow_mode_s"] == 4)
        await bob.do("chat.send", text="one")
        refused = await bob.ask("chat.send", text="two")
        assert refused["problem"]["code"] == "slow_mode"
        wait_s = refused["problem"]["retry_after_s"]
        assert 0 < wait_s <= 4
        await ann.do("chat.send", text="three")
        await ann.do("chat.send", text="four")
        await asyncio.sleep(wait_s + 0.1)
        await bob.do("chat.send", text="five")


async def test_mute_kick_and_close(servers: Servers) -> None:
    async with party(servers, "order", "Ann", "Bob", "Cy") as (ann, bob, cy):
        assert await bob.refused("member.mute", member_id=cy.id, chat=True) == "not_granted"
        await ann.do("member.mute", member_id=bob.id, chat=True)
        await bob.wait_for("grants", lambda m: not m["grants"]["can_chat"])
        assert await bob.refused("chat.send", text="but") == "muted"
        cy.reconnects = False
        await ann.do("member.kick", member_id=cy.id)
        await cy.wait(lambda: cy.close_codes == [4403])
        left = await bob.wait_for("member.left")
        assert (left["member_id"], left["reason"]) == (cy.id, "kicked")
        ann.reconnects = bob.reconnects = False
        await ann.do("room.close")
        await bob.wait(lambda: bob.close_codes == [4410])
        await ann.wait(lambda: ann.close_codes == [4410])
        assert bob.told("room.closed")


# ---- playback


async def test_a_video_that_the_servers_do_not_have_is_refused(servers: Servers) -> None:
    async with party(servers, "vod", "Ann") as (ann,):
        answer = await ann.ask("queue.add", item={"kind": "vod", "video_id": "v_1"})
        assert answer["type"] == "error"
        problem = answer["problem"]
        assert (problem["code"], problem["status"]) == ("no_video", 404)
        assert "v_1" in problem["detail"]
        assert not ann.told("queue")


async def test_playback_is_one_for_all(servers: Servers) -> None:
    async with party(servers, "watch", "Ann", "Bob") as both:
        ann, bob = both
        for member in both:
            await member.send("clock.ping", t0=1.0)
            pong = await member.wait_for("clock.pong")
            assert pong["t1"] <= pong["t2"]
        item = {"kind": "mp4", "url": "https://example.org/film.mp4", "duration_s": 60}
        await ann.do("queue.add", item=item)
        await ann.do("queue.add", item={**item, "title": "Second"})
        queue = await bob.wait_for("queue", lambda m: len(m["items"]) == 2)
        second = queue["items"][1]["item_id"]
        await bob.do("playback.command", action="play", position_s=5)
        playing = await ann.wait_for("playback", lambda m: m["state"]["playing"])
        assert playing["by"] == bob.id
        assert playing["state"]["position_s"] == 5
        await ann.do("playback.command", action="item", item_id=second)
        waiting = await bob.wait_for("playback", lambda m: m["state"]["item_id"] == second)
        assert set(waiting["state"]["waiting_for"]) == {ann.id, bob.id}
        epoch = waiting["state"]["epoch"]
        for member in both:
            await member.send("playback.ready", epoch=epoch)
        await ann.wait_for(
            "playback",
            lambda m: m["state"]["epoch"] == epoch and not m["state"]["waiting_for"],
            timeout_s=READY_TIMEOUT_S - 1.0,
        )
        stale = {"epoch": epoch - 1, "seq": 0}
        assert await bob.refused("playback.command", action="pause", base=stale) == "stale"
        await ann.do("room.update", change={"everyone_controls": False})
        await bob.wait_for("grants", lambda m: not m["grants"]["can_control"])
        assert await bob.refused("playback.command", action="pause") == "not_granted"
        await ann.do("playback.command", action="pause")
        await bob.wait_for("playback", lambda m: not m["state"]["playing"] and m["by"] == ann.id)


async def test_a_barrier_ends_without_those_who_are_not_ready(servers: Servers) -> None:
    async with party(servers, "barrier", "Ann", "Bob") as (ann, bob):
        for member in (ann, bob):
            await member.send("clock.ping", t0=0.0)
            await member.wait_for("clock.pong")
            await member.do("chat.send", text="ready")  # written after that it is waited for
        item = {"kind": "mp4", "url": "https://example.org/film.mp4"}
        await ann.do("queue.add", item=item)
        (queue,) = [await ann.wait_for("queue")]
        await ann.do("playback.command", action="item", item_id=queue["items"][0]["item_id"])
        state = (await ann.wait_for("playback", lambda m: m["state"]["waiting_for"]))["state"]
        await ann.send("playback.ready", epoch=state["epoch"])
        over = await bob.wait_for(
            "playback",
            lambda m: m["state"]["epoch"] == state["epoch"] and m["state"]["wait_until_s"] is None,
            timeout_s=READY_TIMEOUT_S + 20.0,
        )
        assert over["state"]["playing"]
        late_s = over["state"]["anchor_s"] - state["anchor_s"]
        assert 0 <= late_s < 2.0, "who was ready was told when it starts at the latest"


async def test_of_commands_on_both_instances_at_once_one_wins(servers: Servers) -> None:
    async with party(servers, "race", "Ann", "Bob") as both:
        ann, bob = both
        item = {"kind": "mp4", "url": "https://example.org/film.mp4"}
        await ann.do("queue.add", item=item)
        await ann.wait_for("playback")
        for position_s in range(1, 21):
            state = max((m["state"] for m in ann.told("playback")), key=lambda s: s["seq"])
            await bob.wait_for("playback", partial(at_seq, state["seq"]))
            base = {"epoch": state["epoch"], "seq": state["seq"]}
            answers = await asyncio.gather(
                *(
                    member.ask("playback.command", action="seek", position_s=position_s, base=base)
                    for member in both
                )
            )
            assert sorted(a["type"] for a in answers) == ["ack", "error"]
            await ann.wait_for("playback", partial(at_seq, state["seq"] + 1))
        seqs = [m["seq"] for m in ann.told("playback")]
        await bob.wait(lambda: [m["seq"] for m in bob.told("playback")] == seqs)


def at_seq(seq: int, message: Json) -> bool:
    return bool(message["state"]["seq"] == seq)


async def test_fifty_come_to_both_instances_at_once(servers: Servers) -> None:
    async with party(servers, "crowd", "Ann") as (ann,):
        crowd = [RoomMember(turned(servers, n), "crowd", f"m{n}") for n in range(50)]
        await asyncio.gather(*(member.start(ann._session) for member in crowd))
        await ann.wait(lambda: len(ann.told("member.joined")) == 50, timeout_s=30.0)
        ids = [m["member"]["member_id"] for m in ann.told("member.joined")]
        assert sorted(ids) == sorted(member.id for member in crowd)
        roles = {member.welcomes[0]["role"] for member in crowd}
        assert roles == {"member"}
        await asyncio.gather(*(member.stop() for member in crowd))
        await ann.wait(lambda: len(ann.told("member.left")) == 50, timeout_s=30.0)


def turned(servers: Servers, number: int) -> list[LiveServer]:
    listed = list(servers)
    return listed[number % 2 :] + listed[: number % 2]
