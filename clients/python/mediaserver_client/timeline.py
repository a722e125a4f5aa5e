"""Several tracks, each with its own time zero, on one clock. Pure."""

import dataclasses
from collections.abc import Iterable

from mediaserver_client.messages import Caption

_MOST_TRACKS = 10_000


class Timeline:
    """Where on the server's clock each track has its zero, from the first caption of each."""

    def __init__(self) -> None:
        self._zero_s: dict[str, float] = {}

    def heard(self, caption: Caption, now_s: float) -> None:
        """A caption came. `now_s` (Unix seconds) stands in if the server does not say when."""
        if caption.track_id in self._zero_s:
            return
        if len(self._zero_s) >= _MOST_TRACKS:
            del self._zero_s[next(iter(self._zero_s))]
        began_at = now_s - caption.end_s + caption.start_s
        if caption.started_at is not None:
            began_at = caption.started_at
        self._zero_s[caption.track_id] = began_at - caption.start_s

    def arrange(self, captions: Iterable[Caption]) -> list[Caption]:
        """Return `captions` in order, with times from the earliest track's zero."""
        captions = list(captions)
        used = {caption.track_id for caption in captions}
        start_s = min((s for track, s in self._zero_s.items() if track in used), default=0.0)
        placed = [
            _shifted(caption, self._zero_s.get(caption.track_id, start_s) - start_s)
            for caption in captions
        ]
        return sorted(placed, key=lambda caption: caption.start_s)


def _shifted(caption: Caption, by_s: float) -> Caption:
    if not by_s:
        return caption
    words = tuple(
        dataclasses.replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s)
        for word in caption.words
    )
    return dataclasses.replace(
        caption, start_s=caption.start_s + by_s, end_s=caption.end_s + by_s, words=words
    )
