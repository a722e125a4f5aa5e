"""Two real peers on loopback: what is sent arrives, and what can go wrong does so bounded."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop
from aiortc import RTCDataChannel
from aiortc.rtp import is_rtcp

from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.errors import Conflict, Overloaded, TooLarge, Unavailable, Unprocessable
from mediaserver.rtc import internals
from mediaserver.rtc.datachannels import BUFFERED_BYTES, MAX_MESSAGE_BYTES, OUTBOX_MESSAGES
from mediaserver.rtc.peer import Peers, RtcConfig
from tests.integration.webrtc_client import (
    CONFIG,
    Client,
    PictureTrack,
    Recorder,
    SpeechTrack,
    connected,
    delay_and_correlation,
    speech,
    to_16_khz,
    until,
)

QUICK = RtcConfig(ice_interfaces=("127.0.0.1",), dead_after_s=1.5, consent_interval_s=0.4)


def lose(client: Client, ratio: float, *, kinds: tuple[int, ...], seed: int = 1) -> list[int]:
    """Drop that share of the client's RTP packets of these payload types; count both kinds."""
    transport = internals.transport_of(client.connection)
    assert transport is not None
    dice, send, counts = random.Random(seed), transport.transport._send, [0, 0]

    async def lossy(data: bytes) -> None:
        if 127 < data[0] < 192 and not is_rtcp(data) and data[1] & 0x7F in kinds:
            counts[0] += 1
            if dice.random() < ratio:
                counts[1] += 1
                return
        await send(data)

    transport.transport._send = lossy
    return counts


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


# ---- audio -------------------------------------------------------------------------------------


async def test_speech_arrives_as_it_was_spoken_and_when() -> None:
    spoken = speech(3.0)
    started = time.monotonic()
    async with connected(SpeechTrack(spoken)) as (_, peer, recorder):
        connect_s = time.monotonic() - started
        await until(lambda: recorder.audio_s("0") >= 1.5)
        behind_s = time.monotonic() - started - connect_s - recorder.audio_s("0")
        await until(lambda: recorder.audio_s("0") >= 2.9)
        await peer.close()
        delay_s, correlation = delay_and_correlation(recorder.heard("0"), to_16_khz(spoken))
    assert correlation > 0.95
    assert abs(delay_s) < 0.05
    assert recorder.started == ["0"]
    assert recorder.ended == ["0"]
    assert behind_s < 1.0
    assert connect_s < 4.0


async def test_lost_packets_leave_silence_and_the_rest_stays_in_place() -> None:
    spoken = speech(3.0)
    async with connected(SpeechTrack(spoken), config=QUICK) as (client, peer, recorder):
        sent, dropped = counts = lose(client, 0.1, kinds=(96,), seed=5)
        await until(lambda: recorder.chunks.get("0") and recorder.chunks["0"][-1].end_s > 2.8)
        sent, dropped = counts
        await asyncio.sleep(2 * QUICK.consent_interval_s)
        stats = peer.stats()
    assert dropped > 5
    heard = recorder.heard("0")
    first_sent = 0.3  # packets may have been lost before the first one arrived
    delay_s, correlation = delay_and_correlation(heard, to_16_khz(spoken), first_sent)
    assert correlation > 0.75
    assert abs(delay_s) < first_sent
    assert recorder.audio_s("0") == pytest.approx(len(heard) / 16_000 - dropped * 0.02, abs=0.25)
    assert stats.packets_lost == pytest.approx(dropped, abs=4)
    assert sent > 100


async def test_figures_are_measured() -> None:
    track = SpeechTrack(speech(2.0), then_silence=True)
    async with connected(track, PictureTrack(), config=QUICK) as (client, peer, _):
        lose(client, 0.0, kinds=())
        await until(lambda: peer.stats().audio_kbps > 5 and peer.stats().video_kbps > 5)
        stats = peer.stats()
    assert 10 < stats.audio_kbps < 200
    assert stats.round_trip_ms is not None
    assert 0 < stats.round_trip_ms < 100
    assert (stats.packets_lost, stats.loss_ratio) == (0, 0.0)
    assert 0 <= stats.jitter_ms < 100


async def test_a_listener_without_room_costs_chunks_and_not_the_peer() -> None:
    class Full(Recorder):
        def audio(self, mid: str, chunk: AudioChunk) -> None:
            if len(self.chunks[mid]) >= 3:
                raise Overloaded("no room")
            super().audio(mid, chunk)

    peers, recorder = Peers(CONFIG), Full()
    client = Client.new(SpeechTrack(speech(2.0)))
    peer = peers.open(recorder)
    await client.connect(peer)
    await until(lambda: peer.dropped > 3)
    assert not peer.closed
    assert len(recorder.chunks["0"]) == 3
    await peers.aclose()
    await client.close()


async def test_a_listener_that_refuses_the_audio_ends_the_peer_with_its_reason() -> None:
    class Refusing(Recorder):
        def audio_started(self, mid: str) -> None:
            raise Overloaded("all streams are taken")

    peers, recorder = Peers(CONFIG), Refusing()
    client = Client.new(SpeechTrack(speech(2.0)))
    await client.connect(peers.open(recorder))
    await asyncio.wait_for(recorder.is_closed.wait(), 5)
    assert recorder.closings == [("failed", "all streams are taken")]
    await peers.aclose()
    await client.close()


# ---- negotiation -------------------------------------------------------------------------------


async def test_tracks_can_be_added_and_removed_by_new_offers() -> None:
    async with connected(data=True) as (client, peer, recorder):
        assert recorder.started == []
        sender = client.connection.addTrack(SpeechTrack(speech(3.0), then_silence=True))
        await client.answer(await peer.accept(await client.reoffer()))
        await until(lambda: recorder.audio_s("1") > 0.5)
        assert recorder.started == ["1"]

        transceiver = next(t for t in client.connection.getTransceivers() if t.sender is sender)
        transceiver.direction = "inactive"
        await client.answer(await peer.accept(await client.reoffer()))
        await until(lambda: recorder.ended == ["1"])

        transceiver.direction = "sendonly"
        await client.answer(await peer.accept(await client.reoffer()))
        await until(lambda: recorder.started == ["1", "1"])
        assert not peer.closed


async def test_an_ice_restart_is_refused_and_the_connection_goes_on() -> None:
    async with connected(SpeechTrack(speech(1.0), then_silence=True)) as (client, peer, recorder):
        offer = await client.reoffer()
        old = next(line for line in offer.splitlines() if line.startswith("a=ice-ufrag"))
        with pytest.raises(Unprocessable, match="new RTCPeerConnection"):
            await peer.accept(offer.replace(old, "a=ice-ufrag:Anew"))
        before = recorder.audio_s("0")
        await until(lambda: recorder.audio_s("0") > before + 0.3)
        assert not peer.closed


async def test_a_bad_offer_leaves_the_peer_ready_for_a_good_one() -> None:
    peers, recorder = Peers(CONFIG), Recorder()
    client = Client.new()
    peer = peers.open(recorder)
    with pytest.raises(Unprocessable):
        await peer.accept((await client.offer()).replace("a=group:BUNDLE", "a=group:LS"))
    await client.answer(await peer.accept(client.connection.localDescription.sdp))
    await asyncio.wait_for(recorder.is_connected.wait(), 5)
    await peers.aclose()
    await client.close()


async def test_candidates_may_come_late_or_before_the_offer() -> None:
    for early in (True, False):
        peers, recorder = Peers(CONFIG), Recorder()
        client = Client.new()
        offer = await client.offer()
        lines = offer.splitlines(keepends=True)
        candidates = [line.strip() for line in lines if line.startswith("a=candidate")]
        assert candidates
        bare = "".join(x for x in lines if not x.startswith(("a=candidate", "a=end-of")))
        peer = peers.open(recorder)
        if early:
            for line in candidates:
                await peer.add_candidate(line, "0", 0)
        answer = await peer.accept(bare)
        transport = internals.transport_of(peer._connection)
        assert transport is not None
        if not early:
            for line in [*candidates, "", None]:
                await peer.add_candidate(line, "0", 0)
        assert [c.ip for c in transport.transport.getRemoteCandidates()] == ["127.0.0.1"]
        await client.answer(answer)
        await asyncio.wait_for(recorder.is_connected.wait(), 5)
        await peers.aclose()
        await client.close()


async def test_a_peer_connects_though_none_of_its_candidates_can_be_used() -> None:
    peers, recorder = Peers(CONFIG), Recorder()
    client = Client.new()
    offer = (await client.offer()).replace(" 127.0.0.1 ", " 4f1c6a3e-1f7c.local ")
    peer = peers.open(recorder)
    answer = await peer.accept(offer)
    await peer.add_candidate("", "0", 0)
    await asyncio.sleep(0.3)
    assert not peer.closed
    await client.answer(answer)
    await asyncio.wait_for(recorder.is_connected.wait(), 5)
    await peers.aclose()
    await client.close()


async def test_the_answer_names_only_the_configured_addresses() -> None:
    async with connected() as (client, _, _recorder):
        answer = client.connection.remoteDescription.sdp
    hosts = {line.split()[4] for line in answer.splitlines() if line.startswith("a=candidate")}
    assert hosts == {"127.0.0.1"}


async def test_without_an_address_the_operator_is_told_what_to_set() -> None:
    peers, recorder = Peers(RtcConfig(ice_interfaces=("192.0.2.77",))), Recorder()
    client = Client.new()
    with pytest.raises(Unavailable, match="MEDIASERVER_ICE_INTERFACES"):
        await peers.open(recorder).accept(await client.offer())
    await asyncio.wait_for(recorder.is_closed.wait(), 5)
    await peers.aclose()
    await client.close()


async def test_a_stun_server_that_does_not_answer_holds_nobody_up_for_long() -> None:
    from mediaserver.protocol.messages import IceServer

    config = RtcConfig(
        ice_interfaces=("127.0.0.1",),
        ice_servers=(IceServer(urls=("stun:127.0.0.1:9",)),),
        gather_timeout_s=0.5,
    )
    started = time.monotonic()
    async with connected(config=config) as (_, _peer, recorder):
        assert recorder.is_connected.is_set()
    assert time.monotonic() - started < 3.0


# ---- data channels -----------------------------------------------------------------------------


async def test_messages_go_both_ways_on_the_channels_that_the_server_opens() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: peer.channel_open("metrics") and len(client.channels) == 3)
        assert sorted(client.channels) == ["captions", "chat", "metrics"]
        assert all(channel.ordered for channel in client.channels.values())
        for number in range(50):
            assert peer.send("captions", f"caption {number}")
        client.channels["chat"].send('{"type":"ping"}')
        await until(lambda: len(client.received["captions"]) == 50 and recorder.messages)
        assert client.received["captions"] == [f"caption {number}" for number in range(50)]
        assert recorder.messages == [("chat", '{"type":"ping"}')]
        assert await peer.flush(2.0)


async def test_without_a_data_section_there_are_no_channels() -> None:
    async with connected(SpeechTrack(speech(1.0)), data=False) as (client, peer, _):
        assert not peer.send("captions", "to nobody")
        assert client.channels == {}


def deafen(client: Client) -> None:
    """Have the client take no more data: nothing is acknowledged."""

    async def nothing(data: bytes) -> None:
        del data

    client.connection.sctp._handle_data = nothing  # type: ignore[method-assign]


async def test_a_client_that_never_reads_is_let_go_before_memory_grows() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: peer.channel_open("captions"))
        deafen(client)
        sent = 0
        while not peer.closed and sent < 10 * OUTBOX_MESSAGES:
            peer.send("captions", f"final {sent} " + "x" * 1000)
            sent += 1
            if sent % 20 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(recorder.is_closed.wait(), 5)
        reason, detail = recorder.closings[0]
        assert reason == "slow"
        assert "unread" in detail
        assert sent <= OUTBOX_MESSAGES + BUFFERED_BYTES // 1000 + 50
        assert not peer.send("captions", "too late")


async def test_partials_give_way_to_newer_ones_while_a_client_is_busy() -> None:
    async with connected() as (client, peer, _):
        await until(lambda: peer.channel_open("captions") and "captions" in client.channels)
        sctp = client.connection.sctp
        hear = sctp._handle_data
        deafen(client)
        for number in range(20_000):
            peer.send("captions", f"partial {number} " + "x" * 500, key="utterance")
            if number % 50 == 0:
                await asyncio.sleep(0)
        peer.send("captions", "final", replaces="utterance")
        channel: RTCDataChannel = peer._channels._senders["captions"].channel
        assert channel.bufferedAmount <= BUFFERED_BYTES + 1000
        assert len(peer._channels._senders["captions"].outbox) <= 2
        assert peer.dropped > 10_000
        sctp._handle_data = hear  # type: ignore[method-assign]
        await until(lambda: client.received["captions"][-1:] == ["final"], 10)
        assert len(client.received["captions"]) < 10_000
        assert not peer.closed


async def test_what_does_not_belong_on_a_channel_is_answered_there() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: len(client.channels) == 3)
        client.connection.sctp._remote_max_message_size = 0
        client.channels["chat"].send(b"\x00\x01binary")
        await until(lambda: client.received["chat"])
        client.channels["captions"].send("x" * (MAX_MESSAGE_BYTES + 10))
        await until(lambda: client.received["captions"])
        problems = {
            label: json.loads(client.received[label][0])["problem"]
            for label in ("chat", "captions")
        }
        assert problems["chat"]["status"] == 415
        assert problems["captions"]["status"] == 413
        client.channels["chat"].send("still here")
        await until(lambda: recorder.messages == [("chat", "still here")])
        with pytest.raises(TooLarge):
            peer.send("captions", "x" * (MAX_MESSAGE_BYTES + 1))


async def test_ten_megabytes_in_one_message_end_that_peer_alone_and_quickly() -> None:
    async with connected() as (client, _, recorder), connected() as (other, bystander, heard):
        await until(lambda: len(client.channels) == 3 and len(other.channels) == 3)
        client.connection.sctp._remote_max_message_size = 0
        client.channels["chat"].send("x" * 10_000_000)
        await asyncio.wait_for(recorder.is_closed.wait(), 20)
        assert recorder.closings[0][0] == "failed"
        assert str(MAX_MESSAGE_BYTES) in recorder.closings[0][1]
        other.channels["chat"].send("unharmed")
        await until(lambda: heard.messages == [("chat", "unharmed")])
        assert not bystander.closed


async def test_a_message_on_a_channel_of_the_clients_own_is_answered_once() -> None:
    async with connected() as (client, peer, recorder):
        own = client.connection.createDataChannel("mine")
        answers: list[str] = []
        own.on("message", answers.append)
        await until(lambda: own.readyState == "open")
        own.send("anybody?")
        own.send("hello?")
        await until(lambda: answers)
        assert json.loads(answers[0])["problem"]["status"] == 404
        assert recorder.messages == []
        assert not peer.closed


# ---- video -------------------------------------------------------------------------------------


async def test_video_costs_nothing_until_somebody_looks_and_then_comes_at_once() -> None:
    pictures = PictureTrack()
    async with connected(pictures, SpeechTrack(speech(1.0), then_silence=True)) as (_, peer, _r):
        video = peer.videos["0"]
        await until(lambda: video.unviewed_packets > 30)
        assert video._picture is None
        assert not [t for t in threading.enumerate() if t.name.startswith("video-decoder")]

        started = time.monotonic()
        with video.open_viewer() as viewer:
            first = await asyncio.wait_for(viewer.frame(), 3)
            assert time.monotonic() - started < 1.5
            assert (first.width, first.height) == (320, 240)
            later = await asyncio.wait_for(viewer.frame(), 3)
            assert later.pts is not None
            assert first.pts is not None
            assert later.pts > first.pts
            with video.open_viewer() as second:
                await asyncio.wait_for(second.frame(), 3)
            await asyncio.sleep(0.5)
            assert viewer.slot.replaced > 0  # unread frames gave way to newer ones
        seen = video.unviewed_packets
        await until(lambda: video.unviewed_packets > seen + 10)
        assert not video.viewed


async def test_lost_video_packets_do_not_freeze_the_picture() -> None:
    async with connected(PictureTrack(), SpeechTrack(speech(1.0), then_silence=True)) as (
        client,
        peer,
        _,
    ):
        counts = lose(client, 0.2, kinds=(97, 98), seed=3)
        video = peer.videos["0"]
        await until(lambda: video.unviewed_packets > 5)
        with video.open_viewer() as viewer:
            await asyncio.wait_for(viewer.frame(), 5)
            longest_s, frames, end_s = 0.0, 0, time.monotonic() + 2.0
            while time.monotonic() < end_s:
                before = time.monotonic()
                await asyncio.wait_for(viewer.frame(), 3)
                longest_s = max(longest_s, time.monotonic() - before)
                frames += 1
    assert counts[1] > 5
    assert longest_s < 1.5
    assert frames > 10


# ---- endings -----------------------------------------------------------------------------------


async def test_a_goodbye_is_heard_at_once_and_told_once() -> None:
    async with connected(SpeechTrack(speech(2.0))) as (client, peer, recorder):
        await until(lambda: recorder.chunks.get("0"))
        await client.close()
        await asyncio.wait_for(recorder.is_closed.wait(), 2)
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
        await asyncio.wait_for(recorder.is_closed.wait(), 7)
        assert recorder.closed_at_s - vanished < QUICK.dead_after_s + 0.8
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
    await until(lambda: recorder.chunks.get("0"), 10)
    os.kill(frozen_client.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    await asyncio.wait_for(recorder.is_closed.wait(), 7)
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
        theirs.transport._connection.request_received = lambda *_: None
        transport = internals.transport_of(ours)
        assert transport is not None
        await asyncio.sleep(2 * QUICK.dead_after_s)
        assert not recorder.is_closed.is_set()
        consent = transport.transport._connection._query_consent_task
        assert consent is not None
        assert consent.cancelled(), "aioice would end the connection after 30 s"
        internals.abort(theirs.transport)
        await asyncio.wait_for(recorder.is_closed.wait(), 4)
        assert recorder.closings[0][0] == "lost"


async def test_a_peer_that_cannot_be_reached_is_given_up_in_time() -> None:
    config = RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=1.0)
    peers, recorder = Peers(config), Recorder()
    client = Client.new(SpeechTrack(speech(1.0)))
    offer = (await client.offer()).replace(" 127.0.0.1 ", " 127.0.0.99 ")
    started = time.monotonic()
    await peers.open(recorder).accept(offer)
    await asyncio.wait_for(recorder.is_closed.wait(), 5)
    assert 0.9 < time.monotonic() - started < 2.5
    reason, detail = recorder.closings[0]
    assert reason == "timeout"
    assert "UDP" in detail
    await peers.aclose()
    await client.close()


async def test_a_peer_without_an_offer_is_given_up_too() -> None:
    peers = Peers(RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=0.3))
    recorder = Recorder()
    peers.open(recorder)
    await asyncio.wait_for(recorder.is_closed.wait(), 2)
    assert recorder.closings == [("timeout", "not connected within 0.3 s: there was no offer")]
    await peers.aclose()


async def test_a_wrong_certificate_is_named_as_the_cause() -> None:
    peers, recorder = Peers(CONFIG), Recorder()
    client = Client.new()
    offer = await client.offer()
    line = next(x for x in offer.splitlines() if x.startswith("a=fingerprint:sha-256"))
    wrong = line[:-5] + ("00:00" if not line.endswith("00:00") else "11:11")
    await client.answer(await peers.open(recorder).accept(offer.replace(line, wrong)))
    await asyncio.wait_for(recorder.is_closed.wait(), 5)
    reason, detail = recorder.closings[0]
    assert reason == "failed"
    assert "fingerprint" in detail
    await peers.aclose()
    await client.close()


async def test_closing_a_publisher_does_not_hold_up_the_event_loop() -> None:
    async with connected(SpeechTrack(speech(3.0)), PictureTrack()) as (_, peer, recorder):
        with peer.videos["1"].open_viewer() as viewer:
            await asyncio.wait_for(viewer.frame(), 5)
            async with loop_lag() as lags:
                started = time.monotonic()
                await peer.close()
                took_s = time.monotonic() - started
        assert took_s < 1.0
        assert max(lags, default=0.0) < 0.25
        await peer.close("lost")
        assert len(recorder.closings) == 1


async def test_a_stopped_server_closes_all_peers_and_opens_no_more() -> None:
    peers = Peers(CONFIG)
    recorders = [Recorder() for _ in range(4)]
    clients = [Client.new(SpeechTrack(speech(3.0))) for _ in recorders]
    for client, recorder in zip(clients, recorders, strict=True):
        await client.connect(peers.open(recorder))
    await asyncio.gather(*(recorder.is_connected.wait() for recorder in recorders))
    started = time.monotonic()
    await peers.aclose()
    assert time.monotonic() - started < 2.0
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
                await asyncio.wait_for(viewer.frame(), 10)
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
                await asyncio.wait_for(viewer.frame(), 5)
            await until(lambda: client.received.get("captions") == ["hello"])

    uvloop.run(scenario())
