"""Rows of attributes from Parquet: the same values however the file holds them, and bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay import _core
from assay.errors import InputError
from assay.features import attribute_files
from assay.features.attribute_files import read_rows
from assay.features.feature_set import FeatureSet

VIEW = FeatureSet.parse("""
name: profile
version: "1"
entities: [customer_id]
views: {profile: {kind: attributes, entity: customer_id, attributes: {tier: string, orders: int64}}}
derived: {tier_index: {op: vocabulary, of: tier, words: [gold], unknown: 2}}
inputs: [{name: tier_index, when_null: {default: 0}}, {name: orders, when_null: nan, dtype: float64}]
""").attribute_view("profile")
TIME = pa.scalar(1_522_540_800_000_000, pa.timestamp("us", tz="UTC"))
WAYS = ["dictionary", "dictionary in the file alone", "plain"]


def write(path: Path, ids: pa.Array, tiers: pa.Array, way: str, row_group: int = 1_000) -> Path:
    table = pa.table(
        {
            "customer_id": ids,
            "updated_at": pa.repeat(TIME, len(ids)),
            "tier": tiers.dictionary_encode() if way == "dictionary" else tiers,
            "orders": pa.array(range(len(ids))),
        }
    )
    pq.write_table(table, path, compression="zstd", use_dictionary=way != "plain", row_group_size=row_group)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_values_are_the_same_however_the_file_holds_them(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_files, "READ_ROWS", 5)
    monkeypatch.setattr(attribute_files, "CONVERTED_ROWS_MAX", 3)
    most = _core.LIMITS["string_value_bytes_max"]
    texts = ["gold", None, "", "é" * (most // 2), "é" * (most // 2) + "x", "x" * 100_000, "silver", "gold"] * 5
    ids = [f"c{number}" for number in range(len(texts))]
    path = write(tmp_path / "rows.parquet", pa.array(ids), pa.array(texts), way, row_group=7)
    rows = list(read_rows(path, VIEW))
    good = [(row.entity_id, row.values) for part in rows for row in part.good]
    is_good = [text is None or len(text.encode()) <= most for text in texts]
    assert good == [(ids[number], (number, text)) for number, text in enumerate(texts) if is_good[number]]
    bad = {reject.place.line: reject for part in rows for reject in part.bad}
    assert list(bad) == [number for number, fits in enumerate(is_good, 1) if not fits]
    for reject in bad.values():
        (violation,) = reject.violations
        assert (violation.reason, violation.field) == ("TOO_LONG", "tier")
        assert len(reject.original) < 1_000
    assert rows[-1].last_line == rows[-1].done == rows[-1].total == len(texts)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_small_file_makes_no_mountain(tmp_path: Path, way: str) -> None:
    """A text of 8 MiB that stands in all rows took as much again for each."""
    count = 100
    ids = pa.array([f"c{number}" for number in range(count)])
    path = write(tmp_path / "rows.parquet", ids, pa.repeat("x" * (2 << 20), count), way)
    assert path.stat().st_size < 10_000
    tracemalloc.start()
    arrow_before = pa.total_allocated_bytes()
    try:
        rejected = sum(len(part.bad) for part in read_rows(path, VIEW))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rejected == count
    assert peak < 8 << 20
    assert pa.total_allocated_bytes() - arrow_before < 8 << 20


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    path = write(tmp_path / "rows.parquet", pa.array(["c1"]), bad, "plain")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list(read_rows(path, VIEW))
