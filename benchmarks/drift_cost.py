"""What counting drift costs a scored row: the same batches with the baseline's bins and without, CPU time of who runs them."""

from __future__ import annotations

import random
import time

from assay import _core
from assay.demo.paths import bundle_path
from assay.features.compile import compile_plan
from assay.models.bundle import read_bundle
from assay.models.drift_reference import drift_reference
from assay.models.event_check import training_data
from assay.v1 import scoring_pb2
from benchmarks.measure import Ratio
from benchmarks.run import Run

ROW_NS = 100.0
ROWS, BATCH_ROWS = 51_200, 256
SEED = 11


def drift(run: Run) -> list[Ratio]:
    """Counting one row of the demo's 15 inputs."""
    ratio = Ratio("counting drift of a row, CPU over 100 ns", "<= 1", "ns")
    feature_set, baseline = training_data(read_bundle(bundle_path()))
    reader = _core.FeatureReader(compile_plan(feature_set), _core.EmbeddedStore())
    reference = drift_reference("demo", "1", baseline, feature_set)
    assert reference is not None
    with_bins, without = _Lane(reader, reference.edges), _Lane(reader, None)
    for index in range(run.pairs):
        ratio.pairs.append((max(1.0, with_bins.row_ns() - without.row_ns()), ROW_NS))
        run.report(f"drift: {index + 1}/{run.pairs}, {ratio.pairs[-1][0]:.0f} ns a row")
    return [ratio]


# --- implementation ---


class _Lane:
    """One without a thread: step() is the runner."""

    def __init__(self, reader: _core.FeatureReader, edges: _core.DriftEdges | None) -> None:
        self._engine = _core.Engine(slots=8_192, clock=_core.ManualClock())
        self._engine.add_lane(
            model="demo", version="1", model_sha256="0" * 64, reader=reader, runner=_core.PuppetModel(BATCH_ROWS),
            threads=False, batch_rows_max=BATCH_ROWS, drift=edges,
        )  # fmt: skip
        self._queue = self._engine.open_queue()
        rng = random.Random(SEED)
        self._batches = [_batch(rng) for _ in range(20)]
        self.row_ns()  # warm

    def row_ns(self) -> float:
        spent_s = 0.0
        for index in range(ROWS // BATCH_ROWS):
            self._engine.submit_batch(self._batches[index % len(self._batches)], 0, self._queue, index)
            started_s = time.thread_time()
            rows = self._engine.step("demo", "1")
            spent_s += time.thread_time() - started_s
            assert rows == BATCH_ROWS
            self._queue.drain()
        return spent_s * 1e9 / ROWS


def _batch(rng: random.Random) -> bytes:
    message = scoring_pb2.ScoreBatchRequest()
    for number in range(BATCH_ROWS):
        request = message.requests.add(transaction_id=f"t{number}")
        request.event_time.FromSeconds(1_525_000_000 + rng.randrange(86_400))
        request.entities["customer_id"] = request.entities["terminal_id"] = str(rng.randrange(1_000))
        request.features["amount_minor"].int64_value = rng.randrange(20_000)
    return message.SerializeToString()
