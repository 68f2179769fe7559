"""Model inputs that are made of the event's time alone, such as is_weekend: in ten minutes they are the same for everybody."""

from __future__ import annotations

from assay.features.definitions import EVENT_TIME
from assay.features.feature_set import FeatureSet


def clock_inputs(feature_set: FeatureSet) -> frozenset[str]:
    """Their names."""

    def sources(name: str) -> set[str]:
        derived = feature_set.derived.get(name)
        return {name} if derived is None else {source for argument in derived.arguments for source in sources(argument)}

    return frozenset(found.name for found in feature_set.inputs if sources(found.value_name) == {EVENT_TIME})
