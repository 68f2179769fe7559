"""What the ingestion did so far: for the metrics page and for people. Written by the ingestion's thread, read by any."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from assay.features.feature_set import FeatureSet
from assay.kafka.message_writer import Written
from assay.kafka.messages import Partition, Progress

FLUSH_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REASON_WRONG_TYPE: Final = "WRONG_TYPE"


def field_paths(feature_set: FeatureSet) -> list[str]:
    """The fields of an event that have a type, as violations name them."""
    entities = [f'entities["{name}"]' for name in feature_set.entities]
    features = [f'features["{name}"]' for name in feature_set.request_features]
    return ["transaction_id", "event_time", "is_fraud", "label_time", *entities, *features]


@dataclass
class IngestionStats:
    """Outcomes are by (topic, outcome)."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)  # by reason
    wrong_types: Counter[str] = field(default_factory=Counter)  # by field
    accepted_ints: Counter[str] = field(default_factory=Counter)  # by feature
    flush_counts: list[int] = field(default_factory=lambda: [0] * (len(FLUSH_BOUNDS_S) + 1))
    flush_s_sum: float = 0.0
    held_messages: int = 0
    held_bytes: int = 0
    is_away: bool = False  # the store, or where rejects go
    paused_partitions: int = 0
    waiting_labels: int = 0  # for their events
    progress: Mapping[Partition, Progress] = field(default_factory=dict)  # about a second old

    @property
    def lags(self) -> dict[Partition, int]:
        """How many messages of each partition were not read yet, as far as is known."""
        return {p: max(0, found.end - found.read_to) for p, found in self.progress.items() if found.end is not None}

    def flushed(self, written: Mapping[str, Written], seconds: float) -> None:
        for topic, part in written.items():
            self.outcomes[topic, "recorded"] += part.recorded_count
            self.outcomes[topic, "duplicate"] += part.duplicate_count
            self.outcomes[topic, "too_late"] += part.late_count
            self.outcomes[topic, "rejected"] += len(part.rejects)
            self.accepted_ints.update(part.accepted_ints)
            for reject in part.rejects:
                self.rejects[reject.reason] += 1
                self.wrong_types.update({v.field for v in reject.violations if v.reason == REASON_WRONG_TYPE})
        self.waiting_labels = sum(len(part.waiting) for part in written.values())
        self.flush_counts[bisect_left(FLUSH_BOUNDS_S, seconds)] += 1
        self.flush_s_sum += seconds

    def total(self, outcome: str) -> int:
        return sum(count for (_, found), count in self.outcomes.items() if found == outcome)
