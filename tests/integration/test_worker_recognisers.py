"""Both recognisers with the real model: words with times, batches, prefixes, languages, edges."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples
from mediaserver.inference.worker.ct2 import CTranslate2Recogniser
from mediaserver.inference.worker.recogniser import Heard, Job, Recogniser
from mediaserver.inference.worker.whisper_recogniser import WhisperRecogniser
from tests.speech import Clip, word_error_rate

Load = Callable[[str], Clip]


@pytest.fixture(scope="module", params=[WhisperRecogniser, CTranslate2Recogniser])
def recogniser(request: pytest.FixtureRequest, speech_model_dir: Path) -> Recogniser:
    made: Recogniser = request.param(speech_model_dir, "cpu", 2)
    return made


def job(samples: Samples, language: str | None = "en", start_s: float = 100.0) -> Job:
    return Job(
        stream_id="s",
        utterance=0,
        samples=samples,
        start_s=start_s,
        prompt=(),
        prefix=(),
        draft=(),
        language=language,
        detect=language is None,
        translate=False,
        final=True,
        detect_from_s=start_s,
    )


def text(heard: Heard) -> str:
    return " ".join(word.word.text for word in heard.words)


def test_words_come_with_times_within_the_window(recogniser: Recogniser, speech_clip: Load) -> None:
    clip = speech_clip("lj001-0005")
    (heard,) = recogniser.recognise([job(clip.samples)])
    assert clip.wer(text(heard)) <= 0.1
    assert heard.no_speech_probability < 0.5
    assert heard.detected is None
    edge_s = 100.0
    for word in heard.words:
        assert edge_s - 0.05 <= word.word.start_s <= word.word.end_s
        assert 0.0 <= word.word.probability <= 1.0
        assert word.tokens
        edge_s = word.word.end_s
    assert edge_s <= 100.0 + clip.duration_s + 0.1
    if clip.words:
        spoken_s = [end_s for _, end_s in clip.words]
        heard_s = [word.word.end_s - 100.0 for word in heard.words]
        assert heard_s[-1] == pytest.approx(spoken_s[-1], abs=0.5)


def test_a_batch_says_what_each_would_say_alone(recogniser: Recogniser, speech_clip: Load) -> None:
    clips = [speech_clip(name) for name in ("lj001-0005", "lj001-0012")]
    batch = recogniser.recognise([job(clip.samples) for clip in clips])
    for clip, heard in zip(clips, batch, strict=True):
        (alone,) = recogniser.recognise([job(clip.samples)])
        assert word_error_rate(text(alone), text(heard)) <= 0.1


def test_what_is_final_is_not_said_again(recogniser: Recogniser, speech_clip: Load) -> None:
    clip = speech_clip("lj001-0012")
    whole = job(clip.samples)
    (first,) = recogniser.recognise([whole])
    said = first.words[:6]
    prefix = tuple(token for word in said for token in word.tokens)
    (rest,) = recogniser.recognise([replace(whole, prefix=prefix)])
    assert word_error_rate(text(first), f"{text(replace(first, words=said))} {text(rest)}") <= 0.1
    assert rest.words[0].word.start_s >= said[-1].word.start_s


def test_detection_hears_only_the_utterance(recogniser: Recogniser, speech_clip: Load) -> None:
    spanish = speech_clip("captain-veneno.es").samples[: 6 * SAMPLE_RATE_HZ]
    english = speech_clip("lj001-0005").samples[: 4 * SAMPLE_RATE_HZ]
    both = replace(job(np.concatenate([spanish, english]), "es"), detect=True, detect_from_s=106.0)
    own, before = recogniser.recognise([both, job(spanish, None)])
    assert own.detected is not None
    assert own.detected[0] == "en"
    assert own.language == "es"  # what to do about it is for the stream to decide
    assert before.detected is not None
    assert before.detected[0] == "es"
    assert before.language == "es"


def test_speech_is_translated_to_english(recogniser: Recogniser, speech_clip: Load) -> None:
    spanish = speech_clip("captain-veneno.es").samples[: 5 * SAMPLE_RATE_HZ]
    (heard,) = recogniser.recognise([replace(job(spanish, "es"), translate=True)])
    assert "Academy" in text(heard)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 2.0])
def test_a_window_of_silence_gives_no_word_that_is_believed(
    recogniser: Recogniser, seconds: float
) -> None:
    quiet = np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    (heard,) = recogniser.recognise([job(quiet)])
    sure = [word for word in heard.words if word.word.probability >= 0.35]
    assert not sure or heard.no_speech_probability >= 0.6


def test_text_becomes_tokens_that_spell_it(recogniser: Recogniser) -> None:
    assert recogniser.encode_text("") == () or len(recogniser.encode_text("")) <= 1
    assert len(recogniser.encode_text("ask not what your country")) >= 5
    assert recogniser.encode_text(" ask") == recogniser.encode_text("ask")
