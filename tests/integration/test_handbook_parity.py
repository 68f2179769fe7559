"""Replay of the published transactions gives the published features, but for twelve rows counted in another order there.

Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection - Practical Handbook (ULB,
2022). Needs the published files (docs/features.md says where from); skips without them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.features.feature_set import FeatureSet
from assay.features.replay import replay

ROOT = Path(__file__).resolve().parents[2]

# Six pairs of one customer in one second, which the publisher's unstable sort counted in the other order.
OTHER_ORDER = [
    121453, 121454, 163831, 163832, 174806, 174807, 619758, 619759, 1240489, 1240490, 1350833, 1350834,
]  # fmt: skip

PUBLISHED = {
    "amount": "TX_AMOUNT",
    "is_weekend": "TX_DURING_WEEKEND",
    "is_night": "TX_DURING_NIGHT",
    **{f"customer_tx_count_{days}d": f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW" for days in (1, 7, 30)},
    **{f"customer_amount_avg_{days}d": f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW" for days in (1, 7, 30)},
    **{f"terminal_tx_count_{days}d": f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW" for days in (1, 7, 30)},
    **{f"terminal_fraud_rate_{days}d": f"TERMINAL_ID_RISK_{days}DAY_WINDOW" for days in (1, 7, 30)},
}

# The published averages come from running float sums: two that are 0 are published as about 1e-14.
ROUNDING_NOISE = 1e-8


def test_replay_gives_the_published_features(published_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feature_set = FeatureSet.load(ROOT / "examples" / "card_fraud" / "feature_set.yaml")
    events, out = tmp_path / "events.jsonl", tmp_path / "features.parquet"
    _write_events(published_data / "handbook_raw.parquet", events)

    started, started_cpu = time.perf_counter(), time.process_time()
    summary = replay(feature_set, events, out)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    with capsys.disabled():
        rates = f"{summary.event_count / seconds:,.0f} events/s, {summary.event_count / cpu_seconds:,.0f} a CPU-second"
        print(f"\nreplayed {summary.event_count:,} events in {seconds:.1f} s: {rates}")

    published = pq.read_table(published_data / "handbook_features.parquet", columns=["TRANSACTION_ID", *PUBLISHED.values()])
    ours = pq.read_table(out)
    assert (summary.event_count, summary.row_count) == (published.num_rows, published.num_rows)
    assert (summary.duplicate_count, summary.late_count, summary.rejected_count, summary.invalid_count) == (0, 0, 0, 0)
    assert ours.column_names == ["transaction_id", "event_time", *feature_set.input_names]
    ids = ours["transaction_id"].to_numpy().astype(np.int64)
    order, published_order = np.argsort(ids), np.argsort(published["TRANSACTION_ID"].to_numpy())
    is_compared = ~np.isin(ids[order], OTHER_ORDER)
    assert is_compared.sum() == published.num_rows - len(OTHER_ORDER)
    for name, published_name in PUBLISHED.items():
        found = ours[name].to_numpy().astype(np.float64)[order][is_compared]
        expected = published[published_name].to_numpy().astype(np.float64)[published_order][is_compared]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=ROUNDING_NOISE, err_msg=name)


def _write_events(raw: Path, path: Path) -> None:
    """The published rows as events, in the published order."""
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    with path.open("w") as file:
        for batch in pq.ParquetFile(raw).iter_batches(65_536, columns=columns):
            ids, times, customers, terminals, amounts, frauds = (batch[name].to_numpy() for name in columns)
            texts = np.datetime_as_string(times.astype("datetime64[s]"))
            cents = np.rint(amounts * 100).astype(np.int64)
            lists = (column.tolist() for column in (ids, texts, customers, terminals, cents, frauds))
            file.writelines(
                f'{{"transaction_id":"{id}","event_time":"{at}Z","entities":{{"customer_id":"{customer}","terminal_id":"{terminal}"}},'
                f'"features":{{"amount_minor":{amount}}},"is_fraud":{"true" if fraud else "false"}}}\n'
                for id, at, customer, terminal, amount, fraud in zip(*lists, strict=True)
            )
