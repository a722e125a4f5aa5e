"""Settings: environment variables ``MEDIASERVER_*``, nothing else. docs/operations.md has all."""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mediaserver.kernel.errors import ConfigurationError
from mediaserver.kernel.ids import new_id

_PREFIX = "MEDIASERVER_"
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """Everything an operator can set. Unknown ``MEDIASERVER_*`` names are refused at start."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on. Other than loopback needs an API key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """TCP port; 0 takes a free one."""
    data_dir: Path = Path("data")
    """Models, transcripts and sockets live here."""
    api_key: SecretStr | None = None
    """A static key with every scope, for automation. At least 16 characters."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further host names under which browsers reach the server, comma-separated: a reverse
    proxy's public name, or the name of a site whose pages use it."""
    instance_id: str = Field(default_factory=lambda: new_id("i", 8))
    """Names this process in logs and metrics."""

    inference_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """gRPC targets of speech workers, comma-separated; empty starts local workers."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many local speech workers to start."""
    speech_model: str = "whisper-base"
    """A name of `mediaserver models list`, any faster-whisper model name, or a folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where speech is computed; auto takes a CUDA device where there is one."""
    worker_threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of one worker; 0 takes all cores, shared among the local workers."""
    max_streams: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Audio tracks at once on this instance; workers may refuse earlier, when they are full."""

    ice_interfaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses that ICE may use, comma-separated; empty takes all but loopback, and loopback
    itself when the server is bound to it."""
    ice_servers: Annotated[tuple[str, ...], NoDecode] = ()
    """STUN and TURN URLs, comma-separated; none by default. TURN: turn:user:password@host:port."""

    transcript_retention_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    """How long finished transcripts are kept on disk; 0 writes none."""
    transcript_retention_files: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """How many finished transcripts are kept; the oldest go first."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_style: Literal["console", "json"] = "console"
    shutdown_s: Annotated[float, Field(gt=0, le=600)] = 4.0
    """How long a stop waits for pending finals."""

    @field_validator(
        "allowed_hosts", "inference_urls", "ice_interfaces", "ice_servers", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("a key has at least 16 characters; try: openssl rand -hex 32")
        return value

    @cached_property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")

    def check(self) -> None:
        """Raise ConfigurationError for settings that cannot work together."""
        if not self.on_loopback and self.api_key is None:
            raise ConfigurationError(
                f"listening on {self.host} lets others in: set MEDIASERVER_API_KEY "
                "(for example: openssl rand -hex 32), or bind 127.0.0.1"
            )


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` (from the command line) win.

    Raises ConfigurationError that names the variable.
    """
    known = {f"{_PREFIX}{name}".upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in os.environ
        if name.upper().startswith(_PREFIX) and name.upper() not in known
    )
    unknown = [name for name in unknown if not name.startswith(f"{_PREFIX}TEST_")]
    if unknown:
        raise ConfigurationError(
            f"unknown setting {', '.join(unknown)}; docs/operations.md lists all settings"
        )
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = f"{_PREFIX}{first['loc'][0]}".upper() if first["loc"] else "settings"
        raise ConfigurationError(f"{name}: {first['msg']}") from None
