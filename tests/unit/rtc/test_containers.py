"""Containers from a byte stream: every kind, cut anywhere, promptly, bounded, and always ended."""

import asyncio
import contextlib
import io
import random
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediaserver.kernel.errors import (
    BadInput,
    MediaServerError,
    Overloaded,
    Unavailable,
    UnsupportedMedia,
)
from mediaserver.rtc.audio import AudioFormat, make_decoder
from mediaserver.rtc.containers import ContainerDecoder, DecoderPool, sniff
from tests.unit.rtc.encoders import Recipe, encode, likeness, voice_like
from tests.unit.rtc.test_audio import cut, decode, s16

VOICE = voice_like(4.0)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}

RECIPES = {
    "webm": Recipe("webm", "libopus"),
    "webm live": Recipe("webm", "libopus", options={"live": "1"}),
    "webm with video": Recipe("webm", "libopus", with_video=True),
    "ogg opus": Recipe("ogg", "libopus", options={"page_duration": "20000"}),
    "ogg opus, pages of 1 s": Recipe("ogg", "libopus"),
    "mp3": Recipe("mp3", "libmp3lame", 44_100, seekable=True),
    "mp3 at 32 kbit/s": Recipe("mp3", "libmp3lame", 16_000, bit_rate=32_000, seekable=True),
    "flac": Recipe("flac", "flac", 16_000, sample_format="s16"),
    "flac, seekable": Recipe("flac", "flac", 16_000, sample_format="s16", seekable=True),
    "flac of 24 bits": Recipe("flac", "flac", 48_000, sample_format="s32"),
    "flac in matroska": Recipe("matroska", "flac", 16_000, sample_format="s16"),
    "wav": Recipe("wav", "pcm_s16le", 16_000),
    "wav, seekable": Recipe("wav", "pcm_s16le", 16_000, seekable=True),
    "wav of 24 bits": Recipe("wav", "pcm_s24le", 48_000),
    "wav of floats": Recipe("wav", "pcm_f32le", 44_100),
    "wav of mu-law": Recipe("wav", "pcm_mulaw", 8_000),
    "wav of A-law": Recipe("wav", "pcm_alaw", 8_000),
    "wav of 8 bits": Recipe("wav", "pcm_u8", 16_000),
    "rf64": Recipe("wav", "pcm_s16le", 16_000, seekable=True, options={"rf64": "always"}),
    "aac": Recipe("adts", "aac", 44_100),
    "mp4, fragmented": Recipe("mp4", "aac", 44_100, options=FRAGMENTED),
    "mp4, index first": Recipe("mp4", "aac", seekable=True, options={"movflags": "faststart"}),
    "mpegts": Recipe("mpegts", "aac", 44_100),
    "aiff": Recipe("aiff", "pcm_s16be", 16_000, seekable=True),
    "au": Recipe("au", "pcm_s16be", 16_000),
    "caf": Recipe("caf", "pcm_s16le", 16_000, seekable=True),
}
UNTRIMMED = {"aac", "mpegts"}
"""These formats cannot say that the encoder's delay is to be cut off."""


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(4)
    yield pool
    pool.close()


@pytest.mark.parametrize("size", [211, 10_000_000])
@pytest.mark.parametrize("name", RECIPES)
async def test_every_container_however_it_is_cut(name: str, size: int, pool: DecoderPool) -> None:
    data = encode(RECIPES[name], VOICE)
    [out] = await decode(ContainerDecoder(pool), cut(data, size))
    allowed_s = 0.1 if name in UNTRIMMED else 0.06
    assert abs(len(out) - len(VOICE)) < allowed_s * 16_000
    assert likeness(out, VOICE) > 0.9


@pytest.mark.parametrize(
    ("name", "late_s"),
    [
        ("webm", 0.1),
        ("webm live", 0.1),
        ("ogg opus", 0.1),
        ("mp3", 0.2),
        ("mp3 at 32 kbit/s", 0.3),
        ("flac", 0.4),
        ("wav", 0.05),
        ("aac", 0.1),
        ("mp4, fragmented", 0.3),
        ("mpegts", 0.3),
        ("au", 0.15),
    ],
)
async def test_audio_comes_out_with_the_message_that_completes_it(
    name: str, late_s: float, pool: DecoderPool
) -> None:
    # noise keeps the bit rate constant, so that bytes measure time
    noisy = VOICE + np.random.default_rng(0).normal(0, 0.1, len(VOICE)).astype(np.float32)
    data = encode(RECIPES[name], noisy)
    decoder = ContainerDecoder(pool)
    heard_s, worst_s = 0.0, 0.0
    step_s = 0.1
    step = round(len(data) * step_s / 4.0)
    for i, piece in enumerate(cut(data, step)):
        async for block in decoder.feed(piece):
            heard_s += len(block[0]) / 16_000
        if i >= 5:  # the head and the codec's own delay are paid by then
            worst_s = max(worst_s, min(4.0, (i + 1) * step_s) - heard_s)
    await decoder.close()
    assert worst_s < late_s + step_s


@pytest.mark.parametrize("name", ["webm", "flac", "wav", "mp4, fragmented"])
async def test_channels_apart_from_a_container(name: str, pool: DecoderPool) -> None:
    left, right = voice_like(3.0, seed=1), voice_like(3.0, seed=2)
    recipe = RECIPES[name]
    wide = Recipe(**{**recipe.__dict__, "bit_rate": 256_000 if recipe.codec != "flac" else None})
    data = encode(wide, np.stack([left, right]))
    out = await decode(ContainerDecoder(pool, split=True), cut(data, 1000))
    assert likeness(out[0], left) > 0.9
    assert likeness(out[1], right) > 0.9
    [mixed] = await decode(ContainerDecoder(pool), cut(data, 1000))
    assert likeness(mixed, ((left + right) / 2).astype(np.float32)) > 0.9


async def test_a_stream_header_with_wrong_lengths_is_no_obstacle(pool: DecoderPool) -> None:
    data = bytearray(encode(Recipe("wav", "pcm_s16le", 16_000, seekable=True), VOICE))
    at = data.index(b"data") + 4
    data[at : at + 4] = (3200).to_bytes(4, "little")  # as if written after 0.1 s
    [out] = await decode(ContainerDecoder(pool), cut(bytes(data), 999))
    assert abs(len(out) - len(VOICE)) < 16


async def test_a_wav_in_every_message(pool: DecoderPool) -> None:
    messages = []
    for start in range(0, len(VOICE), 8_000):
        sink = io.BytesIO()
        with wave.open(sink, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(s16(VOICE[start : start + 8_000]))
        messages.append(sink.getvalue())
    [out] = await decode(ContainerDecoder(pool), messages)
    np.testing.assert_allclose(out, VOICE, atol=1e-4)


@pytest.mark.parametrize("name", ["webm", "ogg opus", "flac", "mp4, fragmented"])
async def test_a_recorder_that_starts_anew(name: str, pool: DecoderPool) -> None:
    data = encode(RECIPES[name], VOICE)
    [out] = await decode(ContainerDecoder(pool), [*cut(data, 2000), *cut(data, 2000)])
    assert abs(len(out) - 2 * len(VOICE)) < 0.12 * 16_000
    assert likeness(out[: len(VOICE)], VOICE) > 0.9
    assert likeness(out[-len(VOICE) :], VOICE) > 0.9
    assert pool.active == 0


@pytest.mark.parametrize("name", ["flac", "flac, seekable", "flac of 24 bits"])
async def test_flac_without_its_metadata(name: str, pool: DecoderPool) -> None:
    data = encode(RECIPES[name], VOICE)
    bare = data[data.index(b"\xff\xf8", 42) :]
    [out] = await decode(make_decoder(AudioFormat("flac"), pool), cut(bare, 700))
    assert likeness(out, VOICE) > 0.99


async def test_a_damaged_flac_frame_costs_only_itself(pool: DecoderPool) -> None:
    data = bytearray(encode(RECIPES["flac"], VOICE))
    middle = len(data) // 2
    data[middle : middle + 50] = bytes(50)
    [out] = await decode(ContainerDecoder(pool), cut(bytes(data), 700))
    assert len(out) > len(VOICE) - 3 * 4608


@pytest.mark.parametrize(
    "garbage",
    [b"hello, is this the media server?", b'{"type":"KeepAlive"}', bytes(64), b"<html>" * 20],
)
async def test_garbage_is_refused_with_what_may_be_wrong(garbage: bytes, pool: DecoderPool) -> None:
    with pytest.raises(UnsupportedMedia, match="encoding"):
        await decode(ContainerDecoder(pool), [garbage])
    assert pool.active == 0


async def test_an_unknown_wav_codec_is_named(pool: DecoderPool) -> None:
    data = encode(Recipe("wav", "adpcm_ms", 16_000), VOICE)
    with pytest.raises(UnsupportedMedia, match="0x0002"):
        await decode(ContainerDecoder(pool), [data])


@pytest.mark.parametrize("name", ["webm", "ogg opus", "mp3", "mp4, fragmented", "flac", "wav"])
async def test_a_head_without_audio_is_an_error_not_silence(name: str, pool: DecoderPool) -> None:
    data = encode(RECIPES[name], VOICE)
    with pytest.raises(BadInput):
        await decode(ContainerDecoder(pool), [data[:30]])
    assert pool.active == 0


async def test_an_mp4_with_its_index_at_the_end_says_so(pool: DecoderPool) -> None:
    data = encode(Recipe("mp4", "aac", seekable=True), VOICE)
    with pytest.raises(BadInput, match="index at the end"):
        await decode(ContainerDecoder(pool), cut(data, 5000))


async def test_a_file_without_audio_says_so(pool: DecoderPool) -> None:
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="webm") as out:
        video: Any = out.add_stream("libvpx", rate=10, width=64, height=64)
        for _ in range(5):
            out.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(video.encode(None))
    with pytest.raises(UnsupportedMedia, match="no audio"):
        await decode(ContainerDecoder(pool), [sink.getvalue()])


async def test_nothing_at_all_is_no_error(pool: DecoderPool) -> None:
    assert await decode(ContainerDecoder(pool), []) == []


async def test_close_ends_a_thread_that_waits_for_bytes(pool: DecoderPool) -> None:
    data = encode(RECIPES["webm"], VOICE)
    decoder = ContainerDecoder(pool)
    async for _ in decoder.feed(data[: len(data) // 2]):
        pass
    assert pool.active == 1
    async with asyncio.timeout(15):
        await decoder.close()
    assert pool.active == 0


async def test_close_ends_a_thread_whose_audio_nobody_takes(pool: DecoderPool) -> None:
    decoder = ContainerDecoder(pool)
    data = encode(Recipe("ogg", "libopus", bit_rate=6_000), np.tile(VOICE, 20))
    async for _ in decoder.feed(data):
        break  # 80 s were sent, a part is taken
    async with asyncio.timeout(15):
        await decoder.close()
    assert pool.active == 0


async def test_a_message_that_holds_hours_is_given_out_piece_by_piece(pool: DecoderPool) -> None:
    silence = encode(
        Recipe("ogg", "flac", 8_000, sample_format="s16"), np.zeros(16_000 * 600, "f4")
    )
    assert len(silence) < 256 * 1024
    largest_s, total_s = 0.0, 0.0
    decoder = ContainerDecoder(pool)
    async for [samples] in decoder.feed(silence):
        largest_s = max(largest_s, len(samples) / 16_000)
        total_s += len(samples) / 16_000
    await decoder.close()
    assert total_s > 595
    assert largest_s < 15


async def test_more_containers_than_threads_are_refused(pool: DecoderPool) -> None:
    data = encode(RECIPES["webm"], VOICE)
    decoders = [ContainerDecoder(pool) for _ in range(5)]
    for decoder in decoders[:4]:
        async for _ in decoder.feed(data[:3000]):
            pass
    with pytest.raises(Overloaded):
        async for _ in decoders[4].feed(data[:3000]):
            pass
    for decoder in decoders:
        await decoder.close()
    assert pool.active == 0
    [out] = await decode(ContainerDecoder(pool), cut(data, 3000))
    assert likeness(out, VOICE) > 0.9


async def test_decoders_do_not_disturb_each_other(pool: DecoderPool) -> None:
    voices = [voice_like(3.0, seed=i) for i in range(2)]
    files = [encode(RECIPES["webm"], voices[0]), encode(RECIPES["mp3"], voices[1])]
    broken = [b"\x1a\x45\xdf\xa3" + random.Random(1).randbytes(20_000)]
    outs = await asyncio.gather(
        *(decode(ContainerDecoder(pool), cut(file, 500)) for file in files),
        decode(ContainerDecoder(pool), broken),
        return_exceptions=True,
    )
    for i, out in enumerate(outs[:2]):
        assert not isinstance(out, BaseException)
        assert likeness(out[0], voices[i]) > 0.9
    assert isinstance(outs[2], MediaServerError)


async def test_closing_the_pool_ends_every_thread() -> None:
    pool = DecoderPool(4)
    data = encode(RECIPES["webm"], VOICE)
    decoders = [ContainerDecoder(pool) for _ in range(3)]
    for decoder in decoders:
        async for _ in decoder.feed(data[:3000]):
            pass
    assert pool.active == 3
    pool.close()
    async with asyncio.timeout(15):
        while pool.active:
            await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        async for _ in ContainerDecoder(pool).feed(data):
            pass


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(["webm", "ogg opus", "mp3", "flac", "wav", "aac", "mp4, fragmented"]),
    seed=st.integers(0, 2**32),
    damage=st.integers(1, 30),
)
def test_damage_ends_in_audio_or_in_a_clear_error(name: str, seed: int, damage: int) -> None:
    data = bytearray(_SHORT[name])
    dice = random.Random(seed)
    for _ in range(damage):
        data[dice.randrange(len(data))] = dice.randrange(256)
    del data[dice.randrange(len(data)) :: dice.randrange(200, 5000)]

    async def run() -> None:
        pool = DecoderPool(1)
        try:
            await decode(ContainerDecoder(pool), cut(bytes(data), dice.randrange(50, 5000)))
        except MediaServerError as error:
            refused.append(error)
        finally:
            assert pool.active == 0
            pool.close()

    refused: list[MediaServerError] = []
    asyncio.run(run())
    assert all(error.status < 500 and len(error.detail) > 15 for error in refused)


_SHORT = {name: encode(recipe, VOICE[:16_000]) for name, recipe in RECIPES.items()}


@given(st.binary(min_size=12, max_size=64))
def test_sniffing_tells_something_of_every_head(head: bytes) -> None:
    with contextlib.suppress(UnsupportedMedia):
        assert sniff(head) is not None


@pytest.mark.parametrize("name", RECIPES)
def test_sniffing_needs_at_most_twelve_bytes(name: str) -> None:
    told = [sniff(_SHORT[name][:size]) for size in range(13)]
    known = {container for container in told if container is not None}
    assert len(known) == 1
    assert told[12] is not None
