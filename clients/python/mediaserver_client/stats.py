"""How a publication does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicationStats:
    """How a publication does. Seconds of audio."""

    read_s: float
    """Read from the source."""
    sent_s: float
    """Sent to the server."""
    settled_s: float
    """The end of the last final word."""
    lost_s: float
    """Never captioned: a break found it no longer kept (see `keep_s`)."""
    connections: int
    """How many connections carried it; 1 if nothing broke."""
