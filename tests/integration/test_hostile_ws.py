"""Bad clients get a clear error, and harm nobody."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.ws_member import Json, Member, RawMember, join
from tests.live import LiveServer
from tests.speech import Clip

Load = Callable[[str], Clip]
ENGLISH = {"language": "en"}


HELD_UP_S = 4.0
"""Whoever waits for the one that does not read waits for much longer."""


async def check_alive(member: Member) -> None:
    """The connection still does its work."""
    await member.send("ping", id="alive")
    await member.wait_for("pong", lambda message: message["id"] == "alive")


# ---- messages that are none

NONSENSE = {
    "an unknown type": '{"type": "sing"}',
    "no type": '{"text": "hello"}',
    "no object": '["type", "ping"]',
    "a number": "42",
    "no JSON": "Hello, I would like captions please",
    "half a JSON": '{"type": "ping"',
    "nothing": "",
    "deep": "[" * 20_000 + "]" * 20_000,
    "a wrong field": '{"type": "ping", "id": 7}',
    "a field too many": '{"type": "leave", "now": true}',
    "a huge number": '{"type": "candidate", "sdp_mline_index": 1e999}',
    "a lone surrogate": '{"type": "chat.send", "text": "\\ud800"}',
    "an empty chat": '{"type": "chat.send", "text": ""}',
    "a long chat": json.dumps({"type": "chat.send", "text": "x" * 2001}),
    "a wrong SDP": '{"type": "offer", "sdp": "v=0 or so"}',
    "an empty SDP": '{"type": "offer", "sdp": ""}',
    "a wrong candidate": '{"type": "candidate", "candidate": "candidate:nonsense"}',
    "an unknown encoding": '{"type": "audio.start", "encoding": "mp7"}',
    "a rate of 1 Hz": '{"type": "audio.start", "sample_rate_hz": 1}',
    "a hundred channels": '{"type": "audio.start", "channels": 100}',
    "an unknown language": '{"type": "audio.start", "options": {"language": "xx"}}',
    "no endpointing": '{"type": "configure", "options": {"endpointing_ms": -1}}',
    "a stop without a start": '{"type": "audio.stop"}',
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_gets_an_error_and_the_connection_goes_on(
    live_server: LiveServer, name: str
) -> None:
    async with join(live_server, "nonsense") as member:
        await member.connection.send_str(NONSENSE[name])
        if name != "a wrong candidate":  # kept until an offer comes
            error = await member.wait_for("error")
            problem = error["problem"]
            assert 400 <= problem["status"] < 500, problem
            assert problem["code"] not in ("", "internal")
            assert problem["detail"]
            assert not problem["retryable"]
        await check_alive(member)
    assert "Traceback" not in live_server.log


async def test_binary_before_audio_start_gets_an_error(live_server: LiveServer) -> None:
    async with join(live_server, "early") as member:
        await member.connection.send_bytes(bytes(640))
        error = await member.wait_for("error")
        assert "audio.start" in error["problem"]["detail"]
        await check_alive(member)


async def test_text_where_audio_belongs_and_half_samples_harm_no_words(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("lj001-0012")
    async with join(live_server, "mixed") as member:
        await member.send("audio.start", options=ENGLISH)
        for i in range(0, len(clip.pcm), 3201):  # an odd number of bytes
            await member.connection.send_bytes(clip.pcm[i : i + 3201])
            if i % (3201 * 20) == 0:
                await member.connection.send_str("RIFF, or what is a WAV file called")
        await member.connection.send_bytes(b"\x01")
        await member.leave()
        assert set(member.errors) == {"bad_message"}
        assert clip.wer(member.final_text()) <= 0.2


@pytest.mark.parametrize("encoding", ["opus", "container"])
async def test_bytes_that_are_not_the_promised_encoding_end_the_track_not_the_session(
    live_server: LiveServer, encoding: str
) -> None:
    async with join(live_server, "lies") as member:
        await member.send("audio.start", encoding=encoding)
        await member.wait_for("audio.started")
        await member.connection.send_bytes(b"This is no audio at all, but plain text. " * 2000)
        await member.send("audio.stop")
        await member.wait_for("error")
        assert (await member.wait_for("track.ended"))["track_id"]
        await check_alive(member)


# ---- too much


@pytest.mark.parametrize(
    ("binary", "size"), [(False, 300_000), (False, 10_000_000), (True, 2_000_000)]
)
async def test_a_message_that_is_too_large_closes_with_the_reason(
    live_server: LiveServer, binary: bool, size: int
) -> None:
    async with join(live_server, "large") as other, join(live_server, "large") as member:
        if binary:
            await member.connection.send_bytes(bytes(size))
        else:
            await member.connection.send_str('"' + "x" * size + '"')
        assert await member.wait_closed() == 1009
        await check_alive(other)


async def test_a_frame_that_announces_terabytes_is_refused_at_once(
    live_server: LiveServer,
) -> None:
    raw = RawMember(live_server, "terabytes")
    raw.send_frame(b"x" * 1000, length=2**42)
    assert await asyncio.to_thread(raw.gone_within, 20.0) is not None
    raw.close()


async def test_frames_against_the_protocol_end_the_connection(live_server: LiveServer) -> None:
    for opcode in (3, 0):  # reserved; a continuation of nothing
        raw = RawMember(live_server, "frames")
        raw.send_frame(b"x", opcode=opcode)
        assert await asyncio.to_thread(raw.gone_within, 20.0) is not None
        raw.close()


def figures(server: LiveServer) -> dict[str, float]:
    """Prometheus samples of all labels together, by name."""
    summed: dict[str, float] = {}
    for family in text_string_to_metric_families(server.get("/metrics")[1]):
        for sample in family.samples:
            summed[sample.name] = summed.get(sample.name, 0.0) + sample.value
    return summed


async def open_sessions(server: LiveServer) -> int:
    """How many sessions are open."""
    now = await asyncio.to_thread(figures, server)
    closed = now.get("mediaserver_sessions_closed_total", 0.0)
    return round(now.get("mediaserver_sessions_opened_total", 0.0) - closed)


def resident_mb(server: LiveServer) -> float:
    """Memory of the server's process, without its workers."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(server: LiveServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def test_a_client_that_never_reads_is_sent_away_and_harms_nobody(
    live_server: LiveServer,
) -> None:
    async with (
        contextlib.AsyncExitStack() as stack,
        join(live_server, "deaf", "Ann") as ann,
        join(live_server, "deaf", "Bob") as bob,
    ):
        talkers = [await stack.enter_async_context(join(live_server, "deaf")) for _ in range(20)]
        deaf = RawMember(live_server, "deaf", receive_buffer=4096)
        joined = await ann.wait_for("member.joined", lambda m: m["member"]["name"] == "raw")
        deaf_id, before = joined["member"]["member_id"], resident_mb(live_server)
        trips: list[float] = []
        started = time.monotonic()
        while not any(m["member_id"] == deaf_id for m in ann.told("member.left")):
            assert time.monotonic() - started < 60.0, "it is still there"
            deaf.send_frame(b"", opcode=10)  # a pong: only its full buffers tell
            heard = len(ann.told("chat")) + 10 * len(talkers)
            for talker in talkers:
                for _ in range(10):
                    await talker.send("chat.send", text="x" * 1990)
            await asyncio.sleep(0.3)  # each may say 30 messages a second
            sent = time.monotonic()
            await ann.send("chat.send", text="last", id=str(sent))
            await bob.wait_for("chat", partial(has_id, str(sent)))
            trips.append(time.monotonic() - sent)
            async with asyncio.timeout(20.0):
                while len(ann.told("chat")) < heard:
                    await asyncio.sleep(0.02)
            bob.messages.clear()
            for talker in talkers:
                assert talker.errors == []
                talker.messages.clear()
        assert max(trips) < HELD_UP_S, "the others were held up"
        assert resident_mb(live_server) - before < 40.0
        assert await asyncio.to_thread(deaf.gone_within, 20.0) is not None
        deaf.close()
        await check_alive(ann)
        await check_alive(bob)


def has_id(client_id: str, message: Json) -> bool:
    return bool(message["client_id"] == client_id)


async def test_a_flood_of_requests_is_answered_each(live_server: LiveServer) -> None:
    async with join(live_server, "flood") as member:
        for _ in range(30):
            await member.connection.send_str("nonsense")
            await member.send("finalize")
        async with asyncio.timeout(40.0):
            while len(member.errors) < 30 or len(member.told("finalized")) < 30:
                await asyncio.sleep(0.05)
        await check_alive(member)


async def test_who_floods_is_refused_and_at_last_sent_away(live_server: LiveServer) -> None:
    async with join(live_server, "flood", "Bob") as bob, join(live_server, "flood") as member:
        with contextlib.suppress(ConnectionError):
            for number in range(3000):
                await member.send("chat.send", text="hello", id=str(number))
        assert await member.wait_closed() == 1008
        assert set(member.errors) <= {"too_many_requests"}
        refused = member.told("error")[0]
        assert refused["problem"]["retry_after_s"] < 1.0
        assert int(refused["in_reply_to"]) >= 60
        await check_alive(bob)


# ---- many


async def come_and_go(server: LiveServer, number: int) -> None:
    async with join(server, f"crowd-{number % 20}") as member:
        if number % 2:
            await member.send("audio.start", options=ENGLISH)
            await member.connection.send_bytes(bytes(3200))
        if number % 3:
            await member.leave()


async def crowd(server: LiveServer, numbers: range) -> None:
    """Sessions come and go, ten at a time."""
    gate = asyncio.Semaphore(10)

    async def one(number: int) -> None:
        async with gate:
            await come_and_go(server, number)

    await asyncio.gather(*(one(number) for number in numbers))


async def test_500_sessions_opened_and_closed_leave_nothing_behind(
    live_server: LiveServer,
) -> None:
    count = await open_sessions(live_server)
    await crowd(live_server, range(100))  # what is made once is made
    memory_mb, files = resident_mb(live_server), open_files(live_server)
    await crowd(live_server, range(100, 500))
    async with asyncio.timeout(30.0):
        # connections to Redis stay open: as many as were needed at once, at most two a session
        while await open_sessions(live_server) > count or open_files(live_server) > files + 20:
            await asyncio.sleep(0.1)
        while (await asyncio.to_thread(figures, live_server))["mediaserver_streams"]:
            await asyncio.sleep(0.1)
    assert resident_mb(live_server) - memory_mb < 20.0
    assert "task.failed" not in live_server.log
