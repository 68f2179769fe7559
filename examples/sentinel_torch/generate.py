"""Makes transactions of 128 signals, the same for the same seed: feature_set.yaml's inputs, labels, customers, times.

    python examples/sentinel_torch/generate.py --out build/sentinel

Fraud follows from a few signals and from pairs of them that only matter together; the others are noise. Writes rows.parquet, for
`assay model pack` and `quantize`, and training.npz, for train.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

SIGNALS = 128
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
FRAUD_SHARE = 0.03
TRAINING_SHARE = 0.7  # of the time; the rest tests


def main(
    out: Annotated[Path, typer.Option(help="Directory for the files.", file_okay=False)] = Path("build/sentinel"),
    transactions: Annotated[int, typer.Option(min=200, help="How many.")] = 12_000,
    seed: Annotated[int, typer.Option(help="Another seed, other transactions.")] = 1,
) -> None:
    """Make transactions."""
    random = np.random.default_rng(seed)
    signals = random.standard_normal((transactions, SIGNALS), np.float32)
    is_fraud = label(signals, random)
    names = [f"signal_{index:03d}" for index in range(SIGNALS)]
    columns = {name: signals[:, index].astype(np.float64) for index, name in enumerate(names)}
    times = [START + timedelta(days=DAYS * index / transactions) for index in range(transactions)]
    about = {
        "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "customer_id": [f"c{index}" for index in random.integers(0, transactions // 8, transactions)],
        "is_fraud": is_fraud,
    }
    out.mkdir(parents=True, exist_ok=True)
    count = int(transactions * TRAINING_SHARE)
    np.savez(out / "training.npz", signals=signals[:count], is_fraud=is_fraud[:count])
    table = pa.table({**about, **columns})
    pq.write_table(table, out / "rows.parquet")
    pq.write_table(table.slice(count), out / "test_rows.parquet")
    typer.echo(
        f"{transactions:,} transactions in {out}, {int(is_fraud.sum()):,} of them fraud; the last {transactions - count:,} test"
    )


def label(signals: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.bool_]:
    """Fraud for the highest FRAUD_SHARE of a risk that is partly chance."""
    risk = 1.2 * signals[:, 0] + signals[:, 1] + 0.8 * signals[:, 2] - 0.8 * signals[:, 3]
    risk += 1.5 * (signals[:, 4] > 0.5) * (signals[:, 5] > 0.5) + 1.0 * signals[:, 6] * signals[:, 7]
    risk += random.normal(0, 0.6, len(signals))
    return risk > np.quantile(risk, 1 - FRAUD_SHARE)


if __name__ == "__main__":
    typer.run(main)
