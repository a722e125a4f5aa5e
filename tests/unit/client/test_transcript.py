"""Captions as documents."""

import itertools
import json

import pytest
from mediaserver_client.messages import Caption, Word
from mediaserver_client.transcript import cues, render


def said(text: str, *, start_s: float = 0.0, word_s: float = 0.4, speaker: str = "Ada") -> Caption:
    words = tuple(
        Word(
            text=word, start_s=start_s + word_s * n, end_s=start_s + word_s * (n + 1),
            probability=0.5, final=True,
        )
        for n, word in enumerate(text.split())
    )  # fmt: skip
    return Caption(
        seq=1, track_id="t", caption_id=text, speaker=speaker, member_id=speaker, start_s=start_s,
        end_s=words[-1].end_s if words else start_s, language="en", task="transcribe", text=text,
        words=words, final=True,
    )  # fmt: skip


def test_webvtt_has_a_header_cue_times_and_escapes() -> None:
    text = render([said("Q & A: is 1 < 2?", start_s=3661.5)], "vtt")
    assert text == ("WEBVTT\n\n01:01:01.500 --> 01:01:04.300\nQ &amp; A: is 1 &lt; 2?\n\n")


def test_webvtt_names_speakers_when_asked() -> None:
    assert "<v Ada Lovelace>hi" in render(
        [said("hi", speaker="Ada\nLovelace")], "vtt", speakers=True
    )
    assert "<v &lt;b&gt;>hi" in render([said("hi", speaker="<b>")], "vtt", speakers=True)


def test_srt_is_numbered_over_all_captions() -> None:
    text = render([said("One."), said("Two.", start_s=2.0)], "srt")
    assert text == (
        "1\n00:00:00,000 --> 00:00:00,400\nOne.\n\n2\n00:00:02,000 --> 00:00:02,400\nTwo.\n\n"
    )


def test_text_is_a_line_a_caption_and_empty_ones_are_left_out() -> None:
    captions = [said("One."), said(""), said("Two.", speaker="Bob")]
    assert render(captions, "text") == "One.\nTwo.\n"
    assert render(captions, "text", speakers=True) == "Ada: One.\nBob: Two.\n"


def test_json_has_words_with_times() -> None:
    [caption] = json.loads(render([said("Señor D.")], "json"))
    assert caption["text"] == "Señor D."
    assert caption["words"][1] == {"text": "D.", "start_s": 0.4, "end_s": 0.8, "probability": 0.5}


def test_long_captions_become_several_cues_cut_after_punctuation() -> None:
    text = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, "
        "it was the age of foolishness, it was the epoch of belief"
    )
    parts = list(cues(said(text, word_s=0.2)))
    assert " ".join(part.text for part in parts) == text
    assert all(len(part.text) <= 84 for part in parts)
    assert all(part.text.endswith(",") for part in parts[:-1])
    assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(parts))
    assert all(part.end_s - part.start_s <= 7.0 for part in cues(said(text, word_s=1.0)))


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="text, vtt, srt or json"):
        render([], "docx")  # type: ignore[arg-type]
