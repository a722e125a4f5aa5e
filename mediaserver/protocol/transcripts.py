"""`GET /api/v1/sessions/{session_id}/transcript.json`, which is also how transcripts are kept."""

from mediaserver.protocol.base import Wire


class TranscriptWord(Wire):
    """One final word. Times are seconds from the start of the session."""

    text: str
    start_s: float
    end_s: float
    probability: float
    """0 to 1."""


class TranscriptCue(Wire):
    """Words shown together; once it has a number it never changes."""

    number: int
    """1 for the first; 0 while the cue still grows."""
    track_id: str
    speaker: str
    language: str
    start_s: float
    end_s: float
    text: str
    words: tuple[TranscriptWord, ...]


class SessionTranscript(Wire):
    """What was said in a session, as far as it is final."""

    session_id: str
    name: str
    """The publisher's."""
    started_at: float
    """Unix seconds."""
    ended: bool
    """Nothing more comes."""
    dropped_cues: int = 0
    """How many of the oldest cues are not kept any more (very long sessions)."""
    cues: tuple[TranscriptCue, ...]
    """By start time."""
