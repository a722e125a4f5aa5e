"""Ports of loopback for servers that have to know their own before they start."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

_LOWEST = 11_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment.

    They lie below those that the system gives to connections, so that none takes one before its
    server does (or again: a client that tries a port until somebody listens may meet itself).
    """
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        first = 32_768
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            port = random.randrange(_LOWEST, max(first, _LOWEST + 5_000))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
