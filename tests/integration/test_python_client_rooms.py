"""Bots in rooms of real servers: parties, moderation, credentials, and a server that is killed."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from mediaserver_client import (
    Api,
    Follower,
    Grants,
    Refused,
    RoomSession,
    SentAway,
    TimePlayer,
    join_room,
)

from tests.integration.room_servers import Servers, run_servers
from tests.integration.test_python_client import proxy_to
from tests.valkey import run_valkey

ENDS_S = 60.0
ADMIN_KEY = "k" * 32
README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Two open servers that share their rooms."""
    folder = tmp_path_factory.mktemp("rooms")
    with (
        tempfile.TemporaryDirectory() as short,  # the path of a socket has 107 bytes at most
        run_valkey(Path(short)) as valkey,
        run_servers(folder, valkey, 2) as servers,
    ):
        yield servers


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A server that wants credentials."""
    folder = tmp_path_factory.mktemp("guarded")
    with (
        tempfile.TemporaryDirectory() as short,
        run_valkey(Path(short)) as valkey,
        run_servers(folder, valkey, 1, api_key=ADMIN_KEY) as servers,
    ):
        yield servers


async def test_bots_on_two_servers_watch_together(two: Servers) -> None:
    one, other = (server.url for server in two)
    async with (
        asyncio.timeout(ENDS_S),
        join_room(one, "film", name="Host") as host,
        join_room(other, "film", name="Guest") as guest,
    ):
        assert (host.role, guest.role) == ("host", "member")
        await host.until(lambda: len(host.members) == 2, 20)
        async with Follower(host, TimePlayer()) as first, Follower(guest, TimePlayer()) as second:
            async with asyncio.timeout(30):
                while not (first.synchronised and second.synchronised):
                    await asyncio.sleep(0.05)
            item = await host.add_to_queue("http://127.0.0.1/a.mp4", title="A", duration_s=600)
            assert host.queue == (item,)
            await host.play()
            began = host.playback
            assert began is not None
            # whoever was quick may be ready by now
            assert set(began.waiting_for) <= {host.member_id, guest.member_id}
            await guest.until(
                lambda: (
                    guest.playback and guest.playback.playing and not guest.playback.waiting_for
                ),
                20,
            )
            async with asyncio.timeout(40):
                while first.drift_s is None or second.drift_s is None:
                    await asyncio.sleep(0.05)
                while not together(first, second):
                    await asyncio.sleep(0.05)
            await guest.seek(300)
            await host.until(lambda: host.playback and host.playback.position_s == 300, 20)
            async with asyncio.timeout(20):
                while (first.position_s or 0) < 300.2:
                    await asyncio.sleep(0.05)


def together(first: Follower, second: Follower) -> bool:
    """Whether both are where the room is, and thus at the same place."""
    drifts_s = [abs(follower.drift_s or 0.0) for follower in (first, second)]
    return max(drifts_s) < 0.2 and first.position_s == pytest.approx(second.position_s, abs=0.03)


async def test_the_end_of_an_item_brings_the_next_one_once(two: Servers) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(ENDS_S))
        bots = [
            await stack.enter_async_context(join_room(server.url, "short", name=f"Bot{number}"))
            for number, server in enumerate(two)
        ]
        items = [
            await bots[0].add_to_queue(f"http://127.0.0.1/{number}.m3u8", duration_s=length_s)
            for number, length_s in enumerate((2.0, 500.0, 500.0))
        ]
        assert {item.kind for item in items} == {"hls"}
        for bot in bots:
            await stack.enter_async_context(Follower(bot, TimePlayer()))
        await bots[0].play()
        await bots[1].until(
            lambda: bots[1].playback and bots[1].playback.item_id == items[1].item_id, 20
        )
        await asyncio.sleep(1.5)
        for bot in bots:
            assert bot.playback is not None
            assert bot.playback.item_id == items[1].item_id, "the other one's end skipped an item"


async def test_chat_roles_and_moderation(two: Servers) -> None:
    async with (
        asyncio.timeout(ENDS_S),
        join_room(two[0].url, "talk", name="Host") as host,
        join_room(two[1].url, "talk", name="Bob") as bob,
    ):
        said = await bob.chat("hello <b>", mentions=[bob.member("Host")])
        assert said.mentions == (host.member_id,)
        await host.until(lambda: host.chat_history, 20)
        answer = await host.chat("hi", reply_to=said)
        assert answer.reply_to == said.id
        await host.react_to(said, "🎉")
        await bob.edit_chat(said, "hello")
        await bob.until(lambda: bob.chat_history[0].reactions, 20)
        assert bob.chat_history[0].text == "hello"
        assert bob.chat_history[0].reactions == {"🎉": (host.member_id,)}
        with pytest.raises(Refused) as refused:
            await bob.edit_chat(answer, "mine now")
        assert refused.value.code == "not_yours"
        with pytest.raises(Refused) as refused:
            await bob.kick(host.member_id)
        assert refused.value.code == "not_granted"

        await bob.set_caption_language("es")
        await host.until(lambda: host.member("Bob").caption_language == "es", 20)
        waiting = asyncio.ensure_future(anext(bob.reactions()))
        await asyncio.sleep(0)
        await host.react("👏")
        assert (await waiting).emoji == "👏"

        await host.mute(bob.member_id, chat=True)
        await bob.until(lambda: not bob.grants.can_chat, 20)
        with pytest.raises(Refused) as refused:
            await bob.chat("muted?")
        assert refused.value.code == "muted"
        await host.mute(bob.member_id, chat=False)
        await host.change_settings(slow_mode_s=60, everyone_controls=False)
        await bob.until(lambda: bob.settings and bob.settings.slow_mode_s == 60, 20)
        await bob.until(lambda: bob.grants.can_chat and not bob.grants.can_control, 20)
        await bob.chat("first")
        with pytest.raises(Refused) as refused:
            await bob.chat("second")
        assert refused.value.code == "slow_mode"
        assert (refused.value.problem.retry_after_s or 0) > 50
        await host.set_role(bob.member_id, "cohost")
        await bob.until(lambda: bob.role == "cohost" and bob.grants.can_control, 20)
        await host.kick(bob.member_id, "enough")
        await asyncio.wait_for(drain(bob), 30)
        assert isinstance(bob.over, SentAway)
        assert (bob.over.why, bob.state.left) == ("sent away", "kicked")
        await host.close_room()


async def drain(room: RoomSession) -> None:
    async for _ in room.chats():
        pass


async def test_a_killed_server_costs_nothing(tmp_path: Path) -> None:
    """The bot comes back on the other server, with all that was said, in order, once."""
    with (
        tempfile.TemporaryDirectory() as short,
        run_valkey(Path(short)) as valkey,
        run_servers(tmp_path, valkey, 2) as servers,
    ):
        urls = [server.url for server in servers]
        async with (
            asyncio.timeout(ENDS_S),
            join_room(urls, "wake", name="Mover", reconnect_s=30) as mover,
            join_room(urls[1], "wake", name="Stayer") as stayer,
        ):
            me = mover.member_id
            item = await mover.add_to_queue("http://127.0.0.1/a.mp4", duration_s=600)
            await mover.play()
            heard: list[str] = []
            events: list[int] = []
            mover.listen(lambda message: note(message, events))

            async def listen() -> None:
                async for chat in mover.chats():
                    heard.append(chat.text)

            listening = asyncio.create_task(listen())
            told = [f"before {number}" for number in range(10)]
            for text in told:
                await stayer.chat(text)
            talking = asyncio.create_task(talk(stayer, "meanwhile", 40))
            own = asyncio.create_task(talk(mover, "own", 40))
            await asyncio.sleep(0.5)
            servers[0].process.kill()
            killed_s = time.monotonic()
            await mover.until(lambda: mover.reconnects == 1, 20)
            assert time.monotonic() - killed_s < 10
            told += await talking
            mine = await own
            last = await stayer.chat("the end")
            for session in (mover, stayer):
                await session.until(partial(said, session, last.id), 30)
            async with asyncio.timeout(30):
                while "the end" not in heard:
                    await asyncio.sleep(0.02)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            assert mover.member_id == me
            assert [t for t in heard if t.startswith(("before", "meanwhile"))] == told
            assert [t for t in heard if t.startswith("own")] == mine, "said again, heard once"
            assert events == sorted(set(events)), "an event came twice, or out of order"
            assert [c.text for c in stayer.chat_history if c.member_id == me] == mine
            assert mover.playback is not None
            assert (mover.playback.item_id, mover.playback.playing) == (item.item_id, True)
            assert {m.name for m in mover.members} == {"Mover", "Stayer"}


def said(session: RoomSession, message_id: str) -> bool:
    return message_id in session.state.chat


def note(message: object, events: list[int]) -> None:
    seq = getattr(message, "seq", None)
    if seq is not None and getattr(message, "TYPE", "") not in ("ack", "room.resumed"):
        events.append(seq)


async def talk(room: RoomSession, what: str, times: int) -> list[str]:
    texts = [f"{what} {number}" for number in range(times)]
    for text in texts:
        await room.chat(text)
        await asyncio.sleep(0.03)
    return texts


async def test_private_rooms_want_an_invitation(guarded: Servers) -> None:
    url = guarded[0].url
    async with asyncio.timeout(ENDS_S), Api(url, api_key=ADMIN_KEY) as api:
        made = await api.create_room("secret", title="Secret", visibility="private")
        assert (made.room, made.settings.visibility) == ("secret", "private")
        assert "secret" in [room.room for room in await api.rooms()]
        with pytest.raises(Refused) as refused:
            async with join_room(url, "secret", name="Nobody"):
                pass
        assert refused.value.problem.status == 401
        once = await api.invite("secret", role="listener", max_uses=1)
        assert once.url is not None
        assert once.url.startswith(f"{url}/#room=secret&invitation=")
        async with (
            proxy_to(url) as proxy,
            join_room(proxy.url, "secret", name="Gina", invitation=once.token) as gina,
        ):
            assert (gina.role, gina.grants.can_chat) == ("listener", False)
            # Coming back needs no second use: the guest has a token of its own.
            me = gina.member_id
            proxy.cut()
            await gina.until(lambda: gina.reconnects == 1, 30)
            assert gina.member_id == me
            assert [member.name for member in await api.members("secret")] == ["Gina"]
            with pytest.raises(Refused) as refused:
                await gina.chat("may I?")
            assert refused.value.code == "not_granted"
        with pytest.raises(Refused) as refused:
            async with join_room(url, "secret", name="Hank", invitation=once.token):
                pass
        assert refused.value.code == "invitation_used_up"
        more = await api.invite("secret")
        assert more.id in [invitation.id for invitation in await api.invitations("secret")]
        await api.revoke_invitation("secret", more.id)
        changed = await api.change_room("secret", title="Still secret", slow_mode_s=5)
        assert (changed.settings.title, changed.settings.slow_mode_s) == ("Still secret", 5)
        await api.close_room("secret")
        with pytest.raises(Refused) as refused:
            await api.room("secret")
        assert refused.value.problem.status in (404, 410)


async def test_a_server_lets_its_own_users_in(guarded: Servers) -> None:
    url = guarded[0].url
    async with asyncio.timeout(ENDS_S), Api(url, api_key=ADMIN_KEY) as api:
        await api.create_room("class")
        grants = Grants(room_join=True, can_subscribe=True, can_chat=True)
        asked = 0

        async def token() -> str:
            nonlocal asked
            asked += 1
            made = await api.make_room_token(
                "class", "user-7", grants=grants, name="Zoe", expires_in_s=60
            )
            return made.token

        async with join_room(url, "class", token=token, name="") as zoe:
            assert zoe.member(zoe.member_id).name == "Zoe"
            assert zoe.grants.can_chat
            assert not zoe.grants.can_control
            await zoe.chat("1")
            page = await api.chat_history("class", limit=1)
            assert ([chat.text for chat in page.messages], page.more) == (["1"], False)
            before = asked
            await zoe.authenticate()
            assert asked == before + 1
            await zoe.chat("2")
            assert zoe.reconnects == 0


async def test_an_account_logs_in_refreshes_and_logs_out(guarded: Servers) -> None:
    url = guarded[0].url
    command = [sys.executable, "-m", "mediaserver", "users", "add", "ann", "--role", "host"]
    environment = {
        **os.environ,
        "MEDIASERVER_DATA_DIR": str(guarded[0].data_dir),
        "MEDIASERVER_DATABASE_URL": (
            f"sqlite+aiosqlite:///{guarded[0].data_dir.parent.parent}/shared.db"
        ),
    }
    made = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    first_password = made.stdout.strip()
    password = "correct horse battery"
    async with asyncio.timeout(ENDS_S):
        async with Api(url) as api:
            assert (await api.login("ann", first_password)).must_change_password
            await api.change_password(first_password, password)
        async with Api(url, user="ann", password=password) as api:
            assert (await api.me()).name == "ann"
            first = api.credentials.tokens
            second = await api.refresh()
            assert first is not None
            assert second.refresh_token != first.refresh_token
            room = await api.create_room()
            assert (await api.room(room.room)).members == 0
            async with join_room(
                url, room.room, name="Ann", user="ann", password=password
            ) as session:
                assert session.role == "host"
                assert session.welcome.expires_at is not None
                await session.authenticate()
                await session.chat("still here")
            await api.logout()
            with pytest.raises(Refused):
                await api._refresh(second.refresh_token or "")


async def test_the_readmes_bot_hosts_a_party(two: Servers, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [source] = [block for block in blocks if "create_room" in block]
    assert "http://127.0.0.1:8080" in source
    script = tmp_path / "party.py"
    script.write_text(source.replace("http://127.0.0.1:8080", two[0].url))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "http://127.0.0.1/a.mp4", "http://127.0.0.1/b.m3u8",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ENDS_S):
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            found = re.search(r"#room=(\S+)&invitation=(\S+)", line)
            assert found, (line, await process.stderr.read() if process.stderr else b"")
            room, invitation = found.groups()
            await guests_of_the_party(two, room, invitation)
            _, err = await process.communicate()
            assert (process.returncode, err.decode()) == (0, "")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def guests_of_the_party(two: Servers, room: str, invitation: str) -> None:
    """Two come by the link, on two servers, and talk to the bot."""
    async with (
        join_room(two[0].url, room, name="Ann", invitation=invitation) as ann,
        join_room(two[1].url, room, name="Bob", invitation=invitation) as bob,
    ):
        await ann.until(lambda: len(ann.queue) == 2, 30)
        async with Follower(ann, TimePlayer()), Follower(bob, TimePlayer()) as follower:
            await bob.until(lambda: bob.playback and bob.playback.playing, 30)
            await bob.until(lambda: bob.playback and not bob.playback.waiting_for, 30)
            while (follower.position_s or 0) < 1:
                await asyncio.sleep(0.05)
            asked = await bob.chat("!where")
            await ann.until(lambda: any(c.reply_to == asked.id for c in ann.chat_history), 20)
            said = ann.chat_history[-1]
            assert re.fullmatch(r"at [0-9]+ s", said.text)
            assert said.name == "Host bot"
            await ann.chat("!next")
            await bob.until(
                lambda: bob.playback and bob.playback.item_id == bob.queue[1].item_id, 5
            )
            await ann.chat("!end")
            await asyncio.wait_for(asyncio.gather(drain(ann), drain(bob)), 30)
            assert isinstance(ann.over, SentAway)
            assert ann.over.why == "closed"


async def test_whoever_makes_a_private_room_on_an_open_server_gets_in(two: Servers) -> None:
    async with asyncio.timeout(ENDS_S), Api(two[0].url) as api:
        made = await api.create_room(visibility="private")
        async with join_room(two[1].url, made.room, name="Maker") as maker:
            assert maker.role == "host"
