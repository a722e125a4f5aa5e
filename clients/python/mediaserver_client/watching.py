"""Watching a broadcast: see `mediaserver.protocol.watching`.

This client shows no pictures; the messages are here for those who add WebRTC.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOffer:
    """Watch a member's broadcast; answered by `WatchAnswer` or `ErrorMessage`."""

    TYPE: ClassVar = "watch.offer"
    id: str | None = None
    sdp: str
    member_id: str | None = None
    """None is whoever broadcasts, but not oneself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchCandidate:
    """A trickled ICE candidate of the newest `WatchOffer`; None is end-of-candidates."""

    TYPE: ClassVar = "watch.candidate"
    candidate: str | None = None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStop:
    """Watch no more."""

    TYPE: ClassVar = "watch.stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchAnswer:
    """The answer to `WatchOffer`."""

    TYPE: ClassVar = "watch.answer"
    sdp: str
    member_id: str
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEnded:
    """What was watched is over."""

    TYPE: ClassVar = "watch.ended"
    member_id: str
    reason: Literal["ended", "left", "lost", "replaced", "failed"]
    detail: str = ""
    retry_after_s: float | None = None
    """Offer again after so long; None: not before the member broadcasts (again)."""


WatchClientMessage = WatchOffer | WatchCandidate | WatchStop
WatchServerMessage = WatchAnswer | WatchEnded
