"""Settings: environment variables ``MEDIASERVER_*``, nothing else. docs/operations.md has all."""

import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

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
    access: Literal["open", "guarded"] | None = None
    """`open`: whoever reaches the server may do what a member may; `guarded`: everybody needs
    credentials. Unset: open on loopback without a static key, else guarded."""
    public_url: str | None = None
    """The address that people use (https://host), for links and as the issuer of tokens."""
    advertise_url: str | None = None
    """Where the other instances reach this one (http://host:port), for broadcasts that are watched
    there. Unset: where it listens; bound to all addresses, the one from which Redis is reached."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses and networks of reverse proxies whose X-Forwarded-For is believed,
    comma-separated."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins (https://host) whose pages may use the API, comma-separated."""
    rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Requests a minute for each address and each key; 0 is no limit, not on logins either."""
    redis_url: SecretStr | None = None
    """Redis or Valkey: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://. Unset
    starts a valkey-server in the data directory."""
    database_url: SecretStr | None = None
    """postgresql://user:password@host/name or sqlite:////path; unset takes SQLite in the data
    directory."""
    storage_url: str | None = None
    """Where videos are kept: file:///folder, the same for all instances. Unset takes the folder
    `videos` of the data directory."""
    max_video_bytes: Annotated[int, Field(ge=1024, le=2**50)] = 10 * 2**30
    """The largest file that may be uploaded."""
    secret_key: SecretStr | None = None
    """Seals the signing keys in the database; the same on every instance. At least 32
    characters."""
    secret_key_previous: SecretStr | None = None
    """The secret key before it was changed."""
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
        "allowed_hosts",
        "inference_urls",
        "ice_interfaces",
        "ice_servers",
        "trusted_proxies",
        "cors_origins",
        mode="before",
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

    @field_validator("secret_key", "secret_key_previous")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("it has at least 32 characters; try: openssl rand -hex 32")
        return value

    @field_validator("storage_url")
    @classmethod
    def _a_folder(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or len(parts.path) < 2:
            raise ValueError(
                "it looks like file:///folder; other storage (S3) is not supported so far"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            ipaddress.ip_network(part, strict=False)  # its ValueError names the fault
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is not an origin; it looks like https://host")
        return tuple(origin.lower() for origin in value)

    @field_validator("public_url", "advertise_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it looks like https://host")
        return value.rstrip("/")

    @cached_property
    def videos_dir(self) -> Path:
        """The folder that videos are kept in."""
        if self.storage_url is None:
            return self.data_dir / "videos"
        return Path(unquote(urlsplit(self.storage_url).path))

    @cached_property
    def open_access(self) -> bool:
        """Whether a request without credentials is let in, as a member."""
        if self.access is not None:
            return self.access == "open"
        return self.on_loopback and self.api_key is None

    @cached_property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")

    def check(self) -> None:
        """Raise ConfigurationError for settings that cannot work together."""
        if not self.on_loopback and self.api_key is None and self.access is None:
            raise ConfigurationError(
                f"listening on {self.host} lets others in: set MEDIASERVER_API_KEY "
                "(for example: openssl rand -hex 32), or MEDIASERVER_ACCESS=guarded, where only "
                "users log in, or bind 127.0.0.1"
            )
        if not self.on_loopback and self.access == "open":
            raise ConfigurationError(
                f"MEDIASERVER_ACCESS=open would let everybody who reaches {self.host} in: "
                "bind 127.0.0.1, or leave it out"
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
