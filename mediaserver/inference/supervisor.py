"""Starts local speech workers, restarts those that die or hang, and ends them.

A worker is this program's own `worker` command on a Unix socket in the data directory.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope

log = get_logger(__name__)

RESTART_MIN_S = 0.2
RESTART_MAX_S = 10.0
STABLE_AFTER_S = 30.0
TERMINATE_S = 0.4
"""From TERM to KILL at the end: no stream is left by then, so a worker has nothing to finish."""


@dataclass(frozen=True, slots=True)
class LocalWorkerConfig:
    """How local workers are started."""

    count: int
    model: str
    data_dir: Path
    device: str
    threads: int
    """CPU threads of one worker; 0: the cores, shared among the workers."""
    log_level: str
    log_style: str


class Supervisor:
    """Owns the local worker processes."""

    def __init__(self, config: LocalWorkerConfig, on_restart: Callable[[], None]) -> None:
        self._config = config
        self._on_restart = on_restart
        # Unix socket paths are limited to about 100 bytes, data directories are not.
        self._folder = tempfile.TemporaryDirectory(prefix="mediaserver-")
        self._scope = TaskScope("supervisor")
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """The gRPC targets of the workers."""
        return tuple(self._url(i) for i in range(self._config.count))

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(p.pid for p in self._processes.values() if p.returncode is None)

    def _url(self, index: int) -> str:
        return f"unix:{self._folder.name}/speech-{index}.sock"

    def start(self) -> None:
        """Start all workers, and keep them running."""
        for index in range(self._config.count):
            self._scope.spawn(f"worker-{index}", self._keep_running(index))

    def replace(self, url: str) -> None:
        """Kill the worker at `url` (it hangs); a new one is started."""
        for index, process in self._processes.items():
            if self._url(index) == url and process.returncode is None:
                log.warning("worker.killed", pid=process.pid, why="it does not answer")
                process.kill()

    async def aclose(self) -> None:
        """End all workers: TERM, then KILL."""
        await self._scope.aclose()
        running = [p for p in self._processes.values() if p.returncode is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                await asyncio.wait_for(process.wait(), TERMINATE_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._folder.cleanup()

    async def _keep_running(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        wait_s = RESTART_MIN_S
        while True:
            started = loop.time()
            process = await self._spawn(index)
            code = await process.wait()
            log.error("worker.exited", index=index, pid=process.pid, code=code)
            self._on_restart()
            stable = loop.time() - started > STABLE_AFTER_S
            wait_s = RESTART_MIN_S if stable else min(wait_s * 2, RESTART_MAX_S)
            await asyncio.sleep(wait_s)

    async def _spawn(self, index: int) -> asyncio.subprocess.Process:
        config = self._config
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        threads = config.threads or max(1, cores // config.count)
        socket_path = Path(self._folder.name) / f"speech-{index}.sock"
        socket_path.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mediaserver",
            "worker",
            *("--listen", self._url(index)),
            *("--model", config.model),
            *("--device", config.device),
            *("--threads", str(threads)),
            *("--worker-id", f"local-{index}"),
            *("--parent-pid", str(os.getpid())),
            env={
                **os.environ,
                "MEDIASERVER_DATA_DIR": str(config.data_dir.resolve()),
                "MEDIASERVER_LOG_LEVEL": config.log_level,
                "MEDIASERVER_LOG_STYLE": config.log_style,
                "OMP_NUM_THREADS": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the app: it ends its workers last
        )
        self._processes[index] = process
        log.info("worker.started", index=index, pid=process.pid)
        return process
