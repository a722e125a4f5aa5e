"""A DTLS transport that keeps what it is to send."""

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from aiortc.rtp import RtcpPacket, RtpPacket, is_rtcp


class Wire(RTCDtlsTransport):
    """A transport that keeps the RTCP (`sent`) and the RTP (`packets`) it is to send."""

    def __init__(self) -> None:
        super().__init__(
            RTCIceTransport(RTCIceGatherer(iceServers=[])), [RTCCertificate.generateCertificate()]
        )
        self.sent: list[object] = []
        self.packets: list[RtpPacket] = []

    async def _send_rtp(self, data: bytes) -> None:
        if is_rtcp(data):
            self.sent += RtcpPacket.parse(data)
        else:
            self.packets.append(RtpPacket.parse(data, self._rtp_header_extensions_map))

    def sent_of(self, kind: type) -> list[object]:
        """Return the RTCP packets of this kind."""
        return [packet for packet in self.sent if isinstance(packet, kind)]
