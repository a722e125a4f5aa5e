"""Where other instances reach this one, if nobody says."""

import asyncio
import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

_LOOKUP_TIMEOUT_S = 2.0
_DEFAULT_PORT = 6379
_LOOPBACK = "127.0.0.1"


async def own_url(host: str, port: int, redis_url: str | None) -> str:
    """Return ``http://HOST:PORT``, from what the server listens on.

    Bound to all addresses, it is the one from which Redis is reached, as the other instances reach
    that too; without a Redis elsewhere they are on this machine.
    """
    if _is_any(host):
        host = await _address_towards(redis_url) if redis_url is not None else _LOOPBACK
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_any(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


async def _address_towards(url: str) -> str:
    """Return the local address that packets to a URL's (first) host come from."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _LOOPBACK
    first = urlsplit(f"//{parts.netloc.rpartition('@')[2].split(',')[0]}")
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
            found = await loop.getaddrinfo(
                first.hostname, first.port or _DEFAULT_PORT, type=socket.SOCK_DGRAM
            )
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: it only picks the route
            return str(probe.getsockname()[0])
    return _LOOPBACK
