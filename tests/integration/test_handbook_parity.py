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
from tests.support.payments import published_payments

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

# Two payments of 0.00, alone in their day: the publisher's running float sums left 1e-14 and 2e-13 where the average is 0.
ROUNDING_NOISE = [1106168, 1221251]
ROUNDING_NOISE_MAX = 2e-13


def test_replay_gives_the_published_features(published_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feature_set = FeatureSet.load(ROOT / "examples" / "card_fraud" / "feature_set.yaml")
    events, out = tmp_path / "events.jsonl", tmp_path / "features.parquet"
    published_payments(published_data).write(events)

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
        if name == "customer_amount_avg_1d":
            is_noise = np.isin(ids[order][is_compared], ROUNDING_NOISE)
            assert found[is_noise].tolist() == [0.0, 0.0]
            assert 0 < expected[is_noise].min() <= expected[is_noise].max() < ROUNDING_NOISE_MAX
            found, expected = found[~is_noise], expected[~is_noise]
        # No absolute tolerance: what is 0 in one is exactly 0 in the other.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0, err_msg=name)
