"""Deepgram's own Python SDK, real speech, a real server and a real worker."""

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment

from tests.live import LiveServer
from tests.speech import Clip
from tests.unit.rtc.encoders import Recipe, encode, opus_packets
from tests.unit.rtc.test_audio import cut

SpeechClip = Callable[[str], Clip]
RAW: dict[str, Any] = {"encoding": "linear16", "sample_rate": 16_000}
SILENCE_S = 1.6


def environment(server: LiveServer) -> DeepgramClientEnvironment:
    return DeepgramClientEnvironment(
        base=server.url, production=server.ws_url, agent=server.ws_url, agent_rest=server.url
    )


def said(messages: list[Any]) -> str:
    """What the final results say, joined."""
    return " ".join(
        m.channel.alternatives[0].transcript for m in messages if m.type == "Results" and m.is_final
    )


def test_the_sdk_streams_microphone_audio_and_hears_its_words(
    live_server: LiveServer, speech_clip: SpeechClip
) -> None:
    clip = speech_clip("lj001-0001")
    client = DeepgramClient(api_key="unused", environment=environment(live_server))
    messages: list[Any] = []
    with client.listen.v1.connect(
        model="nova-3",
        language="en-US",
        channels=1,
        interim_results=True,
        vad_events=True,
        utterance_end_ms=1000,
        endpointing=300,
        smart_format=True,
        **RAW,
    ) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        listening = threading.Thread(target=connection.start_listening)
        listening.start()
        pause = threading.Event()
        for piece in cut(clip.pcm, 3200):
            connection.send_media(piece)
            pause.wait(0.05)  # twice as fast as it was spoken
        connection.send_keep_alive()
        connection.send_finalize()
        for piece in cut(bytes(round(SILENCE_S * 32_000)), 3200):
            connection.send_media(piece)
            pause.wait(0.05)
        connection.send_close_stream()
        listening.join(60)
    assert not listening.is_alive()
    assert clip.wer(said(messages)) <= 0.1
    results = [m for m in messages if m.type == "Results"]
    assert any(not m.is_final and m.channel.alternatives[0].transcript for m in results)
    assert sum(bool(m.from_finalize) for m in results) == 1
    assert any(m.speech_final for m in results)
    kinds = [m.type for m in messages]
    assert kinds[-1] == "Metadata"
    assert "SpeechStarted" in kinds
    assert "UtteranceEnd" in kinds
    assert messages[-1].duration == pytest.approx(clip.duration_s + SILENCE_S, abs=0.01)
    words = [w for m in results if m.is_final for w in m.channel.alternatives[0].words]
    assert all(a.start <= b.start for a, b in pairwise(words))
    assert words[-1].end <= clip.duration_s + 0.5
    assert words[-1].punctuated_word.endswith(".")


@pytest.mark.parametrize("kind", ["webm", "mp3", "flac", "opus packets"])
async def test_the_async_sdk_sends_a_file_at_once(
    kind: str, live_server: LiveServer, speech_clip: SpeechClip
) -> None:
    clip = speech_clip("lj001-0003")
    recipes = {
        "webm": Recipe("webm", "libopus", options={"live": "1"}),
        "mp3": Recipe("mp3", "libmp3lame", 44_100, seekable=True),
        "flac": Recipe("flac", "flac", 16_000, sample_format="s16"),
    }
    if kind in recipes:
        pieces, query = cut(encode(recipes[kind], clip.samples), 8192), {}
    else:
        pieces = opus_packets(clip.samples)
        query = {"encoding": "opus", "sample_rate": 48_000}
    client = AsyncDeepgramClient(api_key="unused", environment=environment(live_server))
    messages: list[Any] = []
    async with client.listen.v1.connect(model="nova-3", language="en", **query) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        for piece in pieces:
            await connection.send_media(piece)
        await connection.send_close_stream()
        async with asyncio.timeout(60):
            await connection.start_listening()
    assert clip.wer(said(messages)) <= 0.1
    assert messages[-1].type == "Metadata"
    assert messages[-1].duration == pytest.approx(clip.duration_s, abs=0.06)


async def test_two_channels_are_two_transcripts(
    live_server: LiveServer, speech_clip: SpeechClip
) -> None:
    left, right = speech_clip("lj001-0001"), speech_clip("lj001-0005")
    size = max(len(left.samples), len(right.samples))
    both = np.stack([np.pad(c.samples, (0, size - len(c.samples))) for c in (left, right)])
    pcm = (both.T.reshape(-1) * 32767).astype("<i2").tobytes()
    client = AsyncDeepgramClient(api_key="unused", environment=environment(live_server))
    messages: list[Any] = []
    async with client.listen.v1.connect(
        model="nova-3", channels=2, multichannel=True, **RAW
    ) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        for piece in cut(pcm, 6400):
            await connection.send_media(piece)
        await connection.send_close_stream()
        async with asyncio.timeout(90):
            await connection.start_listening()
    for channel, clip in enumerate((left, right)):
        mine = [m for m in messages if m.type == "Results" and m.channel_index == [channel, 2]]
        assert clip.wer(said(mine)) <= 0.1
    assert messages[-1].channels == 2


async def test_the_language_is_detected_on_request(
    live_server: LiveServer, speech_clip: SpeechClip
) -> None:
    clip = speech_clip("captain-veneno.es")
    client = AsyncDeepgramClient(api_key="unused", environment=environment(live_server))
    messages: list[Any] = []
    async with client.listen.v1.connect(model="nova-3", language="multi", **RAW) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        for piece in cut(clip.pcm[: 32_000 * 8], 6400):
            await connection.send_media(piece)
        await connection.send_close_stream()
        async with asyncio.timeout(60):
            await connection.start_listening()
    words = [w for m in messages if m.type == "Results" for w in m.channel.alternatives[0].words]
    assert words
    assert {w.language for w in words} == {"es"}


async def test_the_sdk_reports_a_refusal(live_server: LiveServer) -> None:
    client = AsyncDeepgramClient(api_key="unused", environment=environment(live_server))
    with pytest.raises(ApiError) as caught:
        async with client.listen.v1.connect(model="nova-3", encoding="linear16"):
            pass
    assert caught.value.status_code == 400
