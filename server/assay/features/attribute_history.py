"""The history of attributes in a replay: each row is applied before the first event at or after its time, as it was known then.

A model that is trained on the newest attributes learns what nobody knew at the time (a risk tier that was raised because of the
fraud). So a replay takes the rows of every attribute view with their times, and puts them between the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from assay import _core
from assay.errors import InputError
from assay.features.attribute_files import read_rows
from assay.features.attribute_row import AttributeRow
from assay.features.attributes import outcome_of
from assay.features.definitions import AttributeView
from assay.features.feature_set import FeatureSet
from assay.features.rejects import Rejects


class TimedRow(NamedTuple):
    """One row of one view."""

    view: str
    row: AttributeRow


def read_history(feature_set: FeatureSet, files: Mapping[str, Path], rejects: Rejects) -> list[TimedRow]:
    """Rows of all attribute views, in order of time; of one time in the order of the file. Memory: all rows.

    Raises InputError where a view has no file, FeatureSetError where a name is no attribute view.
    """
    for name, view in feature_set.views.items():
        if isinstance(view, AttributeView) and name not in files:
            raise InputError(
                f"views.{name}: holds attributes, which a file of events does not carry; the model would be trained on nulls. "
                f"Give their rows, past ones too: --attributes {name}=FILE"
            )
    history: list[TimedRow] = []
    for name, path in files.items():
        for rows in read_rows(path, feature_set.attribute_view(name)):
            rejects.add_all(rows.bad)
            history += [TimedRow(name, row) for row in rows.good]
    history.sort(key=lambda timed: timed.row.time_us)
    return history


class HistoryCursor:
    """A place in a history, moving with a replay of `log` (sorted), whose events meet the rows that were known by then."""

    def __init__(self, history: list[TimedRow], log: _core.EventLog, writer: _core.EventWriter) -> None:
        self._history = history
        self._positions = [log.position_at(timed.row.time_us) for timed in history]
        self._writer = writer
        self._next = 0

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Parts of the events [start, stop), in order, between which attributes change; iterating applies the changes.

        REQUIRES: calls in order, `start` where the last call stopped; each part is replayed before the next is taken.
        """
        at = start
        while self._next < len(self._history) and self._positions[self._next] < stop:
            position = self._positions[self._next]
            if position > at:
                yield at, position
                at = position
            timed = self._history[self._next]
            row = timed.row
            outcome_of(self._writer.write_attributes(timed.view, row.entity_id, row.time_us, row.values))
            self._next += 1
        if at < stop:
            yield at, stop
