"""A real server in its own process: `mediaserver serve` on a free loopback port."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
GONE_WITHIN_S = 10.0


@dataclass
class LiveServer:
    """A running server."""

    url: str
    """``http://127.0.0.1:PORT``"""
    data_dir: Path
    log_path: Path
    process: "subprocess.Popen[bytes]"
    key: str | None
    ready_after_s: float

    @property
    def ws_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key} if self.key else {}

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """GET with the key; return status and body."""
        request = urllib.request.Request(self.url + path, headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def children(self) -> list[int]:
        """Process ids of its workers."""
        return [pid for pid in self.processes() if b"worker" in _command_line(pid)]

    def processes(self) -> list[int]:
        """Process ids of its workers and of the embedded valkey-server's guardian."""
        try:
            told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in told.split()]

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> tuple[int, float]:
        """End it as Ctrl-C does; return the exit code and the seconds it took."""
        workers = self.processes()
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            _end(workers)
            raise AssertionError(f"the server did not stop in {timeout_s} s\n{self.log}") from None
        took_s = time.monotonic() - started
        left = _end(workers)
        assert not left, f"workers outlived the server: {left}\n{self.log}"
        return self.process.returncode, took_s


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _end(pids: list[int]) -> list[int]:
    """Give workers some time to be gone; kill and return those that are not."""
    deadline = time.monotonic() + GONE_WITHIN_S
    left = [pid for pid in pids if _alive(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _alive(pid)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def run_server(
    folder: Path, model: Path | None, *, wait_ready: bool = True, **settings: str
) -> Iterator[LiveServer]:
    """Run a server whose data lies in `folder`; `settings` are MEDIASERVER_ names in lower case.

    `model` is linked as whisper-base, so that nothing is copied or fetched.
    """
    data_dir = folder / "data"
    (data_dir / "models").mkdir(parents=True, exist_ok=True)
    link = data_dir / "models" / "whisper-base"
    if model is not None and not link.exists():
        link.symlink_to(model.resolve())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")}
    wanted = {
        "host": "127.0.0.1",
        "port": "0",
        "data_dir": str(data_dir),
        "ice_interfaces": "127.0.0.1",
        "rate_limit": "0",
        **settings,
    }
    environment = {**kept, **{f"MEDIASERVER_{k.upper()}": v for k, v in wanted.items()}}
    log_path, out_path = folder / "server.log", folder / "server.out"
    started = time.monotonic()
    with log_path.open("ab") as log, out_path.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mediaserver", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )
    server = LiveServer("", data_dir, log_path, process, wanted.get("api_key"), 0.0)
    try:
        server.url = _wait_for_url(server, out_path)
        if wait_ready:
            _wait_until_ready(server)
            server.ready_after_s = time.monotonic() - started
        yield server
    finally:
        server.stop()


def _wait_for_url(server: LiveServer, out_path: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        found = re.search(r"https?://\S+", out_path.read_text())
        if found is not None:
            return found.group()
        if server.process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start\n{server.log}")


def _wait_until_ready(server: LiveServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    body = ""
    while time.monotonic() < deadline and server.process.poll() is None:
        status, body = server.get("/readyz")
        if status == 200:
            assert json.loads(body)["ready"] is True
            return
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready: {body}\n{server.log}")
