"""Ctrl-C: pending finals are delivered, everybody is told, and it is over in five seconds."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import aiohttp

from tests.integration.ws_member import RawMember, join
from tests.live import LiveServer
from tests.speech import Clip

Start = Callable[..., LiveServer]
Load = Callable[[str], Clip]
ENGLISH = {"language": "en"}
GOING_AWAY = 1001


async def test_a_stop_in_mid_speech_delivers_all_pending_finals(
    start_server: Start, speech_clip: Load
) -> None:
    """All has been sent but hardly any of it is final."""
    server = start_server()
    clips = [speech_clip("lj001-0005"), speech_clip("lj001-0012")]
    async with join(server, "one") as ann, join(server, "two") as bob, join(server, "one") as eve:
        for member, clip in ((ann, clips[0]), (bob, clips[1])):
            await member.send("audio.start", options=ENGLISH)
            await member.wait_for("audio.started")
            await member.say(clip.pcm)
            await member.send("ping", id="sent")
            await member.wait_for("pong")  # all audio has arrived
        code, took_s = await asyncio.to_thread(server.stop)
        assert code == 0
        assert took_s < 5.0
        for member, clip in ((ann, clips[0]), (bob, clips[1]), (eve, clips[0])):
            assert await member.wait_closed() == GOING_AWAY
            member.check_captions()
            assert clip.wer(member.final_text()) <= 0.15
            assert len(member.told("track.ended")) == 1
    assert "Traceback" not in server.log


async def come(server: LiveServer) -> bool:
    """Try to join; return whether it was let in."""
    try:
        async with join(server, "late"):
            return True
    except (OSError, aiohttp.ClientError):
        return False


async def test_a_stop_does_not_wait_for_the_hung_the_deaf_and_the_dead(
    start_server: Start, speech_clip: Load
) -> None:
    server = start_server()
    clip = speech_clip("lj001-0012")
    (worker,) = server.children()
    deaf = RawMember(server, "room", receive_buffer=4096)
    async with join(server, "room") as ann:
        await ann.send("audio.start", options=ENGLISH)
        await ann.wait_for("audio.started")
        for _ in range(200):
            await ann.send("chat.send", text="x" * 1000)
        os.kill(worker, signal.SIGSTOP)
        await ann.say(clip.pcm)
        gone = RawMember(server, "room")
        gone.send("audio.start")
        gone.send_frame(clip.pcm, opcode=2)
        await asyncio.sleep(0.3)
        gone.close()
        started = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        async with asyncio.timeout(20.0):
            while await come(server):
                await asyncio.sleep(0.1)
        assert not stopping.done(), "it refuses newcomers while it waits"
        code, took_s = await stopping
        assert code == 0
        assert took_s < 8.0  # 4 s for finals, 2 s for connections, then workers and stores
        assert await ann.wait_closed() == GOING_AWAY
        assert ann.told("track.ended")[-1]["reason"] == "failed"
        assert time.monotonic() - started < 12.0
    deaf.close()
