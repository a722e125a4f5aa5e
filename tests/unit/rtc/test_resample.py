"""Streaming resampling keeps the sound, and keeps it at its place in time."""

import itertools

import av
import numpy as np
import pytest

from mediaserver.captions.audio import SAMPLE_RATE_HZ
from mediaserver.rtc.resample import Resampler


def frame_of(samples: np.ndarray, rate: int, *, stereo: bool = False) -> av.AudioFrame:
    pcm = (samples * 32767).astype(np.int16)
    if stereo:
        pcm = np.repeat(pcm, 2)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(pcm)[None, :], format="s16", layout="stereo" if stereo else "mono"
    )
    frame.sample_rate = rate
    return frame


def tone(rate: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def pieces(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000])
@pytest.mark.parametrize("stereo", [False, True])
def test_a_tone_comes_out_as_the_same_tone_at_16_khz(rate: int, stereo: bool) -> None:
    resampler = Resampler()
    chunks = []
    for piece in pieces(tone(rate, 1.0), rate // 50):
        chunks += resampler.push(frame_of(piece, rate, stereo=stereo))
    chunks += resampler.flush()

    heard = np.concatenate([chunk.samples for chunk in chunks])
    assert heard.dtype == np.float32
    assert abs(len(heard) - SAMPLE_RATE_HZ) <= 32
    expected = tone(SAMPLE_RATE_HZ, 1.0)[: len(heard)]
    middle = slice(800, 15_000)
    assert np.corrcoef(heard[middle], expected[middle])[0, 1] > 0.999
    assert np.sqrt(np.mean(heard[middle] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_the_chunks_follow_each_other_without_a_seam() -> None:
    resampler = Resampler()
    chunks = []
    for piece in pieces(tone(48_000, 2.0), 960):
        chunks += resampler.push(frame_of(piece, 48_000))
    chunks += resampler.flush()

    assert chunks[0].start_s == 0.0
    for earlier, later in itertools.pairwise(chunks):
        assert later.start_s == pytest.approx(earlier.end_s, abs=1e-9)


def test_a_click_stays_at_its_media_time() -> None:
    samples = np.zeros(48_000)
    samples[24_000] = 0.9
    resampler = Resampler()
    chunks = []
    for piece in pieces(samples, 960):
        chunks += resampler.push(frame_of(piece, 48_000))
    chunks += resampler.flush()

    loudest = max(chunks, key=lambda chunk: float(np.abs(chunk.samples).max()))
    at_s = loudest.start_s + int(np.argmax(np.abs(loudest.samples))) / SAMPLE_RATE_HZ
    assert at_s == pytest.approx(0.5, abs=0.001)


def test_a_gap_is_skipped_in_time_and_nothing_before_it_is_lost() -> None:
    resampler = Resampler()
    chunks = resampler.push(frame_of(tone(48_000, 0.1), 48_000), start_s=0.0)
    chunks += resampler.push(frame_of(tone(48_000, 0.1), 48_000), start_s=0.7)
    chunks += resampler.flush()

    before = [chunk for chunk in chunks if chunk.start_s < 0.5]
    after = [chunk for chunk in chunks if chunk.start_s >= 0.5]
    assert sum(chunk.duration_s for chunk in before) == pytest.approx(0.1, abs=0.002)
    assert after[0].start_s == pytest.approx(0.7)
    assert sum(chunk.duration_s for chunk in after) == pytest.approx(0.1, abs=0.002)


def test_media_time_never_goes_back() -> None:
    resampler = Resampler()
    chunks = resampler.push(frame_of(tone(48_000, 0.1), 48_000), start_s=5.0)
    chunks += resampler.push(frame_of(tone(48_000, 0.1), 48_000), start_s=1.0)
    chunks += resampler.flush()

    assert chunks[0].start_s == 5.0
    assert chunks[-1].end_s == pytest.approx(5.2, abs=0.002)
    assert all(
        later.start_s >= earlier.end_s - 1e-9 for earlier, later in itertools.pairwise(chunks)
    )


def test_rounded_timestamps_are_no_gaps() -> None:
    resampler = Resampler()
    chunks = []
    for index, piece in enumerate(pieces(tone(48_000, 1.0), 960)):
        chunks += resampler.push(frame_of(piece, 48_000), start_s=round(index * 0.02 + 0.004, 3))
    for earlier, later in itertools.pairwise(chunks):
        assert later.start_s == pytest.approx(earlier.end_s, abs=1e-9)


def test_the_input_format_may_change_on_the_way() -> None:
    resampler = Resampler()
    chunks = resampler.push(frame_of(tone(48_000, 0.5), 48_000, stereo=True))
    chunks += resampler.push(frame_of(tone(8_000, 0.5), 8_000))
    chunks += resampler.flush()
    assert chunks[-1].end_s == pytest.approx(1.0, abs=0.005)
    assert sum(chunk.duration_s for chunk in chunks) == pytest.approx(1.0, abs=0.005)


def test_float_input_that_is_not_finite_or_too_loud_is_tamed() -> None:
    samples = np.full((1, 1600), 7.0, dtype=np.float32)
    samples[0, 100] = np.nan
    samples[0, 200] = np.inf
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate = SAMPLE_RATE_HZ
    resampler = Resampler()
    chunks = resampler.push(frame) + resampler.flush()
    heard = np.concatenate([chunk.samples for chunk in chunks])
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1.0


def test_flushing_twice_or_an_unused_one_gives_nothing() -> None:
    resampler = Resampler()
    assert resampler.flush() == []
    resampler.push(frame_of(tone(48_000, 0.1), 48_000))
    resampler.flush()
    assert resampler.flush() == []
