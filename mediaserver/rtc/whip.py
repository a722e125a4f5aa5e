"""WHIP (RFC 9725) without HTTP: trickle fragments (RFC 8840), entity-tags, Link headers. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from mediaserver.kernel.errors import (
    BadInput,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    Unprocessable,
)
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.messages import IceServer

SDP_TYPE = "application/sdp"
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"
MAX_FRAGMENT_BYTES = 16 * 1024
TRANSCRIPT_RELATION = "urn:mediaserver:transcript"
"""The Link relation from a publisher's resource to its live transcript."""


@dataclass(frozen=True, slots=True)
class FragmentCandidate:
    """One candidate of a fragment, with the section that it was listed under."""

    line: str
    """``candidate:…``"""
    mid: str | None
    mline_index: int | None


@dataclass(frozen=True, slots=True)
class Fragment:
    """A parsed ``application/trickle-ice-sdpfrag``."""

    ufrag: str | None
    pwd: str | None
    candidates: tuple[FragmentCandidate, ...]
    ended: bool
    """Whether it has a=end-of-candidates."""

    def must_not_restart(self, ufrag: str, pwd: str) -> None:
        """Raise Unprocessable if the credentials are not those of the session (RFC 9725 4.3.3)."""
        if self.ufrag not in (None, ufrag) or self.pwd not in (None, pwd):
            raise Unprocessable(
                "an ICE restart is not possible here; DELETE this session and POST a new offer",
                code="ice_restart",
            )


def parse_fragment(text: str) -> Fragment:
    """Read a fragment (RFC 8840 section 9). Raises TooLarge or BadInput."""
    if len(text) > MAX_FRAGMENT_BYTES:
        raise TooLarge(f"an SDP fragment has at most {MAX_FRAGMENT_BYTES} bytes")
    ufrag = pwd = mid = None
    index = -1
    ended = False
    candidates = []
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.strip().partition(":")
        if line.startswith("m="):
            index, mid = index + 1, None
        elif not line.startswith("a="):
            raise BadInput("an SDP fragment has a= and m= lines only", code="bad_fragment")
        elif name == "a=ice-ufrag":
            ufrag = _once(name, ufrag, value)
        elif name == "a=ice-pwd":
            pwd = _once(name, pwd, value)
        elif name == "a=mid":
            mid = value
        elif name == "a=candidate" and colon:
            candidates.append(
                FragmentCandidate(f"candidate:{value}", mid, index if index >= 0 else None)
            )
        elif name == "a=end-of-candidates":
            ended = True
    if ufrag is None and not candidates and not ended:
        raise BadInput(
            "the SDP fragment has neither a=candidate nor a=ice-ufrag", code="bad_fragment"
        )
    return Fragment(ufrag, pwd, tuple(candidates), ended)


def _once(name: str, before: str | None, value: str) -> str:
    if not value or before not in (None, value):
        raise BadInput(f"{name} is empty, or there are two different ones", code="bad_fragment")
    return value


def new_resource_id() -> str:
    """Return an unguessable name for a session's URL (165 bits)."""
    return new_id("whip", 32)


def new_etag() -> str:
    """Return a strong entity-tag that names an ICE session (RFC 9725 section 4.3.1)."""
    return f'"{new_id("ice", 12)}"'


def check_if_match(header: str | None, etag: str) -> None:
    """Raise PreconditionRequired without If-Match, PreconditionFailed if it names another session.

    ``*`` matches (RFC 9110 section 13.1.1); RFC 9725's own example puts it in quotes. Weak tags
    never do.
    """
    if header is None:
        raise PreconditionRequired(
            "PATCH needs If-Match with the ETag that came with the answer (RFC 9725 section 4.3.2)"
        )
    given = [tag.strip() for tag in header.split(",")]
    if etag not in given and given not in (["*"], ['"*"']):
        raise PreconditionFailed("If-Match names another ICE session than the present one")


def ice_links(servers: Iterable[IceServer]) -> list[str]:
    """Return a Link header for each STUN and TURN server (RFC 9725 section 4.6)."""
    links = []
    for server in servers:
        for url in server.urls:
            link = f'<{quote(url, safe=":/?=&[]@,;%+-._~")}>; rel="ice-server"'
            if server.username is not None:
                link += f'; username="{_quoted(server.username)}"'
                link += f'; credential="{_quoted(server.credential or "")}"'
                link += '; credential-type="password"'
            links.append(link)
    return links


def transcript_link(session_id: str) -> str:
    """Return the Link header that leads a publisher to its captions."""
    return f'</api/v1/sessions/{session_id}/transcript.vtt>; rel="{TRANSCRIPT_RELATION}"'


def _quoted(text: str) -> str:
    """Escape for a quoted-string (RFC 9110 section 5.6.4); what is no visible ASCII is left out."""
    visible = "".join(c for c in text if " " <= c <= "~")
    return visible.replace("\\", "\\\\").replace('"', '\\"')
