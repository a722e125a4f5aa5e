"""Starts the servers that are measured, each with its own process group, and ends them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_HERE = Path(__file__).resolve().parent


class NotStarted(Exception):
    """The server did not come up; the text has the end of its log."""


@dataclass(frozen=True)
class Usage:
    """What a process and its children have used. Sums over all of them."""

    app_cpu_s: float
    worker_cpu_s: float
    app_mib: float
    worker_mib: float

    @property
    def cpu_s(self) -> float:
        return self.app_cpu_s + self.worker_cpu_s


class Running:
    """A server that was started here."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path, start_s: float):
        self.process, self.url, self.log, self.start_s = process, url, log, start_s

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def usage(self) -> Usage:
        """Read CPU time and resident memory of the server and its workers from /proc."""
        own = _processes().get(self.process.pid)
        children = [pid for pid in _descendants(self.process.pid) if not _is_store(pid)]
        app = _cpu_s(self.process.pid) if own is not None else 0.0
        return Usage(
            app_cpu_s=app,
            worker_cpu_s=sum(_cpu_s(pid) for pid in children),
            app_mib=_resident_mib(self.process.pid),
            worker_mib=sum(_resident_mib(pid) for pid in children),
        )

    def stop(self) -> float:
        """End it as Ctrl-C does; kill what is left of its group. Return how long it took."""
        began = time.monotonic()
        for number, wait_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGTERM, 5.0)):
            if self.process.poll() is not None:
                break
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait_s)
        took_s = time.monotonic() - began
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: it was started as leader
        self.process.wait(5.0)
        return took_s


@contextlib.contextmanager
def our_server(**variables: str) -> Iterator[Running]:
    """Start `mediaserver serve` on a free loopback port and wait for /readyz.

    MEDIASERVER_SPEECH_MODEL, _DEVICE, _WORKERS and the other settings of the environment hold;
    `variables` go before them.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = {k: v for k, v in os.environ.items() if k != "MEDIASERVER_API_KEY"}
        env |= {"MEDIASERVER_LOG_LEVEL": "warning", "PYTHONUNBUFFERED": "1"}
        env.setdefault("MEDIASERVER_RATE_LIMIT", "0")  # all clients come from one address
        env |= variables
        command = [sys.executable, "-m", "mediaserver", "serve"]
        command += ["--host", "127.0.0.1", "--port", "0"]
        began = time.monotonic()
        log = Path(folder) / "server.log"
        process = _spawn(command, env, log)
        running = Running(process, "", log, 0.0)
        try:
            running.url = _announced(process, log)
            _await_ready(process, f"{running.url}/readyz", log)
            running.start_s = time.monotonic() - began
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def whisperlive(python: str, model: Path) -> Iterator[Running]:
    """Start the peer with `python` (of its own environment) on a free loopback port."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
        command = [python, str(_HERE / "peer_whisperlive.py"), str(model), str(port)]
        log = Path(folder) / "peer.log"
        began = time.monotonic()
        process = _spawn(command, env, log)
        running = Running(process, f"http://127.0.0.1:{port}", log, 0.0)
        try:
            _await_port(process, port, log)
            running.start_s = time.monotonic() - began
            yield running
        finally:
            running.stop()


def _spawn(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            env=env,
            cwd=_HERE.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _check(process: subprocess.Popen[bytes], deadline: float, log: Path) -> None:
    if process.poll() is not None:
        raise NotStarted(f"it ended with {process.returncode}:\n{_end_of(log)}")
    if time.monotonic() > deadline:
        raise NotStarted(f"not ready after {START_TIMEOUT_S:.0f} s:\n{_end_of(log)}")
    time.sleep(0.05)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace")):
            return found.group()
        _check(process, deadline, log)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(url):
        _check(process, deadline, log)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, or 503 as HTTPError
        return False


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        _check(process, deadline, log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- /proc ---------------------------------------------------------------------------------


def _processes() -> dict[int, int]:
    """Every process's parent."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(path.parent.name)] = int(_fields(path.read_text())[1])
    return parents


def _fields(stat: str) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces (proc(5))."""
    return stat.rpartition(")")[2].split()


def _descendants(pid: int) -> list[int]:
    parents = _processes()
    found, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return sorted(found - {pid})


def _is_store(pid: int) -> bool:
    """Whether it is the embedded Valkey, which computes no captions."""
    try:
        return "valkey" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def _cpu_s(pid: int) -> float:
    try:
        fields = _fields(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else 0.0
