"""The metadata record of a flush, one JSON object: what went into the store, under which schema, and whether it was sound.

Its fields are exactly those that the post-mortem's bank wrote: feature_set_version, timestamp, source_kafka_topic, schema_hash,
features[{name, type, null_count}], validation_status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class FlushRecord:
    feature_set_version: str
    timestamp: str  # of the flush, RFC 3339, UTC
    source_kafka_topic: str  # "file:NAME" or "stdin" where no topic is read
    schema_hash: str
    features: tuple[tuple[str, str, int], ...]  # name, type, nulls among the rows of this flush
    validation_status: str  # SUCCESS, or FAIL if any line of this flush was rejected

    def document(self) -> dict[str, Any]:
        return {
            "feature_set_version": self.feature_set_version,
            "timestamp": self.timestamp,
            "source_kafka_topic": self.source_kafka_topic,
            "schema_hash": self.schema_hash,
            "features": [{"name": name, "type": dtype, "null_count": nulls} for name, dtype, nulls in self.features],
            "validation_status": self.validation_status,
        }


def flush_record(
    version: str, schema_hash: str, source: str, types: Mapping[str, str], null_counts: Mapping[str, int], *, has_rejects: bool
) -> FlushRecord:
    """A record of now."""
    return FlushRecord(
        feature_set_version=version,
        timestamp=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        source_kafka_topic=source,
        schema_hash=schema_hash,
        features=tuple((name, dtype, null_counts.get(name, 0)) for name, dtype in types.items()),
        validation_status="FAIL" if has_rejects else "SUCCESS",
    )
