"""The lock files hold what pyproject.toml asks for, and nothing of the machine that made them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
ASKED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
LOCKS = {"requirements.lock": False, "requirements-dev.lock": True}


def locked(name: str) -> dict[str, str]:
    """Version by package."""
    rows = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (PROJECT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in rows}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_what_is_asked_for(name: str) -> None:
    versions = locked(name)
    wanted = [
        *ASKED["dependencies"],
        *(ASKED["optional-dependencies"]["dev"] if LOCKS[name] else []),
    ]
    for text in wanted:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not in {name}; run: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{text}; run: make lock"


def test_both_locks_agree() -> None:
    runtime, development = (locked(name) for name in LOCKS)
    assert runtime.items() <= development.items()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_host_or_path(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^--?[a-z]", text, re.MULTILINE), "options of an index do not belong here"
    assert not re.search(r"(?<![\w.])/(home|root|opt|tmp|usr|work)/", text)
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)
    for block in blocks:
        if "==" in block.partition("\n")[0]:
            assert "--hash=sha256:" in block, block.partition("\n")[0]
