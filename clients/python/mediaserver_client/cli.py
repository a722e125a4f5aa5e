"""The command `mediaserver-captions`: caption a file, the microphone, or PCM from a pipe."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TextIO

from mediaserver_client.errors import (
    AudioError,
    ClientError,
    ProtocolError,
    Refused,
    ServerUnreachable,
)
from mediaserver_client.media import Microphone
from mediaserver_client.messages import Caption
from mediaserver_client.publication import Publication
from mediaserver_client.session import connect
from mediaserver_client.sources import Publishable, is_file
from mediaserver_client.terminal import LiveView
from mediaserver_client.transcript import as_json, as_line, cues, srt_cue, vtt_cue

_EPILOG = """\
examples:
  mediaserver-captions talk.mp4
  mediaserver-captions talk.mp4 --format vtt > talk.vtt
  mediaserver-captions --mic --language de --translate
  arecord -q -f S16_LE -r 16000 -c 1 -t raw | mediaserver-captions -

exit codes: 0 done; 1 captioning failed; 2 wrong usage; 3 no server at this address;
4 the server refused (key, no capacity, ...); 5 the audio cannot be read; 130 interrupted (a file).
Ctrl-C ends the audio and waits for the last captions; pressed again, it quits at once.
"""
_EXIT_CODES: tuple[tuple[type[ClientError], int], ...] = (
    (ServerUnreachable, 3),
    (ProtocolError, 3),
    (Refused, 4),
    (AudioError, 5),
)
_READ_BYTES = 3200


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(
        prog="mediaserver-captions",
        description="Caption a file, the microphone, or PCM from a pipe, live in the terminal.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "file",
        nargs="?",
        help="an audio or video file; - reads 16-bit little-endian PCM from standard input",
    )
    p.add_argument("--mic", action="store_true", help="caption the microphone")
    p.add_argument("--device", help="the microphone, as FFmpeg names it (default: the system's)")
    p.add_argument(
        "--server", default="http://127.0.0.1:8080", metavar="URL", help="default: %(default)s"
    )
    p.add_argument("--room", help="publish in this room, so that others see it too")
    p.add_argument("--name", default="captions", help="the name others see")
    p.add_argument("--language", metavar="xx", help="what is spoken, such as en or es; else found")
    p.add_argument("--translate", action="store_true", help="captions in English")
    p.add_argument(
        "--format",
        choices=["text", "vtt", "srt", "json"],
        default="text",
        help="json is one object a line (default: text)",
    )
    p.add_argument(
        "--api-key", metavar="KEY", help="default: the environment's MEDIASERVER_API_KEY"
    )
    p.add_argument(
        "--realtime", action="store_true", help="play a file at the speed of speech, not faster"
    )
    p.add_argument("--rate", type=int, default=16000, metavar="HZ", help="of PCM; default 16000")
    p.add_argument("--channels", type=int, default=1, metavar="N", help="of PCM; default 1")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    grammar = parser()
    options = grammar.parse_args(argv)
    if options.mic == (options.file is not None):
        grammar.error("name a file, or - for standard input, or --mic")
    if options.device and not options.mic:
        grammar.error("--device goes with --mic")
    try:
        return asyncio.run(_run(options))
    except ClientError as error:
        print(f"mediaserver-captions: {error}", file=sys.stderr)
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone: no traceback, also not when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _run(options: argparse.Namespace) -> int:
    source = await _source(options)
    write = _writer(options.format, sys.stdout)
    interrupted = False
    async with connect(
        options.server, room=options.room, name=options.name, api_key=options.api_key
    ) as session:
        publication = await session.publish(
            source,
            language=options.language,
            task="translate" if options.translate else "transcribe",
            interim=_is_live(options.format, sys.stdout),
            realtime=options.realtime and not options.mic and options.file != "-",
            sample_rate_hz=options.rate,
            channels=options.channels,
        )

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            publication.end_audio()

        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C quits at once
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, publication.end_audio)
        await _show(publication, write)
    return 130 if interrupted and not options.mic and options.file != "-" else 0


async def _source(options: argparse.Namespace) -> Publishable:
    if options.mic:
        return await asyncio.to_thread(Microphone, options.device)
    if options.file == "-":
        return _standard_input()
    return Path(options.file)


async def _standard_input() -> AsyncIterator[bytes]:
    """Yield what comes through standard input, as it comes. Raises AudioError."""
    first = True
    async for pcm in _read_standard_input():
        if first and is_file(pcm):
            raise AudioError(
                "standard input takes raw PCM, and this looks like a file: name the file instead, "
                "or pipe it through: ffmpeg -i - -f s16le -ar 16000 -ac 1 -"
            )
        first = False
        yield pcm


async def _read_standard_input() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=1 << 20)
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
    except (ValueError, NotImplementedError):  # a regular file, or Windows
        while pcm := await asyncio.to_thread(os.read, sys.stdin.fileno(), _READ_BYTES * 20):
            yield pcm
        return
    try:
        while pcm := await reader.read(_READ_BYTES):
            yield pcm
    finally:
        transport.close()


def _is_live(format: str, out: TextIO) -> bool:
    return format == "text" and out.isatty()


Write = Callable[[Caption | None], None]


def _writer(format: str, out: TextIO) -> Write:
    """Return what writes a caption; called with None at the end."""
    if _is_live(format, out):
        return _live_writer(out)
    number = 0

    def write(caption: Caption | None) -> None:
        nonlocal number
        if caption is None or not caption.final or not caption.words:
            return
        match format:
            case "text":
                print(as_line(caption), file=out, flush=True)
            case "json":
                print(json.dumps(as_json(caption), ensure_ascii=False), file=out, flush=True)
            case _:
                for cue in cues(caption):
                    number += 1
                    out.write(vtt_cue(cue) if format == "vtt" else srt_cue(cue, number))
                out.flush()

    if format == "vtt":
        out.write("WEBVTT\n\n")
        out.flush()
    return write


def _live_writer(out: TextIO) -> Write:
    view = LiveView()

    def write(caption: Caption | None) -> None:
        view.width = max(20, shutil.get_terminal_size().columns)
        out.write(view.clear() if caption is None else view.update(caption))
        out.flush()

    return write


async def _show(publication: Publication, write: Write) -> None:
    try:
        async for caption in publication.captions():
            write(caption)
    finally:
        write(None)


if __name__ == "__main__":
    sys.exit(main())
