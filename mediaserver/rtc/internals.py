"""Every place where aiortc's and aioice's private parts are touched, each with its reason.

aiortc is pinned to one version for this module's sake. Nothing is patched globally: what is
replaced is replaced on the one object of the one peer.
"""

import asyncio
import time
from collections.abc import Callable

from aioice import Candidate
from aioice.stun import TransactionError
from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcdtlstransport import RTCDtlsTransport, RtpRouter
from aiortc.rtcicetransport import RTCIceTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcsctptransport import DataChunk, RTCSctpTransport
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MAX_WAITING_DATAGRAMS = 1024
"""Of one peer: more than a second of video. They wait only while the event loop is held up."""

_TLS_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class DatagramQueue(asyncio.Queue[tuple[bytes, int] | None]):
    """aioice's queue of datagrams, which has no bound: the oldest are dropped, as UDP may.

    Anybody who guesses the port can fill it while nobody reads it yet, before DTLS starts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0

    def put_nowait(self, item: tuple[bytes, int] | None) -> None:
        """Add a datagram, or None, which wakes the reader at the end and is never dropped."""
        if item is not None and self.qsize() >= MAX_WAITING_DATAGRAMS:
            self.get_nowait()
            self.dropped += 1
        super().put_nowait(item)


def transport_of(connection: RTCPeerConnection) -> RTCDtlsTransport | None:
    """Return the one transport of a max-bundle connection; None before the first offer."""
    for transceiver in connection.getTransceivers():
        return transceiver.receiver.transport
    return connection.sctp.transport if connection.sctp is not None else None


def bind_ice(transport: RTCIceTransport, addresses: list[str], gather_timeout_s: float) -> None:
    """Make `transport` use these local addresses, and wait so long for STUN and TURN servers.

    aioice asks a module function for the addresses, which leaves 127.0.0.1 out, and passes them to
    this method of the connection; so here they are replaced for this connection alone.
    """
    connection = transport._connection
    gather = connection.get_component_candidates

    bound = list(addresses)

    async def gather_here(
        component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        del addresses, timeout  # aioice's choice
        return await gather(component, bound, gather_timeout_s)  # type: ignore[arg-type]

    connection.get_component_candidates = gather_here  # type: ignore[method-assign]
    connection._queue = DatagramQueue()


def stop_consent_checks(transport: RTCIceTransport) -> None:
    """End aioice's own consent checks; `watch` does them, and judges by all that comes.

    aioice closes a connection after 30 s without an answer, whatever else arrives. FFmpeg's whip
    muxer answers no checks once it is connected, so each of its sessions would end then.
    """
    task = transport._connection._query_consent_task
    if task is not None:
        task.cancel()


async def stun_round_trip_s(transport: RTCIceTransport) -> float:
    """Send an ICE consent check (RFC 7675) on the nominated pair; return the seconds it took.

    aioice checks every 5 s, gives up after six failures and tells nobody the round trip. Raises
    ConnectionError if there is no answer within 1.5 s (one retransmission), or no pair.
    """
    connection = transport._connection
    pair = connection._nominated.get(1)
    if pair is None or connection.remote_password is None:
        raise ConnectionError("no candidate pair is nominated")
    request = connection.build_request(pair, nominate=False)
    started_s = time.monotonic()
    try:
        await pair.protocol.request(
            request,
            pair.remote_addr,
            integrity_key=connection.remote_password.encode(),
            retransmissions=1,
        )
    except TransactionError as error:
        raise ConnectionError(f"a consent check failed: {error}") from None
    return time.monotonic() - started_s


def packets_received(transport: RTCDtlsTransport) -> int:
    """Return how many datagrams (DTLS, SRTP, SRTCP) came from the peer."""
    stats = transport._get_stats()[transport._stats_id]
    return int(stats.packetsReceived)


def replace_receiver(transceiver: RTCRtpTransceiver, receiver: RTCRtpReceiver) -> None:
    """Put our own receiver in the place of aiortc's, before that has started.

    aiortc's receiver decodes everything in a thread of its own into a queue without a bound, and
    joins that thread on the event loop; `RTCPeerConnection` has no way to be given another one.
    """
    receiver._track = transceiver.receiver._track
    receiver._set_rtcp_ssrc(transceiver.sender._ssrc)
    transceiver._RTCRtpTransceiver__receiver = receiver  # type: ignore[attr-defined]


def register_receiver(receiver: RTCRtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
    """Have the transport hand `receiver` the packets of its SSRCs and payload types."""
    receiver.transport._register_rtp_receiver(receiver, parameters)


def unregister_receiver(receiver: RTCRtpReceiver) -> None:
    """Undo `register_receiver`."""
    receiver.transport._unregister_rtp_receiver(receiver)


def replace_sender(transceiver: RTCRtpTransceiver, sender: RTCRtpSender) -> None:
    """Put our own sender in the place of aiortc's, before that has started.

    aiortc's sender takes what it sends from a track, in a task of its own for each section, and
    says of it in its reports that it was captured when it was sent. `RTCPeerConnection` has no way
    to be given another one. What is of the same stream (a=msid) is played in sync.
    """
    sender._stream_id = transceiver.sender._stream_id
    sender._ssrc = transceiver.sender._ssrc  # its receiver reports with that one
    transceiver._RTCRtpTransceiver__sender = sender  # type: ignore[attr-defined]


def prefer_codec(transceiver: RTCRtpTransceiver, name: str) -> None:
    """Answer with codec `name` first; after a remote offer, which set the codecs in its order.

    `setCodecPreferences` comes too late then, and tells profiles apart by all their parameters.
    """
    preferred = [c for c in transceiver._codecs if c.name.lower() == name.lower()]
    bases = {codec.payloadType for codec in preferred}
    preferred += [c for c in transceiver._codecs if c.parameters.get("apt") in bases]
    others = [codec for codec in transceiver._codecs if codec not in preferred]
    transceiver._codecs = preferred + others


def register_sender(sender: RTCRtpSender, parameters: RTCRtpSendParameters) -> None:
    """Have the transport hand `sender` the RTCP that is about its SSRC."""
    sender.transport._register_rtp_sender(sender, parameters)


def unregister_sender(sender: RTCRtpSender) -> None:
    """Undo `register_sender`."""
    sender.transport._unregister_rtp_sender(sender)


def payloads_of(codec: str, data: bytes, picture_id: int) -> list[bytes]:
    """Cut an encoded frame into RTP payloads, as aiortc's encoders do after encoding.

    Their public `pack` copies into an `av.Packet` first, and fails on an empty NAL unit.
    """
    if codec == "VP8":
        return Vp8Encoder._packetize(data, picture_id)
    if codec == "H264":
        units = H264Encoder._split_bitstream(data)
        return H264Encoder._packetize(unit for unit in units if unit)
    return [data]


def unsent_bytes(transport: RTCIceTransport) -> int:
    """Return how much waits for the socket to take it; asyncio's queue has no bound."""
    pair = transport._connection._nominated.get(1)
    datagrams = pair.protocol.transport if pair is not None else None
    size = getattr(datagrams, "get_write_buffer_size", None)  # a TURN client has none
    return int(size()) if size is not None else 0


def forget_ssrc(receiver: RTCRtpReceiver, ssrc: int) -> None:
    """Drop an SSRC that the router learned from a packet; it keeps them without a bound."""
    router: RtpRouter = receiver.transport._rtp_router
    router.ssrc_table.pop(ssrc, None)


def abort(transport: RTCIceTransport) -> None:
    """Close the sockets without a goodbye."""
    for protocol in transport._connection._protocols:
        protocol.transport.close()  # of a datagram transport: at once


async def send_rtp(end: RTCRtpReceiver | RTCRtpSender, packet: bytes) -> None:
    """Send an RTP or RTCP packet; nothing happens if the transport is not connected."""
    try:
        await end.transport._send_rtp(packet)
    except ConnectionError:
        return


def handshake_failure(transport: RTCDtlsTransport) -> str:
    """Say why the DTLS handshake failed, and what to do; aiortc only says that it did."""
    ssl = transport._ssl
    if ssl is None:
        return "ICE found no way to the peer"
    certificate = ssl.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return "the DTLS handshake failed before the peer's certificate came"
    key = certificate.public_key()
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name not in _TLS_CURVES:
        return (
            f"the peer's DTLS certificate is on the curve {key.curve.name}, which OpenSSL does not "
            "accept in TLS. FFmpeg's whip muxer, where it is built with GnuTLS, makes itself such "
            "a certificate; give it one on P-256: openssl req -x509 -newkey ec -pkeyopt "
            "ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=whip -keyout key.pem -out "
            "cert.pem, then ffmpeg … -f whip -cert_file cert.pem -key_file key.pem URL"
        )
    if not transport.encrypted:
        return "the DTLS handshake failed"
    if not ssl.get_selected_srtp_profile():
        return "the DTLS handshake agreed on no SRTP profile (use_srtp, RFC 5764)"
    return "the peer's DTLS certificate is not the one of its SDP's fingerprint"


def bound_reassembly(
    transport: RTCSctpTransport, limit_bytes: int, on_excess: Callable[[], None]
) -> None:
    """Call `on_excess` for a peer whose unfinished data channel messages are over the limit.

    aiortc advertises a window of 1 MiB but takes what comes beyond it; and it looks through all
    that waits for each fragment that arrives.
    """
    receive = transport._receive_data_chunk
    window_bytes = transport._advertised_rwnd

    async def receive_bounded(chunk: DataChunk) -> None:
        waiting_bytes = window_bytes - transport._advertised_rwnd
        if waiting_bytes + len(chunk.user_data) > limit_bytes:
            on_excess()
            return
        await receive(chunk)

    transport._receive_data_chunk = receive_bounded  # type: ignore[method-assign]


def is_delivered(transport: RTCSctpTransport) -> bool:
    """Whether the peer has acknowledged all that was sent on data channels."""
    return not (transport._data_channel_queue or transport._outbound_queue or transport._sent_queue)


def largest_message_bytes(transport: RTCSctpTransport) -> int:
    """Return the peer's a=max-message-size; 0 for any size."""
    return transport._remote_max_message_size
