"""Messages of topics into the store: decoded as lines are, applied together, and what cannot be applied told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from assay import _core
from assay.codes import NUMBERS
from assay.errors import RecordError, StoreError, StoreFullError
from assay.features.event_slice import EventSlice
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock
from assay.features.rejects import Reject, Violation
from assay.features.store_writer import StoreWriter
from assay.kafka.messages import MessagePlace, TopicMessage
from assay.kafka.reject_sinks import MessageReject


@dataclass(frozen=True)
class Written:
    """What became of messages. Those that are no rejects, not waiting and not late are in the store."""

    recorded_count: int = 0
    duplicate_count: int = 0
    late_count: int = 0  # events that came too late for one view at least, whatever the others did
    rejects: Sequence[MessageReject] = ()
    waiting: Sequence[TopicMessage] = ()  # labels whose event is not there yet; they are not written
    null_counts: dict[str, int] = field(default_factory=dict)
    accepted_ints: dict[str, int] = field(default_factory=dict)  # integers that were taken for a float64, by feature


@dataclass(frozen=True)
class Flush:
    """What became of messages that were to be written together."""

    written: Mapping[str, Written]  # by topic
    unwritten: Sequence[TopicMessage] = ()
    error: StoreError | None = None  # why those were not

    @property
    def rejects(self) -> list[MessageReject]:
        """In the order of their topics, partitions and offsets."""
        rejects = [reject for part in self.written.values() for reject in part.rejects]
        return sorted(rejects, key=lambda reject: reject.place.message.order)

    @property
    def waiting(self) -> list[TopicMessage]:
        return [message for part in self.written.values() for message in part.waiting]

    def without_rejects(self) -> Flush:
        return replace(self, written={topic: replace(part, rejects=()) for topic, part in self.written.items()})


class MessageWriter(Protocol):
    """Of the messages of one kind of topic."""

    def write(self, messages: Sequence[TopicMessage]) -> Written:
        """Raises StoreError where the store did not take them all. May be asked again for the same: it changes nothing then."""


class TopicWriter:
    """Each message to the writer of its topic, in the order in which the topics are given: events before their labels."""

    def __init__(self, writers: Mapping[str, MessageWriter]) -> None:
        self._writers = writers

    def write(self, messages: Sequence[TopicMessage]) -> Flush:
        """Ends at the first topic that the store does not take."""
        of_topic: dict[str, list[TopicMessage]] = {}
        for message in messages:
            of_topic.setdefault(message.partition.topic, []).append(message)
        written: dict[str, Written] = {}
        for topic in filter(of_topic.__contains__, self._writers):
            try:
                written[topic] = self._writers[topic].write(of_topic[topic])
            except StoreError as error:
                left = [message for other, some in of_topic.items() if other not in written for message in some]
                return Flush(written, left, error)
        return Flush(written)


class EventMessages:
    """Messages that are events."""

    def __init__(self, plan: _core.FeaturePlan, feature_names: Sequence[str], writer: StoreWriter) -> None:
        self._plan = plan
        self._names = list(feature_names)
        self._writer = writer

    def write(self, messages: Sequence[TopicMessage]) -> Written:
        piece, rejects = self._decode(messages)
        log = piece.sorted_log()
        try:
            report = self._writer.ingest(log, 0, log.event_count)
            raise_if_full(report)
        except StoreFullError:
            if len(messages) == 1:
                raise
            return self._write_halves(messages)
        except RecordError as error:
            if not error.is_damage:
                raise
            if len(messages) == 1:
                return Written(rejects=[reject(messages[0], (record_violation(error),))])
            return self._write_halves(messages)
        if report.refused_count:
            rejects += self._find_refused(messages)
        return Written(
            report.recorded_count,
            report.duplicate_count,
            report.late_count,
            rejects,
            null_counts=piece.null_counts,
            accepted_ints=piece.accepted_ints,
        )

    def _decode(self, messages: Sequence[TopicMessage]) -> tuple[EventSlice, list[MessageReject]]:
        piece = EventSlice(self._plan, self._names)
        lines, rejects = split_lines(messages)
        if lines:
            data = b"\n".join(message.value or b"" for message in lines) + b"\n"
            block = LineBlock(data, first_line=0, offset_bytes=0, line_count=len(lines))
            found = piece.take(block, b"".join(message.place for message in lines))
            rejects += [reject(lines[bad.place.line], bad.violations) for bad in found]
        return piece, rejects

    def _write_halves(self, messages: Sequence[TopicMessage]) -> Written:
        """Until there is room for them, or those that need a damaged record are alone: rejects, and all others are written."""
        middle = len(messages) // 2
        return _sum_of(self.write(messages[:middle]), self.write(messages[middle:]))

    def _find_refused(self, messages: Sequence[TopicMessage]) -> list[MessageReject]:
        """The events that the store refuses whatever is beside them: halves are applied again until each is alone."""
        piece, _ = self._decode(messages)
        log = piece.sorted_log()
        report = self._writer.ingest(log, 0, log.event_count)
        if not report.refused_count:
            return []
        raise_if_full(report)
        if len(messages) == 1:
            row = _core.CODE_TABLE[report.refused_code]
            return [reject(messages[0], (Violation(row.reason, "", row.message),))]
        middle = len(messages) // 2
        return [found for half in (messages[:middle], messages[middle:]) for found in self._find_refused(half)]


def split_lines(messages: Sequence[TopicMessage]) -> tuple[list[TopicMessage], list[MessageReject]]:
    """Those whose value is a line, whatever stands in it, and rejects of all others."""
    lines: list[TopicMessage] = []
    rejects: list[MessageReject] = []
    for message in messages:
        violation = violation_of(message.value)
        if violation is None:
            lines.append(message)
        else:
            rejects.append(reject(message, (violation,)))
    return lines, rejects


def violation_of(value: bytes | None) -> Violation | None:
    """What keeps a message's value from being a line."""
    if value is None:
        return Violation("MISSING_FIELD", "value", "there is none (a tombstone); expected one JSON object")
    if len(value) > LINE_BYTES_MAX:
        return Violation("TOO_LONG", "value", f"has {len(value)} bytes; expected at most {LINE_BYTES_MAX}")
    if b"\n" in value:
        return Violation("MALFORMED_JSON", "value", "has a line break; expected one JSON object on one line")
    if not value.strip():
        return Violation("MALFORMED_JSON", "value", "is empty; expected one JSON object")
    return None


def raise_if_full(report: _core.IngestReport) -> None:
    """Raises StoreFullError."""
    if report.refused_code == NUMBERS["STORE_FULL"]:
        raise store_full_error()


def store_full_error() -> StoreFullError:
    return StoreFullError(f"the store is full: {_core.CODE_TABLE[NUMBERS['STORE_FULL']].message}")


def record_violation(error: RecordError) -> Violation:
    return Violation(error.reason, "", str(error))


def _sum_of(one: Written, other: Written) -> Written:
    return Written(
        one.recorded_count + other.recorded_count,
        one.duplicate_count + other.duplicate_count,
        one.late_count + other.late_count,
        [*one.rejects, *other.rejects],
        null_counts=_sums(one.null_counts, other.null_counts),
        accepted_ints=_sums(one.accepted_ints, other.accepted_ints),
    )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def reject(message: TopicMessage, violations: tuple[Violation, ...]) -> MessageReject:
    return Reject(MessagePlace(message), violations, message.value or b"")
