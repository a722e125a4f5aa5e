"""A broadcast is seen and heard by whoever watches it: real peers on loopback on both sides."""

import time

import numpy as np
import pytest

from tests.integration.watcher import Watcher, publishing, watching
from tests.integration.webrtc_client import (
    PictureTrack,
    SpeechTrack,
    at_48_khz,
    delay_and_correlation,
    to_16_khz,
    until,
)
from tests.unit.rtc.encoders import voice_like


def voice(seconds: float) -> np.ndarray:
    return at_48_khz(voice_like(seconds))


def pictures(fps: int = 15, width: int = 320, height: int = 240) -> PictureTrack:
    return PictureTrack(fps, width, height)


def moves(watcher: Watcher) -> bool:
    levels = [round(seen.level) for seen in watcher.seen[-10:]]
    return len(set(levels)) > 5


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_broadcast_is_seen_and_heard_as_it_is_sent(codec: str) -> None:
    spoken = voice(6.0)
    async with publishing(SpeechTrack(spoken), pictures(), codec=codec) as (
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
            assert watcher.seen[0].at_s - connected_s < 1.0
            await until(lambda: len(watcher.seen) > 15 and len(watcher.heard) > 120, 8)
            assert moves(watcher)
            assert watcher.seen[0].size == (320, 240)
            delay_s, correlation = delay_and_correlation(
                watcher.sound(), to_16_khz(spoken), most_s=3.0
            )
            assert correlation > 0.9, (delay_s, correlation)
            await until(lambda: viewer.stats().video_kbps > 5)
            stats = viewer.stats()
            assert stats.audio_kbps > 5
            assert viewer.dropped == 0
    assert recorder.media == [*recorder.media[:1], (True, True), (False, False)]
