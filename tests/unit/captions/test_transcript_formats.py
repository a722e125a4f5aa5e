"""WebVTT and SRT are read back by small readers that follow the specifications."""

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mediaserver.captions.events import Word
from mediaserver.captions.subtitles import (
    language_of,
    srt,
    srt_time,
    text,
    webvtt,
    webvtt_cue,
    webvtt_head,
    webvtt_time,
)
from mediaserver.captions.transcript import Cue, Transcript, TranscriptDocument

from .test_transcript import revisions, say, utterances

_TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)[.,](\d{3}) --> (\d{2,}):(\d\d):(\d\d)[.,](\d{3})$")


def seconds(parts: tuple[str, ...]) -> float:
    hours, minutes, whole, ms = map(int, parts)
    return round(hours * 3600 + minutes * 60 + whole + ms / 1000, 3)


def read_vtt(document: str) -> list[tuple[str | None, float, float, str, str]]:
    """(id, start, end, speaker, text) of each cue, as section 6.1 of the specification reads it."""
    assert document.startswith("WEBVTT\n")
    rows = []
    for block in re.split(r"\n{2,}", document)[1:]:
        lines = [line for line in block.split("\n") if line]
        if not lines or lines[0].startswith("NOTE"):
            continue
        identity = None if "-->" in lines[0] else lines.pop(0)
        times = _TIMES.match(lines.pop(0))
        assert times, block
        payload = "\n".join(lines)
        assert "-->" not in payload
        voice = re.match(r"<v ([^>]*)>", payload)
        body = payload[voice.end() :] if voice else payload
        assert "<" not in body
        assert ">" not in body
        groups = times.groups()
        rows.append(
            (
                identity,
                seconds(groups[:4]),
                seconds(groups[4:]),
                html.unescape(voice.group(1)) if voice else "",
                html.unescape(body),
            )
        )
    return rows


def read_srt(document: str) -> list[tuple[int, float, float, str]]:
    rows = []
    for block in document.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if lines == [""]:
            continue
        times = _TIMES.match(lines[1])
        assert times, block
        assert "-->" not in "\n".join(lines[2:])
        groups = times.groups()
        rows.append((int(lines[0]), seconds(groups[:4]), seconds(groups[4:]), "\n".join(lines[2:])))
    return rows


names = st.text(st.characters(codec="utf-8"), max_size=20)


def transcript_of(said: list[list[Word]], name: str) -> Transcript:
    transcript = Transcript()
    for event in revisions(said, 1):
        transcript.add("t", name, event)
    transcript.close()
    return transcript


def spaced(value: str) -> list[str]:
    return "".join(c if c.isprintable() else " " for c in value).split()


@given(utterances(), names)
def test_webvtt_reads_back(said: list[list[Word]], name: str) -> None:
    cues = transcript_of(said, name).cues()
    rows = read_vtt(webvtt(cues))
    assert [(r[0], r[1], r[2]) for r in rows] == [(str(c.number), c.start_s, c.end_s) for c in cues]
    assert [r[4] for r in rows] == ["\n".join(c.lines) for c in cues]
    assert all(r[3].split() == spaced(name) for r in rows)
    starts = [r[1] for r in rows]
    assert starts == sorted(starts)


@given(utterances(), names)
def test_a_growing_webvtt_is_the_same_as_the_whole(said: list[list[Word]], name: str) -> None:
    transcript, grown, number = Transcript(), webvtt_head(), 0
    for event in revisions(said, 3):
        transcript.add("t", name, event)
        fresh = transcript.cues_since(number)
        number += len(fresh)
        grown += "".join(webvtt_cue(cue) for cue in fresh)
    assert read_vtt(grown) == read_vtt(webvtt(transcript.cues()))


@given(utterances(), names)
def test_srt_reads_back(said: list[list[Word]], name: str) -> None:
    cues = transcript_of(said, name).cues()
    rows = read_srt(srt(cues))
    assert [(r[1], r[2]) for r in rows] == [(c.start_s, c.end_s) for c in cues]
    assert [r[0] for r in rows] == list(range(1, len(cues) + 1))
    assert [r[3] for r in rows] == ["\n".join(c.lines).replace("-->", "->") for c in cues]


@given(utterances(), names)
def test_a_document_survives_json(said: list[list[Word]], name: str) -> None:
    document = transcript_of(said, name).document()
    adapter = TypeAdapter(TranscriptDocument)
    assert adapter.validate_json(adapter.dump_json(document)) == document


def test_markup_that_somebody_says_stays_text() -> None:
    transcript = Transcript()
    say(transcript, "<script>alert(1)</script> --> a & b")
    document = webvtt(transcript.cues())
    assert "<script>" not in document
    assert "&lt;script&gt;" in document
    assert read_vtt(document)[0][4] == "<script>alert(1)</script> --> a & b"


def test_a_speakers_name_cannot_leave_its_tag() -> None:
    cue = Cue(1, "t", "A>\n\n00:00 --> <b>", "en", 0.0, 1.0, (Word("hi", 0.0, 1.0, 1.0),))
    assert (
        webvtt_cue(cue)
        == "1\n00:00:00.000 --> 00:00:01.000\n<v A&gt; 00:00 --&gt; &lt;b&gt;>hi\n\n"
    )


@pytest.mark.parametrize(
    ("at_s", "vtt"),
    [
        (0.0, "00:00:00.000"),
        (59.9996, "00:01:00.000"),
        (3661.5, "01:01:01.500"),
        (400_000.25, "111:06:40.250"),
    ],
)
def test_times_are_written_with_hours(at_s: float, vtt: str) -> None:
    assert webvtt_time(at_s) == vtt
    assert srt_time(at_s) == vtt.replace(".", ",")


def two_speakers() -> tuple[Cue, ...]:
    def cue(number: int, who: str, start_s: float, what: str) -> Cue:
        return Cue(
            number, who, who, "en", start_s, start_s + 1, (Word(what, start_s, start_s + 1, 1.0),)
        )

    return (
        cue(1, "Ann", 0, "Hello."),
        cue(2, "Ann", 1.5, "Well?"),
        cue(3, "Bob", 3, "Hi."),
        cue(4, "Bob", 60, "Bye."),
    )


def test_text_has_a_paragraph_a_speaker_and_pause() -> None:
    assert text(two_speakers()) == "Ann: Hello. Well?\n\nBob: Hi.\n\nBob: Bye.\n"
    assert text(two_speakers()[:2]) == "Hello. Well?\n"
    assert text(()) == "\n"
    assert "Ann: Hello." in srt(two_speakers())
    assert "Ann" not in srt(two_speakers()[:2])


def test_the_head_says_language_and_what_is_missing() -> None:
    assert webvtt(two_speakers(), dropped_cues=7).startswith(
        "WEBVTT\nLanguage: en\n\nNOTE The first 7"
    )
    assert language_of(()) == ""
    assert json.loads(TypeAdapter(Cue).dump_json(two_speakers()[0]))["words"][0]["text"] == "Hello."
