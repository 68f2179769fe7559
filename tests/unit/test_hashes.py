"""The two hashes of a feature set: golden, and moved by exactly what they cover.

A golden hash that changes means that every bundle and every stored record of earlier versions is refused. Only a change of
meaning may do that, with a new SCHEMA_FORMAT or VIEW_FORMAT.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from assay.features import hashes
from assay.features.feature_set import FeatureSet

ROOT = Path(__file__).resolve().parents[2]

TEXT = """
name: cards
version: "1"
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0, maximum: 1000000}
  ratio: {dtype: float64, default: 1}
  channel: {dtype: string, required: false}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      count_1h: {op: count, window: 1h}
      sum_1d: {op: sum, of: amount_minor, window: 1d}
      terminals_1d: {op: distinct, of: terminal_id, window: 1d}
      seen: {op: last, of: event_time, window: 30d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates:
      risk_1d: {op: rate_true, of: is_fraud, window: 1d}
  profile:
    kind: attributes
    entity: customer_id
    max_age: 30d
    attributes: {home_latitude: float64, opened_at: time}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
  night: {op: is_night, first_hour: 0, last_hour: 6}
  known: {op: vocabulary, of: channel, words: [web, pos], unknown: -1}
inputs:
  - amount
  - {name: risk, from: risk_1d, when_null: {default: 0.0}}
  - {name: latitude, from: home_latitude, when_null: nan, add_is_missing: true}
"""


def parse(*changes: tuple[str, str]) -> FeatureSet:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must stand once"
        text = text.replace(old, new)
    return FeatureSet.parse(text)


def view_hashes(feature_set: FeatureSet) -> dict[str, str]:
    return {name: feature_set.view_hash(name).hex() for name in feature_set.views}


def test_golden_schema_hash() -> None:
    assert parse().schema_hash == "6fe6c00ed0cb40d1d89b61aca6e4e4ee54f31cae1bd75c4e50cd423fd65f2578"


def test_golden_view_hashes() -> None:
    assert view_hashes(parse()) == {
        "customer": "fb9363999c25ce7f496c072322e56a8b8661d73f47cca354fb4f8713f9173842",
        "terminal": "a040e1a9742fbf4edc4a9a2822aaa7a699ac417e5b0099cb6c26de31fdbf1ba6",
        "profile": "11930c4f366925edcca32fbb3afd0d994b0a2a72b21cb162dd6250e2cee2c940",
    }


def test_golden_hashes_of_the_demo() -> None:
    demo = FeatureSet.load(ROOT / "examples" / "card_fraud" / "feature_set.yaml")
    assert demo.schema_hash == "875952fdbbdb61ef98b48b3eb367df996dc1c50eafefc5ad2968e9fca72292d9"
    assert view_hashes(demo) == {
        "customer": "5bea0b7636966b846eafec412be888cc3411fe6904bce7df7da23ee1b6dd5b72",
        "terminal": "3fb06ab38c5cbfcffb6bf67dc131335e47f9616f2470216c4223ad1ac8bb0af3",
    }


def test_canonical_form_of_a_view_is_readable() -> None:
    feature_set = parse()
    form = hashes.canonical_json(hashes.view_form(feature_set.views["customer"], "customer", feature_set.request_features))
    assert form == (
        b'{"columns":[["entity","terminal_id","entity"],["event_time","event_time","int64"],["feature","amount_minor","int64"]],'
        b'"delay_us":0,"entity":"customer_id","exact_events_max":256,"format":"assay.view/1","kind":"window","labels":false,'
        b'"lateness_us":3600000000,"windows_us":[3600000000,86400000000,2592000000000]}'
    )
    assert hashlib.sha256(form).digest() == feature_set.view_hash("customer")


SAME_EVERYTHING = {
    "version": ('version: "1"', 'version: "2"'),
    "name": ("name: cards", "name: payments"),
    "description": ("entities:", "description: for people\nentities:"),
    "comment and white space": ("    labels: true\n", "    # a comment\n\n    labels:    true\n"),
    "order of keys": ("    labels: true\n    delay: 7d\n", "    delay: 7d\n    labels: true\n"),
    "flow or block style": ("{op: count, window: 1h}", "\n        window: 1h\n        op: count"),
    "the same duration": ("window: 1h", "window: 60m"),
    "the same number": ("divide_by: 100", "divide_by: 100.0"),
    "an explicit default": ("    entity: terminal_id\n", "    entity: terminal_id\n    current: exclude\n    lateness: 1h\n"),
    "order of derived features": (
        "  amount: {op: scale, of: amount_minor, divide_by: 100}\n  night: {op: is_night, first_hour: 0, last_hour: 6}\n",
        "  night: {op: is_night, first_hour: 0, last_hour: 6}\n  amount: {op: scale, of: amount_minor, divide_by: 100}\n",
    ),
    "order of attributes": ("home_latitude: float64, opened_at: time", "opened_at: time, home_latitude: float64"),
    "order of entities": ("[customer_id, terminal_id]", "[terminal_id, customer_id]"),
    "integers that are not accepted": ("default: 1}", "default: 1, accept_int: false}"),
    "an input by name": ("  - amount\n", "  - {name: amount, from: amount, dtype: float32, when_null: error}\n"),
}


@pytest.mark.parametrize("change", SAME_EVERYTHING.values(), ids=SAME_EVERYTHING.keys())
def test_what_is_for_people_changes_no_hash(change: tuple[str, str]) -> None:
    changed = parse(change)
    assert changed.schema_hash == parse().schema_hash
    assert view_hashes(changed) == view_hashes(parse())


NEW_SCHEMA_SAME_RECORDS = {
    "constant": ("divide_by: 100", "divide_by: 1000"),
    "operation": ("op: sum", "op: max"),
    "current": ("current: include", "current: exclude"),
    "name of an aggregate": ("count_1h:", "count_60m:"),
    "age": ("max_age: 30d", "max_age: 31d"),
    "order of inputs": ("  - amount\n", "  - night\n  - amount\n"),
    "meaning of null": ("default: 0.0", "default: 0.5"),
    "type of an input": ("from: risk_1d,", "from: risk_1d, dtype: float64,"),
    "name of an input": ("name: risk,", "name: risk_of_terminal,"),
    "bound": ("maximum: 1000000", "maximum: 2000000"),
    "default of a feature": ("default: 1}", "default: 2}"),
    "integers accepted": ("default: 1}", "default: 1, accept_int: true}"),
    "a new derived feature": ("derived:", "derived:\n  evening: {op: hour}"),
    "words": ("[web, pos]", "[pos, web]"),
    "name of a window view": ("  terminal:\n", "  place:\n"),
    "missing indicator": (", add_is_missing: true", ""),
}


@pytest.mark.parametrize("change", NEW_SCHEMA_SAME_RECORDS.values(), ids=NEW_SCHEMA_SAME_RECORDS.keys())
def test_definitions_change_the_schema_and_no_record(change: tuple[str, str]) -> None:
    changed = parse(change)
    assert changed.schema_hash != parse().schema_hash
    assert sorted(view_hashes(changed).values()) == sorted(view_hashes(parse()).values())


def test_a_stored_feature_that_accepts_integers_is_stored_as_before() -> None:
    """The integer becomes the float64 that equals it before it reaches a record."""
    stored = ("op: sum, of: amount_minor", "op: max, of: ratio")
    before, after = parse(stored), parse(stored, ("default: 1}", "default: 1, accept_int: true}"))
    assert before.schema_hash != after.schema_hash
    assert view_hashes(before) == view_hashes(after)


NEW_RECORDS = {
    "entity of a view": ("    entity: terminal_id\n", "    entity: customer_id\n", "terminal"),
    "window": ("window: 1h", "window: 2h", "customer"),
    "delay": ("delay: 7d", "delay: 8d", "terminal"),
    "column": ("of: amount_minor, window: 1d", "of: event_time, window: 1d", "customer"),
    "type of a column": ("dtype: int64, minimum: 0, maximum: 1000000", "dtype: float64", "customer"),
    "ring": ("    labels: true\n", "    labels: true\n    exact_events_max: 512\n", "terminal"),
    "lateness": ("    labels: true\n", "    labels: true\n    lateness: 2h\n", "terminal"),
    "attribute": ("home_latitude: float64, ", "home_latitude: float64, home_longitude: float64, ", "profile"),
    "type of an attribute": ("opened_at: time", "opened_at: int64", "profile"),
    "name of an attribute view": ("  profile:", "  profiles:", "profile"),
}


@pytest.mark.parametrize("change", NEW_RECORDS.values(), ids=NEW_RECORDS.keys())
def test_what_a_record_holds_changes_its_view_hash_alone(change: tuple[str, str, str]) -> None:
    old, new, view = change
    before, after = view_hashes(parse()), view_hashes(parse((old, new)))
    assert before[view] not in after.values()
    assert {before[name] for name in before if name != view} <= set(after.values())
    assert parse((old, new)).schema_hash != parse().schema_hash
