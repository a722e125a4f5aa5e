"""Remote ICE candidates: parsed, and only those kept that can be of use. Pure.

What is dropped, and why no connection is lost by it: candidates of other transports than UDP
(there is no ICE over TCP here); `.local` names (resolving them needs multicast, and their owner
reaches us anyway: our candidates are in the answer, its first check shows its address); addresses
that nobody can have (multicast, unspecified).
"""

import ipaddress

from aiortc import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp

from mediaserver.kernel.errors import BadInput

MAX_CANDIDATES = 100
"""Of one peer. More are ignored: each costs checks, and can point at a third party."""
_TYPES = ("host", "srflx", "relay")


def parse_candidate(
    line: str | None, sdp_mid: str | None, sdp_mline_index: int | None
) -> RTCIceCandidate | None:
    """Read a candidate attribute; None for one that is of no use here and for end-of-candidates.

    `line` is ``candidate:…`` as RTCIceCandidate.candidate has it; the prefix may be missing or be
    ``a=candidate:``. Raises BadInput for what is no candidate.
    """
    value = (line or "").strip().removeprefix("a=").removeprefix("candidate:")
    if not value:
        return None
    try:
        candidate = candidate_from_sdp(value)
    except (AssertionError, ValueError, IndexError):
        raise BadInput(
            "not an ICE candidate; it looks like "
            "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host",
            code="bad_candidate",
        ) from None
    if sdp_mid is None and sdp_mline_index is None:
        sdp_mline_index = 0  # all media share one transport
    candidate.sdpMid, candidate.sdpMLineIndex = sdp_mid, sdp_mline_index
    return candidate if is_usable(candidate) else None


def is_usable(candidate: RTCIceCandidate) -> bool:
    """Whether checks to `candidate` can lead anywhere."""
    if candidate.protocol.lower() != "udp" or candidate.type not in _TYPES:
        return False
    if candidate.component != 1 or not 0 < candidate.port < 65536:
        return False
    try:
        address = ipaddress.ip_address(candidate.ip)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")
