"""Real encoded video in RTP packets."""

import fractions

import av
import numpy as np
from aiortc.codecs import CODECS
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

VP8 = CODECS["video"][0]
H264 = CODECS["video"][2]
SSRC = 42


def picture(number: int) -> av.VideoFrame:
    gray = np.random.default_rng(number).integers(0, 255, (120, 160), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = number * 3600, fractions.Fraction(1, 90_000)
    return frame


class Sender:
    """Encodes pictures into RTP packets, several a picture."""

    def __init__(self, encoder: Vp8Encoder | H264Encoder, codec: RTCRtpCodecParameters) -> None:
        self._encoder, self._codec = encoder, codec
        self._sequence = 65_530
        self._number = 0
        self.marks = True
        """Whether the last packet of a picture has the marker, as it should."""

    def picture(self, *, key: bool = False) -> list[RtpPacket]:
        self._number += 1
        payloads, _ = self._encoder.encode(picture(self._number), key)
        packets = []
        for index, payload in enumerate(payloads):
            packet = RtpPacket(
                marker=int(self.marks and index == len(payloads) - 1),
                payload_type=self._codec.payloadType or 0,
                sequence_number=self._sequence % 65_536,
                timestamp=(2**32 - 9000 + self._number * 3600) % 2**32,
                ssrc=SSRC,
                payload=payload,
            )
            packets.append(packet)
            self._sequence += 1
        return packets


def vp8() -> Sender:
    return Sender(Vp8Encoder(), VP8)


def h264() -> Sender:
    return Sender(H264Encoder(), H264)
