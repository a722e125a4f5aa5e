"""Models from the Hugging Face hub, or a mirror of it, where it can be reached.

HF_ENDPOINT names a mirror, HF_TOKEN opens private repositories. A file that arrived in part goes
on where it stopped; every file is checked against the hub's own digest.
"""

import fnmatch
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from mediaserver import __version__
from mediaserver.inference.models.catalogue import HubSource, ModelFile
from mediaserver.inference.models.errors import ModelUnavailable
from mediaserver.inference.models.folder import check_room, sha256_of
from mediaserver.inference.models.progress import Progress

_WANTED = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
_DEFAULT_ENDPOINT = "https://huggingface.co"
_TIMEOUT_S = 20.0
_BLOCK_BYTES = 1 << 18
_MAX_DESCRIPTION_BYTES = 4_000_000


class _Lfs(BaseModel):
    sha256: str


class _Sibling(BaseModel):
    """One file of a repository, as the hub describes it."""

    name: str = Field(alias="rfilename")
    size: int
    blob_id: str | None = Field(None, alias="blobId")
    lfs: _Lfs | None = None


class _Repository(BaseModel):
    sha: str
    siblings: list[_Sibling]


def fetch(
    source: HubSource, workspace: Path, target: Path, progress: Progress
) -> tuple[str, tuple[ModelFile, ...]]:
    """Fetch a repository's model into `target`, verified by the hub's digests.

    Returns the revision and what the files are. Raises ModelUnavailable, OSError.
    """
    repository = _describe(source)
    wanted = [s for s in repository.siblings if _is_wanted(s.name)]
    if not any(sibling.name == "model.bin" for sibling in wanted):
        raise ModelUnavailable(
            f"{source.repository} holds no CTranslate2 model (it has no model.bin)"
        )
    staging = workspace / "hub" / repository.sha
    staging.mkdir(parents=True, exist_ok=True)
    done_bytes = 0

    def arrived(count: int) -> None:
        nonlocal done_bytes
        done_bytes += count
        progress.at(done_bytes)

    total_bytes = sum(sibling.size for sibling in wanted)
    check_room(workspace, total_bytes)
    progress.begin("fetching", total_bytes)
    try:
        files = tuple(
            _fetch_file(source, repository.sha, sibling, staging, arrived) for sibling in wanted
        )
    finally:
        progress.end()
    target.mkdir(parents=True)
    for file in files:
        shutil.move(staging / file.name, target / file.name)
    return repository.sha, files


def _is_wanted(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _WANTED)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT).rstrip("/")


def _open(source: HubSource, path: str, offset: int = 0) -> http.client.HTTPResponse:
    """Ask the hub. Raises ModelUnavailable."""
    url = f"{_endpoint()}/{path}"
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ModelUnavailable("HF_ENDPOINT is not an http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": f"mediaserver/{__version__}"})  # noqa: S310 # checked above
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    if token := os.environ.get("HF_TOKEN"):
        # Not for the storage that the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        why = {401: "it does not exist, or HF_TOKEN is needed", 404: "it does not exist"}
        reason = why.get(error.code, f"it answered {error.code} {error.reason}")
        raise ModelUnavailable(f"the hub did not give {source.repository}: {reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error)
        raise ModelUnavailable(
            f"the hub cannot be reached for {source.repository}: {reason}"
        ) from None
    return response


def _describe(source: HubSource) -> _Repository:
    path = f"api/models/{urllib.parse.quote(source.repository)}"
    if source.revision is not None:
        path += f"/revision/{urllib.parse.quote(source.revision, safe='')}"
    try:
        with _open(source, f"{path}?blobs=true") as response:
            return _Repository.model_validate_json(response.read(_MAX_DESCRIPTION_BYTES))
    except (ValidationError, http.client.HTTPException, TimeoutError):
        raise ModelUnavailable(
            f"the hub's description of {source.repository} cannot be read"
        ) from None


def _fetch_file(
    source: HubSource,
    revision: str,
    sibling: _Sibling,
    staging: Path,
    arrived: Callable[[int], None],
) -> ModelFile:
    """Fetch one file, or the rest of it. Raises ModelUnavailable, OSError."""
    path, partial = staging / sibling.name, staging / f"{sibling.name}.part"
    if not path.exists():
        have_bytes = partial.stat().st_size if partial.exists() else 0
        if have_bytes < sibling.size or not partial.exists():
            name = urllib.parse.quote(sibling.name)
            where = f"{urllib.parse.quote(source.repository)}/resolve/{revision}/{name}"
            with _open(source, where, have_bytes) as response:
                resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
                arrived(have_bytes if resumed else 0)
                with partial.open("ab" if resumed else "wb") as out:
                    _copy(response, out.write, arrived)
        else:
            arrived(have_bytes)
        _check(partial, sibling)
        partial.rename(path)
    else:
        arrived(sibling.size)
    return ModelFile(path.name, path.stat().st_size, sha256_of(path))


def _copy(
    response: http.client.HTTPResponse,
    write: Callable[[bytes], int],
    arrived: Callable[[int], None],
) -> None:
    try:
        while block := response.read(_BLOCK_BYTES):
            write(block)
            arrived(len(block))
    except (TimeoutError, ConnectionError, http.client.HTTPException):
        raise ModelUnavailable(
            "the connection broke; run the same command again to go on from here"
        ) from None


def _check(path: Path, sibling: _Sibling) -> None:
    """Compare a file with the hub's digest: SHA-256 for large ones, git's for the others."""
    size_bytes = path.stat().st_size
    if size_bytes < sibling.size:
        raise ModelUnavailable(
            f"{sibling.name} did not arrive whole; run the same command again to go on from here"
        )
    if sibling.lfs is not None:
        right = sha256_of(path) == sibling.lfs.sha256
    elif sibling.blob_id is not None:
        head = f"blob {size_bytes}\0".encode()
        blob = hashlib.sha1(head + path.read_bytes(), usedforsecurity=False)
        right = blob.hexdigest() == sibling.blob_id
    else:
        right = False
    if not right or size_bytes != sibling.size:
        path.unlink()
        raise ModelUnavailable(f"{sibling.name} arrived damaged; run the same command again")
