"""What a WHIP publisher sends is watched: FFmpeg's muxer, H.264, no answer to keyframe requests."""

from pathlib import Path

import numpy as np

from tests.integration.test_whip_ffmpeg import certificate, finish, publisher
from tests.integration.watcher import watching
from tests.integration.webrtc_client import delay_and_correlation, soon, speech, to_16_khz, until
from tests.integration.whip_server import KEY, Start, start

__all__ = ["start"]


async def test_ffmpegs_pictures_and_speech_are_seen_and_heard(start: Start, tmp_path: Path) -> None:
    server = await start(api_key=KEY)
    spoken = speech(5.0)
    options = certificate(tmp_path) | {"authorization": KEY}
    process = publisher(f"{server.url}?name=FFmpeg", options, spoken, tmp_path, 6.0)
    try:
        await until(lambda: server.peers._peers, 40)
        peer = next(iter(server.peers._peers))
        await until(lambda: len(peer.broadcast.codecs) == 2)
        assert peer.broadcast.codecs == {"audio": "opus", "video": "H264"}
        async with watching(server.peers, peer.broadcast) as (watcher, viewer, told):
            await until(lambda: len(watcher.seen) > 20 and len(watcher.heard) > 60)
            assert watcher.seen[0].size == (320, 240)
            steps = np.diff([seen.level for seen in watcher.seen])
            assert np.median(steps) > 0, "each picture is a little brighter, but the 100th"
            assert viewer.dropped == 0
            await soon(told.is_closed.wait(), 40)
            assert told.closings[0][0] == "ended"
            _, correlation = delay_and_correlation(watcher.sound(), to_16_khz(spoken), most_s=4.0)
            assert correlation > 0.8
    finally:
        code, errors = await finish(process)
    assert code == 0, errors
