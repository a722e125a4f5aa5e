"""How a member watches another one's broadcast: the signalling of a WebRTC connection of its own.

The viewer offers to receive audio and video (`watch.offer`), the server answers to send what the
member broadcasts, encoded as it came. `MemberInfo.broadcast` says who broadcasts.
"""

from typing import Annotated, Literal

from pydantic import Field

from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.rooms import Id

EndReason = Literal["ended", "left", "lost", "replaced", "failed"]


class WatchOffer(Inbound):
    """Watch a member's broadcast. Answered by `watch.answer` or `error`. Needs `can_subscribe`.

    A new offer takes the place of the watch before, of which nothing more is told.
    """

    type: Literal["watch.offer"]
    id: Id | None = None
    """What the answer refers to."""
    sdp: Annotated[str, Field(max_length=200_000)]
    """An RTCPeerConnection's own offer: at most one audio and one video section, `recvonly`."""
    member_id: Id | None = None
    """Null is whoever broadcasts, but not oneself."""


class WatchCandidate(Inbound):
    """A trickled ICE candidate of the newest `watch.offer`; "" or null is end-of-candidates."""

    type: Literal["watch.candidate"]
    candidate: Annotated[str, Field(max_length=1000)] | None = None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class WatchStop(Inbound):
    """Watch no more. Nothing is told of it; without a watch it does nothing."""

    type: Literal["watch.stop"]


class WatchAnswer(Wire):
    """The answer to `watch.offer`; it holds all candidates (the server does not trickle out)."""

    type: Literal["watch.answer"] = "watch.answer"
    sdp: str
    member_id: str
    """Whose broadcast it is."""
    in_reply_to: str | None = None
    """The offer's `id`."""


class WatchEnded(Wire):
    """What was watched is over, and so is the connection that carried it."""

    type: Literal["watch.ended"] = "watch.ended"
    member_id: str
    reason: EndReason
    """`ended`: the member broadcasts no more (or may not). `left`: it left the room. `lost`: it or
    its instance fell silent. `replaced`: it broadcasts anew, over another connection. `failed`: the
    viewer's own connection broke, or could not be made."""
    detail: str = ""
    """For people."""
    retry_after_s: float | None = None
    """Offer again after so long; null: not before the member broadcasts (again)."""


WatchClientMessage = WatchOffer | WatchCandidate | WatchStop
WatchServerMessage = WatchAnswer | WatchEnded
