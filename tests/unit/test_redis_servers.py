"""The map of a cluster's slots: what nodes say, what is made of it, and when it is read again. No server runs."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from assay.features.redis_servers import NO_SERVER, REFRESH_S, Address, Cluster, read_slots
from tests.support.clock import Clock

A, B = ("a", 1), ("b", 2)
HALF = 8192


def said(*ranges: tuple[int, int, Address]) -> list[Any]:
    return [[first, last, [host.encode(), port, b"id", []], [b"replica", 9, b"id"]] for first, last, (host, port) in ranges]


WHOLE = said((0, HALF - 1, A), (HALF, 16383, B))


class Node:
    """Stands for a client: answers CLUSTER SLOTS with what the network has of it."""

    connection_pool: Any

    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self.address = address
        self.connection_pool = self
        self.is_disconnected = False

    def make_connection(self) -> None: ...

    def disconnect(self, inuse_connections: bool = True) -> None:
        self.is_disconnected = True

    def execute_command(self, command: str) -> Any:
        assert command == "CLUSTER SLOTS"
        self._network.asked.append(self.address)
        answer = self._network.answers.get(self.address, redis.ConnectionError("down"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Network:
    def __init__(self, **answers: Any) -> None:
        self.answers = {{"a": A, "b": B}[name]: answer for name, answer in answers.items()}
        self.asked: list[Address] = []
        self.nodes: dict[Address, Node] = {}

    def connect(self, address: Address) -> Any:
        self.nodes[address] = Node(self, address)
        return self.nodes[address]


def key_of(cluster: Cluster, server: str) -> bytes:
    """Some key that this server has."""
    return next(key for key in (b"k%d" % i for i in range(1000)) if cluster.split([key])[0].server == server)


def test_keys_go_to_the_owners_of_their_slots() -> None:
    network = Network(a=WHOLE)
    cluster = Cluster([A], network.connect)
    assert network.asked == []  # not before it is needed
    one, two = key_of(cluster, "a:1"), key_of(cluster, "b:2")
    parts = {part.server: part for part in cluster.split([one, two, one, two])}
    assert (parts["a:1"].keys, parts["a:1"].places) == ([one, one], [0, 2])
    assert (parts["b:2"].keys, parts["b:2"].places) == ([two, two], [1, 3])
    assert cluster.split([]) == []
    assert network.asked == [A]  # once for all of them
    assert set(cluster.names) == {"a:1", "b:2"}


def test_the_map_is_read_again_once_after_it_was_forgotten() -> None:
    network, clock = Network(a=said((0, 16383, A))), Clock()
    cluster = Cluster([A], network.connect, clock)
    cluster.split([b"k"])
    network.answers[A] = said((0, 16383, B))
    clock.now_s += REFRESH_S
    assert cluster.split([b"k"])[0].server == "a:1"
    cluster.forget_slots()
    for _ in range(3):
        assert cluster.split([b"k"])[0].server == "b:2"
    assert network.asked == [A, A]


def test_the_map_is_not_read_all_the_time() -> None:
    network, clock = Network(a=WHOLE), Clock()
    cluster = Cluster([A], network.connect, clock)
    cluster.split([b"k"])
    for _ in range(5):
        cluster.forget_slots()
        clock.now_s += 0.99 * REFRESH_S / 5
        cluster.split([b"k"])
    assert network.asked == [A]
    clock.now_s += 0.02 * REFRESH_S
    cluster.split([b"k"])
    assert network.asked == [A, A]


def test_any_node_that_answers_will_do_and_an_old_map_is_better_than_none() -> None:
    network, clock = Network(b=WHOLE), Clock()
    cluster = Cluster([A, B], network.connect, clock)
    assert cluster.split([b"k"])
    assert network.asked == [A, B]
    network.answers.clear()
    cluster.forget_slots()
    clock.now_s += REFRESH_S
    assert cluster.split([b"k"])
    assert network.asked[2:] == [B, A]  # first who answered last


def test_without_any_map_the_failure_is_told() -> None:
    network = Network()
    cluster = Cluster([A, B], network.connect)
    with pytest.raises(redis.ConnectionError, match="down"):
        cluster.split([b"k"])
    network.answers[B] = WHOLE
    assert cluster.split([b"k"])


def test_slots_that_no_node_has_are_a_part_of_their_own_and_are_looked_for_again() -> None:
    network, clock = Network(a=said((0, HALF - 1, A))), Clock()
    cluster = Cluster([A], network.connect, clock)
    missing = next(b"k%d" % i for i in range(1000) if cluster.split([b"k%d" % i])[0].server == NO_SERVER)
    (part,) = cluster.split([missing])
    assert (part.client, part.keys, part.places) == (None, [missing], [0])
    network.answers[A] = WHOLE
    clock.now_s += REFRESH_S
    assert cluster.split([missing])[0].server == "b:2"


def test_nodes_that_have_left_are_let_go() -> None:
    network, clock = Network(a=WHOLE), Clock()
    cluster = Cluster([A], network.connect, clock)
    key_of(cluster, "b:2")
    network.answers[A] = said((0, 16383, A))
    clock.now_s += REFRESH_S
    cluster.forget_slots()
    cluster.split([b"k"])
    assert network.nodes[B].is_disconnected
    assert set(cluster.names) == {"a:1"}


def test_a_node_without_a_name_is_where_it_was_asked() -> None:
    for host in (b"", None, b"?"):
        owners = read_slots([[0, 16383, [host, 7, b"id"]]], ("asked", 1))
        assert set(owners) == {("asked", 7)}


BAD_MAPS: list[Any] = [None, 7, b"OK", [[0]], [[0, 1, []]], [[0, 1, [b"a"]]]]
BAD_MAPS += [[[5, 4, [b"a", 1]]], [[0, 16384, [b"a", 1]]], [["x", 1, [b"a", 1]]]]


@pytest.mark.parametrize("answer", BAD_MAPS)
def test_what_is_no_map_is_refused(answer: Any) -> None:
    with pytest.raises(redis.InvalidResponse, match="not what CLUSTER SLOTS answers"):
        read_slots(answer, A)
