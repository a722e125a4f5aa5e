"""The worker process: loads the model, serves gRPC, ends with its parent or on a signal."""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import uvloop

from mediaserver.inference.rpc import speech_pb2_grpc as rpc
from mediaserver.inference.worker.ct2 import CTranslate2Recogniser
from mediaserver.inference.worker.dispatch import Dispatcher
from mediaserver.inference.worker.recogniser import Recogniser
from mediaserver.inference.worker.service import MAX_AUDIO_MESSAGE_BYTES, SpeechService
from mediaserver.inference.worker.vad import StreamVad, VadModel
from mediaserver.inference.worker.whisper_recogniser import WhisperRecogniser
from mediaserver.kernel.errors import ConfigurationError
from mediaserver.kernel.logging import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker process is told."""

    listen: str
    """gRPC address: ``unix:/path`` or ``host:port``."""
    model: Path
    """A CTranslate2 model folder."""
    device: str = "auto"
    threads: int = 0
    """CPU threads; 0 takes all cores."""
    worker_id: str = "worker"
    parent_pid: int | None = None
    """The worker ends when this process is gone."""


def choose_device(wanted: str) -> str:
    """Return "cuda" or "cpu"; `auto` takes CUDA where CTranslate2 finds a device."""
    import ctranslate2

    if wanted != "auto":
        return wanted
    return "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"


def load(config: WorkerConfig) -> Recogniser:
    """Load the model: on our own decoder on a CPU, else on CTranslate2."""
    device = choose_device(config.device)
    threads = config.threads or len(os.sched_getaffinity(0))
    recogniser: Recogniser
    if device == "cpu":
        try:
            recogniser = WhisperRecogniser(config.model, device, threads)
        except ConfigurationError as error:  # a file of quantised weights, for example
            log.warning("model.fallback", detail=error.detail, engine="ctranslate2")
            recogniser = CTranslate2Recogniser(config.model, device, threads)
    else:
        recogniser = CTranslate2Recogniser(config.model, device, threads)
    log.info("model.loaded", model=recogniser.name, device=device, slots=recogniser.slots)
    return recogniser


async def serve(config: WorkerConfig) -> int:
    """Serve until told to stop; return the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    recogniser = await asyncio.to_thread(load, config)
    vad = VadModel()
    broken: list[BaseException] = []

    def on_broken(error: BaseException) -> None:
        broken.append(error)
        stop.set()

    dispatcher = Dispatcher(recogniser, on_broken)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_AUDIO_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    service = SpeechService(dispatcher, lambda: StreamVad(vad), config.worker_id)
    rpc.add_SpeechServicer_to_server(service, server)
    server.add_insecure_port(config.listen)
    await dispatcher.warm_up()
    dispatcher.start()
    await server.start()
    log.info("worker.ready", listen=config.listen)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        if config.parent_pid is not None and os.getppid() != config.parent_pid:
            log.warning("worker.orphaned")
            stop.set()
    await server.stop(grace=1.0)
    await dispatcher.aclose()
    return 1 if broken else 0


def main(config: WorkerConfig) -> int:
    """Run a worker in this process."""
    code = uvloop.run(serve(config))
    # Model threads may still be inside a decode that nobody waits for.
    os._exit(code)
