"""Captions as WebVTT, SRT, JSON or text. Pure."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mediaserver_client.messages import Caption, Word

Format = Literal["text", "vtt", "srt", "json"]
MOST_CHARACTERS = 84
"""Of one cue: two lines of 42."""
MOST_S = 7.0
"""Of one cue."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""


def render(captions: Iterable[Caption], format: Format, *, speakers: bool = False) -> str:
    """Return `captions` as a document; `speakers` adds their names."""
    captions = [caption for caption in captions if caption.words]
    match format:
        case "text":
            return "".join(f"{as_line(caption, speakers=speakers)}\n" for caption in captions)
        case "json":
            return json.dumps([as_json(caption) for caption in captions], ensure_ascii=False)
        case "vtt":
            blocks = (vtt_cue(cue) for caption in captions for cue in cues(caption, speakers))
            return "WEBVTT\n\n" + "".join(blocks)
        case "srt":
            every = [cue for caption in captions for cue in cues(caption, speakers)]
            return "".join(srt_cue(cue, number) for number, cue in enumerate(every, 1))
    raise ValueError(f"{format!r} is no transcript format; take text, vtt, srt or json")


def as_line(caption: Caption, *, speakers: bool = False) -> str:
    """Return one line of text."""
    text = " ".join(caption.text.split())
    return f"{caption.speaker}: {text}" if speakers and caption.speaker else text


def as_json(caption: Caption) -> dict[str, object]:
    """Return what a program wants to know of a caption."""
    words = [
        {key: _rounded(value) for key, value in dataclasses.asdict(word).items() if key != "final"}
        for word in caption.words
    ]
    return {
        "start_s": _rounded(caption.start_s),
        "end_s": _rounded(caption.end_s),
        "speaker": caption.speaker,
        "language": caption.language,
        "text": caption.text,
        "words": words,
    }


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def cues(caption: Caption, speakers: bool = False) -> Iterator[Cue]:
    """Cut a caption into cues of a readable size, after punctuation where there is some."""
    speaker = caption.speaker if speakers else ""
    words: list[Word] = []
    for word in caption.words:
        if words and not _fits([*words, word]):
            keep = _break(words)
            yield _cue(words[:keep], speaker)
            words = words[keep:]
        words.append(word)
    if words:
        yield _cue(words, speaker)


def _fits(words: list[Word]) -> bool:
    characters = sum(len(word.text) + 1 for word in words) - 1
    return characters <= MOST_CHARACTERS and words[-1].end_s - words[0].start_s <= MOST_S


def _break(words: list[Word]) -> int:
    for at in range(len(words), len(words) // 2, -1):
        if words[at - 1].text.endswith((".", "?", "!", ",", ";", ":", "。", "、")):
            return at
    return len(words)


def _cue(words: list[Word], speaker: str) -> Cue:
    start_s = words[0].start_s
    text = " ".join(word.text for word in words)
    return Cue(start_s, max(words[-1].end_s, start_s + 0.001), text, speaker)


def vtt_cue(cue: Cue) -> str:
    """Return a WebVTT cue block (W3C WebVTT, section 4) with its blank line."""
    text = _escaped(cue.text)
    voice = " ".join(_escaped(cue.speaker).split())
    body = f"<v {voice}>{text}" if voice else text
    return f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{body}\n\n"


def srt_cue(cue: Cue, number: int) -> str:
    """Return an SRT block with its blank line."""
    text = f"{cue.speaker}: {cue.text}" if cue.speaker else cue.text
    return f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    ms = max(0, round(seconds * 1000))
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
