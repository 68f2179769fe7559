"""The comparison of served rows with replayed ones, and the file that a sample is kept in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from assay.errors import FeatureSetError, InputError
from assay.features.feature_set import FeatureSet
from assay.features.served_rows import RowSample, SampledRow, read_sample, write_sample
from assay.features.skew import InputSkew, SkewReport, check_skew

TINY = """
name: tiny
version: "1"
entities: [customer_id]
request_features:
  amount: {dtype: int64, required: false}
  ratio: {dtype: float64, required: false}
views:
  customer:
    entity: customer_id
    aggregates:
      count_1d: {op: count, window: 1d}
inputs:
  - {name: amount, when_null: {default: -1}, dtype: int64}
  - {name: ratio, when_null: nan, dtype: float64}
  - count_1d
"""
FEATURES = FeatureSet.parse(TINY)
TIME_US = 1_522_540_800_000_000


def event(number: int, **features: Any) -> str:
    return json.dumps(
        {
            "transaction_id": f"t{number}",
            "event_time": f"2018-04-01T00:00:{number:02}Z",
            "entities": {"customer_id": "c1"},
            "features": features,
        }
    )


def served(number: int, amount: int | None, ratio: float | None, count: float, *, is_degraded: bool = False) -> SampledRow:
    values = (-1 if amount is None else amount, math.nan if ratio is None else ratio, count)
    missing = frozenset(name for name, value in (("amount", amount), ("ratio", ratio)) if value is None)
    return SampledRow(f"t{number}", TIME_US + number * 1_000_000, values, missing, is_degraded)


def sample(*rows: SampledRow, schema_hash: str = FEATURES.schema_hash) -> RowSample:
    return RowSample("m", "1", "tiny", "1", schema_hash, FEATURES.input_names, rows)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Of one customer: all values, then no amount, then no ratio, then a default's own value."""
    path = tmp_path / "events.jsonl"
    lines = [event(0, amount=5, ratio=0.5), event(1, ratio=0.25), event(2, amount=7), event(3, amount=-1, ratio=0.0)]
    path.write_text("\n".join(lines))
    return path


EQUAL = [served(0, 5, 0.5, 0), served(1, None, 0.25, 1), served(2, 7, None, 2), served(3, -1, 0.0, 3)]


def by_name(report: SkewReport) -> dict[str, InputSkew]:
    return {one.name: one for one in report.inputs}


def test_equal_rows_have_no_skew(events: Path) -> None:
    report = check_skew(FEATURES, sample(*EQUAL), events)
    assert (report.row_count, report.compared_count, report.skew_max) == (4, 4, 0.0)
    assert report.inputs == tuple(InputSkew(name, 4, 0, 0, 0, 0.0) for name in FEATURES.input_names)


@pytest.mark.parametrize(
    ("changed", "name", "expected"),
    [
        (served(0, 9, 0.5, 0), "amount", InputSkew("amount", 1, 1, 0, 0, 4.0)),
        (served(0, 5, 0.5, 2), "count_1d", InputSkew("count_1d", 1, 1, 0, 0, 2.0)),
        (served(0, None, 0.5, 0), "amount", InputSkew("amount", 1, 0, 1, 0, 0.0)),
        (served(0, 5, None, 0), "ratio", InputSkew("ratio", 1, 0, 1, 0, 0.0)),
        (served(1, 5, 0.25, 1), "amount", InputSkew("amount", 1, 0, 0, 1, 0.0)),
        (served(2, 7, 0.5, 2), "ratio", InputSkew("ratio", 1, 0, 0, 1, 0.0)),
        # A null that took its default is not the same as that value.
        (served(3, None, 0.0, 3), "amount", InputSkew("amount", 1, 0, 1, 0, 0.0)),
        (served(1, -1, 0.25, 1), "amount", InputSkew("amount", 1, 0, 0, 1, 0.0)),
        # Bit by bit.
        (served(3, -1, -0.0, 3), "ratio", InputSkew("ratio", 1, 1, 0, 0, 0.0)),
        (served(0, 5, math.nextafter(0.5, 1), 0), "ratio", InputSkew("ratio", 1, 1, 0, 0, math.nextafter(0.5, 1) - 0.5)),
    ],
)
def test_what_differs_is_named(events: Path, changed: SampledRow, name: str, expected: InputSkew) -> None:
    report = check_skew(FEATURES, sample(changed), events)
    assert by_name(report)[name] == expected
    assert report.skew_max == 1.0
    assert [one.name for one in report.inputs if one.skew > 0] == [name]


def test_a_degraded_row_is_counted_apart_and_never_compared(events: Path) -> None:
    report = check_skew(FEATURES, sample(EQUAL[0], served(1, None, 0.25, 0, is_degraded=True)), events)
    assert (report.row_count, report.compared_count, report.degraded_count, report.skew_max) == (2, 1, 1, 0.0)


def test_rows_that_have_no_event_are_counted_and_a_repeat_is_compared_again(events: Path) -> None:
    report = check_skew(FEATURES, sample(EQUAL[0], EQUAL[0], served(9, 1, 1.0, 0)), events)
    assert (report.compared_count, report.unknown_count) == (2, 1)
    none = check_skew(FEATURES, sample(served(9, 1, 1.0, 0)), events)
    assert (none.compared_count, none.inputs, none.skew_max) == (0, (), 0.0)


def test_rows_of_another_feature_set_are_refused_with_both_hashes(events: Path) -> None:
    with pytest.raises(FeatureSetError) as caught:
        check_skew(FEATURES, sample(*EQUAL, schema_hash="ab" * 32), events)
    assert "ab" * 32 in str(caught.value)
    assert FEATURES.schema_hash in str(caught.value)


# --- the file


def test_a_sample_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "served.jsonl"
    write_sample(sample(*EQUAL), path)
    found = read_sample(path)
    assert repr(found) == repr(sample(*EQUAL))  # by repr: NaN is not equal to itself
    assert [item.name for item in tmp_path.iterdir()] == ["served.jsonl"]


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        (0, '"format":1', '"format":2', "format 1"),
        (0, '"schema_hash"', '"other"', "format 1"),
        (0, "{", "[", "format 1"),
        (2, '"values":[', '"values":[1,', "line 3"),
        (2, '"values":[', '"values":["x",', "line 3"),
        (2, '"missing":["amount"]', '"missing":["none"]', "line 3"),
        (4, "{", "", "line 5"),
    ],
)
def test_a_damaged_file_is_refused_and_the_place_is_named(tmp_path: Path, line: int, old: str, new: str, expected: str) -> None:
    path = tmp_path / "served.jsonl"
    write_sample(sample(*EQUAL), path)
    lines = path.read_text().splitlines()
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=expected):
        read_sample(path)


def test_a_file_that_is_not_there_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sample(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be written"):
        write_sample(sample(), tmp_path / "none" / "served.jsonl")
