"""A real PostgreSQL server of the tests' own: Debian's programs, a fresh cluster, a Unix socket."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class NoPostgres(Exception):
    """The machine has none."""


def _programs() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("postgres")
    if found is not None:
        places.append(Path(found).resolve().parent)
    for place in reversed(places):
        if (place / "initdb").exists():
            return place
    raise NoPostgres("PostgreSQL is not installed (make system installs it)")


@contextlib.contextmanager
def run_postgres() -> Iterator[str]:
    """Yield the folder of its socket. Raises NoPostgres."""
    programs = _programs()
    # it refuses to run as root
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        folder.chmod(0o777)
        subprocess.run(
            [
                *(*user, str(programs / "initdb"), "-D", str(folder / "data")),
                *("-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
            cwd=folder,
        )
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            [
                *(*user, str(programs / "postgres"), "-D", str(folder / "data")),
                *("-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"),
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            _wait(process, folder)
            yield str(folder)
        finally:
            log.close()
            _stop(process, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        pid_file = folder / "data" / "postmaster.pid"
        if pid_file.exists() and "ready" in pid_file.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"PostgreSQL did not start\n{(folder / 'log').read_text()}")


def _stop(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 2)  # fast shutdown; not by `process`, which may be runuser
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
