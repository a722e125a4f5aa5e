"""Packets of video become whole encoded pictures. Pure: time comes in.

A picture is handed on as soon as its last packet is there. Packets that are missing are asked for
(NACK), again after a while; a picture that does not get whole within `STUCK_S` is given up: what
was collected is thrown away and a keyframe is asked for (PLI).
"""

from collections.abc import Callable
from dataclasses import dataclass

from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import NackGenerator
from aiortc.rtp import RtpPacket

from mediaserver.rtc.timeline import signed_difference

STUCK_S = 0.25
"""A picture whose packets do not become whole within this time is given up."""
ASK_AGAIN_S = 0.1
"""Packets that are still missing are asked for again."""
PLI_INTERVAL_S = 0.25
QUIET_PLI_INTERVAL_S = 1.0
"""Between keyframe requests while nothing comes at all."""
MAX_PACKETS = 512
"""That wait for an earlier one, and of one picture."""
_RESTART = 3000
"""A jump of the sequence number by more than this is a new sequence (RFC 3550 A.1)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole encoded picture."""

    codec: RTCRtpCodecParameters
    ssrc: int
    rtp_time: int
    """32 bits."""
    arrived_s: float
    """When its first packet was taken in order (monotonic)."""
    keyframe: bool
    data: bytes
    """H.264: Annex B; a keyframe has its SPS and PPS."""


@dataclass(slots=True)
class _Part:
    packet: RtpPacket
    data: bytes


class _Source:
    """One SSRC: its packets in order."""

    def __init__(self, first: RtpPacket) -> None:
        self.ssrc = first.ssrc
        self.payload_type = first.payload_type
        self.nacks = NackGenerator()
        self.next = first.sequence_number
        self.held: dict[int, _Part] = {}
        self.parts: list[_Part] = []
        self.begun_s = 0.0
        self.emitted: int | None = None
        """The RTP time of the last picture."""


class PictureAssembly:
    """See the module's docstring. Times are monotonic seconds.

    `sink` gets every picture from the first keyframe on; after `give_up`, from the next one on.
    """

    def __init__(self, sink: Callable[[Picture], None]) -> None:
        self._sink = sink
        self._source: _Source | None = None
        self._parameters = ParameterSets()
        self._awaits_keyframe = True
        self._wants_keyframe = False
        self._packet_s: float | None = None
        self._stuck_since_s: float | None = None
        self._asked_s = 0.0
        self._requested_s: float | None = None

    def add(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now_s: float) -> list[int]:
        """Take a packet; return sequence numbers that are newly missing."""
        try:
            data = depayload(codec, packet.payload) if packet.payload else b""
        except (ValueError, IndexError):
            return []
        self._packet_s = now_s
        source = self._source
        if (
            source is None
            or source.ssrc != packet.ssrc
            or source.payload_type != packet.payload_type
            or abs(signed_difference(packet.sequence_number, source.next, 16)) > _RESTART
        ):
            if source is not None:
                self.give_up()
            source = self._source = _Source(packet)
        news = source.nacks.add(packet)
        if signed_difference(packet.sequence_number, source.next, 16) >= 0:
            source.held[packet.sequence_number] = _Part(packet, data)
            self._take(source, codec, now_s)
        if len(source.held) > MAX_PACKETS or len(source.parts) > MAX_PACKETS:
            self.give_up()
        if not news:
            return []
        self._asked_s = now_s
        return sorted(source.nacks.missing)

    def missing(self, now_s: float) -> tuple[int, list[int]] | None:
        """Return an SSRC and what to ask for once more; taken as asked for."""
        source = self._source
        if (
            source is None
            or self._stuck_since_s is None
            or not source.nacks.missing
            or now_s - self._asked_s < ASK_AGAIN_S
        ):
            return None
        self._asked_s = now_s
        return source.ssrc, sorted(source.nacks.missing)

    def want_keyframe(self) -> None:
        """Somebody needs a keyframe: ask as soon as that may be, and again until one comes.

        Browsers pass over what comes within 300 ms of the request before (libwebrtc).
        """
        self._wants_keyframe = True

    def give_up(self) -> None:
        """Drop what is incomplete; begin again with the next keyframe."""
        self._awaits_keyframe = True
        self._source = None
        self._stuck_since_s = None

    def needs_keyframe(self, now_s: float) -> bool:
        """Return whether to send a keyframe request now; taken as sent if so."""
        if self._stuck_since_s is not None and now_s - self._stuck_since_s > STUCK_S:
            self.give_up()
        if not self._awaits_keyframe and not self._wants_keyframe:
            return False
        quiet = self._packet_s is None or now_s - self._packet_s > QUIET_PLI_INTERVAL_S
        interval_s = QUIET_PLI_INTERVAL_S if quiet else PLI_INTERVAL_S
        if self._requested_s is not None and now_s - self._requested_s < interval_s:
            return False
        self._requested_s = now_s
        return True

    def _take(self, source: _Source, codec: RTCRtpCodecParameters, now_s: float) -> None:
        """Move what is in order to the picture that is being put together."""
        while (part := source.held.pop(source.next, None)) is not None:
            source.next = (source.next + 1) % 65536
            if not part.data:
                continue  # padding, with which senders probe
            if source.parts and source.parts[0].packet.timestamp != part.packet.timestamp:
                self._emit(source, codec)
            if not source.parts:
                source.begun_s = now_s
            source.parts.append(part)
            if part.packet.marker:
                self._emit(source, codec)
        if not source.held:
            self._stuck_since_s = None
        elif self._stuck_since_s is None:
            self._stuck_since_s = now_s

    def _emit(self, source: _Source, codec: RTCRtpCodecParameters) -> None:
        parts, source.parts = source.parts, []
        rtp_time = parts[0].packet.timestamp
        data = b"".join(part.data for part in parts)
        if codec.name == "H264":
            data = self._parameters.complete(data, goes_on=rtp_time == source.emitted)
            if not data:
                return
        source.emitted = rtp_time
        keyframe = is_keyframe(codec.name, data)
        if self._awaits_keyframe and not keyframe:
            return
        self._awaits_keyframe = False
        self._wants_keyframe = self._wants_keyframe and not keyframe
        self._sink(Picture(codec, source.ssrc, rtp_time, source.begun_s, keyframe, data))


class ParameterSets:
    """Keeps H.264's SPS and PPS, so that each keyframe has them.

    A sender may send them in a picture of their own, or only once (RFC 6184 section 8.4); who
    begins to watch at a later keyframe could not decode it.
    """

    _SLICES = range(1, 6)
    _IDR, _SPS, _PPS = 5, 7, 8
    _MAX_BYTES = 4096

    def __init__(self) -> None:
        self._sets = b""
        self._ahead = b""

    def complete(self, data: bytes, *, goes_on: bool = False) -> bytes:
        """Return the picture with what it needs before it; b"" for what is no picture yet.

        `goes_on`: it is more of the one before (some senders set the marker on every slice).
        """
        units = list(nal_units(data))
        kinds = [unit[0] & 0x1F for unit in units]
        own = [u for u, k in zip(units, kinds, strict=True) if k in (self._SPS, self._PPS)]
        if self._SPS in kinds and sum(map(len, own)) <= self._MAX_BYTES:
            self._sets = b"".join(b"\0\0\0\1" + unit for unit in own)
        elif own and len(self._sets) + sum(map(len, own)) <= self._MAX_BYTES:
            self._sets += b"".join(b"\0\0\0\1" + unit for unit in own)
        if not any(kind in self._SLICES for kind in kinds):
            if len(self._ahead) + len(data) <= self._MAX_BYTES:
                self._ahead += data
            return b""
        ahead, self._ahead = self._ahead, b""
        if self._IDR in kinds and self._SPS not in kinds and not goes_on:
            return self._sets + data
        return ahead + data


def nal_units(data: bytes) -> list[bytes]:
    """Split an Annex B byte stream; empty units are left out."""
    units = []
    start = data.find(b"\0\0\1")
    while start >= 0:
        following = data.find(b"\0\0\1", start + 3)
        unit = data[start + 3 : following if following >= 0 else len(data)]
        if following >= 0:
            unit = unit.rstrip(b"\0")
        if unit:
            units.append(unit)
        start = following
    return units


def is_keyframe(codec: str, data: bytes) -> bool:
    """Whether an encoded picture can be decoded without those before it."""
    if codec.upper() == "VP8":
        # RFC 6386 section 9.1: the lowest bit is 0, then comes a start code.
        return len(data) > 6 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
    # An IDR slice, or the parameters before one.
    return any(unit[0] & 0x1F in (5, 7) for unit in nal_units(data))
