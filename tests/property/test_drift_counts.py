"""What the core counts of rows is what numpy counts of the same rows: every input, of every tensor type, and the score."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from assay import _core
from assay.errors import CoreError
from assay.features.compile import TensorMapping, compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns
from assay.models.baseline import INPUT_QUANTILES, SCORE_QUANTILES, Histogram, make_histogram
from assay.v1 import scoring_pb2

FEATURES = """
name: wide
version: "1"
entities: [customer_id]
request_features:
  amount_minor: {dtype: int64, minimum: -1000000, maximum: 1000000}
  ratio: {dtype: float64, required: false}
  is_abroad: {dtype: bool, required: false, default: false}
views:
  customer:
    entity: customer_id
    aggregates:
      count_1d: {op: count, window: 1d}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 7}
inputs:
  - amount
  - {name: amount_exact, from: amount, dtype: float64}
  - {name: cents, from: amount_minor, dtype: int64}
  - {name: cents_short, from: amount_minor, dtype: int32}
  - {name: is_abroad, dtype: bool}
  - {name: ratio, when_null: nan}
  - {name: ratio_exact, from: ratio, dtype: float64, when_null: {default: 0.25}}
  - count_1d
"""
ROWS = 2_000
CALL_ROWS = 200
THRESHOLDS = [(-0.2, _core.DECISIONS["challenge"]), (0.4, _core.DECISIONS["decline"])]


def make_plan() -> _core.FeaturePlan:
    feature_set = FeatureSet.parse(FEATURES)
    by_dtype: dict[str, list[str]] = {}
    for one in feature_set.inputs:
        by_dtype.setdefault(one.dtype, []).append(one.name)
    # Elements stand the other way round than the inputs, so that their order must be looked up.
    mapping = [TensorMapping(dtype, dtype, tuple(reversed(names))) for dtype, names in by_dtype.items()]
    return compile_plan(feature_set, mapping)


def make_requests(rng: random.Random) -> list[scoring_pb2.ScoreRequest]:
    requests = []
    for number in range(ROWS):
        request = scoring_pb2.ScoreRequest(transaction_id=f"t{number}", entities={"customer_id": "c"})
        request.event_time.FromSeconds(1_522_540_831)
        request.features["amount_minor"].int64_value = round(rng.gauss(0, 300))
        if rng.random() < 0.7:
            request.features["ratio"].double_value = rng.choice((0.25, 0.5, rng.gauss(0, 1)))
        if rng.random() < 0.5:
            request.features["is_abroad"].bool_value = rng.random() < 0.3
        requests.append(request)
    return requests


def run(engine: _core.Engine, requests: list[scoring_pb2.ScoreRequest]) -> NDArray[np.float64]:
    """Scores them in batches; what was answered."""
    queue = engine.open_queue()
    scores: list[float] = []
    for first in range(0, len(requests), CALL_ROWS):
        message = scoring_pb2.ScoreBatchRequest(requests=requests[first : first + CALL_ROWS])
        assert isinstance(engine.submit_batch(message.SerializeToString(), 0, queue, 1), _core.Accepted)
        while engine.step("puppet", "1"):
            pass
        ((_, answer),) = queue.drain()
        assert isinstance(answer, bytes)
        results = scoring_pb2.ScoreBatchResponse.FromString(answer).results
        assert all(result.response.HasField("score") for result in results)
        scores += [result.response.score for result in results]
    return np.array(scores)


def frozen(rng: random.Random, values: NDArray[np.generic], quantiles: tuple[float, ...]) -> Histogram:
    """A baseline of some of the values, so that edges are values that occur; sometimes of none."""
    some = np.array(rng.sample(values.tolist(), rng.choice((0, 1, 50, 1_000))), values.dtype)
    return make_histogram(some, quantiles)


def recount(edges: list[float], values: NDArray[np.generic]) -> tuple[tuple[int, ...], int]:
    numbers = values.astype(np.float64)
    present = numbers[np.isfinite(numbers)]
    bins = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return tuple(bins.tolist()), len(numbers) - len(present)


@pytest.mark.parametrize("round_number", range(3))
def test_the_core_counts_what_numpy_counts(round_number: int, rng: random.Random) -> None:
    plan = make_plan()
    requests = make_requests(rng)
    clock = _core.ManualClock()
    engine = _core.Engine(clock=clock, sample_one_in=1, sampled_rows_max=ROWS)
    lane = {"model": "puppet", "version": "1", "model_sha256": "0" * 64, "threads": False, "thresholds": THRESHOLDS}
    reader = _core.FeatureReader(plan, _core.EmbeddedStore())
    engine.add_lane(**lane, reader=reader, runner=_core.PuppetModel())
    scores = run(engine, requests)
    assert engine.drift() == []
    kept = engine.served_rows(0, ROWS)
    assert len(kept) == ROWS
    columns = input_columns(plan, np.frombuffer(b"".join(row.row for row in kept), np.uint8).reshape(ROWS, -1))

    inputs = {name: frozen(rng, values, INPUT_QUANTILES) for name, values in columns.items()}
    score = frozen(rng, scores, SCORE_QUANTILES)
    engine.remove_lane("puppet", "1")
    edges = _core.DriftEdges([one.edges for one in inputs.values()], score.edges)
    engine.add_lane(**lane, reader=reader, runner=_core.PuppetModel(), drift=edges)
    assert np.array_equal(run(engine, requests), scores)
    (found,) = engine.drift()
    assert found.scores == ROWS
    for (name, histogram), counts, nulls in zip(inputs.items(), found.inputs, found.nulls, strict=True):
        assert (counts, nulls) == recount(histogram.edges, columns[name]), name
    assert (found.score, 0) == recount(score.edges, scores)
    assert found.alerts == tuple((decision, int(np.sum(scores >= minimum))) for minimum, decision in THRESHOLDS)
    without_ratio = sum("ratio" not in request.features for request in requests)
    without_abroad = sum("is_abroad" not in request.features for request in requests)
    imputed = dict(zip(columns, found.imputed, strict=True))
    assert {name: count for name, count in imputed.items() if count} == {
        "is_abroad": without_abroad,
        "ratio_exact": without_ratio,
    }
    assert found.nulls[list(columns).index("ratio")] == without_ratio


def test_edges_that_do_not_fit_the_plan_are_refused() -> None:
    plan = make_plan()
    engine = _core.Engine(clock=_core.ManualClock())
    reader = _core.FeatureReader(plan, _core.EmbeddedStore())
    good: list[list[float]] = [[0.0]] * len(plan.input_names)
    for edges in ([[0.0]], [*good[:-1], [1.0, 1.0]], [*good[:-1], [float("nan")]]):
        with pytest.raises(CoreError, match="drift") as caught:
            engine.add_lane(
                model="m", version="1", model_sha256="0" * 64, reader=reader, runner=_core.PuppetModel(), threads=False,
                drift=_core.DriftEdges(edges, [0.5]),
            )  # fmt: skip
        assert caught.value.reason == "MODEL_UNSUPPORTED"
