"""Sessions against a scripted server over real sockets."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from mediaserver_client import (
    AnswerTimeout,
    AudioError,
    ClientError,
    ProtocolError,
    Refused,
    ServerUnreachable,
    Session,
    SessionClosed,
    SessionLost,
    connect,
)
from mediaserver_client.connection import endpoint

from tests.ports import free_port
from tests.unit.client.scripted import RATE_HZ, ScriptedServer, pcm_of, problem, running, speech

TEXT = "So we beat on, boats against the current. Borne back ceaselessly into the past."
WORDS = speech(TEXT)
PCM = pcm_of(WORDS)
AUDIO_S = len(PCM) / 2 / RATE_HZ


async def live(pcm: bytes, pace_s: float = 0.01) -> AsyncIterator[bytes]:
    """Audio from somewhere else: a tenth of a second every `pace_s`."""
    for at in range(0, len(pcm), 3200):
        await asyncio.sleep(pace_s)
        yield pcm[at : at + 3200]


async def said_by(session: Session) -> list[str]:
    return [caption.text async for caption in session.captions(finals_only=True)]


SENTENCES = [part.strip() + "." for part in TEXT.split(".")[:-1]]


async def test_published_audio_comes_back_as_captions() -> None:
    async with running(ScriptedServer(WORDS)) as server:  # noqa: SIM117
        async with connect(server.url, name="Nick", api_key="k" * 16) as session:
            publication = await session.publish(PCM, realtime=False, language="en")
            assert await said_by(session) == SENTENCES
            assert publication.done
            assert publication.stats.sent_s == pytest.approx(AUDIO_S)
            assert publication.stats.connections == 1
            assert session.transcript("text") == "".join(f"{s}\n" for s in SENTENCES)
            assert session.transcript("vtt").startswith("WEBVTT\n\n00:00:00.500 -->")
            assert publication.transcript("srt").startswith("1\n00:00:00,500 -->")
    assert server.headers[0]["Authorization"] == "Bearer " + "k" * 16
    assert server.queries[0]["name"] == "Nick"
    start = next(message for message in server.seen if message["type"] == "audio.start")
    assert start["options"]["language"] == "en"
    assert server.received_s == [pytest.approx(AUDIO_S)]
    assert [m["type"] for m in server.seen if m["type"] != "ping"][-1] == "leave"
    assert server.close_code == 1000


async def test_captions_show_partials_that_grow_into_finals() -> None:
    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        publication = await session.publish(live(PCM))
        shown: dict[str, list[Any]] = {}
        async for caption in publication.captions():
            shown.setdefault(caption.caption_id, []).append(caption)
    assert [states[-1].text for states in shown.values()] == SENTENCES
    for states in shown.values():
        assert len(states) > 3, "partials came"
        assert [caption.final for caption in states] == [False] * (len(states) - 1) + [True]
        assert states[1].tentative_text


async def test_files_are_sent_at_the_speed_of_speech() -> None:
    short = PCM[: RATE_HZ * 2 * 2]
    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        began = time.monotonic()
        await (await session.publish(short)).wait()
        assert 1.5 < time.monotonic() - began < 4.0
        began = time.monotonic()
        await (await session.publish(short, realtime=False)).wait()
        assert time.monotonic() - began < 1.5, "quicker than it is spoken"


async def test_a_session_without_a_room_has_one_that_nobody_guesses() -> None:
    async with running(ScriptedServer()) as server:
        async with connect(server.url) as one, connect(server.url) as other:
            assert one.room != other.room
        async with connect(server.url, room="kitchen") as third:
            assert third.room == "kitchen"
    rooms = [query["room"] for query in server.queries]
    assert all(len(room) > 24 for room in rooms[:2])


# ---- broken connections ------------------------------------------------------------------------


@pytest.mark.parametrize("drops", [[1.4], [3.1], [0.2], [1.4, 2.0, 0.9]])
async def test_a_broken_connection_loses_no_word_and_repeats_none(drops: list[float]) -> None:
    server = ScriptedServer(WORDS, drop_at_s=list(drops))
    async with running(server), connect(server.url) as session:
        publication = await session.publish(live(PCM, 0.02))
        async with asyncio.timeout(60):
            assert await said_by(session) == SENTENCES
        assert publication.stats.connections == 1 + len(drops)
        assert publication.stats.lost_s == 0
        assert session.reconnects == len(drops)
        ids = {caption.track_id async for caption in publication.captions()}
        assert ids == {publication.track_id}
    assert len({query["room"] for query in server.queries}) == 1, "it came back to the same room"


async def test_a_connection_that_breaks_while_the_last_finals_are_awaited() -> None:
    async def lose_the_end(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        if message["type"] == "audio.stop" and server.connections == 1:
            assert ws._req is not None
            assert ws._req.transport is not None
            ws._req.transport.abort()
            return True
        return False

    server = ScriptedServer(WORDS, on_message=lose_the_end)
    async with running(server), connect(server.url) as session:
        await session.publish(PCM, realtime=False)
        async with asyncio.timeout(60):
            assert await said_by(session) == SENTENCES
    assert server.connections == 2


async def test_a_server_that_falls_silent_is_noticed_and_left() -> None:
    server = ScriptedServer(WORDS, silent_connections=1, ping_interval_s=0.4)
    async with running(server), connect(server.url) as session:
        async with asyncio.timeout(40):
            await session.publish(live(PCM))
            assert await said_by(session) == SENTENCES
    assert server.connections == 2


@pytest.mark.parametrize("closes", [True, False])
async def test_a_track_that_the_server_ends_goes_on_in_another(closes: bool) -> None:
    """A server that stops ends all tracks, with their finals, and then closes."""
    stopped = False

    async def stop(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        nonlocal stopped
        if message["type"] == "ping" and server.received_s and not stopped:
            stopped = True
            track_id = f"t_{server.connections}_1"
            ended = {"type": "track.ended", "track_id": track_id, "reason": "ended"}
            await ws.send_json(ended)
            if closes:
                await ws.close(code=1001)
        return stopped and message["type"] == "ping" and closes

    server = ScriptedServer(WORDS, on_message=stop, ping_interval_s=0.5)
    async with running(server), connect(server.url) as session:
        publication = await session.publish(live(PCM, 0.05))
        async with asyncio.timeout(60):
            assert await said_by(session) == SENTENCES
        assert stopped
        assert publication.stats.connections == 2
    assert server.connections == (2 if closes else 1)


async def test_when_the_server_does_not_come_back_the_session_is_lost() -> None:
    server = ScriptedServer(WORDS)
    with pytest.raises(SessionLost, match="did not come back in 1 s"):  # noqa: PT012
        async with running(server), connect(server.url, reconnect_s=1.0) as session:
            publication = await session.publish(live(PCM, 0.1))
            server.refuse = [problem("draining", 503, retryable=True)] * 100
            server.drop_at_s = [0.0]
            async with asyncio.timeout(40):
                await publication.wait()


async def test_a_refusal_that_is_final_ends_the_session_at_once() -> None:
    server = ScriptedServer(WORDS, drop_at_s=[0.5], refuse=[])
    async with running(server):
        with pytest.raises(Refused) as caught:  # noqa: PT012
            async with connect(server.url) as session:
                await session.publish(live(PCM))
                server.refuse = [problem("wrong_key", 401)]
                async with asyncio.timeout(20):
                    await said_by(session)
        assert caught.value.code == "wrong_key"


async def test_the_server_may_say_when_to_come_back() -> None:
    server = ScriptedServer(WORDS, drop_at_s=[1.0])
    async with running(server), connect(server.url) as session:
        publication = await session.publish(live(PCM, 0.02))
        server.refuse = [problem("overloaded", 503, retryable=True, retry_after_s=1.5)]
        began = time.monotonic()
        await publication.wait()
        assert time.monotonic() - began > 1.5
        assert publication.transcript() == "".join(f"{s}\n" for s in SENTENCES)


async def test_a_track_that_is_refused_after_a_break_is_tried_again() -> None:
    server = ScriptedServer(WORDS, drop_at_s=[1.0])
    async with running(server), connect(server.url) as session:
        publication = await session.publish(live(PCM, 0.02))
        server.refuse_audio = [problem("overloaded", 503, retryable=True)] * 2
        await publication.wait()
        assert publication.transcript() == "".join(f"{s}\n" for s in SENTENCES)


# ---- control -----------------------------------------------------------------------------------


async def test_finalize_gives_finals_of_all_that_was_read() -> None:
    half = PCM[: 2 * round(1.6 * RATE_HZ)]
    more = asyncio.Event()

    async def speaker() -> AsyncIterator[bytes]:
        yield half
        await more.wait()

    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        publication = await session.publish(speaker())
        while publication.stats.read_s < 1.5:
            await asyncio.sleep(0.01)
        await session.finalize()
        assert publication.transcript() == "So we beat on,\n"
        more.set()
        await publication.wait()


async def test_finalize_is_repeated_after_a_broken_connection() -> None:
    async def break_at_finalize(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        if message["type"] == "finalize" and server.connections == 1:
            assert ws._req is not None
            assert ws._req.transport is not None
            ws._req.transport.abort()
            return True
        return False

    async def speaker() -> AsyncIterator[bytes]:
        yield PCM[: 2 * round(1.6 * RATE_HZ)]
        await asyncio.sleep(60)

    server = ScriptedServer(WORDS, on_message=break_at_finalize)
    async with running(server), connect(server.url) as session:
        publication = await session.publish(speaker())
        while publication.stats.sent_s < 1.5:
            await asyncio.sleep(0.01)
        await session.finalize()
        assert publication.transcript() == "So we beat on,\n"
        assert server.connections == 2
        await publication.stop()


async def test_stop_ends_a_live_source_with_its_pending_finals() -> None:
    closed = False

    async def microphone() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            async for pcm in live(PCM, 0.01):
                yield pcm
            while True:
                await asyncio.sleep(1)
        finally:
            closed = True

    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        publication = await session.publish(microphone())
        while publication.stats.sent_s < 1.6:
            await asyncio.sleep(0.01)
        await publication.stop()
        assert publication.transcript().startswith("So we beat on,")
        assert closed


async def test_leaving_the_block_delivers_pending_finals() -> None:
    async def microphone() -> AsyncIterator[bytes]:
        yield PCM[: 2 * round(1.6 * RATE_HZ)]
        await asyncio.sleep(60)

    async with running(ScriptedServer(WORDS)) as server:
        async with connect(server.url) as session:
            publication = await session.publish(microphone())
            while publication.stats.sent_s < 1.5:
                await asyncio.sleep(0.01)
        assert session.transcript() == "So we beat on,\n"
        with pytest.raises(SessionClosed):
            await session.publish(PCM)


async def test_an_exception_in_the_block_leaves_at_once() -> None:
    async with running(ScriptedServer(WORDS)) as server:
        began = time.monotonic()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with connect(server.url) as session:
                await session.publish(live(PCM, 1.0))
                raise ZeroDivisionError
        assert time.monotonic() - began < 5.0


async def test_options_can_change_and_outlive_a_reconnect() -> None:
    server = ScriptedServer(WORDS)
    async with running(server), connect(server.url) as session:
        publication = await session.publish(live(PCM, 0.02), language="en")
        await publication.configure(task="translate", language=None)
        server.drop_at_s = [0.0]
        await publication.wait()
    configured = next(m for m in server.seen if m["type"] == "configure")
    assert configured["options"]["task"] == "translate"
    starts = [m for m in server.seen if m["type"] == "audio.start"]
    assert starts[0]["options"]["language"] == "en"
    assert starts[1]["options"] == configured["options"]


async def test_one_source_at_a_time_but_another_after_it() -> None:
    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        first = await session.publish(live(PCM, 0.01))
        with pytest.raises(ClientError, match="publishes already"):
            await session.publish(PCM)
        await first.wait()
        second = await session.publish(PCM, realtime=False)
        await second.wait()
        assert first.transcript() == second.transcript()
        assert len(session.transcript().splitlines()) == 4


async def test_audio_waits_while_the_server_has_enough() -> None:
    server = ScriptedServer(metrics_every_s=0.05, queue_depth_s=25.0)
    long = bytes(2 * RATE_HZ * 120)
    async with running(server), connect(server.url) as session:
        publication = await session.publish(long, realtime=False)
        await asyncio.sleep(1.0)
        assert 0 < publication.stats.sent_s <= 25.0
        server.queue_depth_s = 0.0
        async with asyncio.timeout(40):
            await publication.wait()
        assert server.received_s == [pytest.approx(120.0)]


async def test_a_source_that_fails_still_gives_what_was_said_before() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PCM[: 2 * round(1.6 * RATE_HZ)]
        raise AudioError("the cable was pulled")

    async with running(ScriptedServer(WORDS)) as server, connect(server.url) as session:
        publication = await session.publish(broken())
        heard = []
        with pytest.raises(AudioError, match="cable"):  # noqa: PT012
            async for caption in session.captions(finals_only=True):
                heard.append(caption.text)
        assert heard == ["So we beat on,"]
        assert publication.done


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [("wrong_key", 401, False), ("sessions_full", 503, True), ("bad_room", 400, False)],
)
async def test_a_refused_connection_shows_the_servers_problem(
    code: str, status: int, retryable: bool
) -> None:
    server = ScriptedServer(refuse=[problem(code, status, retryable=retryable)])
    async with running(server):
        with pytest.raises(Refused, match="for the test") as caught:
            async with connect(server.url):
                pass
        assert caught.value.code == code
        assert caught.value.problem.status == status
        assert caught.value.retryable is retryable


async def test_a_refused_track_is_told_to_who_published() -> None:
    server = ScriptedServer(WORDS, refuse_audio=[problem("overloaded", 503, retryable=True)])
    async with running(server), connect(server.url) as session:
        with pytest.raises(Refused) as caught:
            await session.publish(PCM)
        assert caught.value.retryable
        await (await session.publish(PCM, realtime=False)).wait()


async def test_a_message_that_the_server_cannot_read_fails_the_publishing_with_its_reason() -> None:
    async def unreadable(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        if message["type"] == "audio.start":
            await ws.send_json({"type": "error", "problem": problem("bad_message", 400)})
            return True
        return False

    async with (
        running(ScriptedServer(on_message=unreadable)) as server,
        connect(server.url) as session,
    ):
        with pytest.raises(Refused) as caught:
            await session.publish(PCM, language="english")
        assert caught.value.code == "bad_message"


async def test_no_server_is_a_clear_error_that_comes_soon() -> None:
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match=r"Connection refused.*is it running"):
        async with connect(f"http://127.0.0.1:{free_port()}"):
            pass
    assert time.monotonic() - began < 5


async def test_something_else_at_the_address_is_told_apart() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="a page")

    app = web.Application()
    app.router.add_get("/ws", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        with pytest.raises(ProtocolError, match="no media server"):
            async with connect(url):
                pass
        with pytest.raises(ProtocolError, match="answered 404"):
            async with connect(f"{url}/elsewhere"):
                pass
    finally:
        await runner.cleanup()


async def test_a_server_that_accepts_but_never_answers_is_given_up() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(ServerUnreachable, match=r"within 0\.3 s"):
            async with connect(f"http://127.0.0.1:{port}", connect_timeout_s=0.3):
                pass
    finally:
        server.close()


async def test_a_server_that_ends_the_session_in_good_order_ends_the_iteration() -> None:
    async def close(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        await ws.close(code=1000)
        return True

    async with (
        running(ScriptedServer(on_message=close)) as server,
        connect(server.url, room="kitchen") as session,
    ):
        async with asyncio.timeout(20):
            assert [caption async for caption in session.captions()] == []


def test_addresses() -> None:
    assert endpoint("127.0.0.1:8080", "/ws", websocket=True) == "ws://127.0.0.1:8080/ws"
    assert endpoint("https://a.example/media/", "/ws", websocket=True) == "wss://a.example/media/ws"
    assert endpoint("wss://a.example", "/api") == "https://a.example/api"
    for bad in ("", "ftp://a.example", "http://"):
        with pytest.raises(ServerUnreachable, match="no server address"):
            endpoint(bad, "/ws")


# ---- rooms -------------------------------------------------------------------------------------


async def test_chat_is_confirmed_and_heard() -> None:
    async with running(ScriptedServer()) as server, connect(server.url, room="r") as session:
        said = await session.chat("hello <b>")
        assert (said.text, said.name) == ("hello <b>", "bot")
        async for chat in session.chats():
            assert chat == said
            break
        with pytest.raises(ClientError, match="2000 characters"):
            await session.chat("x" * 2001)


async def test_chat_that_is_refused_or_unanswered_says_so() -> None:
    async def deaf(message: dict[str, Any], ws: web.WebSocketResponse) -> bool:
        if message["type"] == "chat.send" and message["text"] == "forbidden":
            error = {"type": "error", "problem": problem("muted", 403), "in_reply_to": "chat.send"}
            await ws.send_json(error)
        return bool(message["type"] == "chat.send")

    async with (
        running(ScriptedServer(on_message=deaf)) as server,
        connect(server.url, room="r") as session,
    ):
        with pytest.raises(Refused) as caught:
            await session.chat("forbidden")
        assert caught.value.code == "muted"
        with pytest.raises(AnswerTimeout):
            await session.chat("anybody?", timeout_s=0.2)


async def test_events_give_the_servers_messages() -> None:
    server = ScriptedServer(WORDS)
    async with running(server), connect(server.url) as session:
        kinds: list[str] = []

        async def follow() -> None:
            async for event in session.events():
                kinds.append(event.TYPE)

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await (await session.publish(PCM, realtime=False)).wait()
        await session.close()
        await asyncio.wait_for(following, 20)
    assert kinds[0] == "audio.started"
    assert "track.ended" in kinds


async def test_the_core_needs_aiohttp_alone() -> None:
    code = (
        "import sys, mediaserver_client\n"
        "heavy = {'av', 'numpy', 'pydantic', 'mediaserver'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_nothing_is_left_running_after_a_session() -> None:
    async with running(ScriptedServer(WORDS, drop_at_s=[1.0])) as server:
        before = asyncio.all_tasks()
        async with connect(server.url) as session:
            await session.publish(live(PCM, 0.02))
            await said_by(session)
        async with asyncio.timeout(20):
            while [t for t in asyncio.all_tasks() - before if "mediaserver" in t.get_name()]:
                await asyncio.sleep(0.01)
