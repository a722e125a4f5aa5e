"""Server processes that share one valkey-server."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.live import LiveServer, run_server

NO_WORKER = "unix:/nonexistent/worker.sock"


class Reachable(Protocol):
    """A Redis of any kind."""

    @property
    def url(self) -> str: ...


class Servers(tuple[LiveServer, ...]):
    """Servers, and requests to them."""

    def ask(
        self, index: int, method: str, path: str, body: object = None, key: str | None = None
    ) -> tuple[int, Any]:
        """Return status and body, of problems too."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            self[index].url + path, data=data, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def json(self, index: int, path: str) -> Any:
        """GET; it has to be found."""
        status, body = self.ask(index, "GET", path)
        assert status == 200, body
        return body


@contextmanager
def run_servers(folder: Path, valkey: Reachable, count: int, **settings: str) -> Iterator[Servers]:
    """Run servers without speech workers, unless `inference_urls` names some.

    They start, and end, at the same time.
    """
    settings.setdefault("inference_urls", NO_WORKER)
    settings.setdefault("database_url", f"sqlite+aiosqlite:///{folder}/shared.db")
    settings.setdefault("storage_url", (folder / "videos").as_uri())
    running = []
    for number in range(count):
        place = folder / str(number)
        place.mkdir()
        running.append(run_server(place, None, wait_ready=False, redis_url=valkey.url, **settings))
    with ThreadPoolExecutor(count) as threads:
        started = [threads.submit(one.__enter__) for one in running]
        wait(started)
    try:
        yield Servers(one.result() for one in started)
    finally:
        up = [one for one, start in zip(running, started, strict=True) if not start.exception()]
        with ThreadPoolExecutor(count) as threads:
            ended = [threads.submit(one.__exit__, None, None, None) for one in up]
        for one in ended:
            one.result()
