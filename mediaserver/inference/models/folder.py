"""A model's folder: what must be in it, and whether that is so.

A full check hashes every file. When it passes, sizes and modification times are noted in
``.verified.json``; while they stay the same, the next check is quick. Where the folder cannot be
written to, every check is a full one.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mediaserver.inference.models.catalogue import MODEL_FILES, ModelFile
from mediaserver.inference.models.errors import ModelUnavailable
from mediaserver.inference.models.progress import megabytes

STAMP = ".verified.json"
_BLOCK_BYTES = 1 << 20
_SPARE_BYTES = 10_000_000


class _StampedFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    size_bytes: int
    modified_ns: int
    sha256: str


class Stamp(BaseModel):
    """What was verified, and where it came from."""

    model_config = ConfigDict(frozen=True)

    source: str
    files: dict[str, _StampedFile]


def sha256_of(path: Path, read: Callable[[int], None] | None = None) -> str:
    """Hash a file; `read` is told how many bytes at each step. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if read is not None:
                read(len(block))
    return digest.hexdigest()


def read_stamp(folder: Path) -> Stamp | None:
    """Return the folder's stamp, or None where there is none that can be read."""
    try:
        return Stamp.model_validate_json((folder / STAMP).read_bytes())
    except (OSError, ValidationError):
        return None


def write_stamp(folder: Path, files: tuple[ModelFile, ...], source: str) -> None:
    """Note that `files` were verified as they are now."""
    noted = {}
    for file in files:
        status = (folder / file.name).stat()
        noted[file.name] = _StampedFile(
            size_bytes=status.st_size, modified_ns=status.st_mtime_ns, sha256=file.sha256
        )
    text = json.dumps(Stamp(source=source, files=noted).model_dump(), indent=1)
    with contextlib.suppress(OSError):  # a read-only folder is fine: it is only checked in full
        (folder / STAMP).write_text(text)


def looks_unchanged(folder: Path, files: tuple[ModelFile, ...]) -> bool:
    """Whether the stamp covers `files` and none of them changed since."""
    stamp = read_stamp(folder)
    if stamp is None:
        return False
    for file in files:
        noted = stamp.files.get(file.name)
        try:
            status = (folder / file.name).stat()
        except OSError:
            return False
        if (
            noted is None
            or noted.sha256 != file.sha256
            or (noted.size_bytes, noted.modified_ns) != (status.st_size, status.st_mtime_ns)
        ):
            return False
    return True


def faults(
    folder: Path, files: tuple[ModelFile, ...], read: Callable[[int], None] | None = None
) -> list[str]:
    """Check every file in full; return what is wrong, empty for nothing."""
    found = []
    for file in files:
        path = folder / file.name
        try:
            size_bytes = path.stat().st_size
            if size_bytes != file.size_bytes:
                found.append(f"{file.name} has {size_bytes} bytes instead of {file.size_bytes}")
            elif sha256_of(path, read) != file.sha256:
                found.append(f"{file.name} has another content (its SHA-256 differs)")
        except FileNotFoundError:
            found.append(f"{file.name} is missing")
        except OSError as error:
            found.append(f"{file.name} cannot be read: {error.strerror}")
    return found


def stamped_files(folder: Path) -> tuple[ModelFile, ...]:
    """Return what the stamp says the folder must hold."""
    stamp = read_stamp(folder)
    if stamp is None:
        return ()
    return tuple(ModelFile(name, f.size_bytes, f.sha256) for name, f in stamp.files.items())


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has what every speech model has."""
    return all((folder / name).is_file() for name in MODEL_FILES)


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_room(workspace: Path, needed_bytes: int) -> None:
    """Make sure that `needed_bytes` fit, with what `workspace` holds already counted in.

    Raises ModelUnavailable.
    """
    free_bytes = shutil.disk_usage(workspace).free + folder_bytes(workspace)
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise ModelUnavailable(
            f"this needs {megabytes(needed_bytes)}, but only {megabytes(free_bytes)} are free "
            f"under {workspace.resolve()}"
        )
