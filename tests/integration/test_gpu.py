"""A real card, where there is one (`make test ORT=gpu ARGS='-m gpu'`): it computes, golden rows match there, batches are capped
to what its memory holds, the ladder holds when the memory is full, a row is quick. None of these has run on a card yet.

A small limit of the session's arena stands in for a full card: it is ONNX Runtime's own, and fails runs in the same way.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from assay import _core
from assay.models.cuda_machine import find_driver
from assay.models.device import CPU, PROVIDER, Device, DeviceWish, make_session
from assay.models.device_trial import try_device
from assay.models.verify import VerifiedModel, verify_bundle
from assay.v1 import scoring_pb2
from tests.support.bundles import pack, runtime
from tests.support.onnx_models import linear_model, make_model, weights
from tests.support.server import make_request

WIDTH = 1 << 18  # of a row's hidden layer: 1 MiB
ARENA_BYTES = 64 << 20  # the weights take 4 MiB of it
ROWS = 256
ROW_NS_MAX = 50_000_000

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        find_driver() is None or PROVIDER not in runtime().providers,
        reason="needs an NVIDIA card and the wheel of ONNX Runtime for CUDA (make test ORT=gpu)",
    ),
]


def wide_model() -> onnx.ModelProto:
    """A net of which a row takes megabytes while it is run."""
    last = numpy_helper.from_array(np.full((WIDTH, 1), 1 / WIDTH, np.float32), "last")
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["hidden"]),
        helper.make_node("Sigmoid", ["hidden"], ["bounded"]),
        helper.make_node("MatMul", ["bounded", "last"], ["score"]),
    ]
    return make_model(nodes, initializers=[weights(columns=WIDTH), last])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(wide_model(), tmp_path_factory.mktemp("wide"), golden_tolerance=1e-4, batch_tolerance=1e-4)


def on_card(bundle: Path, *, arena_bytes: int = 1 << 30, rows: int = ROWS) -> VerifiedModel:
    verified = verify_bundle(bundle, runtime(), wish=DeviceWish("cuda", 0, arena_bytes), batch_rows_max=rows)
    assert str(verified.placement) == "cuda:0"
    return verified


def test_a_card_computes() -> None:
    assert try_device(runtime(), Device(0)) <= 1e-5


def test_golden_rows_match_there(tmp_path: Path) -> None:
    verified = on_card(pack(linear_model(), tmp_path))
    assert verified.card_fit is not None
    assert verified.card_fit.rows_max == verified.batch_rows_max(ROWS) == ROWS
    assert all(size.took_bytes is not None for size in verified.card_fit.sizes), "cudaMemGetInfo told nothing"


def test_batches_are_capped_to_what_the_memory_holds(wide: Path) -> None:
    verified = on_card(wide, arena_bytes=ARENA_BYTES)
    assert verified.card_fit is not None
    assert 1 <= verified.card_fit.rows_max < ROWS
    assert "out of memory" in verified.card_fit.obstacle
    assert verified.batch_rows_max(ROWS) == verified.card_fit.rows_max


def test_the_ladder_holds_when_the_memory_is_full(wide: Path) -> None:
    """A lane of batches that the card's arena does not hold, as when a neighbour took memory after the load."""
    small = on_card(wide, arena_bytes=ARENA_BYTES, rows=1)
    assert small.standby is not None
    card = _core.Card()
    engine = _core.Engine()
    queue = engine.open_queue()
    engine.add_lane(
        model="tiny",
        version="1",
        model_sha256="0" * 64,
        reader=_core.FeatureReader(small.plan, _core.EmbeddedStore()),
        runner=small.model,
        threads=False,
        score_output=small.score_output,
        batch_rows_max=ROWS,
        timeout_ns_default=60_000_000_000,
        card=card,
        standby=small.standby,
        is_default=True,
    )
    requests = [make_request(f"t{number}", amount_minor=number * 100) for number in range(ROWS)]
    answers = []
    for _ in range(2):
        message = scoring_pb2.ScoreBatchRequest(requests=requests).SerializeToString()
        assert isinstance(engine.submit_batch(message, 0, queue, 1), _core.Accepted)
        while engine.step("tiny", "1"):
            pass
        ((_, answer),) = queue.drain()
        assert isinstance(answer, bytes)
        answers.append([result.response.score for result in scoring_pb2.ScoreBatchResponse.FromString(answer).results])
    assert all(0 < score < 1 for score in answers[0])
    assert np.abs(np.array(answers[0]) - np.array(answers[1])).max() <= 1e-4
    stats = card.stats()
    assert stats.faults["out_of_memory"] > 0
    assert (stats.is_dead, stats.faults["sticky"], stats.faults["failed"]) == (False, 0, 0)
    assert stats.runs > 0, "smaller batches run there"
    (use,) = stats.uses
    assert 0 < use.rows < ROWS
    engine.stop()


def test_a_row_is_quick(tmp_path: Path) -> None:
    """A bound that only a card which sleeps, or computes elsewhere, misses."""
    verified = on_card(pack(linear_model(), tmp_path))
    rows = np.zeros((200, verified.plan.row_bytes), np.uint8)
    assert statistics.median(verified.model.time_rows(verified.plan, rows, verified.score_output)[50:]) < ROW_NS_MAX


def test_both_sides_give_the_same_scores(wide: Path) -> None:
    verified = on_card(wide)
    rows = np.zeros((64, verified.plan.row_bytes), np.uint8)
    there = verified.model.run_rows(verified.plan, rows, verified.score_output)
    here = make_session(runtime(), verified.bundle.model_bytes, CPU).run_rows(verified.plan, rows, verified.score_output)
    assert np.abs(there - here).max() <= 1e-4
