"""What was heard so far: finals in order, and the newest state of what is still being said. Pure.

Readers (`Cursor`) each see every final once and, between them, the newest partials; a slow reader
misses partials, not finals, until it lags by more than the history that is kept.
"""

from collections import deque
from dataclasses import dataclass

from mediaserver_client.errors import ReaderTooSlow
from mediaserver_client.messages import Caption

HISTORY = 10_000
"""Finals kept: many hours of speech."""
MOST_OPEN = 1_000
"""Utterances under way at once, over all speakers; beyond, the oldest is forgotten."""


@dataclass
class Cursor:
    """How far a reader has read."""

    finals: int = 0
    revision: int = 0


class CaptionLog:
    """All captions of a session, merged by `caption_id`."""

    def __init__(self, history: int = HISTORY) -> None:
        self._finals: deque[Caption] = deque(maxlen=history)
        self._final_count = 0
        self._closed_ids: deque[str] = deque(maxlen=history)
        self._closed: set[str] = set()
        self._open: dict[str, tuple[int, Caption]] = {}
        self._revision = 0

    @property
    def finals(self) -> tuple[Caption, ...]:
        """Complete captions, oldest first (the newest `history` of them)."""
        return tuple(self._finals)

    @property
    def open(self) -> tuple[Caption, ...]:
        """The newest state of captions that are not complete."""
        return tuple(caption for _, caption in self._open.values())

    def apply(self, caption: Caption) -> bool:
        """Take in a caption; False if it is older than what is known."""
        if caption.caption_id in self._closed:
            return False
        if caption.final:
            self._open.pop(caption.caption_id, None)
            if len(self._closed_ids) == self._closed_ids.maxlen:
                self._closed.discard(self._closed_ids[0])
            self._closed_ids.append(caption.caption_id)
            self._closed.add(caption.caption_id)
            self._finals.append(caption)
            self._final_count += 1
            return True
        self._revision += 1
        self._open.pop(caption.caption_id, None)
        if len(self._open) >= MOST_OPEN:
            del self._open[next(iter(self._open))]
        self._open[caption.caption_id] = (self._revision, caption)
        return True

    def drop_open(self, track_id: str) -> None:
        """Forget what a track that is gone left unfinished."""
        for caption_id, (_, caption) in list(self._open.items()):
            if caption.track_id == track_id:
                del self._open[caption_id]

    def next(self, cursor: Cursor, *, finals_only: bool = False) -> Caption | None:
        """Return what is new since `cursor`, and move it; None if nothing is.

        Raises ReaderTooSlow.
        """
        behind = self._final_count - cursor.finals
        if behind > len(self._finals):
            cursor.finals = self._final_count - len(self._finals)
            raise ReaderTooSlow(
                f"{behind - len(self._finals)} captions were forgotten before they were read"
            )
        if behind:
            cursor.finals += 1
            return self._finals[-behind]
        if finals_only:
            return None
        for revision, caption in self._open.values():
            if revision > cursor.revision:
                cursor.revision = revision
                return caption
        return None
