#!/usr/bin/env python3
"""Measure rooms: deliveries, joins, idle members, a slow reader (`make bench ARGS="--only rooms"`).

    python -m benchmarks.rooms               about two minutes
    python -m benchmarks.rooms --members 40 --seconds 5

Two real server processes with one data directory (so one valkey-server and one SQLite), and all
members in this process, half of them at each server; every member sends what the page sends:
`ping` every 2 s, `clock.ping` every 5 s. Latency is from sending a chat message to its arrival at
each of the members, the sender included, on this machine's monotonic clock.
"""

import argparse
import asyncio
import base64
import contextlib
import gc
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import redis
import uvloop

from benchmarks.servers import NotStarted, Running, our_server
from benchmarks.tables import table
from mediaserver.inference.registry import ModelRegistry
from mediaserver.kernel.errors import ConfigurationError
from mediaserver.settings import load_settings
from mediaserver.stores.embedded import EmbeddedValkey

ROOM = "bench"
RATES_HZ = (20, 50)
IDLE_S = 15.0
PING_S, CLOCK_S = 2.0, 5.0
JOINING = 20
"""So many come at once."""
LONG = "😀" * 1900
"""What is said while one member does not read: its buffers fill sooner."""
SETTLE_S = 2.0
LATE_S = 10.0
"""What has not arrived by then counts as lost."""
_SENT = re.compile(r'"text":"at ([0-9.]+) ')


@dataclass
class Chat:
    """What became of the chat of one phase. Latencies in seconds."""

    rate_hz: float
    took_s: float = 0.0
    sent: int = 0
    expected: int = 0
    latencies: list[float] = field(default_factory=list)
    cpu: tuple[float, ...] = ()
    """Share of a core: of each server, then of the valkey-server."""

    def at(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Member:
    """One member's connection; answers nothing, counts what comes."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse, arrived: list[float]) -> None:
        self.connection = connection
        self._arrived = arrived
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pinging = asyncio.create_task(self._ping())
        try:
            async for message in self.connection:
                text: str = message.data
                if text.startswith('{"type":"chat"'):
                    found = _SENT.search(text)
                    if found is not None:
                        self._arrived.append(time.monotonic() - float(found[1]))
        finally:
            pinging.cancel()

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            for number in range(1_000_000):
                await asyncio.sleep(PING_S / 2)
                if number % 2:
                    await self.connection.send_str('{"type":"ping","id":"1"}')
                if number % int(CLOCK_S / PING_S * 2) == 0:
                    await self.connection.send_str('{"type":"clock.ping","t0":1.5}')

    async def say(self, text: str) -> None:
        await self.connection.send_str(
            json.dumps({"type": "chat.send", "text": text}, ensure_ascii=False)
        )

    async def close(self) -> None:
        await self.connection.close()
        await self._task


class Party:
    """The servers under measurement, and members at both."""

    def __init__(self, servers: Sequence[Running], valkey: "redis.Redis") -> None:
        self.servers, self._valkey = servers, valkey
        self.members: list[Member] = []
        self.arrived: list[float] = []

    async def join(self, session: aiohttp.ClientSession, count: int, room: str) -> list[float]:
        """Let `count` members join, in turn at the servers; return how long each took."""
        gate = asyncio.Semaphore(JOINING)

        async def one(number: int) -> float:
            async with gate:
                began = time.monotonic()
                url = self.servers[number % len(self.servers)].ws_url
                connection = await session.ws_connect(
                    f"{url}/ws?room={room}&name=m{number}", max_msg_size=0, compress=0
                )
                welcome = await connection.receive_json(timeout=10.0)
                assert welcome["type"] == "welcome", welcome
                self.members.append(Member(connection, self.arrived))
                return time.monotonic() - began

        return list(await asyncio.gather(*(one(number) for number in range(count))))

    async def leave(self) -> None:
        members, self.members = self.members, []
        await asyncio.gather(*(member.close() for member in members))

    def cpu_s(self) -> tuple[float, ...]:
        used: dict[str, float] = self._valkey.info("cpu")
        valkey_s = used["used_cpu_user"] + used["used_cpu_sys"]
        return (*(server.usage().app_cpu_s for server in self.servers), valkey_s)

    def memory_mib(self) -> tuple[float, ...]:
        return tuple(server.usage().app_mib for server in self.servers)

    async def chat(self, rate_hz: float, seconds: float, padding: str = "x" * 100) -> Chat:
        """Let the members say something in turn, evenly spaced."""
        phase = Chat(rate_hz)
        self.arrived.clear()
        before, began = self.cpu_s(), time.monotonic()
        count = int(rate_hz * seconds)
        for number in range(count):
            await asyncio.sleep(began + number / rate_hz - time.monotonic())
            member = self.members[number * 7 % len(self.members)]
            await member.say(f"at {time.monotonic():.6f} " + padding)
        phase.took_s = time.monotonic() - began
        after = self.cpu_s()
        phase.cpu = tuple((b - a) / phase.took_s for a, b in zip(before, after, strict=True))
        phase.sent, phase.expected = count, count * len(self.members)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                while len(self.arrived) < phase.expected:
                    await asyncio.sleep(0.05)
        phase.latencies = list(self.arrived)
        return phase


class Deaf:
    """A member by hand that never reads; a pong every second is all that it says."""

    def __init__(self, server: Running) -> None:
        address = urlsplit(server.url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(5.0)
        self._socket.connect((address.hostname, address.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /ws?room={ROOM}&name=deaf HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._began = time.monotonic()
        self.gone_after_s: float | None = None

    async def run(self) -> None:
        while self.gone_after_s is None:
            await asyncio.sleep(1.0)
            try:
                self._socket.sendall(b"\x8a\x80" + bytes(4))
            except OSError:
                self.gone_after_s = time.monotonic() - self._began

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def deaf_member(server: Running) -> AsyncIterator[Deaf]:
    deaf = Deaf(server)
    task = asyncio.create_task(deaf.run())
    try:
        yield deaf
    finally:
        task.cancel()
        deaf.close()


# ---- what is measured ----------------------------------------------------------------------


async def measure(party: Party, count: int, seconds: float) -> str:
    """Run all phases; return the tables."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        parts = [await measure_idle(party, session, count)]
        say(f"{count} members join")
        began = time.monotonic()
        joins = sorted(await party.join(session, count, ROOM))
        took_s = time.monotonic() - began
        parts.append(joins_table(joins, took_s))
        await asyncio.sleep(SETTLE_S)
        phases = []
        for rate_hz in RATES_HZ:
            say(f"{rate_hz} chat messages a second for {seconds:g} s")
            phases.append(await party.chat(rate_hz, seconds))
            await asyncio.sleep(SETTLE_S)
        parts.append(chat_table(phases, count))
        parts.append(await measure_slow_reader(party, seconds))
        await party.leave()
    return "\n".join(parts)


async def measure_idle(party: Party, session: aiohttp.ClientSession, count: int) -> str:
    """Measure what members cost that only ping."""
    await party.join(session, 4, "warm")
    await party.leave()
    gc.collect()
    await asyncio.sleep(SETTLE_S)
    say("nobody is there")
    cpu, memory, began = party.cpu_s(), party.memory_mib(), time.monotonic()
    await asyncio.sleep(IDLE_S / 2)
    base = [(b - a) / (time.monotonic() - began) for a, b in zip(cpu, party.cpu_s(), strict=True)]
    say(f"{2 * count} members in two rooms do nothing")
    for room in ("idle-1", "idle-2"):
        await party.join(session, count, room)
    await asyncio.sleep(SETTLE_S)
    cpu, began = party.cpu_s(), time.monotonic()
    await asyncio.sleep(IDLE_S)
    idle = [(b - a) / (time.monotonic() - began) for a, b in zip(cpu, party.cpu_s(), strict=True)]
    grown_mib = sum(party.memory_mib()) - sum(memory)
    await party.leave()
    await asyncio.sleep(SETTLE_S)
    members = 2 * count
    apps = sum(idle[:-1]) - sum(base[:-1])
    store = idle[-1] - base[-1]
    return table(
        ["idle members", "memory a member, KiB", "CPU a member, ms a second", "CPU s an hour",
         "servers without members, share of a core", "valkey a member, ms a second"],
        [[str(members), f"{grown_mib * 1024 / members:.0f}", f"{apps * 1000 / members:.2f}",
          f"{apps * 3600 / members:.1f}", " / ".join(f"{share:.3f}" for share in base),
          f"{store * 1000 / members:.3f}"]],
    )  # fmt: skip


def joins_table(joins: Sequence[float], took_s: float) -> str:
    def at(share: float) -> str:
        return f"{joins[min(len(joins) - 1, int(share * len(joins)))] * 1000:.0f}"

    return table(
        ["members", "at once", "joins a second", "connect to welcome p50 / p99, ms"],
        [[str(len(joins)), str(JOINING), f"{len(joins) / took_s:.0f}", f"{at(0.5)} / {at(0.99)}"]],
    )


def chat_table(phases: Sequence[Chat], members: int) -> str:
    rows = [
        [
            f"{phase.rate_hz:g}",
            str(members),
            f"{len(phase.latencies) / phase.took_s:.0f}",
            str(phase.expected - len(phase.latencies)),
            _milliseconds(phase),
            " / ".join(f"{share:.2f}" for share in phase.cpu),
        ]
        for phase in phases
    ]
    return table(
        ["chat messages a second", "members", "deliveries a second", "lost", _LATENCY, _CPU], rows
    )


_LATENCY = "send to receive p50 / p99 / most, ms"
_CPU = "share of a core: server / server / valkey"


def _milliseconds(phase: Chat) -> str:
    return " / ".join(f"{phase.at(share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))


async def measure_slow_reader(party: Party, seconds: float) -> str:
    """Measure the others while one member does not read, and without it."""
    rate_hz, rows = RATES_HZ[-1], []
    for with_it in (False, True):
        say(f"long messages, {'one member does not read' if with_it else 'all read'}")
        async with contextlib.AsyncExitStack() as stack:
            told = "–"
            deaf = None
            if with_it:
                deaf = await stack.enter_async_context(deaf_member(party.servers[0]))
                await asyncio.sleep(1.0)
            phase = await party.chat(rate_hz, seconds, LONG)
            if deaf is not None:
                gone_s = deaf.gone_after_s
                told = "no, its buffers hold" if gone_s is None else f"after {gone_s:.0f} s"
            lost = phase.expected - len(phase.latencies)
            rows.append(["one" if with_it else "none", _milliseconds(phase), str(lost), told])
            await asyncio.sleep(SETTLE_S)
    return table(
        [f"who does not read, {rate_hz} messages of {len(LONG.encode()) / 1000:.1f} kB a second",
         f"the others' {_LATENCY}", "lost to the others", "sent away"],
        rows,
    )  # fmt: skip


def run(members: int, seconds: float) -> str:
    """Start the servers, measure, and return the tables. Raises NotStarted, ConfigurationError."""
    settings = load_settings()
    model = ModelRegistry(settings.data_dir).locate(settings.speech_model)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        shared = {
            "MEDIASERVER_DATA_DIR": str(folder),
            "MEDIASERVER_SPEECH_MODEL": str(model.resolve()),
            "MEDIASERVER_RATE_LIMIT": "0",
        }
        servers = [stack.enter_context(our_server(**shared)) for _ in range(2)]
        store = redis.Redis.from_url(EmbeddedValkey(folder).url)
        stack.callback(store.close)
        say("two servers are ready")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(Party(servers, store), members, seconds))


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--members", type=int, default=100, help="of the room; at most 200")
    p.add_argument("--seconds", type=float, default=20.0, help="of chat at each rate")
    options = p.parse_args()
    try:
        print(run(options.members, options.seconds), flush=True)
    except (NotStarted, ConfigurationError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
