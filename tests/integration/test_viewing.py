"""A broadcast is seen and heard by whoever watches it: real peers on loopback on both sides."""

import asyncio
import gc
import os
import re
import threading
import time

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.sdp import SessionDescription

from mediaserver.kernel.errors import Conflict, Unavailable, Unprocessable
from mediaserver.rtc import internals
from mediaserver.rtc.peer import Peers
from tests.integration.broadcasters import (
    Beeps,
    Flashes,
    Pausing,
    beep_starts,
    delay_video,
    flash_starts,
    report_captures,
)
from tests.integration.watcher import ViewerRecorder, Watcher, publishing, watching
from tests.integration.webrtc_client import (
    CONFIG,
    QUICK,
    Pcm,
    PictureTrack,
    SpeechTrack,
    at_48_khz,
    delay_and_correlation,
    lose,
    soon,
    to_16_khz,
    until,
)
from tests.unit.rtc.encoders import voice_like
from tests.unit.rtc.offers import CHROMIUM, CHROMIUM_VIEWER

AT_ONCE_S = 5.0
"""For the first picture on a busy machine. Of itself a publisher here sends one to begin with every
two minutes."""
STALL_S = 1.5


def voice(seconds: float) -> Pcm:
    return at_48_khz(voice_like(seconds))


def pictures(fps: int = 15, width: int = 320, height: int = 240) -> PictureTrack:
    return PictureTrack(fps, width, height)


def moves(watcher: Watcher) -> bool:
    levels = [round(seen.level) for seen in watcher.seen[-10:]]
    return len(set(levels)) > 5


async def sees_and_hears(watcher: Watcher) -> None:
    """Wait for more of both."""
    seen, heard = len(watcher.seen), len(watcher.heard)
    await until(lambda: len(watcher.seen) > seen + 5 and len(watcher.heard) > heard + 10)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_broadcast_is_seen_and_heard_as_it_is_sent(codec: str) -> None:
    spoken = voice(6.0)
    sound = SpeechTrack(np.tile(spoken, 5))  # for longer than this takes
    async with publishing(sound, pictures(), codec=codec) as (
        peers,
        peer,
        recorder,
        _,
    ):
        await until(lambda: recorder.media and recorder.media[-1] == (True, True))
        assert peer.broadcast.codecs == {"audio": "opus", "video": codec}
        async with watching(peers, peer.broadcast) as (watcher, viewer, _told):
            connected_s = time.monotonic()
            await until(lambda: watcher.seen and watcher.heard)
            assert watcher.seen[0].at_s - connected_s < AT_ONCE_S
            await until(lambda: len(watcher.seen) > 15 and len(watcher.heard) > 120)
            assert moves(watcher)
            assert watcher.seen[0].size == (320, 240)
            delay_s, correlation = delay_and_correlation(
                watcher.sound(), to_16_khz(spoken), most_s=3.0
            )
            assert correlation > 0.9, (delay_s, correlation)
            await until(lambda: viewer.stats().video_kbps > 5 and viewer.stats().audio_kbps > 5)
            await until(lambda: viewer.stats().round_trip_ms is not None)
            assert viewer.dropped == 0
    assert recorder.media[-2:] == [(True, True), (False, False)]


async def test_who_comes_later_sees_a_picture_at_once_and_all_share_one_assembly() -> None:
    speaking = SpeechTrack(voice(2.0), then_silence=True)
    async with publishing(speaking, pictures()) as (peers, peer, recorder, _):
        await until(lambda: peer.videos["1"].unviewed_packets > 20)
        assert not peer.broadcast.watched
        async with watching(peers, peer.broadcast) as (first, _, _told):
            await until(lambda: len(first.seen) > 10)
            assembly = peer.videos["1"]._assembly
            async with (
                watching(peers, peer.broadcast) as (second, _, _),
                watching(peers, peer.broadcast) as (third, _, _),
            ):
                connected_s = time.monotonic()
                await until(lambda: second.seen and third.seen)
                assert max(w.seen[0].at_s for w in (second, third)) - connected_s < AT_ONCE_S
                with peer.videos["1"].open_viewer() as local:  # decoded here as well
                    await asyncio.wait_for(local.frame(), 20)
                    for watcher in (first, second, third):
                        await sees_and_hears(watcher)
                    assert peer.videos["1"]._assembly is assembly
                    assert len(peer.broadcast._fanout) == 3
                assert peers.viewers == 3
        assert not peer.broadcast.watched
        assert not peer.videos["1"].wanted
        heard = recorder.audio_s("0")
        await until(lambda: recorder.audio_s("0") > heard + 0.3)


async def test_captions_get_all_the_audio_while_it_is_watched() -> None:
    spoken = voice(4.0)
    async with (
        publishing(SpeechTrack(spoken), pictures()) as (peers, peer, recorder, _),
        watching(peers, peer.broadcast) as (watcher, _, _told),
    ):
        await until(lambda: recorder.audio_s("0") > 3.8)
        await sees_and_hears(watcher) if not watcher.seen else None
        delay_s, correlation = delay_and_correlation(recorder.heard("0"), to_16_khz(spoken))
    assert correlation > 0.95
    assert abs(delay_s) < 0.05


async def test_a_pause_of_the_sound_ends_nothing_and_stalls_no_picture() -> None:
    speaking = Pausing(voice(12.0))
    async with publishing(speaking, pictures()) as (peers, peer, recorder, _):
        async with watching(peers, peer.broadcast) as (watcher, viewer, told):
            await until(lambda: watcher.seen and watcher.heard)
            speaking.muted = True
            await until(lambda: time.monotonic() - watcher.heard[-1][0] > 0.3)
            heard = len(watcher.heard)
            seen = len(watcher.seen)
            await until(lambda: len(watcher.seen) > seen + 20)
            assert len(watcher.heard) <= heard + 1
            gaps = np.diff([s.at_s for s in watcher.seen[seen:]])
            assert gaps.max() < STALL_S
            speaking.muted = False
            await until(lambda: len(watcher.heard) > heard + 25)
            assert not viewer.closed
            assert told.closings == []
        assert recorder.media in ([(True, False), (True, True)], [(False, True), (True, True)])


async def test_a_new_track_of_another_size_is_seen_without_a_new_offer() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures()) as (peers, peer, recorder, client):
        async with watching(peers, peer.broadcast) as (watcher, viewer, told):
            await until(lambda: len(watcher.seen) > 5)
            sender = next(s for s in client.connection.getSenders() if s.kind == "video")
            sender.replaceTrack(pictures(15, 480, 272))
            await until(lambda: watcher.seen[-1].size == (480, 272))
            await sees_and_hears(watcher)
            assert moves(watcher)
            assert told.closings == []
            assert not viewer.closed
        assert recorder.media[-1] == (True, True)


async def test_video_that_ends_is_told_and_sound_goes_on() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with (
        publishing(speaking, pictures()) as (peers, peer, recorder, client),
        watching(peers, peer.broadcast) as (watcher, _, told),
    ):
        await until(lambda: watcher.seen and watcher.heard)
        transceiver = next(t for t in client.connection.getTransceivers() if t.kind == "video")
        transceiver.direction = "inactive"
        await client.answer(await peer.accept(await client.reoffer()))
        assert peer.broadcast.codecs == {"audio": "opus"}
        await until(lambda: recorder.media[-1] == (True, False))
        heard = len(watcher.heard)
        await until(lambda: len(watcher.heard) > heard + 20)
        assert told.closings == []


async def test_the_end_of_the_publisher_ends_its_viewers() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures()) as (peers, peer, recorder, client):
        async with watching(peers, peer.broadcast) as (watcher, _, told):
            await until(lambda: watcher.seen and watcher.heard)
            ended_s = time.monotonic()
            await client.close()
            await soon(told.is_closed.wait())
            assert time.monotonic() - ended_s < CONFIG.dead_after_s - 1.0, "it said goodbye"
            assert told.closings == [("ended", "the broadcast is over")]
            await until(lambda: recorder.is_closed.is_set())
            assert recorder.media[-1] == (False, False)
        late = ViewerRecorder()
        watcher = Watcher.new()
        await watcher.watch(peers.open_viewer(peer.broadcast, late))
        await soon(late.is_closed.wait())
        assert late.closings[0][0] == "ended"
        await watcher.close()


async def test_a_viewer_that_leaves_or_vanishes_is_noticed() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures(), config=QUICK) as (peers, peer, _, _client):
        async with watching(peers, peer.broadcast) as (watcher, _, told):
            await until(lambda: watcher.seen)
            await watcher.close()
            await soon(told.is_closed.wait())
            assert told.closings[0][0] == "left"
        async with watching(peers, peer.broadcast) as (watcher, _, told):
            await until(lambda: watcher.seen)
            transport = internals.transport_of(watcher.client.connection)
            assert transport is not None
            internals.abort(transport.transport)
            await soon(told.is_closed.wait())
            assert told.closings[0][0] == "lost"
        await until(lambda: peers.viewers == 0 and not peer.broadcast.watched)


async def test_a_viewer_whose_way_is_blocked_harms_nobody_and_recovers() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with (
        publishing(speaking, pictures()) as (peers, peer, recorder, _),
        watching(peers, peer.broadcast) as (slow, slow_viewer, told),
        watching(peers, peer.broadcast) as (quick, quick_viewer, _),
    ):
        await until(lambda: slow.seen and quick.seen)
        transport = internals.transport_of(slow_viewer._connection)
        assert transport is not None
        send, unblocked = transport.transport._send, asyncio.Event()

        async def blocked(data: bytes) -> None:
            await unblocked.wait()
            await send(data)

        transport.transport._send = blocked
        seen, heard_s = len(quick.seen), recorder.audio_s("0")
        await until(
            lambda: (
                len(quick.seen) > seen + 20
                and recorder.audio_s("0") > heard_s + 1.5
                and slow_viewer.dropped > 10
            )
        )
        gaps = np.diff([s.at_s for s in quick.seen[seen:]])
        assert gaps.max() < STALL_S
        assert quick_viewer.dropped == 0
        unblocked.set()
        seen = len(slow.seen)
        await until(lambda: len(slow.seen) > seen + 15)
        assert moves(slow)
        assert told.closings == []


@pytest.mark.parametrize("leg", ["publisher", "viewer"])
async def test_lost_packets_are_made_up_for(leg: str) -> None:
    speaking, filmed = SpeechTrack(voice(1.0), then_silence=True), pictures(25)
    async with (
        publishing(speaking, filmed) as (peers, peer, _, client),
        watching(peers, peer.broadcast) as (watcher, viewer, _told),
    ):
        await until(lambda: len(watcher.seen) > 5)
        lossy = client.connection if leg == "publisher" else viewer._connection
        counts = lose(lossy, 0.1, kinds=(97, 98), seed=7)
        seen, sent = len(watcher.seen), filmed.sent
        await until(lambda: filmed.sent - sent > 100 and counts[1] > 10)
        shown = watcher.seen[seen:]
        gaps = np.diff([s.at_s for s in shown])
        assert gaps.max() < 2 * STALL_S
        assert len(shown) > 0.6 * (filmed.sent - sent)
        if leg == "viewer":
            await until(lambda: viewer.stats().packets_lost > 0)


async def test_lips_are_in_sync_though_the_video_takes_longer() -> None:
    """The viewer's player places both kinds by the sender reports, whatever the delay was."""
    publication = publishing(Beeps(), Flashes(25), prepare=report_captures)
    async with publication as (peers, peer, _, client):
        delay_video(client, 0.15)
        async with watching(peers, peer.broadcast) as (watcher, _, _told):
            await until(
                lambda: (
                    len(watcher.reports.get("audio", [])) > 3
                    and len(watcher.reports.get("video", [])) > 3
                    and len(flash_starts(watcher)) > 3
                ),
                40,
            )
            assert peer.broadcast._times.synchronised
            beeps = [watcher.ntp_s("audio", pts) for pts in beep_starts(watcher)]
            flashes = [watcher.ntp_s("video", pts) for pts in flash_starts(watcher)]
    skews_s = [
        min((flash - beep for beep in beeps), key=abs)
        for flash in flashes
        if beeps[0] - 0.5 < flash < beeps[-1] + 0.5
    ]
    assert len(skews_s) >= 2
    assert abs(float(np.median(skews_s))) < 0.08, skews_s


async def test_a_viewer_that_cannot_decode_the_codec_is_told_so() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures(), codec="H264") as (peers, peer, _, _client):
        await until(lambda: "video" in peer.broadcast.codecs)
        told, watcher = ViewerRecorder(), Watcher.new(codec="VP8")
        viewer = peers.open_viewer(peer.broadcast, told)
        with pytest.raises(Unprocessable, match="H264") as caught:
            await watcher.watch(viewer)
        assert caught.value.specific_code == "codec_unsupported"
        assert "VP8" in caught.value.detail
        assert not viewer.closed, "it may offer again"
        await viewer.close()
        await watcher.close()
        with pytest.raises(Conflict):
            await viewer.accept(CHROMIUM_VIEWER)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_the_answer_to_a_browser_has_the_source_s_codec_first(codec: str) -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures(), codec=codec) as (peers, peer, _, _client):
        await until(lambda: peer.broadcast.codecs.get("video") == codec)
        viewer = peers.open_viewer(peer.broadcast, ViewerRecorder())
        with pytest.raises(Unprocessable):
            await viewer.accept(CHROMIUM)  # it sends
        answer = SessionDescription.parse(await viewer.accept(CHROMIUM_VIEWER))
        audio, video = answer.media
        assert [audio.direction, video.direction] == ["sendonly", "sendonly"]
        assert audio.rtp.codecs[0].name == "opus"
        names = [c.name for c in video.rtp.codecs if c.name != "rtx"]
        assert names[0] == codec
        assert audio.msid is not None
        assert video.msid is not None
        assert audio.msid.split()[0] == video.msid.split()[0], "one stream: played in sync"
        offered = SessionDescription.parse(CHROMIUM_VIEWER).media[1]
        profiles = {c.payloadType: c.parameters.get("profile-level-id") for c in offered.rtp.codecs}
        for chosen in video.rtp.codecs:
            assert chosen.parameters.get("profile-level-id") == profiles[chosen.payloadType]
        chosen_types = {c.payloadType for c in video.rtp.codecs if c.name != "rtx"}
        assert {c.parameters["apt"] for c in video.rtp.codecs if c.name == "rtx"} == chosen_types
        await viewer.close()


async def test_who_watches_before_anything_is_sent_sees_it_begin() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with (
        publishing(speaking) as (peers, peer, recorder, client),
        watching(peers, peer.broadcast) as (watcher, _, told),
    ):
        await until(lambda: watcher.heard)
        client.connection.addTrack(pictures())
        await client.answer(await peer.accept(await client.reoffer()))
        await until(lambda: watcher.seen)
        assert recorder.media[-1] == (True, True)
        assert told.closings == []


async def test_a_viewer_without_video_only_hears() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with (
        publishing(speaking, pictures()) as (peers, peer, _, _client),
        watching(peers, peer.broadcast, kinds=("audio",)) as (watcher, _, told),
    ):
        await until(lambda: len(watcher.heard) > 20)
        assert watcher.seen == []
        assert told.closings == []


async def test_a_section_that_was_stopped_holds_up_nothing() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures()) as (peers, peer, _, _client):
        told, watcher = ViewerRecorder(), Watcher.new()
        viewer = peers.open_viewer(peer.broadcast, told)
        offer = await watcher.client.offer()
        at = offer.index("m=video")
        answer = await viewer.accept(offer[:at] + re.sub(r"^m=video \d+", "m=video 0", offer[at:]))
        assert "m=video 0 " in answer
        await watcher.client.answer(answer)
        await until(lambda: len(watcher.heard) > 20)
        assert told.closings == []
        await viewer.close()
        await watcher.close()


async def test_a_stopping_server_takes_no_viewers() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with (
        publishing(speaking) as (peers, peer, _, _client),
        watching(peers, peer.broadcast) as (_, _, told),
    ):
        await peers.aclose()
        assert told.closings == [("left", "the server is stopping")]
        with pytest.raises(Unavailable):
            peers.open_viewer(peer.broadcast, ViewerRecorder())


async def test_a_viewer_that_never_connects_is_let_go() -> None:
    peers = Peers(CONFIG.__class__(ice_interfaces=("127.0.0.1",), connect_timeout_s=0.3))
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking) as (_, peer, _, _client):
        told = ViewerRecorder()
        viewer = peers.open_viewer(peer.broadcast, told)
        await viewer.accept(CHROMIUM_VIEWER)
        await soon(told.is_closed.wait())
        assert told.closings[0][0] == "timeout"
        assert not peer.broadcast.watched
    await peers.aclose()


async def test_viewers_that_come_and_go_leave_nothing_behind() -> None:
    speaking = SpeechTrack(voice(1.0), then_silence=True)
    async with publishing(speaking, pictures()) as (peers, peer, _, _client):
        await until(lambda: "video" in peer.broadcast.codecs)

        async def come_and_go() -> None:
            async with watching(peers, peer.broadcast) as (watcher, _, _told):
                await until(lambda: watcher.seen)

        def left() -> tuple[int, int, int]:
            gc.collect()
            return (
                len(os.listdir("/proc/self/fd")),
                len(asyncio.all_tasks()),
                threading.active_count(),
            )

        await come_and_go()
        await asyncio.sleep(0.1)
        before = left()
        for _ in range(8):
            await come_and_go()
        await until(lambda: left()[0] <= before[0] + 1 and left()[1] <= before[1])
        await until(lambda: left()[2] <= before[2] + 1)
        assert peers.viewers == 0


async def test_plain_aiortc_is_as_it_was() -> None:
    """What is replaced is replaced on our own connections."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video")
    assert type(connection.getTransceivers()[0].sender).__module__.startswith("aiortc")
    await connection.close()
