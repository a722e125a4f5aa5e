"""One real worker with the real model: what it says, what it does not, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from faster_whisper import WhisperModel

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.sessions.track import CaptionTrack
from tests.integration.speech_workers import (
    Heard,
    Tracks,
    push,
    sounds,
    speak,
    until,
    worker_process,
)
from tests.speech import Clip, word_error_rate

Load = Callable[[str], Clip]
NOISES = dict(sounds())


@pytest.fixture(scope="module")
def worker_url(speech_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One worker for all tests here."""
    with worker_process(speech_model_dir, tmp_path_factory.mktemp("w")) as url:
        yield url


@pytest.fixture
async def tracks(worker_url: str) -> AsyncIterator[Tracks]:
    tracks = Tracks()
    try:
        await tracks.connect(worker_url)
        yield tracks
    finally:
        await tracks.aclose()


async def resident_mb(tracks: Tracks) -> float:
    (worker,) = tracks.client.workers
    status = await worker.stub.Status(pb.StatusRequest(), timeout=20.0)
    return float(status.resident_bytes) / 1e6


async def hear(tracks: Tracks, samples: Samples, options: CaptionOptions | None = None) -> Heard:
    """Caption samples that are there already."""
    heard = Heard()
    track = tracks.open(heard, options or CaptionOptions(language="en"))
    push(track, samples)
    await track.end()
    assert heard.ended == "ended"
    return heard


def processed(track: CaptionTrack, until_s: float) -> bool:
    return track.stats.processed_s >= until_s


# ---- what is no speech


@pytest.mark.parametrize("name", NOISES)
async def test_what_is_no_speech_gives_no_words(tracks: Tracks, name: str) -> None:
    heard = await hear(tracks, NOISES[name])
    assert heard.text == ""
    assert not heard.shown


async def test_an_endless_silent_stream_costs_nothing(tracks: Tracks) -> None:
    heard = Heard()
    track = tracks.open(heard)
    quiet = np.zeros(60 * SAMPLE_RATE_HZ, dtype=np.float32)
    (worker,) = tracks.client.workers
    before = await resident_mb(tracks)
    computed_s = (await worker.stub.Status(pb.StatusRequest(), timeout=20.0)).computed_s
    for minute in range(5):
        push(track, quiet)
        await until(partial(processed, track, 60 * (minute + 1) - 1.0))
    await track.end()
    status = await worker.stub.Status(pb.StatusRequest(), timeout=20.0)
    assert not heard.revisions
    assert status.computed_s == computed_s  # silence is not decoded
    assert status.resident_bytes / 1e6 - before < 10.0


async def test_speech_after_noise_and_silence_is_heard(tracks: Tracks, speech_clip: Load) -> None:
    clip = speech_clip("lj001-0005")
    before = np.concatenate([NOISES["white noise"], NOISES["silence"]])
    heard = await hear(tracks, np.concatenate([before, clip.samples]))
    assert clip.wer(heard.text) <= 0.1
    assert heard.words[0].start_s > 29.0


# ---- bad calls


async def status_of(
    stub: "rpc.SpeechAsyncStub", requests: list[pb.SpeechRequest]
) -> grpc.StatusCode:
    """The status that ends a call of these requests."""

    async def drain() -> None:
        async for _ in stub.Transcribe(iter(requests), timeout=20.0):
            pass

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await drain()
    assert refused.value.details()
    code = refused.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


async def test_a_bad_call_gets_a_clear_status_and_others_go_on(
    tracks: Tracks, worker_url: str, speech_clip: Load
) -> None:
    clip, heard = speech_clip("lj001-0012"), Heard()
    good = tracks.open(heard)
    push(good, clip.samples, 0, len(clip.samples) // 2)
    config = pb.SpeechRequest(
        config=pb.StreamConfig(stream_id="x", options=pb.Options(endpointing_ms=500))
    )
    audio = pb.SpeechRequest(audio=pb.Audio(pcm_s16le=b"abc"))
    async with grpc.aio.insecure_channel(worker_url) as channel:
        stub = rpc.SpeechStub(channel)
        for requests in ([audio], [pb.SpeechRequest()], [config, audio], [config, config]):
            assert await status_of(stub, requests) is grpc.StatusCode.INVALID_ARGUMENT
        huge = pb.SpeechRequest(audio=pb.Audio(pcm_s16le=bytes(10_000_000)))
        assert await status_of(stub, [config, huge]) is grpc.StatusCode.RESOURCE_EXHAUSTED
    push(good, clip.samples, len(clip.samples) // 2)
    await good.end()
    assert clip.wer(heard.text) <= 0.2
    assert heard.statuses == []


# ---- words


async def test_finalize_makes_all_that_was_said_final(tracks: Tracks, speech_clip: Load) -> None:
    clip, heard = speech_clip("jfk"), Heard()
    track = tracks.open(heard)
    push(track, clip.samples, 0, 5 * SAMPLE_RATE_HZ)
    await track.finalize()
    first = heard.text
    assert first
    assert heard.revisions[-1][1].complete
    push(track, clip.samples, 5 * SAMPLE_RATE_HZ)
    await track.end()
    assert heard.text.startswith(first)
    assert clip.wer(heard.text) <= 0.25  # the cut may fall into a word


async def test_spanish_is_detected_and_translated_on_demand(
    tracks: Tracks, speech_clip: Load
) -> None:
    clip = speech_clip("captain-veneno.es")
    samples = clip.samples[: 13 * SAMPLE_RATE_HZ]
    spoken, translated = await asyncio.gather(
        hear(tracks, samples, CaptionOptions()),
        hear(tracks, samples, CaptionOptions(language="es", task="translate")),
    )
    assert {r.language for _, r in spoken.revisions if r.complete} == {"es"}
    wanted = " ".join(clip.text.split()[:24])
    assert word_error_rate(wanted, spoken.text, "es") < 0.5
    assert "Academia" in spoken.text
    english = translated.text.casefold()
    assert "secretary" in english, english
    assert "academ" in english, english


async def test_a_change_of_language_is_followed_within_two_utterances(
    tracks: Tracks, speech_clip: Load
) -> None:
    spanish, english = speech_clip("captain-veneno.es").samples, speech_clip("jfk")
    pause = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    back = spanish[13 * SAMPLE_RATE_HZ : 23 * SAMPLE_RATE_HZ]
    parts = [spanish[: 13 * SAMPLE_RATE_HZ], pause, english.samples, pause, back]
    heard = await hear(tracks, np.concatenate(parts), CaptionOptions())
    done = [r for _, r in heard.revisions if r.complete and r.words]
    first_s, last_s = 13.5, 14.5 + english.duration_s
    middles_s = [(r.words[0].start_s + r.words[-1].end_s) / 2 for r in done]
    said = [r for r, at_s in zip(done, middles_s, strict=True) if first_s < at_s < last_s]
    assert [r.language for r in said[2:]] == ["en"] * len(said[2:])
    assert "what you can do for your country" in " ".join(r.text for r in said)
    after = [r for r, at_s in zip(done, middles_s, strict=True) if at_s > last_s]
    assert after[-1].language == "es"
    assert [r.language for r in after[2:]] == ["es"] * len(after[2:])
    covered_s = sum(w.end_s - w.start_s for w in heard.words)
    assert covered_s > 0.6 * (13 + english.duration_s + 10)  # nothing was passed over in silence


async def test_speech_leaves_no_memory_behind(tracks: Tracks, speech_clip: Load) -> None:
    """After a warm-up, further streams grow the worker by little."""
    samples = speech_clip("lj001-0012").samples[: 6 * SAMPLE_RATE_HZ]
    for _ in range(2):
        await asyncio.gather(*(hear(tracks, samples) for _ in range(2)))
    before = await resident_mb(tracks)
    for _ in range(5):
        await asyncio.gather(*(hear(tracks, samples) for _ in range(2)))
    assert await resident_mb(tracks) - before < 30.0


@pytest.mark.leaves_behind("the thread of faster-whisper's progress bar")
async def test_streamed_text_is_as_good_as_offline(
    tracks: Tracks, speech_clip: Load, speech_model_dir: Path
) -> None:
    """Four live, at the pace of speech, and faster-whisper offline with beam 5 on the same."""
    clips = [speech_clip(name) for name in ("jfk", "lj001-0001", "lj001-0003", "lj001-0005")]

    async def live(clip: Clip) -> str:
        heard = Heard()
        track = tracks.open(heard)
        await speak(track, clip.samples)
        await track.end()
        return heard.text

    streamed = await asyncio.gather(*(live(clip) for clip in clips))
    model = WhisperModel(str(speech_model_dir), compute_type="int8", cpu_threads=2)

    def offline(clip: Clip) -> str:
        segments, _ = model.transcribe(clip.samples, language=clip.language, beam_size=5)
        return " ".join(segment.text for segment in segments)

    whole = " ".join(clip.text for clip in clips)
    ours = word_error_rate(whole, " ".join(streamed))
    theirs = word_error_rate(whole, " ".join([offline(clip) for clip in clips]))
    assert ours <= theirs + 0.02, f"{ours:.3f} live, {theirs:.3f} offline: {streamed}"
