"""The address of a client: from the socket, or from proxies that are trusted. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPV6_PREFIX = 64
"""One customer has at least a /64, so single addresses of it say nothing."""
MAX_HOPS = 32


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """Return the client's address: the first one, from the right, that is no trusted proxy's.

    `peer` is the socket's other end, `forwarded_for` the X-Forwarded-For headers in their order.
    What is left of an address that is not trusted may be made up, so it is never read.
    """
    address = _parse(peer or "")
    if address is None:
        return "unknown"  # a Unix socket
    hops = [hop for header in forwarded_for for hop in header.split(",")][-MAX_HOPS:]
    while hops and any(address in network for network in trusted if _same(address, network)):
        before = _parse(hops.pop())
        if before is None:
            break
        address = before
    return str(address)


def limited_as(address: str) -> str:
    """Return under which name an address is limited: IPv6 by its /64."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False).network_address)
    return address


def _same(address: Address, network: Network) -> bool:
    return address.version == network.version


def _parse(text: str) -> Address | None:
    """Read an address, also ``[v6]:port`` and ``v4:port`` as some proxies write it."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
