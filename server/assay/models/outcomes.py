"""What became of rows, from columns of the file that they are in: labels, cards, days."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.errors import InputError
from assay.models.quality import Outcomes


def read_outcomes(path: Path, label: str, card: str | None, time: str) -> Outcomes:
    """Columns of a Parquet file: `label` holds 0 and 1 or booleans, `card` text or integers, `time` timestamps.

    Raises InputError."""
    if path.suffix == ".npz":
        raise InputError(f"{path}: labels come as a column of a Parquet file; npz has none")
    names = [label, *([card, time] if card else [])]
    try:
        held = pq.read_schema(path).names
        if missing := [name for name in names if name not in held]:
            raise InputError(f"{path}: no column {missing[0]}; it has {', '.join(held)[:300]}")
        table = pq.read_table(path, columns=names)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from error
    for name in names:
        if table[name].null_count:
            raise InputError(f"{path}: column {name} holds {table[name].null_count} nulls; leave such rows out")
    labels = table[label].to_numpy()
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise InputError(f"{path}: column {label}: expected 0 and 1, or booleans")
    if card is None:
        return Outcomes(labels.astype(np.bool_))
    if not pa.types.is_timestamp(table[time].type):
        raise InputError(
            f"{path}: column {time} is {table[time].type}; expected timestamps (assay features replay writes event_time)"
        )
    days = pc.cast(pc.floor_temporal(table[time], unit="day"), pa.timestamp("s", tz=table[time].type.tz), safe=False)
    cards = table[card].combine_chunks().dictionary_encode()
    codes = cards.combine_chunks().indices if isinstance(cards, pa.ChunkedArray) else cards.indices
    return Outcomes(labels.astype(np.bool_), days.cast(pa.int64()).to_numpy() // 86_400, codes.to_numpy().astype(np.int64))
