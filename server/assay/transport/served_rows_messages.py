"""Rows that a model was given, as pages of assay.v1."""

from __future__ import annotations

import numpy as np

from assay._core import ServedRow
from assay.features.rows import input_columns
from assay.features.served import ModelFeatures
from assay.transport.feature_messages import feature_value, provenance
from assay.v1 import feature_pb2

PAGE_BYTES_MAX = 1 << 20
PAGE_ROWS_MAX = 1_000
_ROW_BYTES_MAX = 256  # id, time and framing
_INPUT_BYTES_MAX = 96  # a value, and its name among the missing ones


def page_rows(model: ModelFeatures) -> int:
    """So many rows of this model fit into a page, whatever is in them."""
    row_bytes = _ROW_BYTES_MAX + _INPUT_BYTES_MAX * len(model.plan.input_names)
    return min(PAGE_ROWS_MAX, max(1, PAGE_BYTES_MAX // row_bytes))


def served_rows_message(
    model: ModelFeatures, rows: list[ServedRow], after: int, newest: int
) -> feature_pb2.GetServedRowsResponse:
    """The rows of this model among those that were found past `after`."""
    last = rows[-1].position if rows else after
    message = feature_pb2.GetServedRowsResponse(
        provenance=provenance(model),
        input_names=model.plan.input_names,
        last_position=last,
        newest_position=max(last, newest),
    )
    mine = [row for row in rows if (row.model, row.version) == (model.model, model.version)]
    if not mine:
        return message
    packed = np.frombuffer(b"".join(row.row for row in mine), np.uint8).reshape(len(mine), -1)
    columns = [column.tolist() for column in input_columns(model.plan, packed).values()]
    for row, values in zip(mine, zip(*columns, strict=True), strict=True):
        shown = message.rows.add(
            transaction_id=row.transaction_id,
            values=[feature_value(value) for value in values],
            missing_features=_names_of(row.missing, model.plan.input_names),
            is_degraded=row.is_degraded,
        )
        shown.event_time.FromMicroseconds(row.event_time_us)
    return message


# --- implementation ---


def _names_of(words: tuple[int, ...], names: tuple[str, ...]) -> list[str]:
    return [name for index, name in enumerate(names) if words[index // 64] >> (index % 64) & 1]
