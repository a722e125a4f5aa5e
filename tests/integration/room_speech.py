"""A member of a room that speaks, and what a member has read of it."""

import asyncio

from tests.integration.room_client import RoomMember
from tests.unit.inference.scripted import Script
from tests.unit.sessions.scripted_worker import Stage


def speaking(member: RoomMember, stage: Stage, script: Script) -> asyncio.Task[None]:
    """Say what the script says, at the speed of speech."""

    async def speak() -> None:
        spoken, done = len(member.told("audio.started")), len(member.told("finalized"))
        await member.send("audio.start", options={"language": "en"})
        started = await member.wait(lambda: member.told("audio.started")[spoken:])
        track = started[0]["track_id"]
        stage.recogniser.add(track, script)
        pcm = (script.audio() * 32767).astype("<i2").tobytes()
        assert member._socket is not None
        for at in range(0, len(pcm), 3200):
            await member._socket.send_bytes(pcm[at : at + 3200])
            await asyncio.sleep(0.1)
        await member.send("finalize")
        await member.wait(lambda: member.told("finalized")[done:], timeout_s=30.0)

    return asyncio.create_task(speak())


def finals(member: RoomMember) -> list[str]:
    """Complete captions, each once, by the time they came first."""
    texts: dict[str, str] = {}
    for caption in member.told("caption"):
        if caption["final"]:
            assert texts.setdefault(caption["caption_id"], caption["text"]) == caption["text"]
    return [text for text in texts.values() if text]
