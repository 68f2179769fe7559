"""The two hashes of a feature set: SHA-256 of a canonical form.

`schema_hash` covers every definition (source, window, delay, operation, order of inputs) and stands in bundles: a model meets the
features that it was trained on, or is refused. `view_hash` covers what a row record of one view holds, and stands in records and
keys: adding a derived feature touches no stored row. Names, versions and descriptions for people are in neither.

Canonical form: JSON with sorted keys and no white space, ASCII; durations are integer microseconds; numbers are integers where
the declared type is an integer, else floats in Python's shortest form (so 100 and 100.0 are the same constant).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.features import definitions as d
from assay.features.columns import columns_of, stored_attributes

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet

# Part of every hash. Raise one only when the meaning of the definitions (or of record bytes) changes.
SCHEMA_FORMAT = "assay.feature_set/1"
VIEW_FORMAT = "assay.view/1"


def schema_hash(feature_set: FeatureSet) -> str:
    """64 hex digits."""
    return hashlib.sha256(canonical_json(schema_form(feature_set))).hexdigest()


def view_hash(view: d.View, name: str, request_features: Mapping[str, d.RequestFeature]) -> bytes:
    """32 bytes."""
    return hashlib.sha256(canonical_json(view_form(view, name, request_features))).digest()


def canonical_json(form: Any) -> bytes:
    """Bytes that are equal exactly when the form is."""
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def schema_form(feature_set: FeatureSet) -> dict[str, Any]:
    return {
        "format": SCHEMA_FORMAT,
        "entities": sorted(feature_set.entities),
        "request_features": {name: _request_feature(feature) for name, feature in feature_set.request_features.items()},
        "views": {name: _view(view) for name, view in feature_set.views.items()},
        "derived": {name: derived_form(feature) for name, feature in feature_set.derived.items()},
        "inputs": [_input(model_input) for model_input in feature_set.model_inputs],
    }


def view_form(view: d.View, name: str, request_features: Mapping[str, d.RequestFeature]) -> dict[str, Any]:
    if isinstance(view, d.AttributeView):
        # The name tells two views of like attributes (home place, last place) apart.
        return {
            "format": VIEW_FORMAT,
            "kind": "attributes",
            "name": name,
            "entity": view.entity,
            "attributes": list(stored_attributes(view).items()),
        }
    return {
        "format": VIEW_FORMAT,
        "kind": "window",
        "entity": view.entity,
        "columns": [[column.source, column.name, column.dtype] for column in columns_of(view, request_features)],
        # Windows and delay decide the widths of tiles and when state expires.
        "windows_us": sorted({aggregate.window for aggregate in view.aggregates.values()}),
        "delay_us": view.delay,
        "labels": view.labels,
        "exact_events_max": view.exact_events_max,
        "lateness_us": view.lateness,
    }


def derived_form(feature: d.Derived) -> dict[str, Any]:
    """The operation and its keys."""
    form = feature.model_dump(mode="json", by_alias=True, exclude={"description"}, exclude_none=True)
    for key in {"divide_by", "seconds_min", "value"} & form.keys():
        form[key] = form[key] if isinstance(form[key], str) else float(form[key]) + 0.0
    return form


# --- implementation ---


def _request_feature(feature: d.RequestFeature) -> dict[str, Any]:
    bounds = {key: typed(getattr(feature, key), feature.dtype) for key in ("default", "minimum", "maximum")}
    # Only where it is said, so that feature sets from before it keep their hash. No view_hash has it: what is stored is the same.
    accepts = {"accept_int": True} if feature.accept_int else {}
    return {"dtype": feature.dtype, "required": feature.is_required, **accepts, **bounds}


def _view(view: d.View) -> dict[str, Any]:
    if isinstance(view, d.AttributeView):
        return {"kind": "attributes", "entity": view.entity, "max_age_us": view.max_age, "attributes": dict(view.attributes)}
    return {
        "kind": "window",
        "entity": view.entity,
        "current": view.current,
        "delay_us": view.delay,
        "labels": view.labels,
        "lateness_us": view.lateness,
        "exact_events_max": view.exact_events_max,
        "aggregates": {name: {"op": a.op, "of": a.of, "window_us": a.window} for name, a in view.aggregates.items()},
    }


def _input(model_input: d.ModelInput) -> dict[str, Any]:
    when_null = model_input.when_null
    return {
        "name": model_input.name,
        "from": model_input.value_name,
        "dtype": model_input.dtype,
        "when_null": {"default": float(when_null.default) + 0.0} if isinstance(when_null, d.NullDefault) else when_null,
    }


def typed(value: d.Scalar | None, dtype: str) -> d.Scalar | None:
    """A number of the file as its declared type has it: 0 of a float64 is 0.0 (and -0.0 is 0.0)."""
    if dtype == "float64" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) + 0.0
    return value
