"""Data channels between two real peers: both ways, and bounded both ways."""

import asyncio
import json

import pytest
from aiortc import RTCDataChannel

from mediaserver.kernel.errors import TooLarge
from mediaserver.rtc.datachannels import BUFFERED_BYTES, MAX_MESSAGE_BYTES, OUTBOX_MESSAGES
from tests.integration.webrtc_client import (
    Client,
    SpeechTrack,
    connected,
    soon,
    speech,
    until,
)


async def test_messages_go_both_ways_on_the_channels_that_the_server_opens() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: peer.channel_open("metrics") and len(client.channels) == 3)
        assert sorted(client.channels) == ["captions", "chat", "metrics"]
        assert all(channel.ordered for channel in client.channels.values())
        for number in range(50):
            assert peer.send("captions", f"caption {number}")
        client.channels["chat"].send('{"type":"ping"}')
        await until(lambda: len(client.received["captions"]) == 50 and recorder.messages)
        assert client.received["captions"] == [f"caption {number}" for number in range(50)]
        assert recorder.messages == [("chat", '{"type":"ping"}')]
        assert await peer.flush(15.0)


async def test_without_a_data_section_there_are_no_channels() -> None:
    async with connected(SpeechTrack(speech(1.0)), data=False) as (client, peer, _):
        assert not peer.send("captions", "to nobody")
        assert client.channels == {}


def deafen(client: Client) -> None:
    """Have the client take no more data: nothing is acknowledged."""

    async def nothing(data: bytes) -> None:
        del data

    assert client.connection.sctp is not None
    client.connection.sctp._handle_data = nothing  # type: ignore[method-assign]


async def test_a_client_that_never_reads_is_let_go_before_memory_grows() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: peer.channel_open("captions"))
        deafen(client)
        sent = 0
        while not peer.closed and sent < 10 * OUTBOX_MESSAGES:
            peer.send("captions", f"final {sent} " + "x" * 1000)
            sent += 1
            if sent % 20 == 0:
                await asyncio.sleep(0)
        await soon(recorder.is_closed.wait())
        reason, detail = recorder.closings[0]
        assert reason == "slow"
        assert "unread" in detail
        assert sent <= OUTBOX_MESSAGES + BUFFERED_BYTES // 1000 + 50
        assert not peer.send("captions", "too late")


async def test_partials_give_way_to_newer_ones_while_a_client_is_busy() -> None:
    async with connected() as (client, peer, _):
        await until(lambda: peer.channel_open("captions") and "captions" in client.channels)
        sctp = client.connection.sctp
        assert sctp is not None
        hear = sctp._handle_data
        deafen(client)
        for number in range(20_000):
            peer.send("captions", f"partial {number} " + "x" * 500, key="utterance")
            if number % 50 == 0:
                await asyncio.sleep(0)
        peer.send("captions", "final", replaces="utterance")
        channel: RTCDataChannel = peer._channels._senders["captions"].channel
        assert channel.bufferedAmount <= BUFFERED_BYTES + 1000
        assert len(peer._channels._senders["captions"].outbox) <= 2
        assert peer.dropped > 10_000
        sctp._handle_data = hear  # type: ignore[method-assign]
        await until(lambda: client.received["captions"][-1:] == ["final"])
        assert len(client.received["captions"]) < 10_000
        assert not peer.closed


async def test_what_does_not_belong_on_a_channel_is_answered_there() -> None:
    async with connected() as (client, peer, recorder):
        await until(lambda: len(client.channels) == 3)
        assert client.connection.sctp is not None
        client.connection.sctp._remote_max_message_size = 0
        client.channels["chat"].send(b"\x00\x01binary")
        await until(lambda: client.received["chat"])
        client.channels["captions"].send("x" * (MAX_MESSAGE_BYTES + 10))
        await until(lambda: client.received["captions"])
        problems = {
            label: json.loads(client.received[label][0])["problem"]
            for label in ("chat", "captions")
        }
        assert problems["chat"]["status"] == 415
        assert problems["captions"]["status"] == 413
        client.channels["chat"].send("still here")
        await until(lambda: recorder.messages == [("chat", "still here")])
        with pytest.raises(TooLarge):
            peer.send("captions", "x" * (MAX_MESSAGE_BYTES + 1))


async def test_ten_megabytes_in_one_message_end_that_peer_alone_and_quickly() -> None:
    async with connected() as (client, _, recorder), connected() as (other, bystander, heard):
        await until(lambda: len(client.channels) == 3 and len(other.channels) == 3)
        assert client.connection.sctp is not None
        client.connection.sctp._remote_max_message_size = 0
        client.channels["chat"].send("x" * 10_000_000)
        await soon(recorder.is_closed.wait(), 40)
        assert recorder.closings[0][0] == "failed"
        assert str(MAX_MESSAGE_BYTES) in recorder.closings[0][1]
        other.channels["chat"].send("unharmed")
        await until(lambda: heard.messages == [("chat", "unharmed")])
        assert not bystander.closed


async def test_a_message_on_a_channel_of_the_clients_own_is_answered_once() -> None:
    async with connected() as (client, peer, recorder):
        own = client.connection.createDataChannel("mine")
        answers: list[str] = []
        own.on("message", answers.append)
        await until(lambda: own.readyState == "open")
        own.send("anybody?")
        own.send("hello?")
        await until(lambda: answers)
        assert json.loads(answers[0])["problem"]["status"] == 404
        assert recorder.messages == []
        assert not peer.closed
