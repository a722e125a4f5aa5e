"""Offers are checked here before aiortc sees them; what it cannot take gets a helpful error. Pure.

Only offers that can work as a whole are accepted (RFC 9725 section 4.4.3 wants that of WHIP): all
media in one BUNDLE group on one transport, RTP and RTCP multiplexed, codecs that are spoken here.
What comes out is written anew from what aiortc's own parser understood, with the few things mended
that it does not do itself: defaults, the order of the group, sections that were stopped.
"""

import re
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.codecs import CODECS, is_rtx
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import DIRECTIONS, GroupDescription, MediaDescription, SessionDescription

from mediaserver.kernel.errors import BadInput, TooLarge, Unprocessable
from mediaserver.rtc.candidates import MAX_CANDIDATES, is_usable

MAX_SDP_BYTES = 64 * 1024
"""A browser's offer with one microphone and one camera has 6 to 8 KB."""
MAX_SECTIONS = 16

_MEDIA_KINDS = ("audio", "video")
_DIGESTS = ("sha-256", "sha-384", "sha-512")
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_ICE_UFRAG = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")
_ICE_PWD = re.compile(r"[A-Za-z0-9+/=_-]{22,256}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,63}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\r(?!\n)")
_SPOKEN = {
    "audio": "Opus, G.722, PCMU or PCMA",
    "video": "VP8, or H.264 of baseline profile with packetization-mode=1 "
    "(profile-level-id 42e01f or 42001f)",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What an offer must have besides being one."""

    needs_audio: bool = False
    """Refuse an offer that sends no audio."""
    only_sends: bool = False
    """Refuse media sections that do not send."""
    only_receives: bool = False
    """Refuse all but media sections that receive."""
    max_tracks_per_kind: int = 4


SESSION_RULES = Rules()
"""A member of a room: may publish several tracks, or only read the data channels."""
WHIP_RULES = Rules(needs_audio=True, only_sends=True, max_tracks_per_kind=1)
"""A WHIP publisher: RFC 9725 sections 4.2 and 4.4.2."""
VIEWER_RULES = Rules(only_receives=True, max_tracks_per_kind=1)
"""Who watches a broadcast: one audio and one video section at most."""


@dataclass(frozen=True, slots=True)
class Section:
    """One media section (m-line) of an offer."""

    mid: str
    kind: str
    """``audio``, ``video`` or ``application``."""
    sends: bool
    """Whether the offerer sends media in it."""
    stopped: bool
    """Port 0 outside the bundle: the offerer stopped its transceiver for good (RFC 9429 5.2.2)."""
    codecs: tuple[str, ...] = ()
    """Those offered that are spoken here, in the offer's order."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A checked offer."""

    sdp: str
    """For aiortc: normalised, without candidates."""
    sections: tuple[Section, ...]
    candidates: tuple[RTCIceCandidate, ...]
    """Usable ones; they are added one by one, so that a bad one harms nobody."""
    ufrag: str
    pwd: str
    fingerprints: frozenset[tuple[str, str]]

    @property
    def has_data(self) -> bool:
        """Whether data channels were negotiated."""
        return any(s.kind == "application" and not s.stopped for s in self.sections)


def check_offer(text: str, rules: Rules = SESSION_RULES, previous: Offer | None = None) -> Offer:
    """Check an offer; `previous` is the last accepted one of the same connection.

    Raises TooLarge, BadInput (it is not SDP) or Unprocessable (it cannot be answered as a whole).
    """
    description = _parse(text)
    stopped = _mend(description, text)
    _check_transport(description, stopped)
    for index, media in enumerate(description.media):
        _check_media(media, rules, index in stopped)
    sections = tuple(
        Section(
            mid=media.rtp.muxId,
            kind=media.kind,
            sends=media.direction in ("sendonly", "sendrecv") and media.kind in _MEDIA_KINDS,
            stopped=index in stopped,
            codecs=tuple(dict.fromkeys(_common_codecs(media))),
        )
        for index, media in enumerate(description.media)
    )
    _check_sections(sections, description, rules)
    candidates = _take_candidates(description)
    live = next(m for i, m in enumerate(description.media) if i not in stopped)
    ufrag, pwd = _ice(live)
    offer = Offer(str(description), sections, candidates, ufrag, pwd, _fingerprints(live))
    if previous is not None:
        _check_renegotiation(offer, previous)
    return offer


def finish_answer(sdp: str, offer: Offer) -> str:
    """Return aiortc's answer with what it does not say itself.

    Candidates may be trickled (RFC 8840 section 4.1.3), and sections that were stopped are refused:
    port 0, out of the bundle.
    """
    stopped = {s.mid for s in offer.sections if s.stopped}
    if stopped:
        description = SessionDescription.parse(sdp)
        for media in description.media:
            if media.rtp.muxId in stopped:
                media.port = 0
        for group in description.group:
            group.items = [mid for mid in group.items if mid not in stopped]
        sdp = str(description)
    return sdp.replace("\r\nm=", "\r\na=ice-options:trickle\r\nm=", 1)


def _parse(text: str) -> SessionDescription:
    if len(text) > MAX_SDP_BYTES or len(text.encode("utf-8", "replace")) > MAX_SDP_BYTES:
        raise TooLarge(f"an SDP offer has at most {MAX_SDP_BYTES} bytes", code="sdp_too_large")
    if not text.startswith("v=0"):
        raise BadInput("this is not SDP: it does not begin with v=0", code="bad_sdp")
    if _CONTROL.search(text):
        raise BadInput("the SDP holds control characters", code="bad_sdp")
    try:
        description = SessionDescription.parse(text)
    except Exception as error:  # aiortc's parser raises whatever its code runs into
        raise BadInput(
            f"the SDP is malformed ({type(error).__name__} while reading it)", code="bad_sdp"
        ) from None
    if not description.media:
        raise BadInput("the SDP has no media section (m=)", code="bad_sdp")
    if len(description.media) > MAX_SECTIONS:
        raise Unprocessable(
            f"{len(description.media)} media sections; at most {MAX_SECTIONS} are taken",
            code="too_many_sections",
        )
    return description


def _mend(description: SessionDescription, text: str) -> set[int]:
    """Fill in what SDP leaves to defaults; return the indices of stopped sections."""
    session_lines, *media_lines = re.split(r"^m=", text, flags=re.MULTILINE)
    default = next((d for d in DIRECTIONS if f"\na={d}" in session_lines), "sendrecv")
    description.host = None  # never used, and not every writer puts an address there
    stopped = {
        index
        for index, (media, lines) in enumerate(zip(description.media, media_lines, strict=False))
        if media.port == 0 and "\na=bundle-only" not in lines
    }
    live = [m for i, m in enumerate(description.media) if i not in stopped]
    if not live:
        raise Unprocessable("every media section is stopped (port 0)", code="nothing_offered")
    for index, media in enumerate(description.media):
        media.direction = media.direction or default
        media.host = None
        media.rtcp_port, media.rtcp_host = media.rtcp_port or 9, None
        for source in media.ssrc:
            source.cname = source.cname or "-"  # without one aiortc forgets the SSRC
        if index in stopped or _ice(media) == ("", ""):
            media.ice, media.dtls = live[0].ice, live[0].dtls
        if index in stopped:
            media.direction, media.rtcp_mux = "inactive", True
            if media.kind in _MEDIA_KINDS and not _common_codecs(media):
                media.rtp.codecs = CODECS[media.kind][:1]
                media.fmt = [codec.payloadType for codec in media.rtp.codecs]
    return stopped


def _check_transport(description: SessionDescription, stopped: set[int]) -> None:
    """Check BUNDLE, and that all live sections share one ICE and DTLS transport."""
    mids = [media.rtp.muxId for media in description.media]
    if not all(mid and _MID.fullmatch(mid) for mid in mids) or len(set(mids)) != len(mids):
        raise BadInput("every media section needs an a=mid of its own", code="bad_sdp")
    live = [media for i, media in enumerate(description.media) if i not in stopped]
    bundle = next((group for group in description.group if group.semantic == "BUNDLE"), None)
    missing = [m.rtp.muxId for m in live if bundle is None or m.rtp.muxId not in bundle.items]
    if missing:
        raise Unprocessable(
            "all media must be in one a=group:BUNDLE (bundlePolicy max-bundle); "
            f"these sections are not: {', '.join(missing)}",
            code="no_bundle",
        )
    # aiortc takes the group's first section as the one whose transport lives.
    description.group = [GroupDescription("BUNDLE", [m.rtp.muxId for m in live])]
    for media in live:
        _check_ice(media)
        if media.dtls is None or not media.dtls.fingerprints:
            raise BadInput(
                f"section {media.rtp.muxId}: a=fingerprint and a=setup are needed (DTLS)",
                code="bad_sdp",
            )
        if not _fingerprints(media):
            raise Unprocessable(
                f"section {media.rtp.muxId}: a fingerprint by SHA-256, SHA-384 or SHA-512 "
                "is needed",
                code="bad_fingerprint",
            )
        first = live[0]
        if _ice(media) != _ice(first) or media.dtls.role != (first.dtls and first.dtls.role):
            raise Unprocessable(
                "bundled sections have one transport: a=ice-ufrag, a=ice-pwd and a=setup must be "
                "the same in all",
                code="no_bundle",
            )


def _ice(media: MediaDescription) -> tuple[str, str]:
    return (media.ice.usernameFragment or "", media.ice.password or "") if media.ice else ("", "")


def _check_ice(media: MediaDescription) -> None:
    ufrag, pwd = _ice(media)
    if not _ICE_UFRAG.fullmatch(ufrag) or not _ICE_PWD.fullmatch(pwd):
        raise BadInput(
            f"section {media.rtp.muxId}: a=ice-ufrag (4 to 256 characters) and a=ice-pwd "
            "(22 to 256) are needed",
            code="bad_sdp",
        )


def _check_media(media: MediaDescription, rules: Rules, stopped: bool) -> None:
    mid = media.rtp.muxId
    if media.kind == "application":
        if rules.only_receives:
            raise Unprocessable(
                f"section {mid}: who watches has no data channel here; offer audio and video only",
                code="unusable",
            )
        legacy = media.profile == "DTLS/SCTP" and len(media.fmt) == 1 and media.fmt[0].isdigit()
        if not legacy and "webrtc-datachannel" not in media.fmt:
            raise Unprocessable(f"section {mid}: only data channels are taken", code="unusable")
        port = int(media.fmt[0]) if legacy else media.sctp_port
        if port is None or not 0 < port < 65536:
            raise BadInput(f"section {mid}: a=sctp-port is needed", code="bad_sdp")
        size = media.sctpCapabilities.maxMessageSize if media.sctpCapabilities else 0
        if size < 0:
            raise BadInput(f"section {mid}: a=max-message-size is negative", code="bad_sdp")
        return
    if media.kind not in _MEDIA_KINDS:
        raise Unprocessable(
            f"section {mid}: {media.kind[:20]!r} is not taken here", code="unusable"
        )
    if not media.rtcp_mux:
        raise Unprocessable(f"section {mid}: a=rtcp-mux is needed", code="no_rtcp_mux")
    codecs = _common_codecs(media)
    if not codecs:
        offered = sorted({codec.name[:20] for codec in media.rtp.codecs})[:8]
        raise Unprocessable(
            f"section {mid}: no {media.kind} codec in common; offered: "
            f"{', '.join(offered) or 'none with a=rtpmap'}; spoken here: {_SPOKEN[media.kind]}",
            code="no_common_codec",
        )
    if rules.only_receives and not stopped and media.direction not in ("recvonly", "sendrecv"):
        raise Unprocessable(
            f"section {mid} is {media.direction}; a viewer's sections are recvonly",
            code="not_receiving",
        )
    if rules.only_sends and not stopped and media.direction not in ("sendonly", "sendrecv"):
        raise Unprocessable(
            f"section {mid} is {media.direction}; a publisher's sections are sendonly",
            code="not_sending",
        )


def _common_codecs(media: MediaDescription) -> list[str]:
    if media.kind not in _MEDIA_KINDS:
        return []
    try:
        common = find_common_codecs(CODECS[media.kind], media.rtp.codecs)
    except (TypeError, ValueError):  # parameters that are not what the codec has
        return []
    return [codec.name for codec in common if not is_rtx(codec)]


def _check_sections(
    sections: tuple[Section, ...], description: SessionDescription, rules: Rules
) -> None:
    live = [section for section in sections if not section.stopped]
    for kind in _MEDIA_KINDS:
        same = [section for section in live if section.kind == kind]
        if len(same) > rules.max_tracks_per_kind:
            raise Unprocessable(
                f"{len(same)} {kind} sections; at most {rules.max_tracks_per_kind} are taken",
                code="too_many_tracks",
            )
        unnamed = [
            media.rtp.muxId
            for media, section in zip(description.media, sections, strict=True)
            if section in same and section.sends and not media.ssrc
        ]
        if len(same) > 1 and unnamed:
            raise Unprocessable(
                f"several {kind} sections can only be told apart by a=ssrc, which is missing in "
                f"{', '.join(unnamed)}",
                code="no_ssrc",
            )
    if sum(section.kind == "application" for section in sections) > 1:
        raise Unprocessable("there can be one data channel section", code="too_many_sections")
    audio = any(section.kind == "audio" and section.sends for section in live)
    if rules.needs_audio and not audio:
        raise Unprocessable(
            "the offer sends no audio, so there is nothing to caption", code="no_audio"
        )
    if rules.only_receives:
        return
    if not audio and not any(section.kind == "application" for section in live):
        raise Unprocessable(
            "the offer has neither audio to caption nor a data channel to send captions on",
            code="no_audio",
        )


def _take_candidates(description: SessionDescription) -> tuple[RTCIceCandidate, ...]:
    candidates = []
    for media in description.media:
        for candidate in media.ice_candidates:
            candidate.sdpMid = media.rtp.muxId
            if is_usable(candidate):
                candidates.append(candidate)
        media.ice_candidates, media.ice_candidates_complete = [], False
    return tuple(candidates[:MAX_CANDIDATES])


def _fingerprints(media: MediaDescription) -> frozenset[tuple[str, str]]:
    return frozenset(
        (fingerprint.algorithm.lower(), fingerprint.value.upper())
        for fingerprint in (media.dtls.fingerprints if media.dtls else ())
        if fingerprint.algorithm.lower() in _DIGESTS and _FINGERPRINT.fullmatch(fingerprint.value)
    )


def _check_renegotiation(offer: Offer, previous: Offer) -> None:
    if (offer.ufrag, offer.pwd) != (previous.ufrag, previous.pwd):
        raise Unprocessable(
            "an ICE restart is not possible here; open a new RTCPeerConnection instead",
            code="ice_restart",
        )
    if offer.fingerprints != previous.fingerprints:
        raise Unprocessable(
            "the DTLS certificate changed; open a new RTCPeerConnection instead",
            code="dtls_restart",
        )
    before = [(section.mid, section.kind) for section in previous.sections]
    now = [(section.mid, section.kind) for section in offer.sections]
    if now[: len(before)] != before:
        raise Unprocessable(
            "a new offer keeps the earlier media sections, in their order (RFC 3264 section 8); "
            "to remove a track set its direction to inactive, rather than stopping its transceiver",
            code="sections_changed",
        )
