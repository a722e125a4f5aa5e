"""Two real peers on loopback: audio, negotiation, video."""

import asyncio
import threading
import time

import pytest

from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.errors import Overloaded, Unavailable, Unprocessable
from mediaserver.protocol.messages import IceServer
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
    delay_and_correlation,
    lose,
    soon,
    speech,
    to_16_khz,
    until,
)


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
    assert correlation > 0.85  # Opus keeps more of one voice than of another
    assert abs(delay_s) < 0.05
    assert recorder.started == ["0"]
    assert recorder.ended == ["0"]
    assert behind_s < 2.0
    assert connect_s < 8.0


async def test_lost_packets_leave_silence_and_the_rest_stays_in_place() -> None:
    spoken = speech(3.0)
    async with connected(SpeechTrack(spoken), config=QUICK) as (client, peer, recorder):
        sent, dropped = counts = lose(client, 0.1, kinds=(96,), seed=5)
        await until(lambda: recorder.chunks.get("0") and recorder.chunks["0"][-1].end_s > 2.8)
        sent, dropped = counts
        await until(lambda: peer.stats().packets_lost == pytest.approx(dropped, abs=4))
    assert dropped > 5
    heard = recorder.heard("0")
    first_sent = 0.3  # packets may have been lost before the first one arrived
    delay_s, correlation = delay_and_correlation(heard, to_16_khz(spoken), first_sent)
    assert correlation > 0.75
    assert abs(delay_s) < first_sent
    assert recorder.audio_s("0") == pytest.approx(len(heard) / 16_000 - dropped * 0.02, abs=0.25)
    assert sent > 100


async def test_figures_are_measured() -> None:
    track = SpeechTrack(speech(2.0), then_silence=True)
    async with connected(track, PictureTrack(), config=QUICK) as (client, peer, _):
        lose(client, 0.0, kinds=())
        await until(lambda: peer.stats().audio_kbps > 5 and peer.stats().video_kbps > 5)
        stats = peer.stats()
    assert 10 < stats.audio_kbps < 200
    assert stats.round_trip_ms is not None
    assert 0 < stats.round_trip_ms < 1000
    assert (stats.packets_lost, stats.loss_ratio) == (0, 0.0)
    assert 0 <= stats.jitter_ms < 1000


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
    await soon(recorder.is_closed.wait())
    assert recorder.closings == [("failed", "all streams are taken")]
    await peers.aclose()
    await client.close()


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
    await soon(recorder.is_connected.wait())
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
            for end in [*candidates, "", None]:
                await peer.add_candidate(end, "0", 0)
        assert [c.ip for c in transport.transport.getRemoteCandidates()] == ["127.0.0.1"]
        await client.answer(answer)
        await soon(recorder.is_connected.wait())
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
    await soon(recorder.is_connected.wait())
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
    await soon(recorder.is_closed.wait())
    await peers.aclose()
    await client.close()


async def test_a_stun_server_that_does_not_answer_holds_nobody_up_for_long() -> None:
    config = RtcConfig(
        ice_interfaces=("127.0.0.1",),
        ice_servers=(IceServer(urls=("stun:127.0.0.1:9",)),),
        gather_timeout_s=0.5,
    )
    started = time.monotonic()
    async with connected(config=config) as (_, _peer, recorder):
        assert recorder.is_connected.is_set()
    assert time.monotonic() - started < 4.5


async def test_video_costs_nothing_until_somebody_looks_and_then_comes_at_once() -> None:
    pictures = PictureTrack()
    async with connected(pictures, SpeechTrack(speech(1.0), then_silence=True)) as (_, peer, _r):
        video = peer.videos["0"]
        await until(lambda: video.unviewed_packets > 30)
        assert video._assembly is None
        assert not [t for t in threading.enumerate() if t.name.startswith("video-decoder")]

        started = time.monotonic()
        with video.open_viewer() as viewer:
            first = await asyncio.wait_for(viewer.frame(), 20)
            assert time.monotonic() - started < 5.0, "not with the next picture to begin with"
            assert (first.width, first.height) == (320, 240)
            later = await asyncio.wait_for(viewer.frame(), 20)
            assert later.pts is not None
            assert first.pts is not None
            assert later.pts > first.pts
            with video.open_viewer() as second:
                await asyncio.wait_for(second.frame(), 20)
            await until(lambda: viewer.slot.replaced > 0)  # unread frames give way to newer ones
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
            await asyncio.wait_for(viewer.frame(), 20)
            longest_s, frames, end_s = 0.0, 0, time.monotonic() + 2.0
            while time.monotonic() < end_s or counts[1] <= 5 or frames <= 10:
                before = time.monotonic()
                await asyncio.wait_for(viewer.frame(), 20)
                longest_s = max(longest_s, time.monotonic() - before)
                frames += 1
    assert longest_s < 3.0
