"""The parent of the embedded valkey-server; a program of its own, with the standard library only.

``python guardian.py FOLDER SOCKET SERVER [ARGUMENT …]`` starts SERVER, starts it anew when it
dies, and ends it (SIGTERM, then SIGKILL) when nobody uses FOLDER any more. Everybody who uses it
holds a shared lock on ``FOLDER/users.lock``, which the system takes back even from those that are
killed; the guardian waits for the exclusive one. ``FOLDER/server.lock`` is held by the guardian
and inherited by the server, so that two servers never write the same files.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

BUSY = 3
"""Exit code: another guardian, or its server, runs already."""
TERMINATE_S = 3.0
RESTART_MIN_S = 0.1
RESTART_MAX_S = 2.0
STABLE_AFTER_S = 10.0
_PR_SET_PDEATHSIG = 1


class Guardian:
    """Owns the server process."""

    def __init__(self, folder: str, socket_path: str, command: list[str]) -> None:
        self._folder = folder
        self._socket = socket_path
        self._command = command
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def run(self) -> int:
        """Guard until nobody uses the server, or SIGTERM comes; return the exit code."""
        lock = os.open(os.path.join(self._folder, "server.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return BUSY
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        users = os.open(os.path.join(self._folder, "users.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        threading.Thread(target=self._wait_for_last_user, args=(users,), daemon=True).start()
        wait_s = RESTART_MIN_S
        while not self._ending.is_set():
            started = time.monotonic()
            if not self._start(lock):
                break
            assert self._process is not None
            self._process.wait()
            stable = time.monotonic() - started > STABLE_AFTER_S
            wait_s = RESTART_MIN_S if stable else min(wait_s * 2, RESTART_MAX_S)
            self._ending.wait(wait_s)
        with contextlib.suppress(OSError):
            os.unlink(self._socket)
        if os.path.dirname(self._socket) != self._folder:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self._socket))
        return 0

    def _end_with_parent(self) -> None:
        """Linux: the server must not outlive its guardian."""
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def _start(self, lock: int) -> bool:
        with self._lock:
            if self._ending.is_set():
                return False
            self._process = subprocess.Popen(  # noqa: S603 # the server's path and our options
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=(lock,),
                preexec_fn=self._end_with_parent,  # it only calls prctl
            )
            return True

    def _wait_for_last_user(self, users: int) -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        self._end()

    def _end(self) -> None:
        if self._ending.is_set():
            return
        self._ending.set()
        threading.Thread(target=self._terminate, daemon=True).start()

    def _terminate(self) -> None:
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        deadline = time.monotonic() + TERMINATE_S
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                return
            time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(Guardian(sys.argv[1], sys.argv[2], sys.argv[3:]).run())
