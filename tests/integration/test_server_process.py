"""The server as an operator meets it: start, readiness, figures, documents, stop."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live import LiveServer

Start = Callable[..., LiveServer]
KEY = "integration-test-key-0123"


def test_it_is_ready_in_10_s_and_stops_in_5(start_server: Start) -> None:
    server = start_server()
    assert server.ready_after_s < 10.0
    status, body = server.get("/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)
    assert server.children(), "it runs a worker"
    code, took_s = server.stop()
    assert code == 0
    assert took_s < 5.0
    assert "Traceback" not in server.log


def test_the_page_and_the_documents_are_there(live_server: LiveServer) -> None:
    status, page = live_server.get("/")
    assert status == 200
    assert "<html" in page
    status, document = live_server.get("/openapi.json")
    assert status == 200
    paths = json.loads(document)["paths"]
    for path in ("/ws", "/v1/listen", "/whip/{room}", "/healthz", "/metrics"):
        assert path in paths, path
    assert live_server.get("/docs")[0] == 200
    assert live_server.get("/clients/js/index.js")[0] == 200


def test_figures_are_those_of_this_server(live_server: LiveServer) -> None:
    status, text = live_server.get("/metrics")
    assert status == 200
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {
        "mediaserver_streams",
        "mediaserver_caption_delay_seconds",
        "process_cpu_seconds",
    } <= families


def test_with_a_key_only_the_page_and_the_probes_are_open(start_server: Start) -> None:
    server = start_server(api_key=KEY)
    for path, status in (
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/api/v1/sessions/s_00000000/transcript.vtt", 404),
    ):
        assert server.get(path)[0] == status
    server.key = None
    for path, status in (
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/docs", 200),
        ("/metrics", 401),
        ("/api/v1/sessions/s_00000000/transcript.vtt", 401),
        ("/ws", 401),
        ("/v1/listen", 401),
    ):
        assert server.get(path)[0] == status, path
    assert KEY not in server.log


def test_a_foreign_host_name_gets_nothing(live_server: LiveServer) -> None:
    request = urllib.request.Request(live_server.url + "/readyz", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    with refused.value as response:
        assert response.code == 403


def test_a_taken_port_is_one_line(
    start_server: Start, speech_model_dir: Path, tmp_path: Path
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")}
        result = subprocess.run(
            [sys.executable, "-m", "mediaserver", "serve", "--port", port],
            env={
                **kept,
                "MEDIASERVER_DATA_DIR": str(tmp_path),
                "MEDIASERVER_SPEECH_MODEL": str(speech_model_dir),
                "MEDIASERVER_LOG_LEVEL": "error",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1
    assert port in result.stderr
    assert "Traceback" not in result.stderr


def test_a_dead_worker_is_replaced(start_server: Start) -> None:
    server = start_server()
    (worker,) = server.children()
    os.kill(worker, 9)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status, _ = server.get("/readyz")
        if status == 200 and server.children() and server.children() != [worker]:
            break
        time.sleep(0.1)
    assert server.get("/readyz")[0] == 200
    assert "mediaserver_worker_restarts_total 1.0" in server.get("/metrics")[1]
