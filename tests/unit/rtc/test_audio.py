"""Headerless audio: PCM, G.711 and raw Opus, cut anywhere."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput, UnsupportedMedia
from mediaserver.rtc.audio import (
    AudioDecoder,
    AudioEncoding,
    AudioFormat,
    DecoderPool,
    make_decoder,
)
from mediaserver.rtc.pcm import MAX_CHANNELS, RawSource, SampleFormat, planar, to_float
from tests.unit.rtc.encoders import Floats, Recipe, encode, likeness, opus_packets, voice_like

VOICE = voice_like(2.5)


async def decode(decoder: AudioDecoder, messages: Iterable[bytes]) -> list[Floats]:
    """Return each channel's samples."""
    blocks = []
    try:
        for message in messages:
            blocks += [block async for block in decoder.feed(message)]
        blocks += [block async for block in decoder.flush()]
    finally:
        await decoder.close()
    return [np.concatenate(channel) for channel in zip(*blocks, strict=True)] if blocks else []


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def s16(samples: Floats) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def raw(encoding: AudioEncoding, messages: Iterable[bytes], **more: object) -> list[Floats]:
    audio = AudioFormat(encoding, **more)  # type: ignore[arg-type] # fields of several types
    return await decode(make_decoder(audio, DecoderPool(1)), messages)


@pytest.mark.parametrize("size", [1, 3, 640, 100_000])
async def test_linear16_is_the_same_however_it_is_cut(size: int) -> None:
    [out] = await raw("linear16", cut(s16(VOICE), size))
    assert len(out) == len(VOICE)
    np.testing.assert_allclose(out, VOICE, atol=1e-4)


async def test_half_a_sample_at_the_end_is_ignored() -> None:
    [out] = await raw("linear16", [s16(VOICE) + b"\x01"])
    assert len(out) == len(VOICE)


async def test_linear32_is_float_and_survives_what_is_not_a_number() -> None:
    samples = VOICE.astype("<f4").copy()
    samples[100:103] = [np.nan, np.inf, -np.inf]
    [out] = await raw("linear32", cut(samples.tobytes(), 333))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[200:], VOICE[200:], atol=1e-6)


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
async def test_g711_as_ffmpeg_encodes_it(encoding: AudioEncoding, codec: str) -> None:
    wav = encode(Recipe("wav", codec, 8_000, seekable=True), VOICE)
    payload = wav[wav.index(b"data") + 8 :][: round(2.5 * 8000)]
    [out] = await raw(encoding, cut(payload, 160), sample_rate_hz=8_000)
    assert abs(len(out) - len(VOICE)) < 0.06 * 16_000
    assert likeness(out, VOICE) > 0.97


@pytest.mark.parametrize(("ours", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_every_g711_code_means_what_ffmpeg_says(ours: SampleFormat, codec: str) -> None:
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 8_000, "mono"
    codes = bytes(range(256))
    [frame] = decoder.decode(av.Packet(codes))
    np.testing.assert_array_equal(to_float(codes, ours), planar(frame)[0])


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
async def test_any_sample_rate_comes_out_at_16_khz(rate_hz: int) -> None:
    source = voice_like(2.0, rate_hz)
    [out] = await raw("linear16", cut(s16(source), 4096), sample_rate_hz=rate_hz)
    assert abs(len(out) - 32_000) < 0.01 * 16_000
    assert likeness(out, voice_like(2.0)) > 0.9


async def test_channels_are_mixed_down_or_given_apart() -> None:
    left, right = voice_like(2.0, seed=1), voice_like(2.0, seed=2)
    both = s16(np.stack([left, right]).T.reshape(-1))
    [mixed] = await raw("linear16", cut(both, 777), channels=2)
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-4)
    apart = await raw("linear16", cut(both, 777), channels=2, split=True)
    np.testing.assert_allclose(apart[0], left, atol=1e-4)
    np.testing.assert_allclose(apart[1], right, atol=1e-4)


@pytest.mark.parametrize("channels", range(1, MAX_CHANNELS + 1))
async def test_every_number_of_channels_can_be_resampled_apart(channels: int) -> None:
    voices = np.stack([voice_like(1.0, 8_000, seed=i) for i in range(channels)])
    out = await raw(
        "linear16", [s16(voices.T.reshape(-1))], sample_rate_hz=8_000, channels=channels, split=True
    )
    assert len(out) == channels
    for i in range(channels):
        assert likeness(out[i], voice_like(1.0, seed=i)) > 0.9, i


@pytest.mark.parametrize("frame_ms", [10, 20, 60])
async def test_raw_opus_packets(frame_ms: int) -> None:
    [out] = await raw("opus", opus_packets(VOICE, frame_ms=frame_ms))
    assert abs(len(out) - len(VOICE)) < 0.06 * 16_000
    assert likeness(out, VOICE) > 0.9


async def test_raw_opus_in_stereo_apart() -> None:
    left, right = voice_like(2.0, seed=1), voice_like(2.0, seed=2)
    packets = opus_packets(np.stack([left, right]), bit_rate=96_000)
    out = await raw("opus", packets, channels=2, split=True)
    assert likeness(out[0], left) > 0.9
    assert likeness(out[1], right) > 0.9


async def test_a_damaged_opus_packet_is_skipped() -> None:
    packets = opus_packets(VOICE)
    packets[40:42] = [b"\xff\xff\xff"] * 2
    [out] = await raw("opus", packets)
    assert abs(len(out) - len(VOICE)) < 0.06 * 16_000 + 640


async def test_what_is_not_opus_is_told_so() -> None:
    with pytest.raises(UnsupportedMedia, match="one packet"):
        await raw("opus", [b'{"type": "KeepAlive"}'])


async def test_a_stream_that_stops_being_opus_is_an_error() -> None:
    with pytest.raises(UnsupportedMedia, match="one packet"):
        await raw("opus", [*opus_packets(VOICE)[:5], *[b"\xff\xff\xff"] * 60])


@pytest.mark.parametrize(("container", "size"), [("ogg", 4000), ("webm", 300)])
async def test_opus_that_comes_in_a_container_after_all(container: str, size: int) -> None:
    data = encode(Recipe(container, "libopus"), VOICE)
    [out] = await raw("opus", cut(data, size))
    assert likeness(out, VOICE) > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_rate_hz": 7_999},
        {"sample_rate_hz": 192_001},
        {"channels": 0},
        {"channels": 9},
        {"encoding": "opus", "channels": 3},
    ],
)
def test_a_format_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        AudioFormat(**{"encoding": "linear16", **wrong})  # type: ignore[arg-type] # on purpose


@given(
    data=st.binary(max_size=600),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    sample_format=st.sampled_from(["u8", "s16", "s24", "s32", "f32", "mulaw", "alaw"]),
    channels=st.integers(1, 4),
)
def test_cutting_never_changes_raw_samples(
    data: bytes, cuts: list[int], sample_format: SampleFormat, channels: int
) -> None:
    def samples(pieces: list[bytes]) -> Floats:
        source = RawSource(sample_format, 16_000, channels)
        parts = [pcm.samples for piece in pieces for pcm in source.push(piece)]
        return np.concatenate([np.zeros((channels, 0), np.float32), *parts], axis=1)

    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    np.testing.assert_array_equal(samples(pieces), samples([data]))
