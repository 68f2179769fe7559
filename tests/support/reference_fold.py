"""Windows, slow and obvious: the meaning that the core must have. Every event is kept; every question looks at all of them.

Covers what a ring holds exactly; tiles (more than exact_events_max events of one entity) have tests of their own in C++.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

Value = int | float | bool | str | None

FRAUD, GENUINE, UNLABELLED = 2, 1, 0


@dataclass(frozen=True)
class Event:
    transaction_id: str
    time_us: int
    entities: dict[str, str]
    features: dict[str, Value]
    is_fraud: bool | None = None

    @property
    def label(self) -> int:
        return UNLABELLED if self.is_fraud is None else FRAUD if self.is_fraud else GENUINE


@dataclass(frozen=True)
class ReferenceAggregate:
    op: str
    of: str | None  # a request feature, "event_time", "is_fraud" or an entity
    window_us: int


@dataclass(frozen=True)
class ReferenceView:
    entity: str
    aggregates: dict[str, ReferenceAggregate]
    delay_us: int = 0
    includes_current: bool = False
    uses_labels: bool = False


class ReferenceStore:
    """The events of one view's entities. `rank` orders events of one microsecond (the core: by fingerprint)."""

    def __init__(self, view: ReferenceView, rank: Callable[[str], int]) -> None:
        self._view = view
        self._rank = rank
        self._events: dict[str, list[Event]] = {}

    def newest_us(self, entity_id: str) -> int | None:
        return max((event.time_us for event in self._events.get(entity_id, [])), default=None)

    def count(self, entity_id: str) -> int:
        return len(self._events.get(entity_id, []))

    def holds(self, event: Event) -> bool:
        return any(
            known.transaction_id == event.transaction_id for known in self._events.get(event.entities[self._view.entity], [])
        )

    def apply(self, event: Event) -> bool:
        """True: something changed. A repeat changes nothing, unless it brings a label to an event that it repeats in time too."""
        entity_id = event.entities.get(self._view.entity)
        if entity_id is None:
            return False
        events = self._events.setdefault(entity_id, [])
        for index, known in enumerate(events):
            if known.transaction_id == event.transaction_id:
                is_label = self._view.uses_labels and known.time_us == event.time_us and event.label > known.label
                if is_label:
                    events[index] = replace(known, is_fraud=event.is_fraud)
                return is_label
        events.append(event)
        return True

    def fold(self, current: Event) -> dict[str, Value]:
        """Every aggregate as the model sees it when `current` is scored."""
        view = self._view
        # Never twice: its own stored copy is left out, then it is added where the view includes it.
        events = [e for e in self._events.get(current.entities[view.entity], []) if e.transaction_id != current.transaction_id]
        if view.includes_current and view.delay_us == 0:
            events.append(current)
        head_us = current.time_us - view.delay_us
        return {
            name: self._aggregate(aggregate, [e for e in events if head_us - aggregate.window_us < e.time_us <= head_us])
            for name, aggregate in view.aggregates.items()
        }

    def _aggregate(self, aggregate: ReferenceAggregate, events: list[Event]) -> Value:
        if aggregate.op == "count":
            return len(events)
        if aggregate.of == "is_fraud":
            # An inline label is known at event_time + delay: for every event that is old enough to be counted.
            return _mean([event.label == FRAUD for event in events])
        oldest_first = sorted(events, key=lambda event: (event.time_us, self._rank(event.transaction_id)))
        values = [value for event in oldest_first if (value := _value(event, str(aggregate.of))) is not None]
        match aggregate.op:
            case "sum":
                return sum(int(value) for value in values)
            case "avg" | "rate_true":
                return _mean(values)
            case "min":
                return min(values, default=None)  # type: ignore[type-var]
            case "max":
                return max(values, default=None)  # type: ignore[type-var]
            case "last":
                return values[-1] if values else None
            case "distinct":
                return len(set(values))
        raise AssertionError(aggregate.op)


def _value(event: Event, name: str) -> Value:
    if name == "event_time":
        return event.time_us
    return event.entities[name] if name in event.entities else event.features.get(name)


def _mean(values: list[bool] | list[Value]) -> float | None:
    """float64 sum / count, the sum exact before it is rounded."""
    return float(sum(int(value) for value in values)) / len(values) if values else None  # type: ignore[arg-type]
