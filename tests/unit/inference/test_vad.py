"""The real Silero model, streaming: the same answer however the audio is cut."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples
from mediaserver.inference.worker.vad import FRAME_SAMPLES, StreamVad, VadModel
from tests.speech import Clip


@pytest.fixture(scope="module")
def model() -> VadModel:
    return VadModel()


def probabilities(model: VadModel, pieces: list[Samples]) -> list[float]:
    vad = StreamVad(model)
    return [p for piece in pieces for p in vad.feed(piece)] + list(vad.flush())


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(cuts=st.lists(st.integers(0, 2 * SAMPLE_RATE_HZ), max_size=30))
def test_the_cut_into_messages_changes_nothing(model: VadModel, cuts: list[int]) -> None:
    chance = np.random.default_rng(1)
    audio = (chance.standard_normal(2 * SAMPLE_RATE_HZ) * 0.1).astype(np.float32)
    whole = probabilities(model, [audio])
    cut = probabilities(model, np.split(audio, sorted(cuts)))
    assert len(whole) == -(-len(audio) // FRAME_SAMPLES)
    np.testing.assert_allclose(cut, whole, atol=1e-4)


def test_speech_is_voice_and_the_silence_after_it_is_not(
    model: VadModel, speech_clip: Callable[[str], Clip]
) -> None:
    clip = speech_clip("lj001-0001")
    quiet = np.zeros(2 * SAMPLE_RATE_HZ, dtype=np.float32)
    heard = np.array(probabilities(model, [clip.samples, quiet]))
    speech = heard[: len(clip.samples) // FRAME_SAMPLES]
    assert (speech > 0.5).mean() > 0.7
    assert heard[-40:].max() < 0.1


def test_flushing_an_empty_detector_yields_nothing(model: VadModel) -> None:
    vad = StreamVad(model)
    assert list(vad.flush()) == []
    assert len(list(vad.feed(np.zeros(FRAME_SAMPLES, dtype=np.float32)))) == 1
    assert list(vad.flush()) == []


def test_streams_do_not_share_state(model: VadModel) -> None:
    chance = np.random.default_rng(2)
    loud = (chance.standard_normal(SAMPLE_RATE_HZ) * 0.3).astype(np.float32)
    quiet = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    alone = probabilities(model, [quiet])
    first, second = StreamVad(model), StreamVad(model)
    mixed: list[float] = []
    for a, b in zip(np.split(loud, 10), np.split(quiet, 10), strict=True):
        list(first.feed(a))
        mixed += second.feed(b)
    mixed += second.flush()
    np.testing.assert_allclose(mixed, alone, atol=1e-6)
