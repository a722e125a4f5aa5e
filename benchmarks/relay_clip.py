"""What the publisher of `benchmarks.relay` sends: VP8 and Opus, encoded beforehand."""

import fractions

import av
import numpy as np

WIDTH, HEIGHT, FPS, BIT_RATE = 640, 360, 30, 1_000_000
CLIP_S = 8
KEYFRAME_EVERY_S = 2
AUDIO_HZ, AUDIO_FRAME, AUDIO_BIT_RATE = 48_000, 960, 64_000


def encoded_video() -> list[bytes]:
    """Return a clip of moving pictures."""
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.framerate, encoder.time_base = fractions.Fraction(FPS), fractions.Fraction(1, FPS)
    encoder.bit_rate = BIT_RATE
    encoder.gop_size = KEYFRAME_EVERY_S * FPS
    encoder.options = {
        "deadline": "realtime",
        "cpu-used": "-8",
        "lag-in-frames": "0",
        "minrate": str(BIT_RATE),
        "maxrate": str(BIT_RATE),
        "bufsize": str(BIT_RATE // 2),
    }
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 255, (HEIGHT // 4 + 80, WIDTH // 4 + 400), np.uint8)
    scene = scene.repeat(4, 0).repeat(4, 1)
    pictures = []
    for number in range(CLIP_S * FPS):
        at = number * 4 % 1200
        gray = scene[at // 5 : at // 5 + HEIGHT, at : at + WIDTH] // 4 + 60
        gray = gray + rng.integers(0, 6, gray.shape, np.uint8)  # a camera's noise
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(gray), format="gray")
        frame = frame.reformat(format="yuv420p")
        frame.pts = number
        pictures += [bytes(packet) for packet in encoder.encode(frame)]
    return pictures


def encoded_audio() -> list[bytes]:
    """Return a clip of a chord."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = AUDIO_HZ, "mono", "s16"
    encoder.bit_rate = AUDIO_BIT_RATE
    packets = []
    for start in range(0, CLIP_S * AUDIO_HZ, AUDIO_FRAME):
        at_s = (start + np.arange(AUDIO_FRAME)) / AUDIO_HZ
        chord = sum(np.sin(2 * np.pi * hz * at_s) for hz in (220, 277, 330)) * 4000
        frame = av.AudioFrame.from_ndarray(
            np.asarray(chord).astype(np.int16)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = AUDIO_HZ, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets
