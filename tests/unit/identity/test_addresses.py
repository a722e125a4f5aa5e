import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.identity.addresses import client_address, limited_as, networks

PROXIES = networks(("127.0.0.1", "10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),  # it is no proxy: it may say what it likes
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the left one is made up
        ("127.0.0.1", ["1.1.1.1", "203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("::1", ["203.0.113.9"], "::1"),
        ("fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("127.0.0.1", ["203.0.113.9:5555"], "203.0.113.9"),
        ("::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("", ["203.0.113.9"], "unknown"),
        (None, ["203.0.113.9"], "unknown"),
        ("127.0.0.1", [""], "127.0.0.1"),
    ],
)
def test_the_first_address_from_the_right_that_no_trusted_proxy_has(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


def test_ipv6_is_limited_by_its_64() -> None:
    assert limited_as("2001:db8:1:2:3:4:5:6") == limited_as("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert limited_as("2001:db8:1:3::1") != limited_as("2001:db8:1:2::1")
    assert limited_as("203.0.113.9") == "203.0.113.9"
    assert limited_as("unknown") == "unknown"


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_no_header_makes_it_fail(peer: str, forwarded: list[str]) -> None:
    assert limited_as(client_address(peer, forwarded, PROXIES))


@given(st.lists(st.ip_addresses().map(str), max_size=5))
def test_without_trusted_proxies_the_header_is_never_read(forwarded: list[str]) -> None:
    assert client_address("203.0.113.9", [", ".join(forwarded)], ()) == "203.0.113.9"
