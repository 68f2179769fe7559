"""What changed between two feature sets: every change of a hash is said in words, and no words where no hash changed."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from assay.features.difference import Difference, compare
from assay.features.feature_set import FeatureSet

BASE = """
name: shop
version: "1"
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0}
  ratio: {dtype: float64, required: false, default: 0.5}
views:
  customer:
    entity: customer_id
    aggregates:
      count_1d: {op: count, window: 1d}
      sum_7d: {op: sum, of: amount_minor, window: 7d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates:
      risk_30d: {op: rate_true, of: is_fraud, window: 30d}
  profile:
    kind: attributes
    entity: customer_id
    max_age: 30d
    attributes: {tier: string, orders: int64}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
  tier_index: {op: vocabulary, of: tier, words: [low, high], unknown: -1}
inputs:
  - amount
  - ratio
  - {name: count_1d, add_is_missing: true}
  - {name: risk, from: risk_30d, when_null: {default: 0.5}}
  - {name: tier_index, when_null: {default: -1}}
"""


class Edit(NamedTuple):
    """`old` of BASE becomes `new`; what is said of it, and the view whose rows are new."""

    old: str
    new: str
    said: str
    new_rows: str = ""


ORDER = "count_1d, count_1d_is_missing, risk, tier_index"
EDITS = [
    Edit(
        "minimum: 0",
        "minimum: 5",
        "request feature, amount_minor changed: int64, required, at least 0 -> int64, required, at least 5",
    ),
    Edit(
        "divide_by: 100}",
        "divide_by: 10}",
        "derived, amount changed: scale of amount_minor, divide_by 100 -> scale of amount_minor, divide_by 10",
    ),
    Edit("  - ratio\n", "", "input, ratio removed: float32, null is an error"),
    Edit(
        "  - amount\n  - ratio\n",
        "  - ratio\n  - amount\n",
        f"order, inputs changed: amount, ratio, {ORDER} -> ratio, amount, {ORDER}",
    ),
    Edit(", add_is_missing: true", "", "input, count_1d_is_missing removed: whether count_1d is null, float32"),
    Edit(
        "default: 0.5}}",
        "default: 0.25}}",
        "input, risk changed: from risk_30d, float32, null is 0.5 -> from risk_30d, float32, null is 0.25",
    ),
    Edit("max_age: 30d", "max_age: 1d", "view profile, max_age changed: 30d -> 1d"),
    Edit(
        "    entity: customer_id\n    aggregates",
        "    entity: customer_id\n    current: include\n    aggregates",
        "view customer, current changed: exclude -> include",
    ),
    Edit("delay: 7d", "delay: 6d", "view terminal, delay changed: 7d -> 6d", "terminal"),
    Edit(
        "      count_1d: {op: count, window: 1d}\n",
        "      count_1d: {op: count, window: 1d}\n      count_2d: {op: count, window: 2d}\n",
        "view customer, count_2d added: count over 2d",
        "customer",
    ),
    Edit(
        "      count_1d: {op: count, window: 1d}\n",
        "      count_1d: {op: count, window: 1d}\n      count_7d: {op: count, window: 7d}\n",
        "view customer, count_7d added: count over 7d",
    ),
    Edit("orders: int64}", "orders: int64, since: time}", "view profile, since added: time", "profile"),
    Edit(
        "amount_minor: {dtype: int64, minimum: 0}",
        "amount_minor: {dtype: int64}",
        "request feature, amount_minor changed: int64, required, at least 0 -> int64, required",
    ),
    Edit(
        "ratio: {dtype: float64, required",
        "ratio: {dtype: float64, accept_int: true, required",
        "request feature, ratio changed: float64, optional, default 0.5 -> float64, optional, integers accepted, default 0.5",
    ),
]

# Another text, the same definitions.
SAME = [
    ("version: \"1\"", "version: \"2\""),
    ("minimum: 0}", "minimum: 0, required: true}"),
    ("minimum: 0}", "minimum: 0, accept_int: false}"),
    ("default: 0.5}\n", "default: 0.50, description: of what}\n"),
    ("window: 7d", "window: 168h"),
    ("divide_by: 100", "divide_by: 100.0"),
    ("entities: [customer_id, terminal_id]", "entities: [terminal_id, customer_id]"),
    ("attributes: {tier: string, orders: int64}", "attributes: {orders: int64, tier: string}"),
    ("    delay: 7d\n", "    delay: 7d\n    lateness: 60m\n"),
]  # fmt: skip


def compared(old: str, new: str) -> Difference:
    return compare(FeatureSet.parse(old), FeatureSet.parse(new))


def check_sound(found: Difference) -> None:
    """Words and hashes say the same."""
    assert bool(found.changes) == (found.old.schema_hash != found.new.schema_hash) == found.touches_models
    for rows in found.views:
        both = rows.name in found.old.views and rows.name in found.new.views
        is_same = both and found.old.view_hash(rows.name) == found.new.view_hash(rows.name)
        assert (rows.state == "kept") == is_same
    backfills = [step for step in found.to_do if "fill view" in step]
    assert len(backfills) == sum(rows.state == "new" for rows in found.views)
    assert any(step.startswith("retrain") for step in found.to_do) == found.touches_models


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.said.partition(":")[0])
def test_a_change_is_said(edit: Edit) -> None:
    assert edit.old in BASE
    found = compared(BASE, BASE.replace(edit.old, edit.new, 1))
    check_sound(found)
    assert [f"{change.part}, {change.name} {change.verb}: {change.how}" for change in found.changes] == [edit.said]
    assert "".join(rows.name for rows in found.views if rows.state == "new") == edit.new_rows


@pytest.mark.parametrize(("old", "new"), SAME)
def test_another_text_of_the_same_definitions_is_no_change(old: str, new: str) -> None:
    assert old in BASE
    found = compared(BASE, BASE.replace(old, new, 1))
    check_sound(found)
    assert (found.changes, found.to_do) == ((), ())


def test_any_changes_together() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(50):
        texts = []
        for _ in range(2):
            text = BASE
            for old, new in rng.sample([edit[:2] for edit in EDITS] + SAME, rng.randrange(6)):
                text = text.replace(old, new, 1)
            texts.append(text)
        check_sound(compared(*texts))


def test_views_that_come_and_go() -> None:
    without = BASE.replace("  - {name: risk, from: risk_30d, when_null: {default: 0.5}}\n", "")
    start = without.index("  terminal:\n")
    without = without[:start] + without[without.index("  profile:") :]
    found = compared(BASE, without)
    check_sound(found)
    assert [(rows.name, rows.state) for rows in found.views] == [("customer", "kept"), ("terminal", "left"), ("profile", "kept")]
    assert ("view", "terminal", "removed", "window of terminal_id: risk_30d") in [
        (change.part, change.name, change.verb, change.how) for change in found.changes
    ]
    back = compared(without, BASE)
    check_sound(back)
    assert [(rows.name, rows.state, rows.old_hash) for rows in back.views if rows.state == "new"] == [("terminal", "new", None)]
    assert back.to_do[0] == "backfill view terminal from its events: assay ingest --events FILE --feature-set NEW --store URL"


def test_an_attribute_view_is_filled_from_its_own_file() -> None:
    found = compared(BASE, BASE.replace("orders: int64", "orders: float64"))
    assert found.to_do[0] == "fill view profile: assay ingest --view profile --attributes FILE --feature-set NEW --store URL"


def test_long_vocabularies_that_differ_never_read_the_same() -> None:
    old, new = (BASE.replace("[low, high]", str([f"w{i}" for i in range(20)] + [last])) for last in ("x", "y"))
    found = compared(old, new)
    check_sound(found)
    (change,) = found.changes
    before, after = change.how.split(" -> ")
    assert before != after
    assert "21 in all" in before
