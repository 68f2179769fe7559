"""The ingestion of topics as a state machine: a group, a store, dead letters and a clock that do what a test says."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from assay.errors import AssayError, RejectedError, StoreError
from assay.features.rejects import Violation
from assay.kafka.end_watch import ASK_S, EndWatch
from assay.kafka.group import Listener, Range, Read
from assay.kafka.held_messages import HeldMessages
from assay.kafka.ingestion import IDLE_S, RETRY_S_MAX, Ingestion, Settings, State
from assay.kafka.message_writer import Flush, Written, reject
from assay.kafka.messages import Partition, PartitionEnd, Progress, TopicMessage
from assay.kafka.producer import KafkaAwayError
from assay.kafka.reject_sinks import MessageReject, NoRejects
from tests.support.clock import Clock

P0, P1 = Partition("payments", 0), Partition("payments", 1)


SETTINGS: dict[str, object] = {"messages_max": 10_000, "flush_s": 0.05, "checkpoint_s": 1.0, "is_store_here": False}


def message(offset: int, partition: Partition = P0, value: bytes = b"{}") -> TopicMessage:
    return TopicMessage(partition, offset, b"key", value)


@dataclass
class PuppetGroup:
    """Gives one list of `turns` a read. A function is called, and the read gives nothing; of a pair the function is called from
    within the read that gives the list. After the last: stop()."""

    clock: Clock
    turns: list[object] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    commits: dict[Partition, int] = field(default_factory=dict)
    paused: set[Partition] = field(default_factory=set)
    asked: list[tuple[int, float]] = field(default_factory=list)
    of_group: dict[Partition, int] = field(default_factory=dict)
    ingestion: Ingestion | None = None

    def join(self, listener: Listener) -> None:
        listener.on_assigned([P0, P1])

    def read(self, count_max: int, timeout_s: float) -> list[Read]:
        self.asked.append((count_max, timeout_s))
        assert self.ingestion is not None
        if not self.turns:
            self.ingestion.stop()
            return []
        turn = self.turns.pop(0)
        if callable(turn):
            turn()
            return []
        if isinstance(turn, tuple):
            happens, turn = turn
            happens()
        if turn == []:
            self.clock.now_s += timeout_s
        return turn  # type: ignore[return-value]

    def pause(self, partitions: Iterable[Partition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        self.paused -= set(partitions)

    def commit(self, offsets: Mapping[Partition, int], *, waits: bool) -> None:
        self.commits.update(offsets)

    def ranges(self) -> dict[Partition, Range]:
        return {}

    def group_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return self.of_group

    def progress(self) -> dict[Partition, Progress]:
        return {}

    def close(self) -> None:
        self.said.append("closed")


@dataclass
class PuppetWriter:
    """Notes what is written; fails while `is_away`; messages b"bad" are rejects, b"wait" wait."""

    is_away: bool = False
    refuses: Partition | None = None
    tries: int = 0
    written: list[TopicMessage] = field(default_factory=list)

    def write(self, messages: Sequence[TopicMessage]) -> Flush:
        self.tries += 1
        unwritten = [one for one in messages if self.is_away or one.partition == self.refuses]
        taken = [one for one in messages if one not in unwritten]
        self.written += [one for one in taken if one.value == b"{}"]
        rejects = [reject(one, (Violation("WRONG_TYPE", "x", "is y"),)) for one in taken if one.value == b"bad"]
        waiting = [one for one in taken if one.value == b"wait"]
        part = Written(len(taken) - len(rejects) - len(waiting), rejects=rejects, waiting=waiting)
        error = StoreError("redis://store: no answer in time") if unwritten else None
        return Flush({"payments": part} if taken else {}, unwritten, error)


@dataclass
class PuppetSink:
    error: AssayError | None = None
    kept: list[MessageReject] = field(default_factory=list)

    def keep(self, rejects: Sequence[MessageReject]) -> None:
        if self.error is not None:
            raise self.error
        self.kept += rejects


class House:
    def __init__(self, *turns: object, sink: object = None, **settings: object) -> None:
        self.clock = Clock()
        self.group = PuppetGroup(self.clock, list(turns))
        self.writer = PuppetWriter()
        self.sink = PuppetSink()
        self.flushed: list[TopicMessage] = []
        self.settings = Settings(**{**SETTINGS, **settings})  # type: ignore[arg-type]
        self.ingestion = Ingestion(
            self.group,
            self.writer,
            sink or self.sink,  # type: ignore[arg-type]
            self.settings,
            on_flush=lambda _, messages: self.flushed.extend(messages),
            clock=self.clock,
            rng=random.Random(1),
        )
        self.group.ingestion = self.ingestion


def test_messages_are_written_together_once_the_first_is_old_enough() -> None:
    house = House([message(0)], [message(1)], [], [message(2)], flush_s=0.05)
    house.ingestion.run()
    assert house.writer.tries == 2  # 0 and 1 when time had passed; 2 at the end
    assert [one.offset for one in house.writer.written] == [0, 1, 2]
    assert house.group.commits == {P0: 3}
    assert house.ingestion.state is State.ENDED
    assert house.group.said == ["closed"]


@pytest.mark.parametrize(("count", "tries"), [(2, 0), (3, 1)])
def test_a_full_hand_is_written_at_once(count: int, tries: int) -> None:
    seen: list[int] = []
    house = House(
        [message(offset) for offset in range(count)], lambda: seen.append(house.writer.tries), messages_max=3, flush_s=9
    )
    house.ingestion.run()
    assert seen == [tries]
    assert house.group.asked[0][0] == 3
    assert house.group.asked[1][0] == (1 if count == 2 else 3)


def test_nothing_is_read_or_committed_while_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    house = House([message(0), message(0, P1)], *[[]] * 400, flush_s=0.01)
    house.writer.is_away = True

    def check_and_return() -> None:
        assert house.ingestion.state is State.WAITING
        assert house.group.paused == {P0, P1}
        assert house.ingestion.stats.is_away
        assert house.group.commits == {P0: 0, P1: 0}  # nothing of it is safe
        house.writer.is_away = False

    house.group.turns += [check_and_return, *[[]] * 100, [message(1)]]
    with caplog.at_level(logging.WARNING):
        house.ingestion.run()
    assert house.group.paused == set()
    assert house.group.commits == {P0: 2, P1: 1}
    assert 8 < house.writer.tries < 60  # waits grow, up to a limit: 80 s were spent
    waits = [record.assay_fields["retry_s"] for record in caplog.records if "tried again" in record.message]  # type: ignore[attr-defined]
    assert max(waits) <= RETRY_S_MAX
    assert len({*waits}) > 5  # jittered


def test_stop_does_not_wait_for_a_store_that_is_away() -> None:
    house = House([message(0)])
    house.writer.is_away = True
    house.ingestion.run()
    assert house.group.commits == {P0: 0}


def test_what_an_embedded_store_refuses_ends_the_ingestion() -> None:
    house = House([message(0)], is_store_here=True)
    house.writer.is_away = True
    with pytest.raises(StoreError):
        house.ingestion.run()
    assert house.group.commits == {}
    assert house.group.said == ["closed"]


@pytest.mark.parametrize("error", [StoreError("the file of rejects cannot be written"), KafkaAwayError("not delivered")])
def test_where_rejects_go_is_waited_for_beside_an_embedded_store_too(error: AssayError) -> None:
    """It may be full today and not tomorrow; only what the store itself refuses, it refuses for ever."""
    house = House([message(0), message(1, value=b"bad")], flush_s=0.0, is_store_here=True)
    house.sink.error = error

    def check_and_return() -> None:
        assert house.ingestion.state is State.WAITING
        house.sink.error = None

    house.group.turns += [[], check_and_return, [], []]
    house.ingestion.run()
    assert [kept.place.message.offset for kept in house.sink.kept] == [1]
    assert house.group.commits == {P0: 2}


def test_a_store_that_cannot_be_saved_ends_the_ingestion_though_a_reject_does_so_too() -> None:
    house = House([message(0), message(1, value=b"bad")], sink=NoRejects(), flush_s=0.0)

    def save() -> None:
        raise StoreError("store.snapshot: No space left on device")

    house.ingestion = Ingestion(house.group, house.writer, NoRejects(), house.settings, save=save, clock=house.clock)
    house.group.ingestion = house.ingestion
    with pytest.raises(StoreError, match="No space"):
        house.ingestion.run()
    assert house.group.commits == {}


def test_rejects_are_safe_before_offsets_are_committed() -> None:
    house = House([message(0), message(1, value=b"bad")], flush_s=0.0)
    house.sink.error = KafkaAwayError("not delivered")

    def check_and_return() -> None:
        assert house.ingestion.state is State.WAITING
        assert house.group.commits.get(P0, 0) == 0
        house.sink.error = None

    house.group.turns += [[], check_and_return, [], []]
    house.ingestion.run()
    assert [kept.place.message.offset for kept in house.sink.kept] == [1]
    assert house.group.commits == {P0: 2}


def test_good_messages_are_written_and_counted_once_though_rejects_wait() -> None:
    """They were written again at each try, and counted as repeats."""
    good, bad = message(0), message(1, value=b"bad")
    house = House([good, bad], [], flush_s=0.0)
    house.sink.error = KafkaAwayError("not delivered")

    def check_and_return() -> None:
        assert house.writer.tries > 2
        assert house.flushed == [good]
        assert house.ingestion.stats.total("rejected") == 0
        house.sink.error = None

    house.group.turns += [[]] * 9 + [check_and_return, *[[]] * 50]
    house.ingestion.run()
    assert house.writer.written == [good]
    assert house.flushed == [good, bad]
    assert (house.ingestion.stats.total("recorded"), house.ingestion.stats.total("rejected")) == (1, 1)
    assert house.group.commits == {P0: 2}


def test_what_was_written_is_safe_though_another_partition_was_not() -> None:
    house = House([message(0), message(5, P1)], [], flush_s=0.0, checkpoint_s=0.0)
    house.writer.refuses = P1

    def check_and_return() -> None:
        assert house.ingestion.state is State.WAITING
        assert house.group.commits == {P0: 1, P1: 5}
        house.writer.refuses = None

    house.group.turns += [[], check_and_return, *[[]] * 50]
    house.ingestion.run()
    assert [one.offset for one in house.writer.written] == [0, 5]
    assert house.group.commits == {P0: 1, P1: 6}


def test_fail_on_reject_commits_what_is_before_it() -> None:
    bad = [message(5, value=b"bad"), message(4, value=b"bad")]
    house = House([message(2), message(3), *bad[::-1], message(7, P1)], sink=NoRejects(), flush_s=0.0)
    with pytest.raises(RejectedError, match="partition 0, offset 4"):
        house.ingestion.run()
    assert house.group.commits == {P0: 4, P1: 8}


def test_revoked_partitions_are_written_and_committed_first() -> None:
    house = House([message(0), message(5, P1)], flush_s=9)
    house.group.turns += [lambda: house.ingestion.on_revoked([P1]), lambda: house.group.commits.pop(P1), [message(1)]]
    house.ingestion.run()
    assert [one.offset for one in house.writer.written] == [0, 5, 1]
    assert house.group.commits == {P0: 2}  # P1 is somebody else's: its 6 was committed before it went, and never again


def test_revoked_while_away_is_dropped_uncommitted() -> None:
    house = House([message(0), message(5, P1)], flush_s=0.0)
    house.writer.is_away = True
    house.group.turns += [lambda: house.ingestion.on_revoked([P1]), lambda: setattr(house.writer, "is_away", False), *[[]] * 9]
    house.ingestion.run()
    assert [one.offset for one in house.writer.written] == [0]
    assert house.group.commits == {P0: 1}


@pytest.mark.parametrize("leave", ["on_revoked", "on_lost"])
def test_a_read_of_a_partition_that_left_meanwhile_is_somebody_elses(leave: str) -> None:
    """librdkafka may give a message and, from within the same read, take its partition away: its new owner reads it too."""
    house = House([message(5, P1)], flush_s=0.0)

    def go() -> None:
        getattr(house.ingestion, leave)([P1])
        house.group.commits[P1] = 99  # how far the new owner is

    house.group.turns += [[], (go, [message(6, P1), PartitionEnd(P1, 7), message(0)])]
    house.ingestion.run()
    assert [one.offset for one in house.writer.written] == [5, 0]
    assert house.group.commits == {P0: 1, P1: 99}


def test_a_read_of_a_partition_that_left_keeps_no_end_away() -> None:
    house = House([message(5, P1)], flush_s=0.0)
    end = EndWatch({P1: Range(5, 8)}, house.clock)
    house.ingestion = Ingestion(house.group, house.writer, house.sink, house.settings, end=end, clock=house.clock)
    house.group.ingestion = house.ingestion

    def go() -> None:
        house.ingestion.on_revoked([P1])
        house.group.of_group[P1] = 8  # its new owner reads on

    house.group.turns += [[], (go, [message(6, P1)]), *[[]] * 9]
    house.ingestion.run()
    assert house.group.turns  # it was over before they were


def test_lost_partitions_are_dropped() -> None:
    house = House([message(0), message(5, P1)], flush_s=9)
    house.group.turns += [lambda: house.ingestion.on_lost([P0])]
    house.ingestion.run()
    assert [one.partition for one in house.writer.written] == [P1]
    assert house.group.commits == {P1: 6}


@pytest.mark.parametrize("leave", ["on_revoked", "on_lost"])
def test_it_goes_on_though_all_that_it_waited_with_has_left(leave: str, caplog: pytest.LogCaptureFixture) -> None:
    """It stayed away for ever, with all partitions paused, at full processor time."""
    caplog.set_level(logging.INFO)
    house = House([message(5, P1)], flush_s=0.0)
    house.writer.is_away = True
    house.group.turns += [lambda: getattr(house.ingestion, leave)([P1]), lambda: setattr(house.writer, "is_away", False)]
    house.group.turns += [[]] * 50

    def check() -> None:
        assert house.ingestion.state is State.READING
        assert not house.ingestion.stats.is_away
        assert P0 not in house.group.paused

    house.group.turns += [check, [message(0)]]
    house.ingestion.run()
    assert house.writer.written == [message(0)]
    assert "written at last" not in caplog.text  # nothing was


def test_a_read_waits_again_though_what_was_due_is_lost() -> None:
    house = House([message(5, P1)], flush_s=0.05)
    house.group.turns += [lambda: house.ingestion.on_lost([P1]), [], []]
    house.ingestion.run()
    assert [timeout_s for _, timeout_s in house.group.asked[-2:]] == [IDLE_S, IDLE_S]


def test_topics_of_lost_labels_are_read_again() -> None:
    house = House([message(5, P1, b"wait")], [], flush_s=0.01)
    house.group.turns += [lambda: house.ingestion.on_lost([P1]), lambda: seen.append(set(house.group.paused)), []]
    seen: list[set[Partition]] = []
    house.ingestion.run()
    assert P0 not in seen[0]


def test_messages_that_wait_hold_their_topic_and_their_offset_back() -> None:
    house = House([message(0), message(1, value=b"wait"), message(2)], [], flush_s=0.01)

    def check() -> None:
        assert house.group.paused == {P0, P1}
        assert house.ingestion.state is State.READING
        assert (house.ingestion.stats.held_messages, house.ingestion.stats.held_bytes) == (1, len(b"key" + b"wait"))
        assert house.ingestion.stats.waiting_labels == 1

    house.group.turns += [check]
    house.ingestion.run()
    assert house.group.commits == {P0: 1}


# --- what is held


def test_held_messages_at_their_limits() -> None:
    held = HeldMessages(messages_max=2, bytes_max=100)
    assert (held.room(), held.safe_offsets()) == (2, {})
    held.add(message(3))
    assert held.room() == 1
    held.add(message(4))
    assert held.room() == 0
    held.release()
    assert (held.room(), held.safe_offsets()) == (2, {P0: 5})
    held.add(message(5, value=b"x" * 96))  # with its key 99 bytes
    assert held.room() == 1
    held.release()
    held.add(message(6, value=b"x" * 97))
    assert held.room() == 0
    assert held.drop([P0]) == 1
    assert (held.room(), held.size_bytes, held.safe_offsets()) == (2, 0, {})


def test_the_end_of_a_partition_moves_its_offset_past_marks_of_transactions() -> None:
    held = HeldMessages(messages_max=9, bytes_max=100)
    held.add(message(3))
    held.end(PartitionEnd(P0, 6))
    assert held.safe_offsets() == {P0: 3}
    held.release()
    assert held.safe_offsets() == {P0: 6}


# --- the end


def test_the_end_is_what_the_topics_held_at_the_start() -> None:
    clock = Clock()
    others: dict[Partition, int] = {}
    asked: list[Sequence[Partition]] = []

    def group_offsets(partitions: Sequence[Partition]) -> dict[Partition, int]:
        asked.append(partitions)
        return others

    watch = EndWatch({P0: Range(2, 10), P1: Range(0, 7), Partition("payments", 2): Range(4, 4)}, clock)
    assert not watch.is_reached({P0: 9}, group_offsets)
    assert asked == []  # its own come first
    assert not watch.is_reached({P0: 10}, group_offsets)
    assert not watch.is_reached({P0: 10}, group_offsets)
    assert asked == [[P1]]  # once a second
    clock.now_s += ASK_S
    others[P1] = 7
    assert watch.is_reached({P0: 12}, group_offsets)
