"""What a person sees in the terminal, on a small emulation of one."""

import re

from mediaserver_client.messages import Caption, Word
from mediaserver_client.terminal import DIM, PLAIN, LiveView, columns


class Screen:
    """Understands carriage return, line feed, erase line, dim and plain; nothing else."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines = [""]
        self.dim = [""]
        """The dim part of each line."""

    def write(self, text: str) -> None:
        dim = False
        for token in re.findall(r"\x1b\[[0-9]*[a-zA-Z]|.|\n", text):
            match token:
                case "\n":
                    self.lines.append("")
                    self.dim.append("")
                case "\r":
                    pass
                case "\x1b[2K":
                    self.lines[-1] = self.dim[-1] = ""
                case "\x1b[2m":
                    dim = True
                case "\x1b[0m":
                    dim = False
                case _ if token.startswith("\x1b"):
                    raise AssertionError(f"unknown sequence {token!r}")
                case _:
                    self.lines[-1] += token
                    self.dim[-1] += token if dim else ""
                    assert columns(self.lines[-1]) < self.width, "the line would wrap"
        assert not dim


def caption(caption_id: str, final: str, tentative: str = "", *, complete: bool = False) -> Caption:
    words = tuple(
        Word(text=text, start_s=0.0, end_s=1.0, probability=1.0, final=is_final)
        for part, is_final in ((final, True), (tentative, False))
        for text in part.split()
    )
    return Caption(
        seq=0, track_id="t", caption_id=caption_id, speaker="", member_id="m", start_s=0.0,
        end_s=1.0, language="en", task="transcribe", text=f"{final} {tentative}".strip(),
        words=words, final=complete,
    )  # fmt: skip


def test_partials_are_dim_and_rewritten_and_finals_stay() -> None:
    screen, view = Screen(40), LiveView(40)
    screen.write(view.update(caption("a", "", "so he")))
    assert (screen.lines, screen.dim) == (["so he"], ["so he"])
    screen.write(view.update(caption("a", "So we", "beat")))
    assert (screen.lines, screen.dim) == (["So we beat"], ["beat"])
    screen.write(view.update(caption("a", "So we beat on.", complete=True)))
    assert (screen.lines, screen.dim) == (["So we beat on.", ""], ["", ""])
    screen.write(view.update(caption("b", "", "boats")))
    screen.write(view.clear())
    assert screen.lines == ["So we beat on.", ""]


def test_long_utterances_move_up_line_by_line_and_no_word_is_repeated() -> None:
    words = [f"word{n}" for n in range(30)]
    screen, view = Screen(30), LiveView(30)
    for n in range(1, 31):
        screen.write(view.update(caption("a", " ".join(words[:n]), " ".join(words[n : n + 8]))))
    screen.write(view.update(caption("a", " ".join(words), complete=True)))
    assert " ".join(screen.lines).split() == words
    assert screen.dim == [""] * len(screen.lines)


def test_an_utterance_that_was_no_speech_leaves_no_trace() -> None:
    screen, view = Screen(30), LiveView(30)
    screen.write(view.update(caption("a", "", "hm")))
    screen.write(view.update(caption("a", "", complete=True)))
    assert screen.lines == [""]


def test_wide_characters_count_twice_and_control_characters_not_at_all() -> None:
    assert columns("字幕") == 4
    assert columns("e\u0301") == 1
    screen, view = Screen(21), LiveView(21)
    screen.write(view.update(caption("a", "字幕字幕 字幕字幕 字幕", "字幕字幕")))
    evil = LiveView(40).update(caption("b", "\x1b[31mred\x07", "\x1b]0;title\x07"))
    assert evil == f"[31mred {DIM}]0;title{PLAIN}"
