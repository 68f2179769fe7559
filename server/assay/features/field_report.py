"""What a sample of events looks like, field by field: types, nulls, numbers. No id and no text is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import orjson

_TYPES = {bool: "bool", int: "int64", float: "float64", str: "string", type(None): "null", list: "array", dict: "object"}


@dataclass
class FieldReport:
    """One field. A sample is small: its numbers and the hashes of its texts are held."""

    types: Counter[str] = field(default_factory=Counter)
    missing_count: int = 0
    numbers: list[float] = field(default_factory=list, repr=False)
    texts: Counter[int] = field(default_factory=Counter, repr=False)

    def add(self, value: Any) -> None:
        self.types[_TYPES[type(value)]] += 1
        if isinstance(value, str):
            self.texts[hash(value)] += 1
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.numbers.append(value)

    def document(self) -> dict[str, Any]:
        """types, missing; of numbers min, median, max; of texts how many there are, and how often the most frequent is."""
        shown: dict[str, Any] = {"types": dict(self.types.most_common()), "missing": self.missing_count}
        if self.numbers:
            shown |= {"min": min(self.numbers), "median": median(self.numbers), "max": max(self.numbers)}
        if self.texts:
            shown |= {"distinct": len(self.texts), "most_frequent_count": self.texts.most_common(1)[0][1]}
        return shown


def report_fields(lines: Iterable[bytes], features: Iterable[str], entities: Iterable[str]) -> dict[str, FieldReport]:
    """Of every line that is a JSON object: the declared fields. Others are counted in "undeclared features" (a name may be
    anything)."""
    places = [("", name) for name in ("transaction_id", "event_time", "is_fraud")]
    places += [("entities", name) for name in entities] + [("features", name) for name in features]
    reports = {name if not part else f"{part}.{name}": FieldReport() for part, name in places}
    undeclared = FieldReport()
    known = {name for part, name in places if part == "features"}
    for document in _objects(lines):
        for part, name in places:
            holder = document if not part else document.get(part)
            report = reports[name if not part else f"{part}.{name}"]
            if isinstance(holder, Mapping) and name in holder:
                report.add(holder[name])
            else:
                report.missing_count += 1
        others = document.get("features")
        if isinstance(others, dict):
            for name in others.keys() - known:
                undeclared.add(others[name])
    return reports | ({"undeclared features": undeclared} if undeclared.types else {})


# --- implementation ---


def _objects(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # a reject, reported as one
        if isinstance(document, dict):
            yield document
