"""Cues as WebVTT, SRT and text. WebVTT: W3C's "WebVTT: The Web Video Text Tracks Format"."""

from collections.abc import Iterable, Sequence

from mediaserver.captions.transcript import Cue

_PARAGRAPH_PAUSE_S = 4.0
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def webvtt_head(language: str = "", dropped_cues: int = 0) -> str:
    """Return what a WebVTT file begins with; cues follow."""
    head = "WEBVTT\n"
    if language:
        head += f"Language: {language}\n"
    if dropped_cues:
        head += f"\nNOTE The first {dropped_cues} cues are not kept any more.\n"
    return head + "\n"


def webvtt_cue(cue: Cue) -> str:
    """Return one cue, with the empty line that ends it; it can be appended to a growing file.

    Text and speaker are escaped, so that neither markup nor "-->" can come from what was said.
    """
    voice = f"<v {_voice(cue.speaker)}>" if cue.speaker.strip() else ""
    text = "\n".join(line.translate(_ENTITIES) for line in cue.lines)
    identity = f"{cue.number}\n" if cue.number else ""
    times = f"{webvtt_time(cue.start_s)} --> {webvtt_time(cue.end_s)}"
    return f"{identity}{times}\n{voice}{text}\n\n"


def webvtt(cues: Sequence[Cue], dropped_cues: int = 0) -> str:
    """Return a whole WebVTT file."""
    head = webvtt_head(language_of(cues), dropped_cues)
    return head + "".join(webvtt_cue(cue) for cue in cues)


def srt(cues: Sequence[Cue]) -> str:
    """Return a SubRip file. Speakers are named where there is more than one.

    SubRip knows no escapes: the one text that would break a file, "-->", is written "->".
    """
    named = len({cue.speaker for cue in cues}) > 1
    blocks = []
    for number, cue in enumerate(cues, start=1):
        text = "\n".join(cue.lines)
        if named and cue.speaker.strip():
            text = f"{_line(cue.speaker)}: {text}"
        times = f"{srt_time(cue.start_s)} --> {srt_time(cue.end_s)}"
        blocks.append(f"{number}\n{times}\n{text.replace('-->', '->')}\n")
    return "\n".join(blocks)


def text(cues: Sequence[Cue]) -> str:
    """Return what was said, a paragraph a speaker and pause; speakers named if several."""
    named = len({cue.speaker for cue in cues}) > 1
    paragraphs: list[str] = []
    before: Cue | None = None
    for cue in cues:
        same = before is not None and before.track_id == cue.track_id
        if same and before is not None and cue.start_s - before.end_s < _PARAGRAPH_PAUSE_S:
            paragraphs[-1] += f" {cue.text}"
        else:
            who = f"{_line(cue.speaker)}: " if named and cue.speaker.strip() else ""
            paragraphs.append(f"{who}{cue.text}")
        before = cue
    return "".join(f"{paragraph}\n\n" for paragraph in paragraphs).rstrip("\n") + "\n"


def language_of(cues: Iterable[Cue]) -> str:
    """Return the language that most cues have; empty for none."""
    counts: dict[str, int] = {}
    for cue in cues:
        counts[cue.language] = counts.get(cue.language, 0) + 1
    return max(counts, key=lambda language: counts[language]) if counts else ""


def webvtt_time(at_s: float) -> str:
    """Return ``HH:MM:SS.mmm``, with as many hours as it takes."""
    total_ms = max(0, round(at_s * 1000))
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}.{ms % 1000:03}"


def srt_time(at_s: float) -> str:
    """Return ``HH:MM:SS,mmm``."""
    return webvtt_time(at_s).replace(".", ",")


def _voice(speaker: str) -> str:
    return _line(speaker).translate(_ENTITIES)


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
