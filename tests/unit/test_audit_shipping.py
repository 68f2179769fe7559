"""Records reach a sink at least once and in order, whatever becomes of the sink, the shipper and the log."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.audit import shipped
from assay.audit.jsonl_sink import JsonlSink
from assay.audit.shipped import Shipped, read_shipped, read_shipped_place, write_shipped
from assay.audit.shipping import BACK_OFF_S_MAX, BATCH_BYTES, BATCH_RECORDS, REPORT_S, Batch, LogShipping, Shipper, become_shipper
from assay.audit.sinks import ShippedRecord, SinkAwayError, kafka_parts, open_sink, sink_location
from assay.errors import ConfigError, InputError
from tests.support.audit_logs import RawSegment, append, label, open_log, segments, spool_with_key, write_log
from tests.support.server import wait_until

LOG_ID, OTHER_LOG_ID = b"log-of-the-tests", b"another-log-of-t"


class ListSink:
    """Keeps what it gets. `failures`: how often it is away first; then after `partly` records."""

    def __init__(self, failures: int = 0, partly: int = 0) -> None:
        self.records: list[ShippedRecord] = []
        self.batches: list[int] = []
        self.failures = failures
        self.partly = partly
        self.is_closed = False

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        if self.failures:
            self.failures -= 1
            self.records += records[: self.partly]
            raise SinkAwayError("not now")
        self.records += records
        self.batches.append(len(records))

    def close(self) -> None:
        self.is_closed = True

    @property
    def sequences(self) -> list[int]:
        return [json.loads(record.json)["sequence"] for record in self.records]


class Stop:
    """A threading.Event whose waits take no time, but are counted. Set after `waits_max` of them."""

    def __init__(self, clock: Clock | None = None, waits_max: int = 1 << 30) -> None:
        self._is_set = False
        self._clock = clock
        self._waits_max = waits_max
        self.waits: list[float] = []

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        if self._clock is not None:
            self._clock.now_s += timeout
        self._is_set = self._is_set or len(self.waits) >= self._waits_max
        return self._is_set


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ship(spool: Path, sink: Any, stop: Any = None, **options: Any) -> Shipper:
    shipper = Shipper(spool, sink, stop or Stop(), **options)
    try:
        shipper.run_once(give_up_s=1e9)
    finally:
        shipper.close()
    return shipper


def shipped_sequences(spool: Path, **options: Any) -> list[int]:
    sink = ListSink()
    ship(spool, sink, **options)
    return sink.sequences


# --- what goes well


def test_all_records_of_all_writers_are_shipped_once_and_in_order(tmp_path: Path) -> None:
    writer = spool_with_key(tmp_path)
    write_log(writer, 3_000)
    write_log(tmp_path / "writer-1", 50)
    sink = ListSink()
    shipper = ship(tmp_path, sink)
    for name, count in (("writer-0", 3_002), ("writer-1", 52)):
        documents = [json.loads(record.json) for record in sink.records if record.id.startswith(name)]
        assert [item["sequence"] for item in documents] == list(range(1, count + 1))
        assert {(item["writer"], item["log_id"]) for item in documents} == {(name, documents[0]["log_id"])}
        assert read_shipped(tmp_path / name) == count
        raw = [block for path in segments(tmp_path / name) for block in RawSegment.parse(path.read_bytes()).blocks]
        chains = {block.first_sequence: block.chain.hex() for block in raw}
        assert all(item["chain"] == chains[item["sequence"]] for item in documents if item["sequence"] in chains)
    record = sink.records[1]
    assert (record.key, record.id) == ("t1", f"writer-0-{json.loads(record.json)['log_id']}-2")
    assert shipper.counts.records == 3_054
    assert shipped_sequences(tmp_path) == [], "what is confirmed does not come again"


def test_batches_are_bounded_and_end_with_a_block(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 9_000, padding=10)
    sink = ListSink()
    ship(tmp_path, sink)
    assert max(sink.batches) <= BATCH_RECORDS + 10
    assert len(sink.batches) >= 3
    large = tmp_path / "large"
    log = open_log(spool_with_key(large))
    append(log, [label("x" * 60_000 + str(number)) for number in range(160)], per_block=4)
    log.close()
    sink = ListSink()
    ship(large, sink)
    assert max(sink.batches) * 60_000 <= BATCH_BYTES + 4 * 60_000
    assert len(sink.records) == 162


def test_records_that_come_later_are_shipped_from_where_it_stood(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    append(log, (label(f"a{number}") for number in range(25)))
    assert shipped_sequences(tmp_path) == list(range(1, 27))
    append(log, (label(f"b{number}") for number in range(2)))
    assert shipped_sequences(tmp_path) == [27, 28]
    log.close()
    log = open_log(tmp_path / "writer-0")  # a new segment
    append(log, [label("c")])
    assert shipped_sequences(tmp_path) == [29, 30, 31]
    log.close()


def test_a_shipper_that_runs_follows_logs_and_writers_that_come(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    sink = ListSink()
    stop = Stop()
    steps: list[Callable[[], None]] = [
        lambda: append(log, [label("a"), label("b")]),
        lambda: write_log(tmp_path / "writer-1", 3),
        stop.set,
    ]

    class Idle(Stop):
        def wait(self, timeout: float) -> bool:
            steps.pop(0)()
            return stop.is_set()

        def is_set(self) -> bool:
            return stop.is_set()

    shipper = Shipper(tmp_path, sink, Idle())
    shipper.run()
    shipper.close()
    assert sink.sequences == [1, 2, 3, 1, 2, 3, 4, 5]
    assert sink.is_closed
    log.close()


def test_a_lineage_is_known_where_shipping_resumes_behind_it(tmp_path: Path) -> None:
    from assay.v1 import audit_pb2

    lineage = audit_pb2.AuditRecord(lineage=audit_pb2.LineageRecord(number=3, runtime="here, cpu"))
    score = audit_pb2.AuditRecord(score=audit_pb2.ScoreRecord(lineage=3, transaction_id="t", score=0.5))
    log = open_log(spool_with_key(tmp_path))
    append(log, [lineage.SerializeToString()])
    assert shipped_sequences(tmp_path) == [1, 2]
    append(log, [score.SerializeToString()])
    sink = ListSink()
    ship(tmp_path, sink)
    assert json.loads(sink.records[0].json)["runtime"] == "here, cpu"
    log.close()


# --- the sink is away


def test_while_the_sink_is_away_the_same_records_come_again_and_the_place_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_log(spool_with_key(tmp_path), 2_500)
    sink, clock = ListSink(failures=7, partly=5), Clock()
    stop = Stop(clock)
    with caplog.at_level(logging.INFO, "assay.audit"):
        shipper = ship(tmp_path, sink, stop, clock=clock, share=lambda: 1.0)
    assert sink.sequences == [1, 2, 3, 4, 5] * 7 + list(range(1, 2_503))
    assert stop.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, BACK_OFF_S_MAX]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the audit sink is away: records wait in the spool", "the audit sink is back"]
    assert shipper.counts.retries == 7


def test_pauses_are_scattered(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 1)
    for share, pause_s in ((0.0, 0.125), (0.5, 0.1875), (1.0, 0.25)):
        stop = Stop()
        (tmp_path / "writer-0" / "shipped").unlink(missing_ok=True)
        ship(tmp_path, ListSink(failures=1), stop, share=lambda share=share: share)
        assert stop.waits == [pause_s]


def test_told_to_stop_while_the_sink_is_away_it_ends_and_keeps_its_place(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    sink = ListSink(failures=1 << 30)
    shipper = Shipper(tmp_path, sink, Stop(waits_max=3))
    shipper.run()
    shipper.close()
    assert read_shipped(tmp_path / "writer-0") == 0
    assert shipped_sequences(tmp_path) == list(range(1, 13))


def test_once_gives_up_after_its_time(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    clock = Clock()
    shipper = Shipper(tmp_path, ListSink(failures=1 << 30), Stop(clock), clock=clock)
    with pytest.raises(SinkAwayError):
        shipper.run_once(give_up_s=10.0)
    assert 10.0 <= clock.now_s <= 10.0 + BACK_OFF_S_MAX
    shipper.close()


def test_counts_are_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_log(spool_with_key(tmp_path), 10)
    clock = Clock()
    with caplog.at_level(logging.INFO, "assay.audit"):
        shipper = Shipper(tmp_path, ListSink(), Stop(clock, waits_max=round(REPORT_S / 0.25) * 3), clock=clock)
        shipper.run()
        shipper.close()
    lines = [record for record in caplog.records if record.getMessage() == "audit records shipped"]
    assert [record.assay_fields["records"] for record in lines] == [12], "a minute without records needs no line"  # type: ignore[attr-defined]


# --- the log is not as it was


def test_a_log_that_lost_its_end_is_shipped_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The machine lost power: the log goes on with sequences that were shipped already, of other records."""
    directory = spool_with_key(tmp_path)
    first = RawSegment(1, LOG_ID).add([label("a")]).add([label("b")])
    first.write(directory)
    assert shipped_sequences(tmp_path) == [1, 2]
    lost = RawSegment(1, LOG_ID).add([label("a")])
    lost.write(directory)
    lost.next.add([label("c")]).add([label("d")]).write(directory)
    sink = ListSink()
    with caplog.at_level(logging.WARNING, "assay.audit"):
        ship(tmp_path, sink)
    assert [record.key for record in sink.records] == ["a", "c", "d"]
    assert [record.getMessage() for record in caplog.records] == [
        "the log is not as it was when its records were shipped: all that stands there is shipped again"
    ]
    assert read_shipped(directory) == 3
    assert shipped_sequences(tmp_path) == []


def test_another_log_in_the_same_place_is_shipped_from_its_beginning(tmp_path: Path) -> None:
    directory = spool_with_key(tmp_path)
    RawSegment(1, LOG_ID).add([label("a")] * 9).write(directory)
    assert len(shipped_sequences(tmp_path)) == 9
    shutil.rmtree(directory / "00000000000000000001.audit", ignore_errors=True)
    RawSegment(1, OTHER_LOG_ID).add([label("b")] * 4).write(directory)
    assert read_shipped(directory) == 0, "the server would let unshipped segments go"
    assert shipped_sequences(tmp_path) == [1, 2, 3, 4]
    assert read_shipped(directory) == 4


def test_records_written_anew_are_shipped_anew(tmp_path: Path) -> None:
    directory = spool_with_key(tmp_path)
    first = RawSegment(1, LOG_ID).add([label("a")])
    second = first.next.add([label("lineage"), label("b")])
    first.add([label("b")]).write(directory)
    sink, stop = ListSink(), Stop()

    class WriteThenStop(Stop):
        def wait(self, timeout: float) -> bool:
            if segments(directory)[-1].stem.endswith("2"):
                stop.set()
            second.write(directory)
            return stop.is_set()

        def is_set(self) -> bool:
            return stop.is_set()

    shipper = Shipper(tmp_path, sink, WriteThenStop())
    shipper.run()
    shipper.close()
    assert [(record.key, json.loads(record.json)["sequence"]) for record in sink.records] == [
        ("a", 1),
        ("b", 2),
        ("lineage", 2),
        ("b", 3),
    ]
    assert len({json.loads(record.json)["chain"] for record in sink.records}) == 3, "the chain tells which one holds"
    assert read_shipped(directory) == 3


def test_damage_is_said_and_does_not_hold_up_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = spool_with_key(tmp_path)
    write_log(directory, 100)
    path = segments(directory)[0]
    block = RawSegment.parse(path.read_bytes()).blocks[3]
    with path.open("r+b") as file:
        file.seek(block.offset + 60)
        file.write(b"!!")
    with caplog.at_level(logging.ERROR, "assay.audit"):
        found = shipped_sequences(tmp_path)
    lost = range(block.first_sequence, block.first_sequence + len(block.records))
    assert found == [sequence for sequence in range(1, 103) if sequence not in lost]
    (record,) = caplog.records
    fields = record.assay_fields  # type: ignore[attr-defined]
    assert (fields["first_sequence"], fields["last_sequence"], fields["offset"]) == (lost[0], lost[-1], block.offset)


# --- the place


def test_a_log_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("writer-0", "writer-1"):
        write_log(tmp_path / name, 5)
    next_batch = LogShipping.next_batch

    def failing(shipping: LogShipping) -> Batch | None:
        if shipping.log.name == "writer-0":
            raise ValueError("year 148108 is out of range")
        return next_batch(shipping)

    sink, clock = ListSink(), Clock()
    shipper = Shipper(tmp_path, sink, Stop(), clock=clock)
    with monkeypatch.context() as broken:
        broken.setattr(LogShipping, "next_batch", failing)
        shipper.run_once(0)
        shipper.run_once(0)
    assert sink.sequences == list(range(1, 8))
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert shipper.unreadable == ["writer-0"]
    shipper.run_once(0)
    assert len(sink.sequences) == 7
    clock.now_s += BACK_OFF_S_MAX
    shipper.run_once(0)
    assert sink.sequences == [*range(1, 8), *range(1, 8)]
    assert shipper.unreadable == []


def test_the_place_is_written_whole_and_read_back(tmp_path: Path) -> None:
    written = Shipped(42, LOG_ID, b"c" * 32)
    write_shipped(tmp_path, written)
    assert read_shipped_place(tmp_path) == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shipped"]
    assert (tmp_path / "shipped").stat().st_mode & 0o777 == 0o600
    for text in ("", "x", "-1", "1 zz", "²", "9" * 30):
        (tmp_path / "shipped").write_text(text)
        assert read_shipped_place(tmp_path) == Shipped()
    (tmp_path / "shipped").write_text("7\n")
    assert read_shipped_place(tmp_path) == Shipped(7)


def test_the_place_is_written_on_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room comes only once the place has moved: it must need none."""
    write_shipped(tmp_path, Shipped(1, LOG_ID, b"c" * 32))
    real = shipped._write_synced

    def full(path: Path, data: bytes, flags: int) -> None:
        if flags:
            raise OSError(28, os.strerror(28), str(path))
        real(path, data, flags)

    monkeypatch.setattr(shipped, "_write_synced", full)
    write_shipped(tmp_path, Shipped(99_999, LOG_ID, b"d" * 32))
    assert read_shipped_place(tmp_path) == Shipped(99_999, LOG_ID, b"d" * 32)
    (tmp_path / "shipped").unlink()
    with pytest.raises(OSError, match="No space"):
        write_shipped(tmp_path, Shipped(1, LOG_ID, b"c" * 32))


def test_one_process_ships_a_directory(tmp_path: Path) -> None:
    lock = become_shipper(tmp_path, Stop(), waits=False)
    assert lock is not None
    with pytest.raises(InputError, match="another process ships"):
        become_shipper(tmp_path, Stop(), waits=False)
    assert become_shipper(tmp_path, Stop(waits_max=3), waits=True) is None
    lock.close()
    assert become_shipper(tmp_path, threading.Event(), waits=True) is not None


# --- files of JSON lines


def records_at(*times_s: int) -> list[ShippedRecord]:
    return [ShippedRecord(f"id-{number}", "", time_s * 1_000_000, b'{"n":%d}' % number) for number, time_s in enumerate(times_s)]


def test_lines_go_into_the_file_of_their_hour(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "out")
    sink.deliver(records_at(0, 3_599, 3_600, 86_400))
    sink.deliver(records_at(3_601))
    sink.close()
    found = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.jsonl")}
    assert found == {
        "1970-01-01T00.jsonl": '{"n":0}\n{"n":1}\n',
        "1970-01-01T01.jsonl": '{"n":2}\n{"n":0}\n',
        "1970-01-02T00.jsonl": '{"n":3}\n',
    }
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").glob("*.jsonl")} == {0o600}


@pytest.mark.parametrize("torn", [b'{"n":9', b"x" * 200_000, b""])
def test_a_line_that_a_killed_shipper_left_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    for whole in (b'{"n":8}\n', b""):
        (tmp_path / "1970-01-01T00.jsonl").write_bytes(whole + torn)
        sink = JsonlSink(tmp_path)
        sink.deliver(records_at(1))
        sink.close()
        assert (tmp_path / "1970-01-01T00.jsonl").read_bytes() == whole + b'{"n":0}\n'


def test_what_could_not_be_synced_is_cut_off_and_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink(tmp_path)
    sink.deliver(records_at(1))

    def fail(_: int) -> None:
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(SinkAwayError, match="Input/output error"):
            sink.deliver(records_at(1, 1))
    assert (tmp_path / "1970-01-01T00.jsonl").read_bytes() == b'{"n":0}\n'
    sink.deliver(records_at(1, 1))
    assert (tmp_path / "1970-01-01T00.jsonl").read_bytes() == b'{"n":0}\n{"n":0}\n{"n":1}\n'
    sink.close()


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path)
    sink.deliver(records_at(1))
    (tmp_path / "1970-01-01T00.jsonl").rename(tmp_path / "archived")
    sink.deliver(records_at(1))
    sink.close()
    assert (tmp_path / "1970-01-01T00.jsonl").read_bytes() == b'{"n":0}\n'


def test_two_shippers_do_not_write_to_one_directory(tmp_path: Path) -> None:
    first, second = JsonlSink(tmp_path), JsonlSink(tmp_path)
    first.deliver(records_at(1))
    with pytest.raises(SinkAwayError, match="another shipper"):
        second.deliver(records_at(1))
    first.close()
    second.deliver(records_at(1))
    second.close()


def test_a_directory_that_cannot_be_made_is_a_sink_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkAwayError, match="cannot be written"):
        JsonlSink(tmp_path / "file" / "out").deliver(records_at(1))


# --- URLs


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "jsonl:",
        "http://hunter2/",
        "redis://:hunter2@host:1/0",
        "redis://:hunter2@host:1/0?stream=",
        "redis://:hunter2@host:1/0?stream=a&no_such_option=hunter2",
        "redis://:hunter2@host:x/0?stream=a",
        "redis://host:1/0?stream=a&password=hunter2",
        "redis://host:1/0?stream=a&socket_timeout=1",
        "redis://host:1/0?stream=a&ssl_ca_certs=/dev/null",
        "redis://host:1/0?stream=a&sentinel_password=hunter2",
        "redis+unix:///run/hunter2?stream=a&client_name=x",
        "rediss://host:1/0?stream=a&ssl_cert_reqs=none",
        "rediss://host:1/0?stream=a&ssl_password=hunter2",
        "rediss://host:1/0?stream=a&ssl_ca_certs=",
        "rediss://host:1/0?stream=a&ssl_ca_certs=/no/such/file",
        "kafka://host:9092",
        "kafka://user:hunter2@host:9092/topic",
        "kafka://host:9092/a/b",
        "kafka://host:9092/topic?sasl.password=hunter2",
        "kafka://host:9092/topic?config=",
        "kafka://host:9092/topic?config=/no/such/file",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_sink(url)
    assert "hunter2" not in str(caught.value)
    assert "audit.sink" in str(caught.value)


def test_options_of_stores_are_those_of_sinks() -> None:
    for url in (
        "rediss://host:1/0?stream=a&ssl_ca_certs=/dev/null",
        "redis+sentinel://host:1/s?stream=a&sentinel_username=u&sentinel_password=p",
        "redis+unix:///run/x?stream=a&db=3",
    ):
        open_sink(url).close()


def test_what_may_be_shown_of_a_url() -> None:
    for url, shown in (
        ("jsonl:/var/audit?x", "jsonl:/var/audit?x"),
        ("redis://u:hunter2@h:1/2?stream=s", "redis://h:1/2?stream=s"),
        ("kafka://a:1,b:2/t?config=/c", "kafka://a:1,b:2/t"),
    ):
        assert sink_location(url) == shown
    assert kafka_parts("kafka://a:1,b:2/t?config=/c") == ("a:1,b:2", "t", Path("/c"))


def test_options_of_kafka_come_from_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka", reason="no Kafka client: pip install confluent-kafka")
    config = tmp_path / "kafka.conf"
    config.write_text("sasl.password=hunter2\nacks=1\n")
    config.chmod(0o600)
    with pytest.raises(ConfigError, match="acks is set by assay"):
        open_sink(f"kafka://127.0.0.1:9/t?config={config}")
    config.write_text("sasl.password=hunter2\n")
    config.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        open_sink(f"kafka://127.0.0.1:9/t?config={config}")
    config.chmod(0o600)
    open_sink(f"kafka://127.0.0.1:9/t?config={config}").close()


def test_the_core_lets_shipped_segments_go_and_no_others(tmp_path: Path) -> None:
    """The place that is written is the one that the server reads."""
    directory = spool_with_key(tmp_path)
    log = open_log(directory, bytes_max=4 << 20, has_sink=True)
    append(log, (label(f"t{number}", 3_000) for number in range(3_000)))
    assert (log.stats().state, log.stats().ring_dropped) == ("full", 0)
    first = segments(directory)[0]
    ship(tmp_path, ListSink())
    assert read_shipped(directory) == log.stats().next_sequence - 1
    log.set_shipped(read_shipped(directory))

    def has_room() -> bool:
        log.step()
        return log.stats().state == "writing"

    wait_until(has_room, "the log tries again every half second")
    assert not first.exists()
    append(log, [label("after")])
    assert log.stats().ring_dropped == 0
    assert shipped_sequences(tmp_path)[-1] == log.stats().next_sequence - 1
    log.close()
