"""Fixtures for all tests: the speech model, recorded speech, a live server, no leaks."""

import asyncio
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
import structlog

from mediaserver.inference.registry import ModelRegistry
from mediaserver.stores.redis import RedisStore
from tests.live import LiveServer, run_server
from tests.speech import Clip, NoSuchClip, clip
from tests.valkey import ValkeyProcess, run_valkey

PROJECT = Path(__file__).resolve().parents[1]
ARTIFACTS = PROJECT / "artifacts"
LEAK_GRACE_S = 10.0

# Times are for benchmarks: on a busy machine any example may take long.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def speech_model_dir() -> Path:
    """The verified whisper-base: MEDIASERVER_TEST_MODEL, or the checkout's, fetched if missing."""
    if given := os.environ.get("MEDIASERVER_TEST_MODEL"):
        return ModelRegistry(PROJECT / "data").locate(given)
    return ModelRegistry(PROJECT / "data").pull("whisper-base")


@pytest.fixture(scope="session")
def speech_clip() -> Callable[[str], Clip]:
    """Return recorded speech by its name; skips where the machine has no such recording."""

    def load(name: str) -> Clip:
        try:
            return clip(name)
        except NoSuchClip as error:
            pytest.skip(str(error))

    return load


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and the like are kept; not part of the repository."""
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


@pytest.fixture(scope="session")
def live_server(
    tmp_path_factory: pytest.TempPathFactory, speech_model_dir: Path
) -> Iterator[LiveServer]:
    """A real server with a real worker, shared by the whole run: leave it as you found it."""
    with run_server(tmp_path_factory.mktemp("live"), speech_model_dir) as server:
        yield server


@pytest.fixture
def start_server(
    tmp_path_factory: pytest.TempPathFactory, speech_model_dir: Path
) -> Iterator[Callable[..., LiveServer]]:
    """Start further servers: ``start_server(api_key=…)``; all end with the test."""
    with ExitStack() as stack:

        def start(
            *, wait_ready: bool = True, folder: Path | None = None, **settings: str
        ) -> LiveServer:
            place = folder or tmp_path_factory.mktemp("server")
            return stack.enter_context(
                run_server(place, speech_model_dir, wait_ready=wait_ready, **settings)
            )

        yield start


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A real valkey-server, shared by the whole run."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def redis(valkey_server: ValkeyProcess) -> AsyncIterator[RedisStore]:
    """A connection to the valkey-server, which is empty."""
    async with RedisStore(valkey_server.url) as store:
        await store.client.flushall()
        yield store


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the live server's log with a test that failed on it."""
    report = yield
    server = getattr(item, "funcargs", {}).get("live_server")
    if report.failed and isinstance(server, LiveServer):
        report.sections.append(("live server", server.log[-8000:]))
    return report


@pytest.fixture(autouse=True)
def _clean_log_context() -> Iterator[None]:
    """No test logs another one's ids."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


# ---- nothing is left behind ----------------------------------------------------------------


@pytest.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    deadline = asyncio.get_running_loop().time() + LEAK_GRACE_S
    while asyncio.get_running_loop().time() < deadline:
        left = [t for t in asyncio.all_tasks() - before if t is not asyncio.current_task()]
        if not left:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"tasks were left behind: {[(t.get_name(), t.get_coro()) for t in left]}")


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves tasks, threads or child processes behind.

    ``@pytest.mark.leaves_behind("why")`` switches it off. Executor threads of the event loop are
    not counted: they end with it.
    """
    if request.node.get_closest_marker("leaves_behind") is not None:
        yield
        return
    function = getattr(request.node, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_no_leaked_tasks")
    threads, children = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + LEAK_GRACE_S
    while True:
        left = [
            thread.name
            for thread in threading.enumerate()
            if thread not in threads
            and not thread.name.startswith(("asyncio_", "ThreadPoolEx"))
            and "_poll_wrapper" not in thread.name  # gRPC's one thread, which stays
        ]
        born = _children() - children
        if not left and not born:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: threads {left}, child processes {sorted(born)}")
        time.sleep(0.02)


def _children() -> set[int]:
    """Process ids of this process's children, of all its threads."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in listing.read_text().split())
        except OSError:
            continue
    return found
