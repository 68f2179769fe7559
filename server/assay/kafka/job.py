"""One ingestion with all its parts: made from what was asked for, closed in the right order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from prometheus_client.core import Metric

from assay.features.compile import compile_plan
from assay.features.event_slice import feature_types
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import FlushRecord, flush_record
from assay.features.flush_records import FlushRecords
from assay.features.observed_events import EventWatch, ObservedEvents
from assay.features.rejects import Rejects
from assay.features.store import Store
from assay.features.store_writer import WriterOptions
from assay.kafka.connection import Connection
from assay.kafka.end_watch import EndWatch
from assay.kafka.group import ConsumerGroup
from assay.kafka.ingestion import Ingestion, Settings
from assay.kafka.label_messages import LabelMessages
from assay.kafka.message_writer import EventMessages, Flush, MessageWriter, TopicWriter, split_lines
from assay.kafka.messages import Partition, Progress, TopicMessage
from assay.kafka.producer import MessageProducer, OfferedTopic
from assay.kafka.reject_sinks import DeadLetterTopic, NoRejects, RejectsFile, RejectSink
from assay.kafka.stats import FLUSH_BOUNDS_S, IngestionStats, field_paths
from assay.observe.ingestion_metrics import (
    dropped_family,
    flush_families,
    message_families,
    observed_families,
    position_families,
)

OnRecord = Callable[[FlushRecord], None]


@dataclass(frozen=True)
class Asked:
    """What a user asked for. Rejects go to the first of dead_letter_topic and rejects_path that is there, else none may be."""

    connection: Connection
    topics: tuple[str, ...]
    group: str
    instance_id: str | None
    label_topics: tuple[str, ...]
    label_wait_s: float
    dead_letter_topic: str | None
    rejects_path: Path | None
    metadata_topic: str | None
    metadata_s: float
    stops_at_end: bool
    writer: WriterOptions
    settings: Settings


class Job:
    """`on_record` gets a flush record of each topic about once in `metadata_s`; `on_look` is called about once a second."""

    def __init__(
        self,
        asked: Asked,
        feature_set: FeatureSet,
        store: Store,
        *,
        on_record: OnRecord,
        on_look: Callable[[IngestionStats], None],
        watch: EventWatch | None = None,
    ) -> None:
        """`watch` is shown the events once they are written. Raises ConfigError, KafkaError, InputError and FeatureSetError."""
        self.stats = IngestionStats()
        self._asked = asked
        self._feature_set = feature_set
        self._types = feature_types(feature_set)
        self._on_record = on_record
        self._on_look = on_look
        self._watch = watch
        self._parts = ExitStack()
        try:
            self._build(store)
        except BaseException:
            self._parts.close()
            raise

    def run(self) -> None:
        """Ingests until stop(), or to the end. Raises AssayError."""
        self._ingestion.run()

    def stop(self) -> None:
        self._ingestion.stop()

    def families(self) -> Iterator[Metric]:
        """For the metrics page. Any thread."""
        stats = self.stats
        yield from message_families(dict(stats.outcomes), dict(stats.rejects), dict(stats.wrong_types), dict(stats.accepted_ints))
        yield from flush_families(FLUSH_BOUNDS_S, list(stats.flush_counts), stats.flush_s_sum)
        yield from position_families(
            {(topic, number): lag for (topic, number), lag in stats.lags.items()},
            stats.held_messages,
            stats.held_bytes,
            is_away=stats.is_away,
            paused_partitions=stats.paused_partitions,
            waiting_labels=stats.waiting_labels,
        )
        observed = ObservedEvents() if self._watch is None else self._watch.observed
        yield from observed_families(observed.sample_count, observed.null_shares, observed.type_shares, observed.shifts)
        yield dropped_family(self._metadata.dropped_count if self._metadata is not None else 0)

    def close(self) -> None:
        self._parts.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- implementation ---

    def _build(self, store: Store) -> None:
        asked = self._asked
        plan = compile_plan(self._feature_set)
        writer = store.writer(plan, asked.writer)
        # From the start, so that a first one is a rise.
        self.stats.wrong_types.update(dict.fromkeys(field_paths(self._feature_set), 0))
        self.stats.accepted_ints.update(plan.accepted_ints())
        writers: dict[str, MessageWriter] = dict.fromkeys(asked.topics, EventMessages(plan, list(self._types), writer))
        self._records = {topic: FlushRecords(partial(self._record, topic), asked.metadata_s, time.monotonic) for topic in writers}
        for topic in asked.label_topics:
            writers[topic] = LabelMessages(
                plan, writer, asked.label_wait_s, event_progress=self._event_progress, clock=time.monotonic
            )
        # Of its own: dead letters are waited for, and a sick topic of metadata keeps nothing away.
        self._metadata = None
        if asked.metadata_topic is not None:
            self._metadata = self._parts.enter_context(closing(OfferedTopic(asked.connection, asked.metadata_topic)))
        sink = self._sink()
        self._group = ConsumerGroup(asked.connection, tuple(writers), asked.group, asked.instance_id)
        self._ingestion = Ingestion(
            self._group,
            TopicWriter(writers),
            sink,
            asked.settings,
            save=store.save,
            on_look=self._look,
            on_flush=self._note,
            stats=self.stats,
            end=EndWatch(self._group.ranges(), time.monotonic) if asked.stops_at_end else None,
        )

    def _event_progress(self) -> dict[Partition, Progress]:
        return {p: found for p, found in self._group.progress().items() if p.topic in self._asked.topics}

    def _sink(self) -> RejectSink:
        asked = self._asked
        if asked.dead_letter_topic is not None:
            producer = self._parts.enter_context(closing(MessageProducer(asked.connection)))
            return DeadLetterTopic(producer, asked.dead_letter_topic)
        if asked.rejects_path is not None:
            return self._parts.enter_context(closing(RejectsFile(Rejects(asked.rejects_path))))
        return NoRejects()

    def _record(self, topic: str, null_counts: Mapping[str, int], has_rejects: bool) -> FlushRecord:
        known = self._feature_set
        return flush_record(known.version, known.schema_hash, topic, self._types, null_counts, has_rejects=has_rejects)

    def _note(self, flush: Flush, messages: Sequence[TopicMessage]) -> None:
        for topic in flush.written.keys() & self._records.keys():
            part = flush.written[topic]
            self._records[topic].add(part.null_counts, has_rejects=bool(part.rejects))
        self._tell_records(at_end=False)
        if self._watch is not None:
            events, _ = split_lines([message for message in messages if message.partition.topic in self._records])
            self._watch.take([event.value or b"" for event in events])

    def _tell_records(self, *, at_end: bool) -> None:
        for records in self._records.values():
            record = records.take(at_end=at_end)
            if record is None:
                continue
            self._on_record(record)
            if self._metadata is not None:
                self._metadata.offer(orjson.dumps(record.document()))

    def _look(self, is_over: bool) -> None:
        self._tell_records(at_end=is_over)
        if self._metadata is not None:
            self._metadata.poll()
        self._on_look(self.stats)
