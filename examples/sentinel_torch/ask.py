"""Asks a server for scores of the transactions that generate.py kept for testing.

python examples/sentinel_torch/ask.py --rows build/sentinel/test_rows.parquet
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from assay.client import Client, Decision, Score, Transaction

BATCH_ROWS = 64


def main(
    rows: Annotated[Path, typer.Option(help="test_rows.parquet.", dir_okay=False)] = Path("build/sentinel/test_rows.parquet"),
    target: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "127.0.0.1:50051",
) -> None:
    table = pq.read_table(rows)
    signals = [name for name in table.column_names if name.startswith("signal_")]
    transactions = [
        Transaction(
            transaction_id=f"test-{index}",
            event_time=row["event_time"],
            entities={"customer_id": str(row["customer_id"])},
            features={name: row[name] for name in signals},
        )
        for index, row in enumerate(table.to_pylist())
    ]
    with Client(target) as client:
        starts = range(0, len(transactions), BATCH_ROWS)
        answers = [answer for start in starts for answer in client.score_batch(transactions[start : start + BATCH_ROWS])]
    declined = [i for i, answer in enumerate(answers) if isinstance(answer, Score) and answer.decision is Decision.DECLINE]
    frauds = sum(bool(table["is_fraud"][index].as_py()) for index in declined)
    print(f"{len(answers)} transactions, {len(declined)} declined, {frauds} of these fraud")


if __name__ == "__main__":
    typer.run(main)
