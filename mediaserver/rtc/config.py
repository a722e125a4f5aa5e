"""What a peer is told of the outside: addresses, servers, and how long it may take."""

import ipaddress
from dataclasses import dataclass

from aioice.ice import get_host_addresses
from aiortc import RTCIceServer

from mediaserver.kernel.errors import ConfigurationError
from mediaserver.protocol.messages import IceServer

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RtcConfig:
    """Shared by all peers of a server. Raises ConfigurationError for what cannot be an address."""

    ice_interfaces: tuple[str, ...] = ()
    """Addresses that ICE may use; empty takes those of all interfaces but loopback."""
    include_loopback: bool = False
    """Whether 127.0.0.1 is used too while `ice_interfaces` is empty."""
    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers; none by default, least of all public ones."""
    gather_timeout_s: float = 2.0
    """For STUN and TURN servers to answer; then the answer goes out without their candidates."""
    connect_timeout_s: float = 15.0
    """From the peer's opening to its being connected. aiortc itself would wait for ever."""
    consent_interval_s: float = 1.0
    """Between the STUN checks that measure the round trip and prove that the peer lives."""
    dead_after_s: float = 4.2
    """Silence after which a peer is lost, so that it is noticed within 5 s. ICE agents answer
    STUN checks (RFC 7675), so a muted or hidden page is not silent."""
    close_timeout_s: float = 2.0
    """For saying goodbye; then the sockets are closed without it."""

    def __post_init__(self) -> None:
        for address in self.ice_interfaces:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ConfigurationError(
                    f"MEDIASERVER_ICE_INTERFACES: {address!r} is not an IP address"
                ) from None

    def local_addresses(self) -> list[str]:
        """Return the addresses that a peer binds, a socket each."""
        if self.ice_interfaces:
            return list(self.ice_interfaces)
        addresses: list[str] = get_host_addresses(use_ipv4=True, use_ipv6=True)
        return [*addresses, _LOOPBACK] if self.include_loopback else addresses

    def rtc_ice_servers(self) -> list[RTCIceServer]:
        """Return `ice_servers` as aiortc takes them (it uses one STUN and one TURN server)."""
        return [
            RTCIceServer(
                urls=list(server.urls), username=server.username, credential=server.credential
            )
            for server in self.ice_servers
        ]
