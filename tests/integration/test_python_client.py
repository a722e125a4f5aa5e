"""The Python client and its command against a real server, a real worker and real speech."""

import asyncio
import itertools
import json
import os
import signal
import sys
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from mediaserver_client import Caption, Refused, Session, SessionLost, connect

from tests.integration.relay_client import figure
from tests.live import LiveServer
from tests.speech import Clip

Speech = Callable[[str], Clip]
WORDS = "mediaserver_words_final_total"
ENDS_S = 120.0
"""For a whole publication; a loaded machine may take long, a hung one must not."""
WER_MOST = 0.12
"""Three of 25 words: these tests are about the client, not the model."""


class Proxy:
    """A TCP proxy whose connections can be cut, as a network does it."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname
        assert parts.port
        self._host, self._port = parts.hostname, parts.port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.refuses = False
        self.url = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refuses:
                self.connections += 1
                up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
                self._writers |= {writer, up_writer}
                await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    def cut(self) -> None:
        """Break all connections at once, without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.transport.abort()


@asynccontextmanager
async def proxy_to(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


def write_wav(path: Path, clip: Clip) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(clip.pcm)
    return path


def text_of(captions: list[Caption]) -> str:
    return " ".join(caption.text for caption in captions)


async def test_a_published_file_is_captioned_word_for_word(
    live_server: LiveServer, speech_clip: Speech, tmp_path: Path
) -> None:
    clip = speech_clip("lj001-0001")
    path = write_wav(tmp_path / "clip.wav", clip)
    async with asyncio.timeout(ENDS_S), connect(live_server.url, name="Ann") as session:
        publication = await session.publish(path, language="en")
        states: dict[str, list[Caption]] = {}
        async for caption in publication.captions():
            states.setdefault(caption.caption_id, []).append(caption)
        finals = [history[-1] for history in states.values()]
        assert all(caption.final for caption in finals)
        assert clip.wer(text_of(finals)) <= WER_MOST
        assert clip.wer(session.transcript("text")) <= WER_MOST
        assert all(caption.speaker == "Ann" for caption in finals)
        assert sum(len(history) for history in states.values()) > len(finals), "partials came"
        for before, after in itertools.chain(*map(itertools.pairwise, states.values())):
            kept = [word for word in before.words if word.final]
            assert list(after.words[: len(kept)]) == kept, "a final word changed"
        ends = [word.end_s for caption in finals for word in caption.words]
        assert ends == sorted(ends)
        assert ends[-1] <= clip.duration_s + 0.5
        server_text = await session.fetch_transcript("text")
    assert clip.wer(server_text) <= WER_MOST


async def test_a_live_source_is_captioned_while_it_goes_on(
    live_server: LiveServer, speech_clip: Speech
) -> None:
    clip = speech_clip("lj001-0003")
    spoken = asyncio.Event()

    async def microphone() -> AsyncIterator[bytes]:
        for at in range(0, len(clip.pcm), 3200):
            await asyncio.sleep(0.1)
            yield clip.pcm[at : at + 3200]
        await asyncio.sleep(0.5)
        spoken.set()
        await asyncio.sleep(ENDS_S)

    async with asyncio.timeout(ENDS_S), connect(live_server.url) as session:
        publication = await session.publish(microphone(), language="en")
        await spoken.wait()
        await session.finalize(60)
        said = publication.transcript()
        assert clip.wer(said) <= WER_MOST
        await publication.stop()
        assert clip.wer(publication.transcript()) <= WER_MOST


async def test_sound_of_other_rates_and_channels_is_understood(
    live_server: LiveServer, speech_clip: Speech
) -> None:
    clip = speech_clip("lj001-0005")
    mono = memoryview(clip.pcm).cast("h")
    # 48 kHz stereo by repetition: crude, and still speech
    stereo = b"".join(int(sample).to_bytes(2, "little", signed=True) * 6 for sample in mono)
    async with asyncio.timeout(ENDS_S), connect(live_server.url) as session:
        publication = await session.publish(
            stereo, language="en", sample_rate_hz=48_000, channels=2
        )
        await publication.wait()
        assert clip.wer(publication.transcript()) <= WER_MOST


@pytest.mark.parametrize("cut_at_s", [3.0, 6.2])
async def test_a_connection_cut_in_mid_sentence_costs_no_word_and_repeats_none(
    live_server: LiveServer, speech_clip: Speech, cut_at_s: float
) -> None:
    clip = speech_clip("lj001-0001")
    async with (
        asyncio.timeout(ENDS_S),
        proxy_to(live_server.url) as proxy,
        connect(proxy.url) as session,
    ):
        publication = await session.publish(clip.pcm, language="en")
        while publication.stats.sent_s < cut_at_s:
            await asyncio.sleep(0.02)
        shown = {caption.caption_id: caption for caption in session_state(session)}
        proxy.cut()
        await publication.wait()
        assert publication.stats.connections == 2
        assert publication.stats.lost_s == 0
        assert proxy.connections == 2
        said = publication.transcript()
        assert clip.wer(said) <= WER_MOST, said
        finals = [c async for c in publication.captions(finals_only=True)]
        for caption in finals:
            if (before := shown.get(caption.caption_id)) is not None:
                kept = [word for word in before.words if word.final]
                assert list(caption.words[: len(kept)]) == kept, "a final word changed"


def session_state(session: Session) -> list[Caption]:
    """What the session has heard so far."""
    log = session._log
    return [*log.finals, *log.open]


async def test_a_long_outage_is_bridged(live_server: LiveServer, speech_clip: Speech) -> None:
    clip = speech_clip("lj001-0012")
    async with (
        asyncio.timeout(ENDS_S),
        proxy_to(live_server.url) as proxy,
        connect(proxy.url) as session,
    ):
        publication = await session.publish(clip.pcm, language="en")
        while publication.stats.sent_s < 2.0:
            await asyncio.sleep(0.02)
        proxy.refuses = True
        proxy.cut()
        await asyncio.sleep(4.0)
        proxy.refuses = False
        await publication.wait()
        assert clip.wer(publication.transcript()) <= WER_MOST
        assert publication.stats.lost_s == 0


async def test_members_of_a_room_hear_and_read_one_another(
    live_server: LiveServer, speech_clip: Speech
) -> None:
    clip = speech_clip("lj001-0005")
    room = "python-client-room"
    async with (
        asyncio.timeout(ENDS_S),
        connect(live_server.url, room=room, name="Reader") as reader,
        connect(live_server.url, room=room, name="Speaker") as speaker,
    ):
        said = await speaker.chat("I speak <now>.")
        assert said.name == "Speaker"
        async for chat in reader.chats():
            assert chat.text == "I speak <now>."
            break
        publication = await speaker.publish(clip.pcm, language="en")
        heard: list[Caption] = []
        reading = asyncio.create_task(read_finals(reader, heard))
        await publication.wait()
        while len(heard) < len(publication.transcript().splitlines()):
            await asyncio.sleep(0.02)
        await reader.close()
        await reading
    assert clip.wer(text_of(heard)) <= WER_MOST
    assert {caption.speaker for caption in heard} == {"Speaker"}


async def read_finals(session: Session, into: list[Caption]) -> None:
    async for caption in session.captions(finals_only=True):
        into.append(caption)


async def test_who_joins_is_welcomed_first_and_then_told_how_things_stand(
    live_server: LiveServer,
) -> None:
    address = f"{live_server.ws_url}/ws?room=python-welcome"
    async with (
        asyncio.timeout(ENDS_S),
        connect(live_server.url, room="python-welcome") as session,
        aiohttp.ClientSession() as http,
    ):
        await session.chat("hello")
        async with http.ws_connect(address) as socket:
            kinds = [(await socket.receive_json())["type"] for _ in range(3)]
    assert kinds == ["welcome", "room.snapshot", "chat"]


async def test_a_wrong_language_and_a_wrong_room_are_refused_with_the_reason(
    live_server: LiveServer,
) -> None:
    async with connect(live_server.url) as session:
        with pytest.raises(Refused, match="language") as caught:
            await session.publish(bytes(3200), language="english")
        assert caught.value.code == "bad_message"
    with pytest.raises(Refused) as refused:
        async with connect(live_server.url, room="no spaces"):
            pass
    assert refused.value.code == "bad_room"


async def test_a_key_is_needed_where_one_is_set(start_server: Callable[..., LiveServer]) -> None:
    key = "k" * 32
    server = await asyncio.to_thread(start_server, api_key=key, wait_ready=False)
    for given, code in ((None, "key_needed"), ("wrong" * 8, "wrong_key")):
        with pytest.raises(Refused) as refused:
            async with connect(server.url, api_key=given):
                pass
        assert (refused.value.code, refused.value.problem.status) == (code, 401)
    async with connect(server.url, api_key=key) as session:
        assert session.session_id.startswith("s_")


async def test_a_server_that_is_started_anew_in_mid_sentence_costs_no_word(
    start_server: Callable[..., LiveServer], speech_clip: Speech
) -> None:
    clip = speech_clip("lj001-0001")
    first = await asyncio.to_thread(start_server)
    port = str(urlsplit(first.url).port)
    async with asyncio.timeout(2 * ENDS_S), connect(first.url) as session:
        publication = await session.publish(clip.pcm, language="en")
        while publication.stats.sent_s < 4.0:
            await asyncio.sleep(0.02)
        code, _ = await asyncio.to_thread(first.stop)
        assert code == 0
        await asyncio.to_thread(start_server, port=port)
        await publication.wait()
        assert clip.wer(publication.transcript()) <= WER_MOST, publication.transcript()
        assert publication.stats.lost_s == 0


async def test_a_server_that_stops_for_good_leaves_the_words_so_far_and_an_error(
    start_server: Callable[..., LiveServer], speech_clip: Speech
) -> None:
    clip = speech_clip("lj001-0005")
    server = await asyncio.to_thread(start_server)
    async with asyncio.timeout(ENDS_S):
        async with connect(server.url, reconnect_s=2.0) as session:
            publication = await session.publish(clip.pcm, language="en")
            while publication.stats.sent_s < 4.0:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.stop)
            with pytest.raises(SessionLost, match="did not come back in 2 s"):
                await publication.wait()
        assert len(session.transcript().split()) >= 5


# ---- the command ---------------------------------------------------------------------------


async def command(*args: object, stdin: bytes | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mediaserver_client", *map(str, args),
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    try:
        async with asyncio.timeout(ENDS_S):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_captions_a_file(
    live_server: LiveServer, speech_clip: Speech, tmp_path: Path
) -> None:
    clip = speech_clip("lj001-0001")
    path = write_wav(tmp_path / "clip.wav", clip)
    code, out, err = await command(path, "--server", live_server.url, "--language", "en")
    assert (code, err) == (0, "")
    assert clip.wer(out) <= WER_MOST
    code, out, _ = await command(
        path, "--server", live_server.url, "--language", "en", "--format", "json"
    )
    words = [word for line in out.splitlines() for word in json.loads(line)["words"]]
    assert code == 0
    assert clip.wer(" ".join(word["text"] for word in words)) <= WER_MOST
    assert all(word["start_s"] <= word["end_s"] for word in words)


async def test_the_command_captions_a_pipe(live_server: LiveServer, speech_clip: Speech) -> None:
    clip = speech_clip("lj001-0003")
    code, out, _ = await command(
        "-", "--server", live_server.url, "--language", "en", "--format", "srt", stdin=clip.pcm
    )
    assert code == 0
    blocks = [block.splitlines() for block in out.strip().split("\n\n")]
    assert [block[0] for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    assert clip.wer(" ".join(" ".join(block[2:]) for block in blocks)) <= WER_MOST


async def test_ctrl_c_ends_the_command_with_the_words_so_far(
    live_server: LiveServer, speech_clip: Speech, tmp_path: Path
) -> None:
    clip = speech_clip("lj001-a")
    path = write_wav(tmp_path / "long.wav", clip)
    before = await asyncio.to_thread(figure, live_server, WORDS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mediaserver_client", str(path), "--realtime",
        "--server", live_server.url, "--language", "en",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ENDS_S):
            while await asyncio.to_thread(figure, live_server, WORDS) < before + 10:
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err) == (130, b"")
    words = out.decode().lower().split()
    assert 5 < len(words) < len(clip.text.split()) / 3
