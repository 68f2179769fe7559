"""Card payments for the demo's feature set, as columns, and the ways to hand them over: JSON lines, ScoreRequests, Events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay.v1 import feature_pb2, scoring_pb2


@dataclass(frozen=True)
class Payments:
    """n payments. All arrays have shape (n,)."""

    ids: NDArray[np.str_]
    seconds: NDArray[np.int64]  # since 1970, UTC
    customers: NDArray[np.int64]
    terminals: NDArray[np.int64]
    cents: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: NDArray[Any]) -> Payments:
        """The payments at positions, or where a mask holds."""
        return Payments(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @staticmethod
    def join(parts: Iterable[Payments]) -> Payments:
        parts = list(parts)
        return Payments(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Payments)})

    def in_order(self) -> Payments:
        """By time; within a second by id: decimal ids by number ("7" before "007"), then others, shorter first, then by bytes.
        Written from the rule, not from the core."""

        def key(position: int) -> tuple[int, int, int, int, str]:
            text, second = str(self.ids[position]), int(self.seconds[position])
            return (second, 0, int(text), len(text), "") if text.isascii() and text.isdigit() else (second, 1, len(text), 0, text)

        return self.take(np.array(sorted(range(len(self)), key=key), np.int64))

    def write(self, path: Path) -> None:
        """One event a line, as they stand."""
        columns = (
            self.ids,
            np.datetime_as_string(self.seconds.astype("datetime64[s]")),
            self.customers,
            self.terminals,
            self.cents,
            np.where(self.is_fraud, "true", "false"),
        )
        with path.open("w") as file:
            for first in range(0, len(self), 65_536):
                lists = (column[first : first + 65_536].tolist() for column in columns)
                file.writelines(
                    f'{{"transaction_id":"{id}","event_time":"{at}Z",'
                    f'"entities":{{"customer_id":"{customer}","terminal_id":"{terminal}"}},'
                    f'"features":{{"amount_minor":{amount}}},"is_fraud":{fraud}}}\n'
                    for id, at, customer, terminal, amount, fraud in zip(*lists, strict=True)
                )

    def request(self, position: int) -> scoring_pb2.ScoreRequest:
        return self._fill(scoring_pb2.ScoreRequest(), position)

    def event(self, position: int) -> feature_pb2.Event:
        return self._fill(feature_pb2.Event(is_fraud=bool(self.is_fraud[position])), position)

    def _fill(self, message: Any, position: int) -> Any:
        message.transaction_id = str(self.ids[position])
        message.event_time.seconds = int(self.seconds[position])
        message.entities["customer_id"] = str(self.customers[position])
        message.entities["terminal_id"] = str(self.terminals[position])
        message.features["amount_minor"].int64_value = int(self.cents[position])
        return message


def published_payments(folder: Path, days: int | None = None) -> Payments:
    """The Handbook's transactions of the first `days` days (None: all), in the published order."""
    names = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    filters = None if days is None else [("TX_TIME_DAYS", "<", days)]
    table = pq.read_table(folder / "handbook_raw.parquet", columns=names, filters=filters)
    ids, times, customers, terminals, amounts, frauds = (table[name].to_numpy() for name in names)
    return Payments(
        ids.astype(np.str_),
        times.astype("datetime64[s]").astype(np.int64),
        customers.astype(np.int64),
        terminals.astype(np.int64),
        np.rint(amounts * 100).astype(np.int64),
        frauds.astype(np.bool_),
    )
