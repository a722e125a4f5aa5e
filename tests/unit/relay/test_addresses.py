"""Where instances reach each other."""

import pytest

from mediaserver.relay.addresses import own_url


@pytest.mark.parametrize(
    ("host", "redis_url", "url"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:8080"),
        ("10.1.2.3", "redis://10.9.9.9/0", "http://10.1.2.3:8080"),
        ("media-7.internal", None, "http://media-7.internal:8080"),
        ("::1", None, "http://[::1]:8080"),
        ("0.0.0.0", None, "http://127.0.0.1:8080"),
        ("::", None, "http://127.0.0.1:8080"),
        ("0.0.0.0", "unix:///run/valkey.sock", "http://127.0.0.1:8080"),
        ("0.0.0.0", "redis://:secret@127.0.0.1:6380/1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "redis+sentinel://127.0.0.1:1,10.0.0.1:2/main", "http://127.0.0.1:8080"),
        ("0.0.0.0", "redis+cluster://user:pw@[::1]:7000", "http://[::1]:8080"),
        ("0.0.0.0", "redis://no-such-host.invalid", "http://127.0.0.1:8080"),
    ],
)
async def test_own_url(host: str, redis_url: str | None, url: str) -> None:
    assert await own_url(host, 8080, redis_url) == url
