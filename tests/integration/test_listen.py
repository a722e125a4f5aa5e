"""/v1/listen on a real socket, with sessions that say what a script tells them to."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    WSCloseCode,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

from mediaserver.captions.audio import AudioChunk
from mediaserver.captions.events import Ended, Flushed, Revision, SpeechBegan, TrackEvent, Word
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import Overloaded
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.rtc.audio import DecoderPool
from mediaserver.sessions.registry import Sessions
from mediaserver.settings import Settings
from mediaserver.web import keys, listen
from mediaserver.web.application import new_application
from mediaserver.web.listen_inbox import ListenLimits
from mediaserver.web.routing import mount
from tests.unit.rtc.encoders import Recipe, encode, likeness, opus_packets, voice_like
from tests.unit.rtc.test_audio import cut, s16

KEY = "0123456789abcdef0123"
RAW = "encoding=linear16&sample_rate=16000"
VOICE = voice_like(2.0)
Json = dict[str, Any]


# ---- scripted sessions ---------------------------------------------------------------------


class Stats:
    received_s = 0.0
    processed_s = 0.0


class ScriptedTrack:
    """Keeps what is pushed; says what the test makes it say, and at its end a last word."""

    def __init__(
        self, options: CaptionOptions, listener: Callable[[TrackEvent], None], busy: bool
    ) -> None:
        self.id = "t_scripted"
        self.options = options
        self.say = listener
        self.stats = Stats()
        self.chunks: list[AudioChunk] = []
        self.busy = busy
        self.flushes = 0
        self.fails = False
        self.ended: str | None = None

    @property
    def waiting_s(self) -> float:
        return self.stats.received_s if self.busy else 0.0

    @property
    def samples(self) -> Any:
        return np.concatenate([chunk.samples for chunk in self.chunks])

    def push(self, chunk: AudioChunk) -> None:
        assert chunk.start_s == pytest.approx(self.stats.received_s)
        self.chunks.append(chunk)
        self.stats.received_s += chunk.duration_s
        if not self.busy:
            self.stats.processed_s = self.stats.received_s

    async def finalize(self) -> None:
        self.flushes += 1
        request = self.flushes
        await asyncio.sleep(0.02)
        self.say(revision("finalized", newly_final=1, complete=True))
        self.say(Flushed(request))

    async def end(self, reason: str, timeout_s: float) -> None:
        if self.ended is None:
            await asyncio.sleep(0.02)
            if self.chunks and not self.fails:
                self.say(revision("bye", newly_final=1, complete=True))
            self.ended = "failed" if self.fails else reason
            self.say(Ended(self.ended))


class ScriptedSession:
    def __init__(self, sessions: "ScriptedSessions") -> None:
        self.id = "s_scripted"
        self.tracks: list[ScriptedTrack] = []
        self.closed: str | None = None
        self._sessions = sessions

    def open_track(
        self, options: CaptionOptions, listener: Callable[[TrackEvent], None]
    ) -> ScriptedTrack:
        if self._sessions.full:
            raise Overloaded("no worker is free", retry_after_s=3.0)
        self.tracks.append(ScriptedTrack(options, listener, self._sessions.busy))
        return self.tracks[-1]

    async def close(self, reason: str = "ended", timeout_s: float = 60.0) -> None:
        await asyncio.gather(*(track.end(reason, timeout_s) for track in self.tracks))
        self.closed = self.closed or reason


class ScriptedSessions:
    def __init__(self) -> None:
        self.full = False
        self.busy = False
        self.opened: list[ScriptedSession] = []

    def open(self, *, kind: str, name: str) -> ScriptedSession:
        assert kind == "listen"
        self.opened.append(ScriptedSession(self))
        return self.opened[-1]

    @property
    def track(self) -> ScriptedTrack:
        return self.opened[-1].tracks[-1]


def word(text: str, start_s: float = 0.0, end_s: float = 0.5) -> Word:
    return Word(text, start_s, end_s, 0.9)


def revision(
    *texts: str, newly_final: int = 0, complete: bool = False, at_s: float = 0.0
) -> Revision:
    words = tuple(word(t, at_s + i, at_s + i + 0.5) for i, t in enumerate(texts))
    final = words if complete else words[:newly_final]
    end_s = at_s + len(words)
    return Revision(
        utterance=0,
        final=final,
        newly_final=newly_final,
        tentative=words[len(final) :],
        complete=complete,
        start_s=at_s,
        language="en",
        settled_s=end_s if complete else at_s,
        end_s=end_s,
        endpoint=complete,
    )


# ---- the server and its client -------------------------------------------------------------


class Served:
    """A running application and what its scripted sessions saw."""

    def __init__(self, app: web.Application, runner: web.AppRunner, client: ClientSession) -> None:
        self.sessions = cast(ScriptedSessions, app[keys.SESSIONS])
        self.pool = app[keys.DECODERS]
        self._runner = runner
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._client = client

    @property
    def connections(self) -> int:
        assert self._runner.server is not None
        return len(self._runner.server.connections)

    @contextlib.asynccontextmanager
    async def connect(
        self, query: str = RAW, **more: Any
    ) -> AsyncIterator[ClientWebSocketResponse]:
        async with self._client.ws_connect(f"{self._url}/v1/listen?{query}", **more) as socket:
            yield socket

    async def refused(self, query: str, **more: Any) -> tuple[int, Json, Any]:
        async with self._client.get(f"{self._url}/v1/listen?{query}", **more) as response:
            return response.status, await response.json(content_type=None), response.headers


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start the application as the server does (a test server would cancel its handlers)."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(limits: ListenLimits | None = None, **settings: Any) -> Served:
            app = new_application(Settings(**settings))
            app[keys.CLOCK] = SystemClock()
            app[keys.SESSIONS] = cast(Sessions, ScriptedSessions())
            app[keys.DECODERS] = DecoderPool(2)
            mount(app, [listen.routes(limits)])
            stack.callback(app[keys.DECODERS].close)
            runner = web.AppRunner(app, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            client = await stack.enter_async_context(ClientSession())
            return Served(app, runner, client)

        yield start


def transport_of(socket: ClientWebSocketResponse) -> Any:
    connection = socket._response.connection
    assert connection is not None
    return connection.transport


async def rest(socket: ClientWebSocketResponse) -> list[Json]:
    """Return all messages until the server closes."""
    messages = []
    async with asyncio.timeout(30):
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            messages.append(json.loads(message.data))
    return messages


async def next_message(socket: ClientWebSocketResponse) -> Json:
    return cast(Json, await socket.receive_json(timeout=20))


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def transcript(message: Json) -> str:
    return cast(str, message["channel"]["alternatives"][0]["transcript"])


def kinds(messages: list[Json]) -> list[str]:
    return [message["type"] for message in messages]


# ---- a stream ------------------------------------------------------------------------------


async def test_a_stream_from_the_first_word_to_the_metadata(serve: Serve) -> None:
    served = await serve()
    async with served.connect(f"{RAW}&interim_results=true&vad_events=true") as socket:
        request_id = socket._response.headers["dg-request-id"]
        pieces = cut(s16(VOICE), 3201)
        for piece in pieces:
            await socket.send_bytes(piece)
        await eventually(lambda: served.sessions.track.stats.received_s > 1.9)
        say = served.sessions.track.say
        say(SpeechBegan(0.1))
        say(revision("hello", "there"))
        heard = [await next_message(socket) for _ in range(2)]
        say(revision("hello", "there", newly_final=1))
        heard += [await next_message(socket) for _ in range(2)]
        assert kinds(heard) == ["SpeechStarted", "Results", "Results", "Results"]
        assert [(transcript(m), m["is_final"]) for m in heard[1:]] == [
            ("hello there", False),
            ("hello", True),
            ("there", False),
        ]
        await socket.send_json({"type": "CloseStream"})
        last = await rest(socket)
        assert socket.close_code == WSCloseCode.OK
    assert kinds(last) == ["Results", "Metadata"]
    assert (transcript(last[0]), last[0]["speech_final"]) == ("bye", True)
    assert last[0]["metadata"]["request_id"] == request_id
    metadata = last[1]
    assert metadata["request_id"] == request_id
    assert metadata["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert metadata["duration"] == pytest.approx(2.0, abs=0.001)
    assert metadata["channels"] == 1
    assert metadata["model_info"][metadata["models"][0]]["arch"] == "whisper"
    assert likeness(served.sessions.track.samples, VOICE) > 0.999
    await eventually(lambda: served.sessions.opened[0].closed == "ended")


async def test_options_reach_the_track(serve: Serve) -> None:
    served = await serve()
    query = f"{RAW}&language=es-419&endpointing=300&interim_results=true&task=translate"
    async with served.connect(query):
        assert served.sessions.track.options == CaptionOptions(
            language="es", task="translate", interim=True, endpointing_ms=300
        )


async def test_an_empty_message_ends_the_stream_too(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        await socket.send_bytes(b"")
        assert kinds(await rest(socket)) == ["Results", "Metadata"]
        assert socket.close_code == WSCloseCode.OK


async def test_a_stream_without_audio_still_gets_its_metadata(serve: Serve) -> None:
    served = await serve()
    async with served.connect("") as socket:
        await socket.send_json({"type": "CloseStream"})
        [metadata] = await rest(socket)
    assert (metadata["type"], metadata["duration"]) == ("Metadata", 0.0)


async def test_finalize_is_answered_once_each(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        for _ in range(2):
            await socket.send_json({"type": "Finalize"})
        answers = [await next_message(socket) for _ in range(2)]
        assert [a["from_finalize"] for a in answers] == [True, True]
        assert [transcript(a) for a in answers] == ["finalized", "finalized"]


async def test_too_many_finalize_are_refused_not_kept(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        for _ in range(200):
            await socket.send_json({"type": "Finalize"})
        await socket.send_json({"type": "CloseStream"})
        messages = await rest(socket)
    answered = sum(m.get("from_finalize", False) for m in messages)
    refused = sum(m["type"] == "Error" for m in messages)
    assert answered + refused == 200
    assert answered >= 32


async def test_multichannel_has_a_track_a_channel(serve: Serve) -> None:
    served = await serve()
    left, right = voice_like(2.0, seed=1), voice_like(2.0, seed=2)
    async with served.connect(f"{RAW}&channels=2&multichannel=true") as socket:
        for piece in cut(s16(np.stack([left, right]).T.reshape(-1)), 5001):
            await socket.send_bytes(piece)
        await eventually(lambda: bool(served.sessions.opened[0].tracks))
        tracks = served.sessions.opened[0].tracks
        await eventually(lambda: tracks[0].stats.received_s > 1.9)
        await socket.send_json({"type": "Finalize", "channel": 1})
        assert (await next_message(socket))["channel_index"] == [1, 2]
        await socket.send_json({"type": "Finalize", "channel": 2})
        assert (await next_message(socket))["type"] == "Error"
        await socket.send_json({"type": "CloseStream"})
        *results, metadata = await rest(socket)
    assert sorted(m["channel_index"][0] for m in results) == [0, 1]
    assert metadata["channels"] == 2
    assert likeness(tracks[0].samples, left) > 0.999
    assert likeness(tracks[1].samples, right) > 0.999


async def test_utterance_end_comes_with_the_audio_not_with_the_clock(serve: Serve) -> None:
    served = await serve()
    query = f"{RAW}&utterance_end_ms=1000&interim_results=true"
    async with served.connect(query) as socket:
        await socket.send_bytes(s16(VOICE[:16_000]))
        await eventually(lambda: bool(served.sessions.track.chunks))
        served.sessions.track.say(revision("one", newly_final=1, complete=True))
        assert (await next_message(socket))["type"] == "Results"
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.4)
        await socket.send_bytes(s16(VOICE[16_000:]))
        assert await next_message(socket) == {
            "type": "UtteranceEnd",
            "channel": [0, 1],
            "last_word_end": 0.5,
        }


async def test_punctuation_can_be_configured_on_the_way(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_json({"type": "Configure", "features": {"punctuate": True}})
        assert (await next_message(socket))["type"] == "ConfigureSuccess"
        served.sessions.track.say(revision("Hello.", newly_final=1, complete=True))
        assert transcript(await next_message(socket)) == "Hello."
        await socket.send_json({"type": "Configure", "keyterms": ["x"]})
        failure = await next_message(socket)
        assert failure["code"] == "CONFIGURE_KEYTERMS_NOT_SUPPORTED"


# ---- encodings -----------------------------------------------------------------------------

FILES = {
    "webm": Recipe("webm", "libopus", options={"live": "1"}),
    "ogg": Recipe("ogg", "libopus"),
    "mp3": Recipe("mp3", "libmp3lame", 44_100, seekable=True),
    "flac": Recipe("flac", "flac", 16_000, sample_format="s16"),
    "wav": Recipe("wav", "pcm_s16le", 44_100),
    "mp4": Recipe("mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
}


@pytest.mark.parametrize("name", FILES)
async def test_containers_are_detected(name: str, serve: Serve) -> None:
    served = await serve()
    async with served.connect("") as socket:
        for piece in cut(encode(FILES[name], VOICE), 1500):
            await socket.send_bytes(piece)
        await socket.send_json({"type": "CloseStream"})
        *_, metadata = await rest(socket)
        assert socket.close_code == WSCloseCode.OK
    assert metadata["duration"] == pytest.approx(2.0, abs=0.06)
    assert likeness(served.sessions.track.samples, VOICE) > 0.9
    await eventually(lambda: served.pool.active == 0)


async def test_raw_opus_packets(serve: Serve) -> None:
    served = await serve()
    async with served.connect("encoding=opus&sample_rate=48000") as socket:
        for packet in opus_packets(VOICE):
            await socket.send_bytes(packet)
        await socket.send_json({"type": "CloseStream"})
        await rest(socket)
    assert likeness(served.sessions.track.samples, VOICE) > 0.9


async def test_telephone_mulaw(serve: Serve) -> None:
    served = await serve()
    wav = encode(Recipe("wav", "pcm_mulaw", 8_000, seekable=True), VOICE)
    async with served.connect("encoding=mulaw&sample_rate=8000") as socket:
        for piece in cut(wav[wav.index(b"data") + 8 :][:16_000], 160):
            await socket.send_bytes(piece)
        await socket.send_json({"type": "CloseStream"})
        await rest(socket)
    assert likeness(served.sessions.track.samples, VOICE) > 0.9


# ---- refusals before the upgrade -----------------------------------------------------------


async def test_a_wrong_parameter_is_a_problem_that_deepgrams_clients_read(serve: Serve) -> None:
    served = await serve()
    status, problem, headers = await served.refused("encoding=linear16")
    assert status == 400
    assert problem["code"] == "invalid_query_parameter"
    assert problem["err_code"] == "INVALID_QUERY_PARAMETER"
    assert "sample_rate" in problem["err_msg"] == problem["detail"]
    assert headers["dg-error"] == problem["detail"]
    assert headers["dg-request-id"] == problem["request_id"]
    assert headers["Content-Type"].startswith("application/problem+json")
    with pytest.raises(WSServerHandshakeError):
        async with served.connect("encoding=linear16"):
            pass
    assert served.sessions.opened == []


async def test_a_parameter_cannot_write_headers(serve: Serve) -> None:
    served = await serve()
    status, _, headers = await served.refused("a%0d%0aSet-Cookie:%20x=1")
    assert status == 400
    assert "Set-Cookie" not in headers


async def test_plain_http_is_told_to_use_a_websocket(serve: Serve) -> None:
    served = await serve()
    status, problem, _ = await served.refused(RAW)
    assert (status, problem["code"]) == (400, "websocket_needed")
    assert served.sessions.opened == []


async def test_a_full_server_says_when_to_come_again(serve: Serve) -> None:
    served = await serve()
    served.sessions.full = True
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    status, problem, headers = await served.refused(RAW, headers=upgrade)
    assert (status, problem["retryable"], headers["Retry-After"]) == (503, True, "3")
    await eventually(lambda: served.sessions.opened[0].closed == "failed")


@pytest.mark.parametrize(
    "more",
    [
        {"headers": {"Authorization": f"Token {KEY}"}},
        {"headers": {"Authorization": f"bearer {KEY}"}},
        {"protocols": ("token", KEY)},
    ],
)
async def test_the_key_comes_as_deepgrams_clients_send_it(more: Json, serve: Serve) -> None:
    served = await serve(api_key=KEY)
    with pytest.raises(WSServerHandshakeError):
        async with served.connect():
            pass
    async with served.connect(**more) as socket:
        assert socket.protocol == ("token" if "protocols" in more else None)
        await socket.send_json({"type": "CloseStream"})
        assert kinds(await rest(socket)) == ["Metadata"]


# ---- what goes wrong on the way ------------------------------------------------------------


async def test_a_text_that_is_not_known_is_told_and_the_stream_goes_on(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        for text in ("hello", '{"type": "Nothing"}', "[1]"):
            await socket.send_str(text)
            error = await next_message(socket)
            assert (error["type"], error["variant"]) == ("Error", "SchemaError")
            assert error["message"] == text
        await socket.send_bytes(s16(VOICE))
        await socket.send_json({"type": "CloseStream"})
        assert kinds(await rest(socket)) == ["Results", "Metadata"]


async def test_what_is_no_audio_closes_with_data_0000(serve: Serve) -> None:
    served = await serve()
    async with served.connect("") as socket:
        await socket.send_bytes(b"this is not audio in any container at all")
        [error] = await rest(socket)
        assert socket.close_code == WSCloseCode.POLICY_VIOLATION
    assert error["variant"] == "DATA-0000"
    assert "encoding" in error["description"]
    await eventually(lambda: served.sessions.opened[0].closed == "failed")


async def test_words_before_the_damage_still_come(serve: Serve) -> None:
    served = await serve()
    async with served.connect("encoding=opus") as socket:
        for packet in opus_packets(VOICE):
            await socket.send_bytes(packet)
        for _ in range(60):
            await socket.send_bytes(b"\xff\xff\xff")
        messages = await rest(socket)
    assert kinds(messages) == ["Results", "Error"]
    assert transcript(messages[0]) == "bye"


async def test_silence_on_the_wire_closes_with_net_0001(serve: Serve) -> None:
    served = await serve(ListenLimits(idle_s=0.3))
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        messages = await rest(socket)
        assert socket.close_code == WSCloseCode.INTERNAL_ERROR
    assert kinds(messages) == ["Results", "Error"]
    assert messages[1]["variant"] == "NET-0001"


async def test_keep_alive_keeps_a_silent_stream(serve: Serve) -> None:
    served = await serve(ListenLimits(idle_s=1.5))
    async with served.connect() as socket:
        for _ in range(7):
            await asyncio.sleep(0.3)
            await socket.send_json({"type": "KeepAlive"})
        await socket.send_json({"type": "CloseStream"})
        assert kinds(await rest(socket)) == ["Metadata"]


async def test_a_message_over_the_limit_closes_with_1009(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        await socket.send_bytes(bytes(10 * 1024 * 1024))
        messages = await rest(socket)
        assert socket.close_code == WSCloseCode.MESSAGE_TOO_BIG
    assert kinds(messages) == ["Results", "Error"]
    await eventually(lambda: served.sessions.opened[0].closed is not None)


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_disappears_leaves_nothing_behind(politely: bool, serve: Serve) -> None:
    served = await serve()
    async with served.connect("") as socket:
        data = encode(FILES["webm"], VOICE)
        await socket.send_bytes(data[: len(data) // 2])
        await eventually(lambda: served.pool.active == 1)
        await eventually(lambda: bool(served.sessions.track.chunks))
        if politely:
            await socket.close()
        else:
            transport = socket._response.connection.transport  # type: ignore[union-attr]
            cast(asyncio.Transport, transport).abort()
        await eventually(lambda: served.pool.active == 0)
        await eventually(lambda: served.sessions.opened[0].closed is not None)
    assert served.sessions.opened[0].closed == ("left" if politely else "lost")


async def test_a_client_that_never_reads_is_sent_away_and_hurts_nobody(serve: Serve) -> None:
    served = await serve(ListenLimits(outbox_messages=64, close_s=0.3))
    async with served.connect() as deaf, served.connect() as other:
        transport_of(deaf).pause_reading()
        track = served.sessions.opened[0].tracks[0]
        async with asyncio.timeout(40):
            while served.sessions.opened[0].closed is None:
                track.say(revision("w" * 100_000, newly_final=1, complete=True))
                await asyncio.sleep(0)
        await other.send_bytes(s16(VOICE))
        await other.send_json({"type": "CloseStream"})
        assert kinds(await rest(other)) == ["Results", "Metadata"]
        transport_of(deaf).abort()


async def test_a_client_that_stops_reading_at_the_end_is_cut_off(serve: Serve) -> None:
    served = await serve(ListenLimits(send_s=0.3, close_s=0.3))
    async with served.connect() as socket:
        transport_of(socket).pause_reading()
        for _ in range(60):
            served.sessions.track.say(revision("w" * 100_000, newly_final=1, complete=True))
        await socket.send_json({"type": "CloseStream"})
        await eventually(lambda: served.connections == 0)
        await eventually(lambda: served.sessions.opened[0].closed == "ended")
        transport_of(socket).abort()


async def test_a_client_that_reads_too_late_still_sees_why(serve: Serve) -> None:
    served = await serve(ListenLimits(outbox_messages=4, close_s=5))
    async with served.connect() as socket:
        transport = transport_of(socket)
        transport.pause_reading()
        for _ in range(100):
            served.sessions.track.say(revision("w" * 100_000, newly_final=1, complete=True))
            await asyncio.sleep(0)
        transport.resume_reading()
        async with asyncio.timeout(30):
            async for _ in socket:
                pass
        assert socket.close_code == WSCloseCode.TRY_AGAIN_LATER


async def test_a_whole_file_at_once_waits_for_the_worker(serve: Serve) -> None:
    served = await serve(ListenLimits(ahead_s=5.0))
    served.sessions.busy = True
    async with served.connect("encoding=linear16&sample_rate=16000") as socket:
        for _ in range(20):
            await socket.send_bytes(s16(VOICE))
        track = served.sessions.track
        await eventually(lambda: track.stats.received_s >= 5.0)
        await asyncio.sleep(0.3)  # that no more comes
        assert track.stats.received_s < 8.0
        track.busy = False
        await eventually(lambda: track.stats.received_s == pytest.approx(40.0))
        await socket.send_json({"type": "CloseStream"})
        await rest(socket)


async def test_a_worker_that_never_comes_is_told(serve: Serve) -> None:
    served = await serve(ListenLimits(ahead_s=1.0, stalled_s=0.3))
    served.sessions.busy = True
    async with served.connect() as socket:
        for _ in range(3):
            await socket.send_bytes(s16(VOICE))
        messages = await rest(socket)
        assert socket.close_code == WSCloseCode.TRY_AGAIN_LATER
    assert messages[-1]["variant"] == "AUDIO_BACKLOG"


async def test_lost_last_words_are_not_passed_over_in_silence(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        await eventually(lambda: bool(served.sessions.track.chunks))
        served.sessions.track.fails = True
        await socket.send_json({"type": "CloseStream"})
        [error] = await rest(socket)
        assert socket.close_code == WSCloseCode.INTERNAL_ERROR
    assert error["type"] == "Error"


async def test_a_stopping_server_says_goodbye(serve: Serve) -> None:
    served = await serve()
    async with served.connect() as socket:
        await socket.send_bytes(s16(VOICE))
        await eventually(lambda: bool(served.sessions.track.chunks))
        await served.sessions.opened[0].close("ended")
        assert kinds(await rest(socket)) == ["Results", "Metadata"]
        assert socket.close_code == WSCloseCode.GOING_AWAY
