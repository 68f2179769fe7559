"""What a row record holds: columns of events, or attributes, in the one order that hashes and records agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from assay.features.definitions import EVENT_TIME, LABEL, AttributeDtype, AttributeView, RequestFeature, WindowView


@dataclass(frozen=True, order=True)
class Column:
    """One stored value of an event. The order of fields is the order of columns."""

    source: Literal["entity", "event_time", "feature"]
    name: str
    dtype: str  # "entity" and "string" are stored as hashes


def columns_of(view: WindowView, request_features: Mapping[str, RequestFeature]) -> tuple[Column, ...]:
    """The columns that the view's aggregates read, sorted: the order of aggregates in the file changes no stored byte."""
    names = {aggregate.of for aggregate in view.aggregates.values() if aggregate.of is not None and aggregate.of != LABEL}
    return tuple(sorted(_column(name, request_features) for name in names))


def stored_attributes(view: AttributeView) -> dict[str, AttributeDtype]:
    """Attributes in the order of the record: by name, whatever the order in the file."""
    return dict(sorted(view.attributes.items()))


def _column(name: str, request_features: Mapping[str, RequestFeature]) -> Column:
    if name == EVENT_TIME:
        return Column("event_time", name, "int64")
    if name in request_features:
        return Column("feature", name, request_features[name].dtype)
    return Column("entity", name, "entity")
