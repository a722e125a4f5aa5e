"""Sessions in a scripted room: coming back, saying again, credentials, being sent away."""

import asyncio
import socket

import pytest
from mediaserver_client import Api, Refused, RoomSession, SentAway, SessionClosed, join_room

from tests.unit.client.scripted import problem
from tests.unit.client.scripted_room import ScriptedRoom, running, token_that_lives

ENDS_S = 15.0


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def back(session: RoomSession, times: int = 1) -> None:
    await session.until(lambda: session.reconnects == times, 8)


async def test_who_comes_back_names_its_place_and_hears_what_it_missed_once() -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom()) as room:
        await room.say("long ago")
        async with join_room(room.url, "film", name="Bot") as session:
            await room.say("one")
            await session.until(lambda: len(session.chat_history) == 2, 5)
            room.cut()
            room.sockets.clear()
            await room.say("two")
            await room.say("three")
            await back(session)
            await session.until(lambda: len(session.chat_history) == 4, 5)
            heard = [chat.text async for chat in take(session, 4, history=True)]
            assert heard == ["long ago", "one", "two", "three"]
            heard = [chat.text async for chat in take(session, 3, history=False)]
            assert heard == ["one", "two", "three"]
    assert room.queries[0] == {"ticket": "ticket-1", "room": "film"}
    assert room.queries[1] == {
        "ticket": "ticket-2", "room": "film", "resume": "log:2", "member": "m_bot", "secret": "shh",
    }  # fmt: skip
    assert room.seen[-1]["type"] == "leave"


async def take(session: RoomSession, count: int, *, history: bool):  # type: ignore[no-untyped-def]
    async for chat in session.chats(history=history):
        yield chat
        if (count := count - 1) == 0:
            return


async def test_chat_that_the_connection_swallowed_is_said_again_under_the_same_id() -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(swallow=["chat.send"])) as room:
        async with join_room(room.url, "film") as session:
            said = await session.chat("only once")
            assert said.text == "only once"
            assert session.reconnects == 1
        sent = [message["id"] for message in room.seen if message["type"] == "chat.send"]
        assert len(sent) == 2
        assert len(set(sent)) == 1
        assert len(room.log) == 1


async def test_other_commands_tell_that_nobody_knows_and_are_not_sent_again() -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(swallow=["queue.move"])) as room:
        async with join_room(room.url, "film") as session:
            with pytest.raises(SessionClosed, match="nobody knows whether it was done"):
                await session.move_in_queue("q_1", 0)
            with pytest.raises(Refused) as refused:
                await session.kick("m_2")
            assert refused.value.code == "not_granted"
            await session.move_in_queue("q_1", 0)
        assert [m["type"] for m in room.seen].count("queue.move") == 2


async def test_a_server_that_is_not_there_gives_way_to_the_next_one() -> None:
    async with (
        asyncio.timeout(ENDS_S),
        running(ScriptedRoom()) as room,
        join_room([nobody(), room.url], "film") as session,
    ):
        assert session.api.server == room.url


async def test_a_guest_uses_its_invitation_once() -> None:
    async with (
        asyncio.timeout(ENDS_S),
        running(ScriptedRoom()) as room,
        join_room(room.url, "film", name="Gina", invitation="inv") as session,
    ):
        room.cut()
        await back(session)
    assert room.joins == [
        ({"name": "Gina", "invitation": "inv"}, ""),
        ({"name": "Gina", "invitation": None}, "Bearer guest-token"),
    ]


async def test_credentials_are_renewed_over_the_connection_before_they_expire() -> None:
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return token_that_lives(900, asked)

    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(expires_in_s=1.5)) as room:
        async with join_room(room.url, "film", token=token) as session:
            while not any(message["type"] == "auth" for message in room.seen):
                await asyncio.sleep(0.02)
            assert session.reconnects == 0
        [auth] = [message for message in room.seen if message["type"] == "auth"]
        assert asked == 2
        assert auth["token"].startswith("e30.")


async def test_a_guests_token_is_renewed_as_long_as_its_invitation_is_good() -> None:
    async with (
        asyncio.timeout(ENDS_S),
        running(ScriptedRoom(expires_in_s=1.5)) as room,
        join_room(room.url, "film", invitation="inv") as session,
    ):
        while not any(message["type"] == "auth" for message in room.seen):
            await asyncio.sleep(0.02)
        assert room.renewals == ["Bearer guest-token"]
        [auth] = [message for message in room.seen if message["type"] == "auth"]
        room.refuse_renewals = problem("invitation_revoked", 403)
        await session.authenticate()
        assert room.renewals[1:] == [f"Bearer {auth['token']}"]
        kept = [message["token"] for message in room.seen if message["type"] == "auth"]
        assert kept == [auth["token"]] * 2, "what it has is good for as long as it was"
        assert not session.api.credentials.renewable
        assert session.reconnects == 0


async def test_who_expired_comes_back_with_new_credentials() -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(close_with=[(4401, "old")])) as room:
        async with join_room(room.url, "film", user="ann", password="secret") as session:
            with pytest.raises(SessionClosed):
                await session.rename("Ann")
            await back(session)
        assert len(room.logins) == 1


@pytest.mark.parametrize(
    ("code", "why"),
    [(4401, "expired"), (4403, "sent away"), (4409, "replaced"), (4410, "closed")],
)
async def test_who_is_sent_away_stays_away_and_knows_why(code: int, why: str) -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(close_with=[(code, "so")])) as room:
        async with join_room(room.url, "film") as session:
            with pytest.raises(SessionClosed):
                await session.rename("Ann")
            assert [chat async for chat in session.chats()] == []
            assert isinstance(session.over, SentAway)
            assert (session.over.why, session.over.detail) == (why, "so")
        assert len(room.sockets) == 1


async def test_a_ban_is_told_and_draining_is_waited_out() -> None:
    busy = problem("draining", 503, retryable=True, retry_after_s=0.1)
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom()) as room:
        room.refuse_joins = [problem("banned", 403)]
        with pytest.raises(Refused) as refused:
            async with join_room(room.url, "film"):
                pass
        assert refused.value.code == "banned"
        async with join_room(room.url, "film") as session:
            room.refuse_joins = [busy, busy]
            room.cut()
            await back(session)
            assert not room.refuse_joins


async def test_many_requests_at_once_refresh_once() -> None:
    async with asyncio.timeout(ENDS_S), running(ScriptedRoom(token_lives_s=2.5)) as room:
        async with Api(room.url, user="ann", password="secret") as api:
            await asyncio.gather(*(api.rooms() for _ in range(20)))
            assert (room.logins, room.refreshes) == ([{"name": "ann", "password": "secret"}], [])
            room.token_lives_s = 900
            await asyncio.sleep(2.1)  # a fifth of its life before its end
            await asyncio.gather(*(api.rooms() for _ in range(20)))
            assert room.refreshes == ["refresh-1"]
            await api.refresh()
            assert room.refreshes == ["refresh-1", "refresh-2"]
        assert len(room.logins) == 1
