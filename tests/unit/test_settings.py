import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from mediaserver.kernel.errors import ConfigurationError
from mediaserver.settings import load_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("MEDIASERVER_"):
            monkeypatch.delenv(name)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings()
    settings.check()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.data_dir == Path("data")
    assert settings.on_loopback


def test_the_environment_is_read_and_the_command_line_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDIASERVER_PORT", "9000")
    monkeypatch.setenv("MEDIASERVER_LOG_LEVEL", "debug")
    monkeypatch.setenv("MEDIASERVER_INFERENCE_URLS", "a:1, b:2,")
    settings = load_settings(port=9001, host=None)
    assert (settings.port, settings.host, settings.log_level) == (9001, "127.0.0.1", "debug")
    assert settings.inference_urls == ("a:1", "b:2")


def test_an_unknown_name_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASERVER_PROT", "1")
    with pytest.raises(ConfigurationError, match="MEDIASERVER_PROT"):
        load_settings()


def test_a_name_for_tests_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASERVER_TEST_MODEL", "/x")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("DEVICE", "tpu"),
        ("WORKERS", "0"),
        ("SHUTDOWN_S", "0"),
        ("LOG_STYLE", "xml"),
        ("TRANSCRIPT_RETENTION_DAYS", "-1"),
    ],
)
def test_a_senseless_value_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MEDIASERVER_{name}", value)
    with pytest.raises(ConfigurationError, match=f"^MEDIASERVER_{name}: "):
        load_settings()


def test_a_short_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASERVER_API_KEY", "hunter2")
    with pytest.raises(ConfigurationError, match="16 characters") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_the_key_does_not_show_when_settings_are_printed() -> None:
    settings = load_settings(api_key="0123456789abcdef")
    assert "0123456789abcdef" not in repr(settings)
    assert "0123456789abcdef" not in settings.model_dump_json()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_others_are_let_in_only_with_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="MEDIASERVER_API_KEY"):
        load_settings(host=host).check()
    load_settings(host=host, api_key="0123456789abcdef").check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    load_settings(host=host).check()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({}, True),
        ({"api_key": "0123456789abcdef"}, False),
        ({"access": "guarded"}, False),
        ({"access": "open", "api_key": "0123456789abcdef"}, True),
        ({"host": "0.0.0.0", "access": "guarded"}, False),
    ],
)
def test_who_is_let_in_without_credentials(settings: dict[str, str], is_open: bool) -> None:
    loaded = load_settings(**settings)
    loaded.check()
    assert loaded.open_access is is_open


def test_a_server_for_others_is_never_open() -> None:
    with pytest.raises(ConfigurationError, match="MEDIASERVER_ACCESS=open"):
        load_settings(host="0.0.0.0", access="open").check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCESS", "ajar"),
        ("RATE_LIMIT", "-1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy.example"),
        ("CORS_ORIGINS", "https://host/path"),
        ("CORS_ORIGINS", "*"),
        ("PUBLIC_URL", "media.example.org"),
        ("ADVERTISE_URL", "media-1:8080"),
    ],
)
def test_senseless_identity_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MEDIASERVER_{name}", value)
    with pytest.raises(ConfigurationError, match=f"^MEDIASERVER_{name}: "):
        load_settings()


def test_the_stores_passwords_do_not_show() -> None:
    settings = load_settings(
        redis_url="redis://:hunter2@host", database_url="postgresql://u:hunter2@host/x"
    )
    assert "hunter2" not in repr(settings) + settings.model_dump_json()
