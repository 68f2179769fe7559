"""What a Redis for many events must be: bytes of a record, commands and processor time of an event, events a second that one
process takes. docs/stores.md makes shards of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import hiredis
import numpy as np
import redis
from numpy.typing import NDArray

from assay.demo.history import demo_log
from assay.features.redis_writer import HEADER_BYTES, HOP_KEYS, PUT_SCRIPT
from assay.features.store import open_store
from benchmarks.measure import Ratio
from benchmarks.remote_store import fill_redis
from benchmarks.run import Run
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_server import RedisServer, view_of

RECORD_BYTES_MAX = {"customer": 128 + 256 * 32 + 81 * 96, "terminal": 128 + 256 * 32 + 249 * 48}  # docs/row-record.md
RECORDS_AN_EVENT = 2
EVENTS_PER_S = 50_000
EVENT_US = 1e6 / EVENTS_PER_S  # of one core that does nothing else
FLUSH_EVENTS = 50  # what `assay ingest --kafka` holds in 10 ms at 5,000 events a second
LIVE_EVENTS = 30_000
CLIENTS = 4  # some send while others read
FULL_SPEED_S = 3.0
PAIRS_MAX = 5


def redis_sizing(run: Run) -> list[Ratio]:
    """Sizes of the demo's records; writing its newest events in flushes as they come from topics, into one server and into three
    shards; full speed."""
    with closing(RedisServer()) as server, server.client() as client:
        empty_bytes = client.info("memory")["used_memory"]
        fill_redis(run, server.url)
        sizes = _sizes(client)
        ratios = [ratio for view in RECORD_BYTES_MAX for ratio in _size_ratios(view, sizes[view])]
        every = np.concatenate(list(sizes.values()))
        memory = Ratio("Redis's memory for a record over the record, mean", "reported", "bytes")
        memory.pairs = [((client.info("memory")["used_memory"] - empty_bytes) / len(every), float(every.mean()))]
        ratios += [memory, *_live(run, "one server", server.url, [client]), *_full_speed(run, server, client)]
    with redis_cluster() as cluster, ExitStack() as stack:
        return ratios + _live(
            run, "three shards", cluster.url, [stack.enter_context(node.client()) for node in cluster.primaries]
        )


# --- implementation ---


def _sizes(client: redis.Redis) -> dict[str, NDArray[np.int64]]:
    """Bytes of all records, by view."""
    found: dict[str, list[int]] = {view: [] for view in RECORD_BYTES_MAX}
    for key in client.scan_iter("a1:*", count=10_000):
        found[view_of(key)].append(client.strlen(key))
    return {view: np.array(sizes) for view, sizes in found.items()}


def _size_ratios(view: str, sizes: NDArray[np.int64]) -> list[Ratio]:
    figures = {"mean": sizes.mean(), "p50": np.median(sizes), "p99": np.percentile(sizes, 99), "largest": sizes.max()}
    bound = float(RECORD_BYTES_MAX[view])
    name = f"records of view {view}, {{}} of {len(sizes):,}, over the bound"
    return [Ratio(name.format(which), "<= 1", "bytes", [(float(size), bound)]) for which, size in figures.items()]


def _live(run: Run, where: str, url: str, clients: Sequence[redis.Redis]) -> list[Ratio]:
    """The newest events, FLUSH_EVENTS at a time, behind all others. Processor times are of all servers together."""
    commands = Ratio(f"{where}, flushes of {FLUSH_EVENTS}: GET, MGET and EVALSHA an event over two a record", "<= 1", "commands")
    puts = Ratio("the same, EVALSHA over one a record", "<= 1", "commands")
    redis_us = Ratio(f"the same, Redis's processor time over {EVENT_US:g} us: cores for {EVENTS_PER_S:,}/s", "reported", "us")
    writer_us = Ratio(f"the same, the writer's processor time over {EVENT_US:g} us", "reported", "us")
    log = demo_log(run.material.plan)
    first = log.event_count - LIVE_EVENTS
    for index in range(min(run.pairs, PAIRS_MAX)):
        for client in clients:
            client.flushall()
        with open_store(url) as store:
            writer = store.writer(run.material.plan)
            writer.ingest(log, 0, first)
            for client in clients:
                client.config_resetstat()
            redis_s, writer_s = _redis_cpu_s(clients), time.process_time()
            reports = [writer.ingest(log, at, at + FLUSH_EVENTS) for at in range(first, log.event_count, FLUSH_EVENTS)]
            writer_s, redis_s = time.process_time() - writer_s, _redis_cpu_s(clients) - redis_s
        assert sum(report.recorded_count for report in reports) == LIVE_EVENTS
        evalsha_count = _call_count(clients, "evalsha")
        commands_count = evalsha_count + _call_count(clients, "mget") + _call_count(clients, "get")
        commands.pairs.append((commands_count / LIVE_EVENTS, 2.0 * RECORDS_AN_EVENT))
        puts.pairs.append((evalsha_count / LIVE_EVENTS, float(RECORDS_AN_EVENT)))
        redis_us.pairs.append((1e6 * redis_s / LIVE_EVENTS, EVENT_US))
        writer_us.pairs.append((1e6 * writer_s / LIVE_EVENTS, EVENT_US))
        run.report(f"sizing, {where}: {index + 1}")
    return [commands, puts, redis_us, writer_us]


def _call_count(clients: Sequence[redis.Redis], command: str) -> int:
    return sum(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"] for client in clients)


def _full_speed(run: Run, server: RedisServer, client: redis.Redis) -> list[Ratio]:
    """Every record is fetched, and put back as it is, with the commands of a cluster, by clients that wait for nothing else."""
    ratios = []
    hops = _hops(run, client)
    for what, is_putting in (("events", True), ("scored rows", False)):
        rate = Ratio(f"full speed, {what} a second of one Redis over {EVENTS_PER_S:,}", "reported", f"{what}/s")
        busy = Ratio("the same, Redis's processor time over time", "reported", "s")
        cost = Ratio(f"the same, Redis's processor time over {EVENT_US:g} us: cores for {EVENTS_PER_S:,}/s", "reported", "us")
        for index in range(min(run.pairs, PAIRS_MAX)):
            cpu_s, started_s = _redis_cpu_s([client]), time.perf_counter()
            count = _drive(server.port, hops, is_putting=is_putting) / RECORDS_AN_EVENT
            wall_s, cpu_s = time.perf_counter() - started_s, _redis_cpu_s([client]) - cpu_s
            rate.pairs.append((count / wall_s, float(EVENTS_PER_S)))
            busy.pairs.append((cpu_s, wall_s))
            cost.pairs.append((1e6 * cpu_s / count, EVENT_US))
            run.report(f"sizing, full speed: {index + 1}, {rate.pairs[-1][0]:,.0f} {what}/s")
        ratios += [rate, busy, cost]
    return ratios


@dataclass(frozen=True)
class _Hop:
    """Some records: commands as bytes, and how long the answers are."""

    record_count: int
    fetch: bytes
    fetched_bytes: int
    put: bytes


def _hops(run: Run, client: redis.Redis) -> list[_Hop]:
    """Of all records that are there, shuffled, as RedisWriter asks and puts."""
    horizons_us = dict(zip(run.material.plan.view_names, run.material.plan.view_horizons_us, strict=True))
    script = client.script_load(PUT_SCRIPT)
    keys = list(client.scan_iter("a1:*", count=10_000))
    np.random.default_rng(0).shuffle(keys)  # type: ignore[arg-type]
    hops = []
    for first in range(0, len(keys), HOP_KEYS):
        chosen = keys[first : first + HOP_KEYS]
        records: Any = client.mget(chosen)
        put = b"".join(
            _pack("EVALSHA", script, 1, key, record[:HEADER_BYTES], record, horizons_us[view_of(key)] // 1000, HEADER_BYTES)
            for key, record in zip(chosen, records, strict=True)
        )
        fetch = b"".join(_pack("GET", key) for key in chosen)
        fetched_bytes = sum(len(f"${len(record)}\r\n") + len(record) + len("\r\n") for record in records)
        hops.append(_Hop(len(chosen), fetch, fetched_bytes, put))
    return hops


def _pack(*command: str | bytes | int) -> bytes:
    return hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one


def _drive(port: int, hops: Sequence[_Hop], *, is_putting: bool) -> int:
    """Records fetched, and put, in a while, by threads that share the hops."""
    counts = [0] * CLIENTS
    end_s = time.perf_counter() + FULL_SPEED_S

    def drive(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while time.perf_counter() < end_s:
                for hop in hops[number::CLIENTS]:
                    connection.sendall(hop.fetch)
                    _read(connection, hop.fetched_bytes)
                    if is_putting:
                        connection.sendall(hop.put)
                        assert _read(connection, 4 * hop.record_count) == b":1\r\n" * hop.record_count
                    counts[number] += hop.record_count

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _read(connection: socket.socket, size: int) -> bytes:
    answer = bytearray(size)
    view = memoryview(answer)
    while view:
        got = connection.recv_into(view)
        assert got > 0, "Redis has closed the connection"
        view = view[got:]
    return bytes(answer)


def _redis_cpu_s(clients: Sequence[redis.Redis]) -> float:
    """Of all servers together."""
    return sum(used["used_cpu_user"] + used["used_cpu_sys"] for client in clients for used in [client.info("cpu")])
