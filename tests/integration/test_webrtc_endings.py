"""How peers end: a goodbye, silence, no connection, the server's end; nothing stays."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop

from mediaserver.kernel.errors import Conflict, Unavailable
from mediaserver.rtc import internals
from mediaserver.rtc.peer import Peers, RtcConfig
from tests.integration.webrtc_client import (
    CONFIG,
    QUICK,
    Client,
    PictureTrack,
    Recorder,
    SpeechTrack,
    connected,
    soon,
    speech,
    until,
)

BUSY_S = 2.5
"""What a busy machine may add to what is done at once."""


@contextlib.asynccontextmanager
async def loop_lag() -> AsyncIterator[list[float]]:
    """Measure for how long the event loop did not come round."""
    lags: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            lags.append(time.monotonic() - before - 0.005)

    task = asyncio.create_task(tick())
    try:
        yield lags
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_goodbye_is_heard_at_once_and_told_once() -> None:
    async with connected(SpeechTrack(speech(2.0))) as (client, peer, recorder):
        await until(lambda: recorder.chunks.get("0"))
        await client.close()
        await soon(recorder.is_closed.wait())
        await peer.close("lost")
        assert [reason for reason, _ in recorder.closings] == ["left"]
        assert recorder.ended == ["0"]
        with pytest.raises(Conflict):
            await peer.accept("v=0")


async def test_a_client_that_vanishes_without_a_goodbye_is_noticed() -> None:
    async with connected(SpeechTrack(speech(2.0)), config=QUICK) as (client, _, recorder):
        await until(lambda: recorder.chunks.get("0"))
        transport = internals.transport_of(client.connection)
        assert transport is not None
        vanished = time.monotonic()
        internals.abort(transport.transport)
        await soon(recorder.is_closed.wait())
        assert recorder.closed_at_s - vanished < QUICK.dead_after_s + BUSY_S
        assert recorder.closings[0][0] == "lost"
        assert "nothing was heard" in recorder.closings[0][1]


FROZEN_CLIENT = """
import asyncio, json, sys
from tests.integration.webrtc_client import Client, SpeechTrack, speech

async def main():
    client = Client.new(SpeechTrack(speech(5.0), then_silence=True))
    print(json.dumps(await client.offer()), flush=True)
    await client.answer(json.loads(sys.stdin.readline()))
    await asyncio.sleep(30)

asyncio.run(main())
"""


@pytest.fixture
def frozen_client() -> Iterator["subprocess.Popen[str]"]:
    """A client in a process of its own, which can be stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", FROZEN_CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


async def test_a_client_that_stands_still_is_noticed_within_five_seconds(
    frozen_client: "subprocess.Popen[str]",
) -> None:
    peers, recorder = Peers(CONFIG), Recorder()
    assert frozen_client.stdout is not None
    assert frozen_client.stdin is not None
    offer = json.loads(await asyncio.to_thread(frozen_client.stdout.readline))
    answer = await peers.open(recorder).accept(offer)
    frozen_client.stdin.write(json.dumps(answer) + "\n")
    frozen_client.stdin.flush()
    await until(lambda: recorder.chunks.get("0"), 40)
    os.kill(frozen_client.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    await soon(recorder.is_closed.wait())
    assert recorder.closed_at_s - stopped < 5.0
    assert recorder.closings[0][0] == "lost"
    await peers.aclose()


async def test_a_healthy_peer_that_sends_nothing_is_kept() -> None:
    async with connected(config=QUICK) as (client, peer, recorder):
        await asyncio.sleep(2 * QUICK.dead_after_s)
        assert not recorder.is_closed.is_set()
        client.channels["chat"].send("still here")
        await until(lambda: recorder.messages)
        assert peer.stats().round_trip_ms is not None


async def test_a_publisher_that_answers_no_checks_lives_as_long_as_its_media_comes() -> None:
    track = SpeechTrack(speech(1.0), then_silence=True)
    async with connected(track, config=QUICK) as (client, peer, recorder):
        theirs, ours = internals.transport_of(client.connection), peer._connection
        assert theirs is not None
        theirs.transport._connection.request_received = lambda *_: None  # type: ignore[method-assign]
        transport = internals.transport_of(ours)
        assert transport is not None
        await asyncio.sleep(2 * QUICK.dead_after_s)
        assert not recorder.is_closed.is_set()
        consent = transport.transport._connection._query_consent_task
        assert consent is not None
        assert consent.cancelled(), "aioice would end the connection after 30 s"
        internals.abort(theirs.transport)
        await soon(recorder.is_closed.wait())
        assert recorder.closings[0][0] == "lost"


async def test_a_peer_that_cannot_be_reached_is_given_up_in_time() -> None:
    config = RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=1.0)
    peers, recorder = Peers(config), Recorder()
    client = Client.new(SpeechTrack(speech(1.0)))
    offer = (await client.offer()).replace(" 127.0.0.1 ", " 127.0.0.99 ")
    started = time.monotonic()
    await peers.open(recorder).accept(offer)
    await soon(recorder.is_closed.wait())
    assert 0.9 < time.monotonic() - started < config.connect_timeout_s + BUSY_S
    reason, detail = recorder.closings[0]
    assert reason == "timeout"
    assert "UDP" in detail
    await peers.aclose()
    await client.close()


async def test_a_peer_without_an_offer_is_given_up_too() -> None:
    peers = Peers(RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=0.3))
    recorder = Recorder()
    peers.open(recorder)
    await soon(recorder.is_closed.wait())
    assert recorder.closings == [("timeout", "not connected within 0.3 s: there was no offer")]
    await peers.aclose()


async def test_a_wrong_certificate_is_named_as_the_cause() -> None:
    peers, recorder = Peers(CONFIG), Recorder()
    client = Client.new()
    offer = await client.offer()
    line = next(x for x in offer.splitlines() if x.startswith("a=fingerprint:sha-256"))
    wrong = line[:-5] + ("00:00" if not line.endswith("00:00") else "11:11")
    await client.answer(await peers.open(recorder).accept(offer.replace(line, wrong)))
    await soon(recorder.is_closed.wait())
    reason, detail = recorder.closings[0]
    assert reason == "failed"
    assert "fingerprint" in detail
    await peers.aclose()
    await client.close()


async def test_closing_a_publisher_does_not_hold_up_the_event_loop() -> None:
    async with connected(SpeechTrack(speech(3.0)), PictureTrack()) as (_, peer, recorder):
        with peer.videos["1"].open_viewer() as viewer:
            await asyncio.wait_for(viewer.frame(), 20)
            async with loop_lag() as lags:
                started = time.monotonic()
                await peer.close()
                took_s = time.monotonic() - started
        assert took_s < BUSY_S
        assert max(lags, default=0.0) < 0.5
        await peer.close("lost")
        assert len(recorder.closings) == 1


async def test_a_stopped_server_closes_all_peers_and_opens_no_more() -> None:
    peers = Peers(CONFIG)
    recorders = [Recorder() for _ in range(4)]
    clients = [Client.new(SpeechTrack(speech(3.0))) for _ in recorders]
    for client, recorder in zip(clients, recorders, strict=True):
        await client.connect(peers.open(recorder))
    await soon(asyncio.gather(*(recorder.is_connected.wait() for recorder in recorders)))
    started = time.monotonic()
    await peers.aclose()
    assert time.monotonic() - started < BUSY_S
    assert [r.closings for r in recorders] == [[("left", "the server is stopping")]] * 4
    assert len(peers) == 0
    with pytest.raises(Unavailable):
        peers.open(Recorder())
    for client in clients:
        await client.close()


def own_threads() -> int:
    """Threads but those of the loop's executor, in which aiortc's clients encode."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_twenty_peers_opened_and_closed_leave_nothing_behind() -> None:
    pictures = (10, 160, 120)

    async def one() -> None:
        tracks = SpeechTrack(speech(1.0)), PictureTrack(*pictures)
        async with connected(*tracks) as (client, peer, recorder):
            await until(lambda: recorder.chunks.get("0") and peer.channel_open("captions"))
            with peer.videos["1"].open_viewer() as viewer:
                await asyncio.wait_for(viewer.frame(), 20)
            peer.send("captions", "hello")
            await until(lambda: client.received.get("captions"))

    await one()  # what is made once and kept is made now
    await asyncio.sleep(0.1)
    tasks, threads, files = len(asyncio.all_tasks()), own_threads(), open_files()
    for _ in range(4):
        await asyncio.gather(*(one() for _ in range(5)))
    await until(lambda: own_threads() <= threads)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: open_files() <= files)


def test_all_this_works_on_uvloop_as_the_server_runs_it() -> None:
    async def scenario() -> None:
        async with connected(SpeechTrack(speech(2.0)), PictureTrack()) as (client, peer, recorder):
            assert type(asyncio.get_running_loop()).__module__ == "uvloop"
            await until(lambda: recorder.audio_s("0") > 0.5 and peer.channel_open("captions"))
            peer.send("captions", "hello")
            with peer.videos["1"].open_viewer() as viewer:
                await asyncio.wait_for(viewer.frame(), 20)
            await until(lambda: client.received.get("captions") == ["hello"])

    uvloop.run(scenario())
