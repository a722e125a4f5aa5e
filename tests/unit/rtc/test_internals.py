"""What is replaced inside aiortc and aioice does what it is for."""

import asyncio

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from cryptography.hazmat.primitives.asymmetric import ec

from mediaserver.rtc import internals
from mediaserver.rtc.internals import MAX_WAITING_DATAGRAMS, DatagramQueue


async def test_waiting_datagrams_are_bounded_and_the_oldest_are_dropped() -> None:
    queue = DatagramQueue()
    for number in range(MAX_WAITING_DATAGRAMS + 10):
        queue.put_nowait((number.to_bytes(4), 1))
    assert queue.qsize() == MAX_WAITING_DATAGRAMS
    assert queue.dropped == 10
    assert await queue.get() == ((10).to_bytes(4), 1)


async def test_the_end_is_never_dropped() -> None:
    queue = DatagramQueue()
    queue.put_nowait((b"", 1))
    queue.put_nowait(None)
    assert await queue.get() == (b"", 1)
    assert await queue.get() is None


async def test_addresses_are_those_of_the_one_connection_and_of_no_other() -> None:
    before = aioice.ice.get_host_addresses
    bound = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    bound.createDataChannel("x")
    transport = internals.transport_of(bound)
    assert transport is not None
    internals.bind_ice(transport.transport, ["127.0.0.1"], 1.0)
    await bound.setLocalDescription(await bound.createOffer())
    assert [c.ip for c in transport.transport.iceGatherer.getLocalCandidates()] == ["127.0.0.1"]

    other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    other.createDataChannel("x")
    await other.setLocalDescription(await other.createOffer())
    free = internals.transport_of(other)
    assert free is not None
    hosts = {c.ip for c in free.transport.iceGatherer.getLocalCandidates()}
    assert "127.0.0.1" not in hosts
    assert aioice.ice.get_host_addresses is before
    await bound.close()
    await other.close()


async def test_without_a_nominated_pair_there_is_no_round_trip() -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.createDataChannel("x")
    transport = internals.transport_of(connection)
    assert transport is not None
    with pytest.raises(ConnectionError):
        await internals.stun_round_trip_s(transport.transport)
    assert internals.packets_received(transport) == 0
    assert internals.handshake_failure(transport) == "ICE found no way to the peer"
    await connection.close()


async def test_before_the_first_offer_there_is_no_transport() -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    assert internals.transport_of(connection) is None
    await connection.close()
    await asyncio.sleep(0)


def test_the_curve_of_ffmpegs_certificate_is_none_of_tls() -> None:
    assert ec.SECP224R1().name not in internals._TLS_CURVES
    assert ec.SECP256R1().name in internals._TLS_CURVES
