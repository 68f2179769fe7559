"""The features of the models that are served: their definitions, and a look at what a model would see of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from assay import _core
from assay.errors import RecordError
from assay.features.compile import compile_request_plan
from assay.features.feature_set import FeatureSet
from assay.features.records import Records
from assay.features.rows import input_columns
from assay.features.served_versions import ServedVersions
from assay.features.show import ShownView, ShownViews
from assay.features.store import Store


@dataclass(frozen=True)
class Look:
    """What a model would see of one transaction."""

    views: tuple[ShownView, ...]
    inputs: Mapping[str, float | int | bool]  # in order; empty where `needed` or `refusal` says why
    missing: tuple[str, ...]  # inputs whose source had no value
    imputed: tuple[str, ...]  # of those, the ones that took a default
    needed: tuple[str, ...]  # what the transaction would have to name too
    refusal: _core.Refusal | RecordError | None


@dataclass(frozen=True)
class ModelFeatures:
    """Of one model version. Thread-safe. `plan`: what the model is scored with."""

    model: str
    version: str
    model_sha256: str
    feature_set: FeatureSet
    plan: _core.FeaturePlan
    store: Store

    def decode(self, score_request: bytes) -> _core.DecodedTransaction | _core.Refusal:
        """The transaction of a ScoreRequest, with as few features as it has."""
        return self._request_plan.decode_score_request(score_request)

    def look(self, transaction: _core.DecodedTransaction, entities: Collection[str]) -> Look:
        """What is known of those of the transaction's entities. A remote store takes seconds not to answer. Raises StoreError."""
        named = {name: entity_id for name, entity_id in transaction.entities.items() if name in entities}
        records = self.store.records_of(self.plan, named)
        views = self._views.show(records, named, transaction.event_time_us, transaction.transaction_id)
        needed = self._needed(transaction, entities)
        if needed:
            return Look(views, {}, (), (), needed, None)
        row = self._row(transaction, records)
        if not isinstance(row, _core.ReadRow):
            return Look(views, {}, (), (), (), row)
        columns = input_columns(self.plan, np.frombuffer(row.row, np.uint8).reshape(1, -1))
        inputs = {name: column[0].item() for name, column in columns.items()}
        return Look(views, inputs, row.missing, row.imputed, (), None)

    # --- implementation ---

    # Made at the first look: most servers are never asked.
    @cached_property
    def _views(self) -> ShownViews:
        return ShownViews(self.feature_set)

    @cached_property
    def _request_plan(self) -> _core.FeaturePlan:
        return compile_request_plan(self.feature_set)

    def _needed(self, transaction: _core.DecodedTransaction, entities: Collection[str]) -> tuple[str, ...]:
        """As the core's violations name fields."""
        required = [name for name, feature in self.feature_set.request_features.items() if feature.is_required]
        return (
            *(f'entities["{name}"]' for name in self.feature_set.entities if name not in entities),
            *(f'features["{name}"]' for name in required if name not in transaction.features),
        )

    def _row(self, transaction: _core.DecodedTransaction, records: Records) -> _core.ReadRow | _core.Refusal | RecordError:
        """A record that was left out reads as none: its row would show a customer without a past."""
        if records.rejected:
            return next(iter(records.rejected.values()))
        reader = _core.FeatureReader(self.plan, records.store)
        return reader.read(transaction.transaction_id, transaction.event_time_us, transaction.entities, transaction.features)


class ServedFeatures(ServedVersions[ModelFeatures]):
    """By model and version."""
