"""Our Whisper decoder: what needs no model, then the model itself on recorded speech."""

import dataclasses
import difflib
import itertools
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mediaserver.inference.worker.whisper.alignment import combine_heads, first_frames
from mediaserver.inference.worker.whisper.backend import EncodedAudio, Predictions
from mediaserver.inference.worker.whisper.decoder import WhisperDecoder
from mediaserver.inference.worker.whisper.hypothesis import (
    Decoded,
    DecodeRequest,
    Hypothesis,
    one_round,
)
from mediaserver.inference.worker.whisper.onnx_backend import exact_weight_bits
from mediaserver.inference.worker.whisper.weights import FloatArray, Vocabulary, read_weights
from mediaserver.kernel.errors import ConfigurationError
from tests.speech import clip

END = 100
VOCABULARY = Vocabulary(
    end_of_text=END,
    start_of_transcript=101,
    transcribe=110,
    translate=111,
    start_of_previous=112,
    no_speech=113,
    no_timestamps=114,
    languages={"en": 102, "es": 103},
)
SILENT = EncodedAudio((), (), (), frames=40, speech_frames=30)


def hypothesis(**parts: Any) -> Hypothesis:
    given: dict[str, Any] = {"audio": SILENT, "max_new_tokens": 10, **parts}
    request = DecodeRequest(**given)
    return Hypothesis(request, VOCABULARY, text_positions=448)


def run(stream: Hypothesis, text: list[int]) -> int:
    """Play a model that always says `text`; returns the number of passes."""
    passes = 0
    while not stream.finished:
        scored = range(stream.scored_from, len(stream.pending))
        first = stream.scored_from - stream.text_from
        begin = len(stream.text) if stream.start_row is None else first
        # behind what is said already, the pending row i predicts text[begin + i]
        best = [[*text, END][min(begin + i, len(text))] for i in range(len(scored))]
        logs = np.full(len(best), -0.1, np.float32)
        expected = [
            -0.1 if token == said else -3.0
            for token, said in zip(stream.expected(), best, strict=True)
        ]
        says = Predictions(np.array(best), logs, logs + 1.1, np.array(expected, np.float32))
        attention = np.random.default_rng(0).random((2, len(stream.pending), 40), np.float32)
        stream.absorb(says, attention)
        passes += 1
    return passes


def test_a_right_draft_costs_one_pass() -> None:
    stream = hypothesis(draft=[1, 2, 3, 4])
    assert run(stream, [1, 2, 3, 4]) == 1
    result = stream.result()
    assert [token.id for token in result.tokens] == [1, 2, 3, 4]
    assert result.draft_accepted == 4
    assert result.finish == "end"


@pytest.mark.parametrize(
    "draft", [[], [9], [1, 9, 3, 4], [1, 3, 4], [1, 9, 2, 3, 4], [1, 2, 3, 4, 5, 6]]
)
def test_a_wrong_draft_changes_nothing(draft: list[int]) -> None:
    stream = hypothesis(draft=draft)
    run(stream, [1, 2, 3, 4])
    assert [token.id for token in stream.result().tokens] == [1, 2, 3, 4]


def test_the_rest_of_a_draft_is_tried_where_the_text_meets_it_again() -> None:
    stream = hypothesis(draft=[1, 9, 3, 4, 5, 6, 7])
    assert run(stream, [1, 2, 3, 4, 5, 6, 7]) == 3  # the draft; 2 alone; 3 and the rest
    assert stream.result().draft_accepted == 5


def test_a_draft_within_the_tolerance_stands() -> None:
    stream = hypothesis(draft=[9], draft_tolerance=5.0)
    run(stream, [1])
    first = stream.result().tokens[0]
    assert (first.id, first.source) == (9, "draft")
    assert first.margin is not None
    assert first.margin < 0


def test_a_prefix_is_not_questioned_and_is_scored_only_on_demand() -> None:
    for score in (False, True):
        stream = hypothesis(prefix=[7, 8], score_prefix=score)
        run(stream, [7, 1, 2])
        tokens = stream.result().tokens
        assert [token.id for token in tokens] == [7, 8, 2]
        assert [token.source for token in tokens] == ["prefix", "prefix", "new"]
        assert all((token.probability is not None) == score for token in tokens[:2])


def test_the_text_is_bounded() -> None:
    stream = hypothesis(max_new_tokens=3, prefix=[5], draft=[6, 7, 8, 9, 10])
    run(stream, [5, 6, 7, 8, 9, 10])
    result = stream.result()
    assert [token.id for token in result.tokens] == [5, 6, 7, 8]
    assert result.finish == "length"


def test_a_loop_is_cut_to_one_round() -> None:
    stream = hypothesis(max_new_tokens=50)
    run(stream, [1, 2, *[3, 4] * 20])
    result = stream.result()
    assert [token.id for token in result.tokens] == [1, 2, 3, 4]
    assert result.finish == "repetition"


def test_only_the_end_of_a_long_prompt_is_used() -> None:
    stream = hypothesis(prompt=[1] * 600)
    assert len(stream.pending) <= 448 // 2 + 4
    assert stream.pending[0] == VOCABULARY.start_of_previous


@pytest.mark.parametrize(
    "parts", [{"prefix": [END]}, {"draft": [-1]}, {"language": "xx"}, {"prefix": [1] * 446}]
)
def test_impossible_requests_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"may|know|most"):
        hypothesis(**parts)


@pytest.mark.parametrize(
    ("tokens", "cut"),
    [
        ([1, 2, 3], None),
        ([1, 1, 1, 1], None),
        ([1, 1, 1, 1, 1], 1),
        ([9, 1, 2, 1, 2], None),
        ([9, 1, 2, 1, 2, 1, 2], 3),
        ([*range(8), *range(8)], 8),
        ([*range(7), *range(7)], None),
    ],
)
def test_what_counts_as_a_loop(tokens: list[int], cut: int | None) -> None:
    assert one_round(tokens, 0) == cut


def test_tokens_begin_where_the_heads_look() -> None:
    truth = [0, 4, 9, 15]
    attention = np.full((3, 4, 20), 0.01, np.float32)
    for row, (begin, end) in enumerate(itertools.pairwise([*truth, 20])):
        attention[:, row, begin:end] = 1.0
    attention[:, :, 0] = 5.0  # where every token looks
    assert first_frames(combine_heads(attention)).tolist() == truth


def test_more_tokens_than_frames_share_the_last_frame() -> None:
    salience = np.random.default_rng(0).random((6, 3), np.float32)
    starts = first_frames(salience).tolist()
    assert starts == sorted(starts)
    assert starts[-1] == 2


def test_weights_lose_a_bit_where_the_processor_would_overflow() -> None:
    assert exact_weight_bits("vendor_id : GenuineIntel\nflags : avx2 avx512f") == 7
    assert exact_weight_bits("vendor_id : AuthenticAMD\nflags : avx2 avx512_vnni") == 8
    assert exact_weight_bits("CPU implementer : 0x41") == 8


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_weights(tmp_path)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    variable = text("decoder/x/weight") + struct.pack("<BIBI", 1, 4, 1, 4) + b"\1\2\3\4"
    header = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 1)
    (tmp_path / "model.bin").write_bytes(header + variable + struct.pack("<I", 0))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="quantised"):
        read_weights(tmp_path)


# With the model


@pytest.fixture(scope="module")
def model_dir(request: pytest.FixtureRequest) -> Path:
    folder = os.environ.get("MEDIASERVER_TEST_MODEL")
    return Path(folder or request.getfixturevalue("speech_model_dir"))


@pytest.fixture(scope="module")
def decoder(model_dir: Path) -> WhisperDecoder:
    return WhisperDecoder.open(model_dir)


@pytest.fixture(scope="module")
def spoken() -> FloatArray:
    """A few seconds of real speech, float32 at 16 kHz."""
    return clip("lj001-0001").samples[: 16_000 * 6]


def log_mel(samples: FloatArray, pad_s: float = 0.7) -> FloatArray:
    from faster_whisper.feature_extractor import FeatureExtractor

    padded = np.concatenate([samples, np.zeros(int(pad_s * 16_000), np.float32)])
    mel: FloatArray = FeatureExtractor()(padded, padding=160)[:, : len(padded) // 160]
    return mel


@pytest.fixture(scope="module")
def audio(decoder: WhisperDecoder, spoken: FloatArray) -> EncodedAudio:
    return decoder.encode(log_mel(spoken), len(spoken) // 320)


@pytest.fixture(scope="module")
def greedy(decoder: WhisperDecoder, audio: EncodedAudio) -> Decoded:
    return decoder.decode([DecodeRequest(audio, 44)])[0]


def ids(decoded: Decoded) -> list[int]:
    return [token.id for token in decoded.tokens]


def likeness(a: list[int], b: list[int]) -> float:
    """1 for the same tokens; int8 products differ a little with what shares their batch."""
    return difflib.SequenceMatcher(a=a, b=b, autojunk=False).ratio()


def test_it_says_what_ctranslate2_says(
    model_dir: Path, spoken: FloatArray, greedy: Decoded
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = ctranslate2.models.Whisper(str(model_dir), compute_type="float32", intra_threads=1)
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(log_mel(spoken)[None]))
    vocabulary = read_weights(model_dir).vocabulary
    start = [vocabulary.start_of_transcript, vocabulary.languages["en"]]
    prompt = [*start, vocabulary.transcribe, vocabulary.no_timestamps]
    result = model.generate(view, [prompt], beam_size=1, return_no_speech_prob=True)[0]
    theirs = [token for token in result.sequences_ids[0] if token < vocabulary.end_of_text]
    assert likeness(ids(greedy), theirs) >= 0.8
    assert greedy.no_speech_probability == pytest.approx(result.no_speech_prob, abs=0.05)


def test_times_rise_and_stay_in_the_audio(greedy: Decoded, spoken: FloatArray) -> None:
    times = [time for token in greedy.tokens for time in (token.start_s, token.end_s)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= len(spoken) / 16_000
    assert all(0 < (token.probability or 0) <= 1 for token in greedy.tokens)
    assert all((token.margin or 0) >= 0 for token in greedy.tokens)


def test_a_draft_saves_steps_and_changes_no_word(
    decoder: WhisperDecoder, audio: EncodedAudio, greedy: Decoded
) -> None:
    text = ids(greedy)
    right = decoder.decode([DecodeRequest(audio, 44, draft=text)])[0]
    assert ids(right) == text
    assert right.steps == 1
    wrong = [*text[:4], 11, *text[5:]]
    mended = decoder.decode([DecodeRequest(audio, 44, draft=wrong)])[0]
    assert ids(mended) == text
    assert mended.steps < greedy.steps


def test_a_batch_says_what_each_stream_says_alone(
    decoder: WhisperDecoder, spoken: FloatArray, audio: EncodedAudio, greedy: Decoded
) -> None:
    short = decoder.encode(log_mel(spoken[: 16_000 * 3]), 150)
    requests = [
        DecodeRequest(audio, 44),
        DecodeRequest(short, 26, prefix=ids(greedy)[:3]),
        DecodeRequest(audio, 44, prompt=[1, 2, 3], draft=ids(greedy)),
        DecodeRequest(short, 1),
    ]
    together = decoder.decode(requests)
    for request, found in zip(requests, together, strict=True):
        alone = decoder.decode([request])[0]
        assert likeness(ids(alone), ids(found)) >= 0.8
        assert found.no_speech_probability == pytest.approx(alone.no_speech_probability, abs=0.05)


def test_beams_find_no_worse_a_text(
    decoder: WhisperDecoder, spoken: FloatArray, audio: EncodedAudio, greedy: Decoded
) -> None:
    def mean(decoded: Decoded) -> float:
        return float(np.mean([math.log(t.probability or 1e-9) for t in decoded.tokens]))

    short = decoder.encode(log_mel(spoken[: 16_000 * 3]), 150)
    for window, tokens in ((audio, 44), (short, 26)):
        request = DecodeRequest(window, tokens, beams=5, doubtful=1.1)
        (searched,) = decoder.decode([request])
        (quick,) = decoder.decode([DecodeRequest(window, tokens)])
        assert mean(searched) >= mean(quick) - 0.05  # the end of text counts too
        assert likeness(ids(searched), ids(quick)) >= 0.6
        times = [time for token in searched.tokens for time in (token.start_s, token.end_s)]
        assert times == sorted(times)
    (sure,) = decoder.decode([DecodeRequest(audio, 44, beams=5, doubtful=0.0)])
    assert ids(sure) == ids(greedy)


def test_a_longer_window_builds_on_the_shorter_one(
    decoder: WhisperDecoder, spoken: FloatArray, greedy: Decoded
) -> None:
    before = decoder.encode(log_mel(spoken[:16_000]), 50)
    for seconds in (2, 3, 4, 5, 6):
        heard = spoken[: 16_000 * seconds]
        before = decoder.encode(log_mel(heard), len(heard) // 320, before)
    assert before.frames == before.keys[0].shape[2] == before.states[0].shape[2]
    text = ids(decoder.decode([DecodeRequest(before, 44)])[0])
    assert likeness(text, ids(greedy)) >= 0.8


def test_the_language_is_detected(decoder: WhisperDecoder, audio: EncodedAudio) -> None:
    (ranking,) = decoder.detect_language([audio])
    assert next(iter(ranking)) == "en"
    assert math.isclose(sum(ranking.values()), 1, abs_tol=1e-3)


def test_the_manifest_of_a_model_is_read(model_dir: Path) -> None:
    weights = read_weights(model_dir)
    config = json.loads((model_dir / "config.json").read_text())
    assert len(weights.alignment_heads) == len(config["alignment_heads"])
    assert weights.dimensions.width == weights["decoder/layer_norm/gamma"].shape[0]
    assert dataclasses.is_dataclass(weights.vocabulary)
