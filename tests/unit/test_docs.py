"""What the documents leave out fails here."""

import re
from pathlib import Path

import pytest
from aiohttp import web

from mediaserver.__main__ import parser
from mediaserver.app import build_app
from mediaserver.inference.models import catalogue
from mediaserver.settings import Settings
from mediaserver.web import keys

PROJECT = Path(__file__).resolve().parents[2]
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()


@pytest.fixture
def app(tmp_path: Path) -> web.Application:
    return build_app(Settings(data_dir=tmp_path))


def test_every_setting_is_documented_and_no_other() -> None:
    known = {f"MEDIASERVER_{name}".upper() for name in Settings.model_fields}
    rows = set(re.findall(r"^\| `(MEDIASERVER_\w+)`", OPERATIONS, re.MULTILINE))
    assert rows == known


def test_the_documented_defaults_are_the_real_ones() -> None:
    rows = dict(re.findall(r"^\| `MEDIASERVER_(\w+)` \| `([^`]*)`", OPERATIONS, re.MULTILINE))
    for name, field in Settings.model_fields.items():
        if name.upper() in rows:
            default = field.default
            told = rows[name.upper()]
            assert told == f"{default:g}" if isinstance(default, float) else told == str(default)


def test_every_metric_is_documented_and_no_other(app: web.Application) -> None:
    ours = ("mediaserver_", "http_server_")
    real = {family.name for family in app[keys.METRICS].collect() if family.name.startswith(ours)}
    rows = set(re.findall(r"^\| `((?:mediaserver|http_server)_\w+)`", OPERATIONS, re.MULTILINE))
    assert {row.removesuffix("_total").removesuffix("_info") for row in rows} == real


def test_every_command_is_documented() -> None:
    (commands,) = (a for a in parser()._actions if a.dest == "command")
    assert commands.choices is not None
    for name in commands.choices:
        assert f"`mediaserver {name}" in OPERATIONS


def test_every_model_of_the_catalogue_is_documented() -> None:
    for name in catalogue.names():
        assert f"`{name}`" in OPERATIONS


def test_every_route_is_in_openapi(app: web.Application) -> None:
    """Whoever adds a route past the registry is told here."""
    told = {(entry.method, entry.template) for entry in app[keys.ROUTES].entries}
    for route in app.router.routes():
        assert route.resource is not None
        method = "GET" if route.method == "HEAD" else route.method
        assert (method, route.resource.canonical) in told


def test_the_documents_name_no_file_that_is_not_there() -> None:
    for document in (PROJECT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} -> {target}"
