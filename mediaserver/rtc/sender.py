"""RTP of one media section to a viewer: encoded frames are cut into packets, and not encoded.

Takes the place of aiortc's sender (see `internals.replace_sender`), which encodes what a track
gives it, with a task for each section. Here whoever has frames sends them (`send_frame`), and all
sections of a viewer are told of (RTCP) together (`report`).

Lost packets that the viewer asks for (NACK) are sent again from the last `HISTORY_PACKETS`, at most
as many as were sent anew; a keyframe that it asks for (PLI, FIR) is asked of the source. What the
viewer says of its bandwidth (REMB) is ignored: nothing is encoded anew for it.
"""

import asyncio
import secrets
from collections.abc import Callable

from aiortc import RTCRtpSender
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import (
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
    wrap_rtx,
)

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unprocessable
from mediaserver.rtc import internals
from mediaserver.rtc.encoded import EncodedFrame
from mediaserver.rtc.stats import MediaKind, StreamCounters

HISTORY_PACKETS = 512
"""That can be sent again: four seconds at 1 Mbit/s."""
RESENT_AT_ONCE = 128
"""Of what was sent anew, so much may be made up for by sending it again at any time."""
BURST_PACKETS = 24
"""A large picture goes out in bursts of so many packets, which small buffers on the way hold …"""
BURST_PAUSE_S = 0.004
"""… with this pause between them: 58 Mbit/s."""
_PAUSE_SHOWS_S = 0.1
"""Audio after a gap of this length begins anew (the marker, RFC 7587 section 4.2)."""


class Sender(RTCRtpSender):
    """See the module's docstring. `on_keyframe_wanted` is told of every PLI and FIR."""

    def __init__(
        self,
        kind: MediaKind,
        transport: RTCDtlsTransport,
        clock: Clock,
        on_keyframe_wanted: Callable[[], None],
    ) -> None:
        super().__init__(kind, transport)
        self._clock = clock
        self.media_kind: MediaKind = kind
        self._on_keyframe_wanted = on_keyframe_wanted
        self._payload_types: dict[str, int] = {}
        self._rtx_payload_types: dict[int, int] = {}
        self._extensions = HeaderExtensionsMap()
        self._mid = ""
        self._cname = ""
        self._sequence_number = secrets.randbelow(1 << 15)  # low: SRTP's first roll-over is far
        self._rtx_sequence_number = secrets.randbelow(1 << 15)
        self._picture_id = secrets.randbelow(1 << 15)
        self._timestamp_origin = secrets.randbits(32)
        self._history: dict[int, RtpPacket] = {}
        self._may_resend = RESENT_AT_ONCE
        self._latest: EncodedFrame | None = None
        self._latest_s = 0.0
        self._packets = 0
        self._payload_bytes = 0
        self._resent_bytes = 0
        self._lost = 0
        self._jitter = 0
        self._open = False
        self.started = asyncio.Event()
        """Set when what is sent reaches the viewer."""

    # ---- what aiortc calls --------------------------------------------------------------------

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Send from now on; called again after each negotiation."""
        if self._open:
            return
        self._mid, self._cname = parameters.muxId, parameters.rtcp.cname or "-"
        self._extensions.configure(parameters)
        for codec in parameters.codecs:
            if codec.payloadType is None:
                continue
            if is_rtx(codec):
                base = codec.parameters.get("apt")
                if isinstance(base, int):
                    self._rtx_payload_types[base] = codec.payloadType
            else:
                self._payload_types.setdefault(codec.name.lower(), codec.payloadType)
        internals.register_sender(self, parameters)
        self._open = True
        self.started.set()

    async def stop(self) -> None:
        """Send no more; say goodbye."""
        if self._open:
            self._open = False
            await internals.send_rtp(self, bytes(RtcpByePacket(sources=[self._ssrc])))
            internals.unregister_sender(self)
            self._history.clear()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._ssrc:
                    self._lost = min(max(self._lost, report.packets_lost), self._packets)
                    self._jitter = report.jitter
        elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            for sequence_number in packet.lost:
                await self._resend(sequence_number)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt in (RTCP_PSFB_FIR, RTCP_PSFB_PLI):
            self._on_keyframe_wanted()

    # ---- sending ------------------------------------------------------------------------------

    async def send_frame(self, frame: EncodedFrame) -> None:
        """Send a frame. Raises Unprocessable if the viewer does not take its codec."""
        if not self._open:
            return
        payload_type = self._payload_types.get(frame.codec.lower())
        if payload_type is None:
            raise Unprocessable(
                f"the broadcast is {frame.codec} now, which this viewer did not offer to take",
                code="codec_unsupported",
            )
        payloads = internals.payloads_of(frame.codec, frame.data, self._picture_id)
        self._picture_id = (self._picture_id + 1) % (1 << 15)
        timestamp = (self._timestamp_origin + frame.timestamp) % (1 << 32)
        begins = self._begins(frame)
        self._latest, self._latest_s = frame, self._clock.monotonic_s()
        for index, payload in enumerate(payloads):
            if index and index % BURST_PACKETS == 0:
                await asyncio.sleep(BURST_PAUSE_S)
            last = index == len(payloads) - 1
            packet = RtpPacket(
                payload_type=payload_type,
                marker=int(begins if frame.kind == "audio" else last),
                sequence_number=self._sequence_number,
                timestamp=timestamp,
                ssrc=self._ssrc,
                payload=payload,
            )
            self._sequence_number = (self._sequence_number + 1) % (1 << 16)
            self._packets += 1
            self._payload_bytes += len(payload)
            if frame.kind == "video":
                self._history[packet.sequence_number % HISTORY_PACKETS] = packet
                self._may_resend = min(self._may_resend + 1, RESENT_AT_ONCE)
            await self._transmit(packet)

    async def report(self, epoch_s: float) -> None:
        """Send a sender report (RFC 3550 section 6.4.1), once there was a frame.

        `epoch_s` turns `EncodedFrame.captured_s` into the time since 1900; it is the same for all
        sections of a viewer, which so knows what belongs together.
        """
        frame = self._latest
        if frame is None or not self._open:
            return
        since_s = self._clock.monotonic_s() - self._latest_s
        ntp_s = epoch_s + frame.captured_s + since_s
        rtp_time = self._timestamp_origin + frame.timestamp + round(since_s * frame.clock_hz)
        info = RtcpSenderInfo(
            ntp_timestamp=round(ntp_s * 2**32) % (1 << 64),
            rtp_timestamp=rtp_time % (1 << 32),
            packet_count=self._packets % (1 << 32),
            octet_count=self._payload_bytes % (1 << 32),
        )
        name = RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self._cname.encode())])
        await internals.send_rtp(
            self,
            bytes(RtcpSrPacket(ssrc=self._ssrc, sender_info=info))
            + bytes(RtcpSdesPacket(chunks=[name])),
        )

    def counters(self) -> StreamCounters:
        """Return what was sent so far, and lost of it by the viewer's reports."""
        latest = self._latest
        return StreamCounters(
            kind=self.media_kind,
            packets_expected=self._packets,
            packets_lost=self._lost,
            payload_bytes=self._payload_bytes + self._resent_bytes,
            jitter_s=self._jitter / latest.clock_hz if latest is not None else 0.0,
        )

    def _begins(self, frame: EncodedFrame) -> bool:
        before = self._latest
        return (
            before is None or (frame.timestamp - before.timestamp) / frame.clock_hz > _PAUSE_SHOWS_S
        )

    async def _resend(self, sequence_number: int) -> None:
        packet = self._history.get(sequence_number % HISTORY_PACKETS)
        if packet is None or packet.sequence_number != sequence_number or not self._may_resend:
            return
        self._may_resend -= 1
        self._resent_bytes += len(packet.payload)
        rtx = self._rtx_payload_types.get(packet.payload_type)
        if rtx is not None:
            packet = wrap_rtx(
                packet,
                payload_type=rtx,
                sequence_number=self._rtx_sequence_number,
                ssrc=self._rtx_ssrc,
            )
            self._rtx_sequence_number = (self._rtx_sequence_number + 1) % (1 << 16)
        await self._transmit(packet)

    async def _transmit(self, packet: RtpPacket) -> None:
        packet.extensions = HeaderExtensions(mid=self._mid)
        await internals.send_rtp(self, packet.serialize(self._extensions))
