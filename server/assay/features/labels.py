"""One label of one event: checked against the feature set, written by a StoreWriter, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from assay.errors import InputError
from assay.features import definitions as d
from assay.features.feature_set import FeatureSet
from assay.features.problems import did_you_mean


class LabelOutcome(enum.Enum):
    """What became of a label."""

    COUNTED = "counted"  # some view changed
    ALREADY = "already"  # every view has it
    TOO_LATE = "too_late"  # the event is not kept one by one any more, or a newer label stands
    UNKNOWN = "unknown"  # no view holds the event


# The core's reasons (docs/errors.md), as a label's outcomes.
OUTCOMES = {
    "OK": LabelOutcome.COUNTED,
    "EVENT_DUPLICATE": LabelOutcome.ALREADY,
    "EVENT_TOO_LATE": LabelOutcome.TOO_LATE,
    "EVENT_UNKNOWN": LabelOutcome.UNKNOWN,
}


def label_views(feature_set: FeatureSet, entities: Iterable[str]) -> dict[str, d.WindowView]:
    """The views that a label of these entities counts in. Raises InputError where there is none: nothing would change."""
    named = set(entities)
    for entity in sorted(named - set(feature_set.entities)):
        hint = did_you_mean(entity, feature_set.entities)
        raise InputError(f"unknown entity{hint}; feature set {feature_set.name} has: {', '.join(feature_set.entities)}")
    using = {name: view for name, view in feature_set.views.items() if isinstance(view, d.WindowView) and view.labels}
    counting = {name: view for name, view in using.items() if view.entity in named}
    if counting:
        return counting
    if not using:
        raise InputError(f"no view of feature set {feature_set.name} uses labels (labels: true); there is nothing to label")
    wanted = ", ".join(dict.fromkeys(view.entity for view in using.values()))
    raise InputError(f"labels count in views of: {wanted}; name that entity of the event too")
