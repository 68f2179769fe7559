"""Training data held against a feature set and a baseline: counts in parts are those of a slow look at the whole."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.errors import InputError
from assay.features.feature_set import FeatureSet
from assay.models import data_file
from assay.models.baseline import Baseline, make_baseline
from assay.models.data_check import ColumnReport, DataLimits, DataReport, check_data
from assay.models.shift import VALUES_MIN, population_shift

SET = FeatureSet.parse("""
name: data
version: "1"
entities: [customer_id]
request_features:
  amount: {dtype: float64, minimum: 0.1, maximum: 0.9}
  count: {dtype: int64, minimum: 0, maximum: 5}
  spare: {dtype: int64, maximum: 7, required: false}
  word: {dtype: string}
derived:
  is_night: {op: is_night, first_hour: 0, last_hour: 6}
  word_index: {op: vocabulary, of: word, words: [a, b], unknown: -1}
inputs: [amount, {name: count, when_null: nan}, is_night, word_index]
""")
ROWS = 4_000
LIMITS = DataLimits()


def columns(seed: int = 3, count: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "amount": rng.choice([0.1, 0.3, 0.7, 0.9], count),
        "count": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 6, count)),
        "is_night": rng.integers(0, 2, count).astype(float),
        "word_index": rng.integers(-1, 2, count).astype(float),
    }


def baseline(held: dict[str, np.ndarray] | None = None) -> Baseline:
    values = {name: array.astype(np.float32) for name, array in (held or columns(4)).items()}
    return make_baseline(values, np.zeros(len(values["amount"])), [])


def write_csv(path: Path, held: dict[str, Sequence[object]]) -> Path:
    """Numbers as Python writes them, NaN as nothing."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(held)
        for row in zip(*held.values(), strict=True):
            writer.writerow("" if isinstance(value, float) and math.isnan(value) else value for value in row)
    return path


def check(
    tmp_path: Path, held: dict[str, Sequence[object]], then: Baseline | None = None, limits: DataLimits = LIMITS
) -> DataReport:
    return check_data(write_csv(tmp_path / "rows.csv", held), SET, then, limits)


def of(report: DataReport, name: str) -> ColumnReport:
    return next(column for column in report.columns if column.name == name)


def told(report: DataReport) -> list[tuple[str, str]]:
    return [(problem.check, problem.column) for problem in report.problems]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_counts_of_parts_are_those_of_the_whole(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(data_file, "PART_BYTES", 1_000)
    monkeypatch.setattr(data_file, "PART_ROWS", 77)
    held, then = columns(rng.randrange(1 << 30)), baseline()
    if kind == "csv":
        path = write_csv(tmp_path / "rows.csv", held)
    else:
        path = tmp_path / "rows"
        nulls = {name: np.isnan(values) for name, values in held.items()}
        pq.write_table(pa.table({name: pa.array(values, mask=nulls[name]) for name, values in held.items()}), path)
    report = check_data(path, SET, then, LIMITS)
    assert (report.rows, report.baseline_rows, report.problems) == (ROWS, ROWS, ())
    for name, values in held.items():
        found = of(report, name)
        present = [np.float32(value) for value in values if not math.isnan(value)]
        assert found.nulls == len(values) - len(present)
        assert (found.minimum, found.maximum) == (float(min(present)), float(max(present)))
        assert found.psi == pytest.approx(population_shift(then.inputs[name], values.astype(np.float32)), rel=1e-12)
        assert found.baseline_null_share == then.inputs[name].nulls / ROWS
    assert of(report, "is_night").follows_clock
    assert not of(report, "amount").follows_clock


def test_values_are_what_the_model_gets(tmp_path: Path) -> None:
    """0.1 as a double lies below the float32 that stands in the baseline; 0.9 as a double lies above its float32."""
    held = {**columns(), "amount": np.full(ROWS, 0.1)}
    same = check(tmp_path, held, baseline(held))
    assert of(same, "amount").psi == 0.0
    assert same.problems == ()
    edge = {**held, "amount": np.full(ROWS, 0.9)}
    assert check(tmp_path, edge, baseline(edge)).problems == ()


def test_without_a_baseline_nothing_is_compared(tmp_path: Path) -> None:
    report = check(tmp_path, columns(count=5))
    assert (report.problems, report.baseline_rows) == ((), None)
    assert all(column.psi is None and column.baseline_null_share is None for column in report.columns)


def test_columns_that_no_model_reads_are_named_and_left(tmp_path: Path) -> None:
    held = {"transaction_id": ["x"] * 9, **columns(count=9), "spare": [7] * 9, "word": ["a"] * 9}
    report = check(tmp_path, held)
    assert report.unread == ("transaction_id", "word")
    assert not of(report, "spare").is_input
    assert report.problems == ()


def test_a_missing_column_and_one_of_text(tmp_path: Path) -> None:
    held = columns(count=9)
    del held["count"]
    path = tmp_path / "rows"
    pq.write_table(pa.table({**held, "amount": ["x"] * 9, "spare": [pa.scalar(1)] * 9}), path)
    report = check_data(path, SET, None, LIMITS)
    assert told(report) == [("schema", "count"), ("schema", "amount")]
    assert [problem.reason for problem in report.problems] == ["the file has no such column", "it is string, expected numbers"]
    assert "assay features replay" in report.problems[0].mend
    assert report.rows == 9


def test_cells_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first row is named, across parts; they are no nulls, and no words of theirs come out."""
    monkeypatch.setattr(data_file, "PART_BYTES", 200)
    held = {name: list(values) for name, values in columns(count=100).items()}
    for row, cell in ((60, "secret"), (61, "nan"), (99, "1_0")):
        held["amount"][row] = cell
    report = check(tmp_path, held)
    assert told(report) == [("schema", "amount")]
    assert report.problems[0].reason == "3 cells are no numbers, the first in row 61"
    assert of(report, "amount").nulls == 0


@pytest.mark.parametrize(
    ("column", "cells", "problem"),
    [
        ("amount", [0.1, 0.9], None),
        ("amount", ["+0.5", "5e-1"], None),
        ("amount", [0.09, 0.5], ("range", "amount")),
        ("amount", [0.5, 0.91], ("range", "amount")),
        ("amount", ["1e39", 0.5], ("range", "amount")),  # past float32
        ("amount", ["1e400", 0.5], ("range", "amount")),
        ("amount", ["", 0.5], ("nulls", "amount")),
        ("count", ["", 5], None),  # when_null: nan
        ("count", [5, "5.0"], None),
        ("count", [5, 4.5], ("schema", "count")),
        ("count", [6, 0], ("range", "count")),
        ("is_night", ["true", "False"], None),
        ("spare", ["", 7], None),
        ("spare", [8, 7], ("range", "spare")),
        ("spare", [0.5, 7], ("schema", "spare")),
        ("word_index", ["", 1], ("nulls", "word_index")),
    ],
)
def test_each_rule_of_the_feature_set(tmp_path: Path, column: str, cells: list[object], problem: tuple[str, str] | None) -> None:
    good = {"amount": [0.5, 0.5], "count": [1, 2], "is_night": [0, 1], "word_index": [-1, 1], "spare": [1, 2]}
    report = check(tmp_path, {**good, column: cells})
    assert told(report) == ([problem] if problem else []), report.problems
    assert all(found.mend for found in report.problems)


def test_a_shift_at_its_limit(tmp_path: Path) -> None:
    held, then = columns(), baseline()
    held["amount"] = np.where(np.arange(ROWS) % 3 == 0, 0.9, held["amount"])
    psi = of(check(tmp_path, held, then), "amount").psi
    assert psi is not None
    assert psi > 0.1
    assert told(check(tmp_path, held, then, DataLimits(psi_max=psi))) == []
    assert told(check(tmp_path, held, then, DataLimits(psi_max=psi - 1e-9))) == [("shift", "amount")]


def test_what_follows_the_clock_has_no_limit(tmp_path: Path) -> None:
    held = {**columns(), "is_night": np.zeros(ROWS)}
    report = check(tmp_path, held, baseline())
    assert (of(report, "is_night").psi or 0) > 0.25
    assert report.problems == ()


def test_a_rise_of_nulls_at_its_limit(tmp_path: Path) -> None:
    then = baseline({**columns(), "count": np.where(np.arange(ROWS) % 10 == 0, np.nan, 1.0)})
    held = {**columns(), "count": np.where(np.arange(ROWS) % 5 == 0, np.nan, 1.0)}
    assert told(check(tmp_path, held, then, DataLimits(null_rise_max=0.1001))) == []
    assert told(check(tmp_path, held, then, DataLimits(null_rise_max=0.0999))) == [("nulls", "count")]


def test_too_few_rows_to_compare_are_said_to_be(tmp_path: Path) -> None:
    then = baseline()
    report = check(tmp_path, columns(count=VALUES_MIN - 1), then)
    assert told(report) == [("shift", "")]
    assert "--feature-set instead of --bundle" in report.problems[0].mend
    assert of(report, "amount").psi is None
    assert check(tmp_path, columns(count=VALUES_MIN), then).problems == ()


def test_an_input_that_the_last_model_did_not_have(tmp_path: Path) -> None:
    held = columns(4)
    del held["word_index"]
    report = check(tmp_path, columns(), baseline(held))
    assert of(report, "word_index").psi is None
    assert report.problems == ()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "names no columns"),
        (b"\n1,2\n", "names no columns"),
        (b"a,a\n1,2\n", "column a stands twice"),
        (b"amount,count\n0.5,1\n0.5\n", "row 2: 1 cells, the header has 2"),
        (b"amount\n0.5\n\xff\n", "not CSV in UTF-8 to its end"),
        (b"amount\n0.5," + b"5" * 300, "row 1: 2 cells"),
        (b"PAR1" + bytes(40), "neither Parquet nor CSV"),
        (",".join(f"c{i}" for i in range(data_file.COLUMNS_MAX + 1)).encode(), "4097 columns, the limit is 4096"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        check_data(path, SET, None, LIMITS)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        check_data(tmp_path / "none.csv", SET, None, LIMITS)


def test_a_line_longer_than_a_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps memory at one part."""
    monkeypatch.setattr(data_file, "PART_BYTES", 100)
    path = tmp_path / "rows.csv"
    path.write_text(
        "amount,count,is_night,word_index\n" + "0.5,1,0,1\n" * 50 + "0.5,1,0," + "1" * 500 + "\n" + "0.5,1,0,1\n" * 50
    )
    with pytest.raises(InputError, match="not CSV in UTF-8 to its end"):
        check_data(path, SET, None, LIMITS)


def test_no_rows(tmp_path: Path) -> None:
    report = check(tmp_path, {name: [] for name in columns(count=1)}, baseline())
    assert [(problem.check, problem.reason) for problem in report.problems] == [("schema", "no rows")]
