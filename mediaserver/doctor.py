"""`mediaserver doctor`: what this machine lacks, and what to do about it."""

import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, TextIO

from mediaserver.inference.registry import ModelRegistry
from mediaserver.kernel.errors import ConfigurationError, Unavailable
from mediaserver.settings import Settings
from mediaserver.stores.database import Database
from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.stores.opening import redis_store, sql_database
from mediaserver.stores.redis import RedisStore

_FILES_A_STREAM = 8
"""Descriptors that one WebRTC peer takes: sockets for each address, and room to breathe."""
_LOW_DISK_BYTES = 500_000_000
_LOW_MEMORY_BYTES = 1_500_000_000
_PROBE_TIMEOUT_S = 60.0
_STORE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    state: Literal["ok", "warning", "fault"]
    subject: str
    text: str


def examine(settings: Settings, settings_problem: str | None = None) -> Iterator[Finding]:
    """Look at everything; findings come as they are made. A failing look is a finding too."""
    if settings_problem is not None:
        yield Finding("fault", "settings", settings_problem)
    else:
        yield Finding("ok", "settings", "all MEDIASERVER_ variables are known and fit together")
    looks: tuple[tuple[str, Callable[[Settings], Iterable[Finding]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("media", _media),
        ("speech", _speech),
        ("data", _data),
        ("redis", _redis),
        ("database", _database),
        ("model", _model),
        ("port", _port),
        ("limits", _limits),
        ("memory", _memory),
    )
    for subject, look in looks:
        try:
            yield from look(settings)
        except Exception as error:  # a check that fails is itself what the operator must know
            yield Finding("fault", subject, f"could not be checked: {error}")


def report(findings: Iterable[Finding], out: TextIO) -> int:
    """Write the findings; return the number of faults."""
    faults = warnings = 0
    for finding in findings:
        faults += finding.state == "fault"
        warnings += finding.state == "warning"
        out.write(f"{finding.state:<8} {finding.subject:<9} {finding.text}\n")
        out.flush()
    out.write(f"\nfaults: {faults}, warnings: {warnings}\n")
    return faults


def _python(_settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    advice = "" if fine else "; 3.11 or newer is needed"
    yield Finding("ok" if fine else "fault", "python", f"{version} at {sys.executable}{advice}")


def _packages(_settings: Settings) -> Iterator[Finding]:
    """Compare what is installed with what the distribution asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = metadata.requires("mediaserver") or []
    except metadata.PackageNotFoundError:
        yield Finding("warning", "packages", "mediaserver is not installed; run: pip install -e .")
        return
    wrong = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        yield Finding("fault", "packages", f"{'; '.join(wrong)}; run: make run, or pip install")
    else:
        yield Finding("ok", "packages", f"mediaserver {metadata.version('mediaserver')}, all there")


def _media(_settings: Settings) -> Iterator[Finding]:
    """Check that PyAV's FFmpeg has the codecs that are needed."""
    import av

    missing = []
    for name in ("opus", "vp8", "h264", "pcm_mulaw", "mp3", "flac"):
        try:
            av.Codec(name, "r")
        except av.codec.codec.UnknownCodecError:
            missing.append(name)
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, version))}"
        for name, version in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavformat")
    )
    if missing:
        yield Finding("fault", "media", f"{libraries} lacks {', '.join(missing)}; reinstall av")
    else:
        yield Finding("ok", "media", f"{libraries}, with all codecs that are needed")


_SPEECH_PROBE = """
import json, ctranslate2, faster_whisper, onnxruntime
print(json.dumps({"ctranslate2": ctranslate2.__version__,
                  "cuda": ctranslate2.get_cuda_device_count(),
                  "cpu": sorted(ctranslate2.get_supported_compute_types("cpu"))}))
"""


def _speech(settings: Settings) -> Iterator[Finding]:
    """Ask another process: the model libraries belong to workers, and may crash."""
    result = subprocess.run(  # noqa: S603 # our own interpreter, a constant script
        [sys.executable, "-c", _SPEECH_PROBE],
        capture_output=True,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding("fault", "speech", f"the speech engine does not load: {reason}")
        return
    told = json.loads(result.stdout)
    yield Finding("ok", "speech", f"CTranslate2 {told['ctranslate2']}, {os.cpu_count()} cores")
    if "int8" not in told["cpu"]:
        yield Finding("warning", "speech", "this CPU has no fast int8; captions will be slow")
    cards = told["cuda"]
    if cards:
        yield Finding("ok", "cuda", f"{cards} device{'s' if cards > 1 else ''}")
    elif settings.device == "cuda":
        yield Finding("fault", "cuda", "MEDIASERVER_DEVICE=cuda, but CTranslate2 finds no device")
    else:
        yield Finding("ok", "cuda", "no device; speech is computed on the CPU")


def _data(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        yield Finding("fault", "data", f"{parent} cannot be written to; set MEDIASERVER_DATA_DIR")
        return
    free_bytes = shutil.disk_usage(parent).free
    low = free_bytes < _LOW_DISK_BYTES
    yield Finding(
        "warning" if low else "ok", "data", f"{folder}, {free_bytes / 1e9:.1f} GB are free"
    )


def _redis(settings: Settings) -> Iterator[Finding]:
    """Ask the Redis that is named; else start our own server for a moment."""
    place = "the embedded valkey-server"
    try:
        if settings.redis_url is None:
            asyncio.run(_try_embedded(settings))
        else:
            store = redis_store(settings, None)
            place = store.place
            asyncio.run(_ask(store))
    except ConfigurationError as error:
        yield Finding("fault", "redis", error.detail)
    except (Unavailable, TimeoutError):  # before OSError, of which TimeoutError is one
        yield Finding(
            "fault",
            "redis",
            f"{place} does not answer; start it, or correct MEDIASERVER_REDIS_URL "
            "(unset it to use a server of our own)",
        )
    except OSError as error:
        yield Finding(
            "fault",
            "redis",
            f"{place} cannot be started ({error}); set MEDIASERVER_DATA_DIR to a folder that can "
            "be written to, or MEDIASERVER_REDIS_URL",
        )
    else:
        yield Finding("ok", "redis", f"{place} answers")


async def _try_embedded(settings: Settings) -> None:
    """In the data directory where it is there, beside a server that may run; else elsewhere."""
    with contextlib.ExitStack() as stack:
        folder = settings.data_dir
        if not folder.exists():  # `doctor` leaves nothing behind
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        async with EmbeddedValkey(folder) as valkey:
            await _ask(RedisStore(valkey.url))


def _database(settings: Settings) -> Iterator[Finding]:
    """Ask the database that is named; SQLite needs a folder that can be written to."""
    try:
        database = sql_database(settings)
        if database.is_sqlite:
            path = Path(str(database.url.database)).resolve()
            parent = path.parent
            while not parent.exists():
                parent = parent.parent
            if not os.access(path if path.exists() else parent, os.W_OK):
                yield Finding(
                    "fault",
                    "database",
                    f"{path} cannot be written to; correct its permissions, or set "
                    "MEDIASERVER_DATABASE_URL or MEDIASERVER_DATA_DIR",
                )
                return
            if not path.exists():
                yield Finding("ok", "database", f"{path} will be made at the first start")
                return
        asyncio.run(_ask(database))
    except ConfigurationError as error:
        yield Finding("fault", "database", error.detail)
    except (Unavailable, TimeoutError):
        yield Finding(
            "fault",
            "database",
            f"{database.place} does not answer; start it, or correct MEDIASERVER_DATABASE_URL "
            "(unset it to use SQLite)",
        )
    else:
        yield Finding("ok", "database", f"{database.place} answers")


async def _ask(store: RedisStore | Database) -> None:
    """Raises Unavailable and TimeoutError."""
    try:
        async with asyncio.timeout(_STORE_TIMEOUT_S):
            await store.ping()
    finally:
        await store.aclose()


def _model(settings: Settings) -> Iterator[Finding]:
    if settings.inference_urls:
        yield Finding("ok", "model", "remote workers have it (MEDIASERVER_INFERENCE_URLS)")
        return
    try:
        folder = ModelRegistry(settings.data_dir).locate(settings.speech_model)
    except ConfigurationError as error:
        yield Finding("fault", "model", error.detail)
    else:
        yield Finding("ok", "model", f"{settings.speech_model} in {folder}")


def _port(settings: Settings) -> Iterator[Finding]:
    place = f"{settings.host}:{settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        advice = "stop what listens there, or set MEDIASERVER_HOST and MEDIASERVER_PORT"
        yield Finding("fault", "port", f"{place} cannot be had ({error.strerror}); {advice}")
    else:
        yield Finding("ok", "port", f"{place} is free")


def _limits(settings: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 200 + _FILES_A_STREAM * settings.max_streams
    if soft != resource.RLIM_INFINITY and soft < needed:
        advice = f"run: ulimit -n {needed}" if hard >= needed else "raise the hard limit"
        yield Finding(
            "warning",
            "limits",
            f"{soft} open files, but {settings.max_streams} streams need about {needed}; {advice}, "
            "or lower MEDIASERVER_MAX_STREAMS",
        )
    else:
        yield Finding("ok", "limits", f"{soft} open files")


def _memory(_settings: Settings) -> Iterator[Finding]:
    try:
        told = Path("/proc/meminfo").read_text()
    except OSError:
        return
    found = re.search(r"MemAvailable:\s+(\d+) kB", told)
    if found is not None:
        free_bytes = int(found.group(1)) * 1024
        low = free_bytes < _LOW_MEMORY_BYTES
        text = f"{free_bytes / 1e9:.1f} GB are free"
        yield Finding(
            "warning" if low else "ok", "memory", text + ("; a worker needs 1 GB" if low else "")
        )
