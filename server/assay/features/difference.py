"""What changed between two feature sets, in words; what that means for stored rows and for models; what must be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assay.features import definitions as d
from assay.features.feature_set import FeatureSet
from assay.features.words import (
    describe_derived,
    describe_input,
    describe_request_feature,
    describe_values,
    describe_view_settings,
)

IN_WORDS_MAX = 3

Verb = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Change:
    """One part that is not the same. `how`: what it is or was; of a changed one 'this -> that'."""

    part: str  # entity, request feature, view, derived, input, order
    name: str
    verb: Verb
    how: str


@dataclass(frozen=True)
class ViewRows:
    """What becomes of a view's stored rows."""

    name: str
    state: Literal["kept", "new", "left"]  # left: nobody reads them any more
    old_hash: str | None  # 64 hex digits; None: the old feature set has no such view
    new_hash: str | None


@dataclass(frozen=True)
class Difference:
    old: FeatureSet
    new: FeatureSet
    changes: tuple[Change, ...]
    views: tuple[ViewRows, ...]

    @property
    def touches_models(self) -> bool:
        """Whether a model could tell one from the other. Names, versions and descriptions are for people."""
        return self.old.schema_hash != self.new.schema_hash

    @property
    def to_do(self) -> tuple[str, ...]:
        """In this order; empty: nothing."""
        steps = [_fill(self.new, rows.name) for rows in self.views if rows.state == "new"]
        if self.touches_models:
            steps.append(
                "retrain: models of the old schema hash do not fit the new one. Replay the events (assay features replay), "
                "train, and pack with the new feature set"
            )
        return tuple(steps)


def compare(old: FeatureSet, new: FeatureSet) -> Difference:
    """By name: a part under another name is one that was removed and one that was added."""
    changes = (
        *_changes("entity", dict.fromkeys(old.entities, ""), dict.fromkeys(new.entities, "")),
        *_changes(
            "request feature",
            {name: describe_request_feature(feature) for name, feature in old.request_features.items()},
            {name: describe_request_feature(feature) for name, feature in new.request_features.items()},
        ),
        *_view_changes(old.views, new.views),
        *_changes(
            "derived",
            {name: describe_derived(feature) for name, feature in old.derived.items()},
            {name: describe_derived(feature) for name, feature in new.derived.items()},
        ),
        *_changes("input", _inputs(old), _inputs(new)),
        *_order(old.input_names, new.input_names),
    )
    return Difference(old, new, changes, tuple(_view_rows(old, new)))


def in_words(old: FeatureSet, new: FeatureSet) -> str:
    """What changed, in one line for an error: the first few changes. Empty: nothing did."""
    changes = compare(old, new).changes
    said = [f"{change.part} {change.name} {change.verb}{f' ({change.how})' if change.how else ''}" for change in changes]
    more = [f"{len(said) - IN_WORDS_MAX} more"] if len(said) > IN_WORDS_MAX else []
    return "; ".join([*said[:IN_WORDS_MAX], *more])


# --- implementation ---


def _changes(part: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name, how in old.items():
        if name not in new:
            yield Change(part, name, "removed", how)
    for name, how in new.items():
        if name not in old:
            yield Change(part, name, "added", how)
        elif old[name] != how:
            yield Change(part, name, "changed", f"{old[name]} -> {how}")


def _view_changes(old: Mapping[str, d.View], new: Mapping[str, d.View]) -> Iterator[Change]:
    """A view that was added or removed is one change; else each of its settings and values that differ."""
    for change in _changes("view", {name: _view_text(view) for name, view in old.items()}, dict.fromkeys(new, "")):
        if change.verb == "removed":
            yield change
    for name, view in new.items():
        if name not in old:
            yield Change("view", name, "added", _view_text(view))
            continue
        yield from _changes(f"view {name}", describe_view_settings(old[name]), describe_view_settings(view))
        yield from _changes(f"view {name}", describe_values(old[name]), describe_values(view))


def _view_text(view: d.View) -> str:
    return f"{view.kind} of {view.entity}: {', '.join(describe_values(view))}"


def _inputs(feature_set: FeatureSet) -> dict[str, str]:
    return {model_input.name: describe_input(model_input) for model_input in feature_set.model_inputs}


def _order(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """The order of the inputs that both have."""
    before = [name for name in old if name in new]
    after = [name for name in new if name in old]
    if before != after:
        yield Change("order", "inputs", "changed", f"{', '.join(before)} -> {', '.join(after)}")


def _view_rows(old: FeatureSet, new: FeatureSet) -> Iterator[ViewRows]:
    for name in dict.fromkeys((*old.views, *new.views)):
        old_hash = old.view_hash(name).hex() if name in old.views else None
        new_hash = new.view_hash(name).hex() if name in new.views else None
        yield ViewRows(name, "left" if new_hash is None else "kept" if old_hash == new_hash else "new", old_hash, new_hash)


def _fill(feature_set: FeatureSet, name: str) -> str:
    if isinstance(feature_set.views[name], d.AttributeView):
        return f"fill view {name}: assay ingest --view {name} --attributes FILE --feature-set NEW --store URL"
    return f"backfill view {name} from its events: assay ingest --events FILE --feature-set NEW --store URL"
