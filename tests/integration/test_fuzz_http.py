"""Every HTTP route with what its schema says and with what it does not: no 500, honest answers."""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mediaserver.protocol.problems import PROBLEM_TYPE, Problem
from mediaserver.web.uploads import OFFSET_TYPE
from tests.integration.room_servers import NO_WORKER
from tests.live import LiveServer, run_server
from tests.valkey import ValkeyProcess

KEY = "k" * 32
PLAIN = "text/plain; charset=utf-8"
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "12")),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CONFORM = (
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
"""What OpenAPI says of an answer; that every fault is refused is not among it: bodies and queries
are read as liberally as HTTP clients write them."""


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag", OFFSET_TYPE)
def as_text(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


FAILED = re.compile(r"^\S+ \[error *\] http[.]failed", re.MULTILINE)
"""The event: Hypothesis takes words of this module for names of rooms, and those are logged."""


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[LiveServer]:
    with run_server(
        tmp_path_factory.mktemp("fuzz-http"),
        None,
        wait_ready=False,
        redis_url=valkey_server.url,
        inference_urls=NO_WORKER,
        api_key=KEY,
        max_video_bytes="1048576",
    ) as server:
        yield server
        assert server.process.poll() is None
        assert FAILED.search(server.log) is None, server.log


def check(case: Any, headers: dict[str, str]) -> schemathesis.Response:
    """Send it; the answer is what the document says, and no failure of the server's."""
    response: schemathesis.Response = case.call(headers=headers, timeout=10)
    assert response.status_code != 500, response.text
    kind = response.headers.get("content-type", [""])[0]
    if kind == PLAIN and response.status_code == 400:
        assert "Got more than" in response.text, response.text  # aiohttp's own: too long a head
        return response
    case.validate_response(response, checks=CONFORM)
    if kind == PROBLEM_TYPE:
        problem = Problem.model_validate_json(response.content)
        assert problem.status == response.status_code
        assert problem.code != "internal"
        assert not headers or problem.code not in ("key_needed", "wrong_key")
        assert response.status_code < 500 or problem.retryable, problem
    return response


def operations(server: LiveServer) -> list[Any]:
    """Every route of the document."""
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found: list[Any] = list(document.get_all_operations())
    return [one.ok() for one in found]


def fuzz(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> list[int]:
    """Send what the schema allows, or forbids; return the answers' status codes."""
    statuses: list[int] = []

    @FUZZ
    @given(operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        response = check(case, headers)
        if response.headers.get("content-type", [""])[0] != PLAIN:
            statuses.append(response.status_code)

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing can be wrong there
    except BaseException as error:
        error.add_note(f"{operation.label}, {mode.value}")
        raise
    return statuses


MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.mark.parametrize("mode", MODES)
def test_every_route_with_the_key_of_all_scopes(guarded: LiveServer, mode: GenerationMode) -> None:
    found = operations(guarded)
    statuses = {one.label: fuzz(one, mode, {"X-API-Key": KEY}) for one in found}
    assert len(statuses) > 40
    if mode is GenerationMode.POSITIVE:
        assert sum(min(codes) < 300 for codes in statuses.values()) > 10, statuses


@pytest.mark.parametrize("mode", MODES)
def test_no_route_that_needs_credentials_does_anything_without(
    guarded: LiveServer, mode: GenerationMode
) -> None:
    for operation in operations(guarded):
        statuses = fuzz(operation, mode, {})
        if operation.definition.raw.get("security") != []:
            assert set(statuses) <= {401}, operation.label
