"""The frozen distribution of every model input and of the score at training time: what drift is measured against.

Bins are deciles plus tail bins at both ends: deciles alone do not see an attack, which moves the last percent. The edges are
frozen here and never follow the traffic. A value v falls into bin i where edges[i - 1] <= v < edges[i]; bin 0 is below the first
edge, the last bin at or above the last. Nulls (NaN) are counted apart.

    {"format": 1, "rows": n, "inputs": {name: {"edges": [...], "counts": [...], "nulls": k}}, "score": {...},
     "alert_rates": {decision: share of rows at or above its threshold}}
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.models.manifest import BASELINE_FILE, Threshold
from assay.models.refusal import BundleRefusedError

BASELINE_FORMAT: Final = 1
_DECILES: Final = tuple(step / 10 for step in range(1, 10))
INPUT_QUANTILES: Final = (0.001, 0.01, *_DECILES, 0.99, 0.999)
SCORE_QUANTILES: Final = (*_DECILES, 0.99, 0.995, 0.999, 0.9995)

_MEND = "write it with assay model pack"
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Histogram(_Part):
    """Counts over frozen bins: len(counts) = len(edges) + 1."""

    edges: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(max_length=1_000)
    counts: list[Count]
    nulls: Count

    @model_validator(mode="after")
    def _shapes_agree(self) -> Histogram:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError("expected one count more than edges")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("expected edges in ascending order")
        return self

    @property
    def rows(self) -> int:
        return sum(self.counts) + self.nulls


class Baseline(_Part):
    """baseline.json."""

    format: Literal[1]
    rows: Count
    inputs: dict[str, Histogram]
    score: Histogram
    alert_rates: dict[str, Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _rows_agree(self) -> Baseline:
        if any(histogram.rows != self.rows for histogram in (*self.inputs.values(), self.score)):
            raise ValueError("rows: expected the counts of every histogram to add up to it")
        return self

    def to_json(self) -> bytes:
        """The file's bytes."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def make_baseline(columns: dict[str, NDArray[Any]], scores: NDArray[np.float64], thresholds: list[Threshold]) -> Baseline:
    """From the columns of the model inputs and the scores, all of shape (n,)."""
    return Baseline(
        format=BASELINE_FORMAT,
        rows=len(scores),
        inputs={name: make_histogram(values, INPUT_QUANTILES) for name, values in columns.items()},
        score=make_histogram(scores, SCORE_QUANTILES),
        alert_rates={threshold.decision: float(np.mean(scores >= threshold.score)) for threshold in thresholds},
    )


def make_histogram(values: NDArray[Any], quantiles: tuple[float, ...]) -> Histogram:
    """Bins at the quantiles of the values (n,); quantiles that fall together are one edge."""
    numbers = values.astype(np.float64)
    present = numbers[np.isfinite(numbers)]
    # method="higher": an edge is a value that occurred, so that a value of a discrete input is wholly on one side.
    edges = np.unique(np.quantile(present, quantiles, method="higher")) if len(present) else np.empty(0)
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return Histogram(edges=edges.tolist(), counts=counts.tolist(), nulls=len(numbers) - len(present))


def parse_baseline(data: bytes, input_names: tuple[str, ...]) -> Baseline:
    """Reads baseline.json and checks that it covers exactly the model's inputs. Raises BundleRefusedError."""
    try:
        baseline = Baseline.model_validate(orjson.loads(data))
    except orjson.JSONDecodeError:
        raise BundleRefusedError(BASELINE_FILE, "not JSON", _MEND) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(step)[:64] for step in first["loc"]) or "baseline"
        raise BundleRefusedError(BASELINE_FILE, f"{place}: {first['msg']}", _MEND) from None
    if tuple(baseline.inputs) != input_names:
        raise BundleRefusedError(BASELINE_FILE, "does not cover the feature set's inputs in their order", _MEND)
    return baseline
