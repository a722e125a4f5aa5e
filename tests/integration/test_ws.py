"""A room session over ``WS /ws`` on a real server: speech becomes captions for all in the room."""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.integration.ws_member import PIECE_BYTES, Json, RawMember, join
from tests.live import LiveServer
from tests.speech import Clip

Load = Callable[[str], Clip]
ENGLISH = {"language": "en"}


async def test_speech_becomes_captions_and_leaving_delivers_the_last_ones(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("lj001-0005")
    async with join(live_server, "captions", "Ann") as ann:
        (welcome,) = ann.told("welcome")
        assert welcome["name"] == "Ann"
        assert welcome["room"] == "captions"
        await ann.send("audio.start", options=ENGLISH)
        track = (await ann.wait_for("audio.started"))["track_id"]
        assert ann.told("track.started")[0]["track_id"] == track
        await ann.say(clip.pcm, pace=0.5)
        await ann.wait_for("metrics", lambda m: m["caption_delay_ms"] is not None)
        assert await ann.leave() == 1000
        ann.check_captions()
        assert clip.wer(ann.final_text()) <= 0.1
        assert any(not caption["final"] for caption in ann.told("caption"))
        assert ann.told("track.ended")[-1]["reason"] == "left"
        assert ann.errors == []
        assert ann.told("speech.started")
    status, text = live_server.get(f"/api/v1/sessions/{welcome['session_id']}/transcript.txt")
    assert status == 200
    assert clip.wer(text) <= 0.1


async def test_figures_are_told_to_who_publishes_and_once_to_everybody(
    live_server: LiveServer,
) -> None:
    async with join(live_server, "figures") as ann, join(live_server, "figures") as bob:
        await ann.wait_for("metrics")
        started = time.monotonic()
        await ann.send("audio.start", options=ENGLISH)
        await ann.say(bytes(32_000 * 3), pace=1.0)
        async with asyncio.timeout(20):
            while len(ann.told("metrics")) < 4:
                await asyncio.sleep(0.02)
        await ann.send("audio.stop")
        await ann.wait_for("track.ended")
        count = len(ann.told("metrics"))
        assert count <= 3 + time.monotonic() - started, "once a second"
        await bob.send("chat.send", text="later")
        await asyncio.sleep(2.5)  # that something does not come
        assert len(ann.told("metrics")) - count <= 1
        assert len(bob.told("metrics")) == 1


async def test_two_members_hear_each_other_and_a_late_one_what_was_said(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("lj001-0012")
    async with join(live_server, "pair", "Ann") as ann, join(live_server, "pair", "Bob") as bob:
        await ann.send("audio.start", options=ENGLISH)
        started = await bob.wait_for("track.started")
        assert started["speaker"] == "Ann"
        await ann.say(clip.pcm)
        await ann.send("finalize")
        await ann.wait_for("finalized")
        assert clip.wer(ann.final_text()) <= 0.2
        await bob.send("chat.send", text="<b>hello</b>", id="mine")
        heard, own = await ann.wait_for("chat"), await bob.wait_for("chat")
        assert heard == own
        assert (heard["name"], heard["text"], heard["client_id"]) == (
            "Bob",
            "<b>hello</b>",
            "mine",
        )
        async with join(live_server, "pair", "Eve") as eve:
            await eve.wait_for("chat")
            assert eve.told("track.started")[0]["track_id"] == started["track_id"]
            async with asyncio.timeout(20):  # what was said is written when it was told
                while eve.final_text() != ann.final_text():
                    await asyncio.sleep(0.02)
        await ann.send("audio.stop")
        await ann.wait_for("track.ended")
        ended = await bob.wait_for("track.ended")
        assert ended["track_id"] == started["track_id"]
        assert bob.final_text() == ann.final_text()
        for member in (ann, bob):
            member.check_captions()
            assert member.errors == []


async def test_finalized_comes_after_the_finals_of_all_that_was_sent(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("jfk")
    async with join(live_server, "finalize") as member:
        await member.send("audio.start", options=ENGLISH)
        half = len(clip.pcm) // 2 // PIECE_BYTES * PIECE_BYTES
        await member.say(clip.pcm[:half])
        await member.send("finalize")
        await member.wait_for("finalized")
        kinds = [message["type"] for _, message in member.messages]
        before = [m for _, m in member.messages[: kinds.index("finalized")]]
        captions = [m for m in before if m["type"] == "caption"]
        assert captions[-1]["final"]
        said = member.final_text()
        await member.say(clip.pcm[half:])
        await member.send("finalize")
        async with asyncio.timeout(60):
            while len(member.told("finalized")) < 2:
                await asyncio.sleep(0.02)
        assert member.final_text().startswith(said)
        assert clip.wer(member.final_text()) <= 0.25
        member.check_captions()


async def test_configure_changes_what_follows(live_server: LiveServer, speech_clip: Load) -> None:
    clip = speech_clip("lj001-0012")
    async with join(live_server, "configure") as member:
        await member.send("audio.start", options={"language": "es"})
        await member.say(clip.pcm[: 2 * 32_000])
        await member.send("finalize")
        await member.wait_for("finalized")
        await member.send("configure", options={**ENGLISH, "interim": False})
        seen = len(member.told("caption"))
        await member.say(clip.pcm)
        await member.leave()
        after = member.told("caption")[seen:]
        assert after
        assert {caption["language"] for caption in after} == {"en"}
        assert all(word["final"] for caption in after for word in caption["words"])
        assert {caption["language"] for caption in member.told("caption")[:seen]} <= {"es"}


async def test_pings_are_answered_while_audio_flows(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("lj001-0012")
    async with join(live_server, "pings") as member:
        await member.send("audio.start", options=ENGLISH)
        speaking = asyncio.create_task(member.say(clip.pcm[: 2 * 32_000], pace=1.0))
        trips = []
        for i in range(10):
            sent = time.monotonic()
            await member.send("ping", id=f"p{i}")
            pong = await member.wait_for("pong", partial(has_id, f"p{i}"))
            trips.append(time.monotonic() - sent)
            assert abs(pong["server_time"] - time.time()) < 5.0
            await asyncio.sleep(0.2)
        await speaking
        assert sorted(trips)[len(trips) // 2] < 0.5


async def test_audio_starts_anew_after_a_stop(live_server: LiveServer, speech_clip: Load) -> None:
    pcm = speech_clip("lj001-0012").pcm[: 2 * 32_000]
    async with join(live_server, "again") as member:
        for _ in range(2):
            await member.send("audio.start", options=ENGLISH)
            await member.say(pcm)
            await member.send("audio.stop")
        await member.leave()
        tracks = {m["track_id"] for m in member.told("audio.started")}
        assert len(tracks) == 2
        assert {m["track_id"] for m in member.told("track.ended")} == tracks
        assert all(member.final_text(track) for track in tracks)
        assert member.errors == []


async def test_what_a_lost_member_said_reaches_the_others(
    live_server: LiveServer, speech_clip: Load
) -> None:
    clip = speech_clip("lj001-0012")
    async with join(live_server, "lost", "Bob") as bob:
        raw = RawMember(live_server, "lost")
        raw.send("audio.start", options=ENGLISH)
        raw.send_frame(clip.pcm, opcode=2)
        await bob.wait_for("track.started")
        raw.close()  # no close frame: a cable was pulled, and the kernel said so
        ended = await bob.wait_for("track.ended")
        assert ended["reason"] == "lost"
        assert clip.wer(bob.final_text()) <= 0.2


async def test_a_dead_member_is_noticed_within_five_seconds(live_server: LiveServer) -> None:
    """It answers nothing any more, and nobody says that it is gone."""
    async with join(live_server, "dead", "Bob") as bob:
        raw = RawMember(live_server, "dead")
        raw.send("audio.start")
        await bob.wait_for("track.started")
        silent = time.monotonic()
        await bob.wait_for("track.ended")
        assert time.monotonic() - silent < 5.0
        raw.close()


def has_id(wanted: str, message: Json) -> bool:
    return bool(message["id"] == wanted)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws?room=no%20spaces", 400),
        ("/ws?room=-dash", 400),
        (f"/ws?room={'x' * 65}", 400),
        ("/ws", 400),
    ],
)
def test_what_is_no_session_gets_a_problem(live_server: LiveServer, path: str, status: int) -> None:
    got, body = live_server.get(path)
    problem: Json = json.loads(body)
    assert got == status == problem["status"]
    assert problem["detail"]
    assert problem["code"]
