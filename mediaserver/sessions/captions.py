"""From a track's events to the messages that a room gets. Pure."""

from mediaserver.captions.events import Revision
from mediaserver.protocol.messages import Caption, Task, WordMessage

_DIGITS = 3


def caption_of(
    revision: Revision,
    *,
    seq: int | None,
    track_id: str,
    member_id: str,
    speaker: str,
    task: Task,
    track_began_at: float,
) -> Caption:
    """Describe an utterance as it is known now; `track_began_at` is in Unix seconds."""
    words = tuple(
        WordMessage(
            text=word.text,
            start_s=round(word.start_s, _DIGITS),
            end_s=round(word.end_s, _DIGITS),
            probability=round(word.probability, _DIGITS),
            final=i < len(revision.final),
        )
        for i, word in enumerate(revision.words)
    )
    return Caption(
        seq=seq,
        track_id=track_id,
        caption_id=f"{track_id}.{revision.utterance}",
        speaker=speaker,
        member_id=member_id,
        start_s=round(revision.start_s, _DIGITS),
        end_s=round(revision.words[-1].end_s if words else revision.end_s, _DIGITS),
        language=revision.language,
        task=task,
        text=revision.text,
        words=words,
        final=revision.complete,
        started_at=round(track_began_at + revision.start_s, _DIGITS),
    )
