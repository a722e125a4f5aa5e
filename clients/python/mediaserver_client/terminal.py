"""Captions in a terminal: what is final stays, what may change is dim and rewritten. Pure.

`LiveView` turns captions into the text to write. One line at the bottom shows the utterance under
way; when its final words fill the line they move up and the line begins anew.
"""

import unicodedata

from mediaserver_client.messages import Caption

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
_REWRITE = "\r\x1b[2K"


class LiveView:
    """One view of one publication's captions; `width` is the terminal's, in columns."""

    def __init__(self, width: int = 80) -> None:
        self.width = max(20, width)
        self._caption_id = ""
        self._moved_up = 0
        self._shown = False

    def update(self, caption: Caption) -> str:
        """Return what to write for `caption`, including the control sequences."""
        if caption.caption_id != self._caption_id:
            self._caption_id, self._moved_up = caption.caption_id, 0
        final = [_clean(word.text) for word in caption.words if word.final][self._moved_up :]
        tentative = [_clean(word.text) for word in caption.words if not word.final]
        out = _REWRITE if self._shown else ""
        room = self.width - 1
        while final and columns(" ".join(final)) > room:
            line = _fitting(final, room)
            out += " ".join(final[:line]) + "\n"
            final, self._moved_up = final[line:], self._moved_up + line
        if caption.final:
            self._shown = False
            return out + (" ".join(final) + "\n" if final else "")
        line_text = " ".join(final)
        left = room - columns(line_text) - (1 if final else 0)
        shown = " ".join(tentative[: _fitting(tentative, left, at_least=0)])
        self._shown = bool(line_text or shown)
        gap = " " if line_text and shown else ""
        return out + line_text + gap + (f"{DIM}{shown}{PLAIN}" if shown else "")

    def clear(self) -> str:
        """Return what removes an unfinished line."""
        out, self._shown = (_REWRITE if self._shown else ""), False
        return out


def columns(text: str) -> int:
    """How many columns `text` takes: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _fitting(words: list[str], room: int, at_least: int = 1) -> int:
    count, used = 0, -1
    for word in words:
        used += 1 + columns(word)
        if used > room:
            break
        count += 1
    return max(at_least, count)


def _clean(text: str) -> str:
    """Keep a caption from controlling the terminal."""
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")
