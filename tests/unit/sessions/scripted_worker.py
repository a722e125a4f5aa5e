"""A speech worker in this process: the real gRPC service on a Unix socket, with scripted ears."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
from prometheus_client import CollectorRegistry

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.captions.events import (
    Ended,
    Flushed,
    Revision,
    SpeechBegan,
    StatusChanged,
    TrackEvent,
    Word,
)
from mediaserver.inference.client import SpeechClient
from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.inference.worker.dispatch import Dispatcher
from mediaserver.inference.worker.service import SpeechService
from mediaserver.kernel.clocks import SystemClock
from mediaserver.protocol.messages import CaptionOptions
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.track import CaptionTrack
from tests.unit.inference.scripted import Script, ScriptedRecogniser, ScriptedVad

ENGLISH = CaptionOptions(language="en")


class ScriptedWorker:
    """Can be killed and started anew at the same address."""

    def __init__(
        self,
        recogniser: ScriptedRecogniser,
        worker_id: str = "scripted",
        first_message_timeout_s: float = 10.0,
    ) -> None:
        self.recogniser = recogniser
        self._first_message_timeout_s = first_message_timeout_s
        self._worker_id = worker_id
        self._folder = tempfile.TemporaryDirectory(prefix="worker-")
        self.url = f"unix:{self._folder.name}/w.sock"
        self._server: grpc.aio.Server | None = None
        self.dispatcher: Dispatcher | None = None

    async def start(self) -> None:
        Path(self.url.removeprefix("unix:")).unlink(missing_ok=True)
        self._server = grpc.aio.server()
        self.dispatcher = Dispatcher(self.recogniser, self._broken)
        self.dispatcher.admission.decoded(1, 0.001)  # real workers decode once before they serve
        service = SpeechService(
            self.dispatcher, ScriptedVad, self._worker_id, self._first_message_timeout_s
        )
        rpc.add_SpeechServicer_to_server(service, self._server)
        self._server.add_insecure_port(self.url)
        self.dispatcher.start()
        await self._server.start()

    async def kill(self) -> None:
        """Drop all calls at once."""
        if self._server is None or self.dispatcher is None:
            return
        await self._server.stop(grace=None)
        await self.dispatcher.aclose()
        self._server = self.dispatcher = None

    async def aclose(self) -> None:
        await self.kill()
        self._folder.cleanup()

    def _broken(self, error: BaseException) -> None:
        raise AssertionError("the worker was given up") from error


class Heard:
    """A listener that remembers, and checks the laws of finals as it goes."""

    def __init__(self) -> None:
        self.events: list[TrackEvent] = []
        self._final: dict[int, tuple[Word, ...]] = {}
        self._complete: set[int] = set()

    def __call__(self, event: TrackEvent) -> None:
        assert not any(isinstance(e, Ended) for e in self.events), "something followed the end"
        self.events.append(event)
        if isinstance(event, Revision):
            before = self._final.get(event.utterance, ())
            assert event.final[: len(before)] == before
            assert event.final == (*before, *event.new_words)
            assert event.utterance not in self._complete
            self._final[event.utterance] = event.final
            if event.complete:
                self._complete.add(event.utterance)

    @property
    def texts(self) -> list[str]:
        """All final words."""
        return [word.text for r in self.revisions for word in r.new_words]

    @property
    def revisions(self) -> list[Revision]:
        return [e for e in self.events if isinstance(e, Revision)]

    @property
    def statuses(self) -> list[str]:
        return [e.captions for e in self.events if isinstance(e, StatusChanged)]

    @property
    def flushes(self) -> list[int]:
        return [e.request for e in self.events if isinstance(e, Flushed)]

    @property
    def ends(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, Ended)]

    @property
    def began(self) -> int:
        return sum(isinstance(e, SpeechBegan) for e in self.events)


class Stage:
    """Workers, a client of theirs, and tracks that say what their scripts say."""

    def __init__(self, count: int = 1) -> None:
        self.recogniser = ScriptedRecogniser()
        self.workers = [ScriptedWorker(self.recogniser, f"w{i}") for i in range(count)]
        self.client = SpeechClient()
        self.clock = SystemClock()
        self.registry = CollectorRegistry()
        self.figures = Figures(self.registry)
        self._tracks: list[CaptionTrack] = []

    async def start(self, workers: Sequence[int] | None = None) -> None:
        """Start the workers (or some of them), and wait until one answers."""
        for i, worker in enumerate(self.workers):
            if workers is None or i in workers:
                await worker.start()
            self.client.add(worker.url)
        if workers is None or workers:
            assert await self.client.wait_ready(20.0)

    async def aclose(self) -> None:
        for track in self._tracks:
            await track.end("ended", 0.0)
        await self.client.aclose()
        for worker in self.workers:
            await worker.aclose()

    def open(
        self, script: Script, heard: Heard, options: CaptionOptions = ENGLISH, name: str = ""
    ) -> CaptionTrack:
        track_id = name or f"t{len(self._tracks)}"
        self.recogniser.add(track_id, script)
        track = CaptionTrack(track_id, options, self.client, heard, self.clock, self.figures)
        self._tracks.append(track)
        return track


def push(
    track: CaptionTrack, script: Script, start_s: float = 0.0, end_s: float | None = None
) -> None:
    """Push a part of what the script says, in pieces of 0.1 s, without waiting."""
    audio, piece = script.audio(), SAMPLE_RATE_HZ // 10
    last = len(audio) if end_s is None else round(end_s * SAMPLE_RATE_HZ)
    for first in range(round(start_s * SAMPLE_RATE_HZ), last, piece):
        samples = audio[first : min(first + piece, last)]
        track.push(AudioChunk(samples, first / SAMPLE_RATE_HZ))
