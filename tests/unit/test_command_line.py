"""The commands as a person runs them: exit codes, one-line errors, help worth reading."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from mediaserver import __version__
from mediaserver.doctor import Finding, _database, _redis, examine, report
from mediaserver.settings import Settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def command(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")}
        return subprocess.run(
            [sys.executable, "-m", "mediaserver", *arguments],
            env={**kept, "MEDIASERVER_DATA_DIR": str(tmp_path / "data"), **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def test_a_missing_model_ends_serve_with_the_command_that_helps(run: Run) -> None:
    result = run("serve")
    assert result.returncode == 2
    assert "mediaserver models pull whisper-base" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    worker = run("worker", "--listen", "127.0.0.1:0")
    assert (worker.returncode, worker.stderr) == (2, result.stderr)


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (("serve",), {"MEDIASERVER_PROT": "1"}, "unknown setting MEDIASERVER_PROT"),
        (("serve",), {"MEDIASERVER_PORT": "eighty"}, "MEDIASERVER_PORT: "),
        (("serve", "--host", "0.0.0.0"), {}, "MEDIASERVER_API_KEY"),
        (("serve",), {"MEDIASERVER_API_KEY": "short"}, "at least 16 characters"),
        (("models", "pull", "whisper-gigantic"), {}, "there is no model 'whisper-gigantic'"),
        (("serve",), {"MEDIASERVER_SPEECH_MODEL": "/nowhere"}, "there is no folder /nowhere"),
    ],
)
def test_settings_that_cannot_work_are_one_line_and_exit_code_2(
    run: Run, arguments: tuple[str, ...], settings: dict[str, str], told: str
) -> None:
    result = run(*arguments, **settings)
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "short" not in result.stderr.replace("shorter", "")


def test_the_version_and_the_help_are_there(run: Run) -> None:
    assert run("--version").stdout == f"mediaserver {__version__}\n"
    text = run("--help").stdout
    for word in ("serve", "worker", "models", "doctor", "exit codes", "MEDIASERVER_API_KEY"):
        assert word in text
    for command in (("serve",), ("worker",), ("models",), ("models", "pull"), ("doctor",)):
        assert run(*command, "--help").returncode == 0
    assert run().returncode == 2
    assert run("dance").returncode == 2


def test_models_are_listed_with_licence_source_and_state(run: Run) -> None:
    lines = run("models", "list").stdout.splitlines()
    row = next(line for line in lines if line.startswith("whisper-base "))
    for word in ("ctranslate2", "148 MB", "MIT", "missing", "packages"):
        assert word in row
    verified = run("models", "verify")
    assert (verified.returncode, verified.stdout) == (1, "")
    assert "models pull" in verified.stderr


def test_doctor_names_each_fault_and_what_to_do(run: Run) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        result = run("doctor", MEDIASERVER_PORT=port)
    assert result.returncode == 1
    states = {tuple(line.split()[:2]): line for line in result.stdout.splitlines() if line}
    assert "models pull whisper-base" in states["fault", "model"]
    assert "MEDIASERVER_PORT" in states["fault", "port"]
    for subject in ("settings", "python", "media", "speech", "cuda", "redis", "database"):
        assert ("ok", subject) in states


def test_doctor_says_which_store_does_not_answer_without_its_password(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        redis_url=SecretStr("redis://:geheim@127.0.0.1:1"),
        database_url=SecretStr("postgresql://me:geheim@127.0.0.1:1/x"),
    )
    found = {f.subject: f for f in (*_redis(settings), *_database(settings))}
    assert {finding.state for finding in found.values()} == {"fault"}
    assert "redis://127.0.0.1:1 does not answer" in found["redis"].text
    assert "MEDIASERVER_REDIS_URL" in found["redis"].text
    assert "does not answer" in found["database"].text
    assert "MEDIASERVER_DATABASE_URL" in found["database"].text
    assert "geheim" not in found["redis"].text + found["database"].text


def test_doctor_survives_settings_that_cannot_be_read(run: Run) -> None:
    result = run("doctor", MEDIASERVER_PORT="x")
    assert result.returncode == 1
    assert "fault    settings  MEDIASERVER_PORT" in result.stdout
    assert "ok       python" in result.stdout


def test_a_report_counts_its_faults(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding("ok", "a", "fine"),
        Finding("fault", "b", "bad"),
        Finding("warning", "c", "x"),
    ]
    assert report(findings, sys.stdout) == 1
    assert capsys.readouterr().out.endswith("faults: 1, warnings: 1\n")


def test_too_few_open_files_are_a_warning(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, max_streams=100_000)
    found = {f.subject: f for f in examine(settings) if f.subject == "limits"}
    assert found["limits"].state == "warning"
    assert "MEDIASERVER_MAX_STREAMS" in found["limits"].text
