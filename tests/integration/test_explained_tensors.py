"""ModelInfer says why, where it is asked for outputs that are no model's: the same as Score says, as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from assay.demo.paths import bundle_path
from assay.inference import open_inference_pb2, open_inference_pb2_grpc
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.bundles import pack
from tests.support.demo_scores import feature_set, shown_inputs
from tests.support.onnx_models import tree_model
from tests.support.server import ServeProcess
from tests.support.trained_mlp import trained_mlp

pytestmark = pytest.mark.usefixtures("transport")

CONTRIBUTIONS, ERRORS, RESIDUAL = "explanation_contributions", "explanation_errors", "explanation_residual"
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    out = tmp_path_factory.mktemp("models")
    network = pack(trained_mlp(), out, name="network", batch_tolerance=1e-6)
    silent = pack(tree_model(), out, name="silent", background_rows=0)
    models = [part for path in (bundle_path(), network, silent) for part in ("--model", str(path))]
    with ServeProcess(*models, "--set", "explain.inline_ms_max=1000") as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: ServeProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def infer(
    channel: grpc.Channel, model: str, rows: NDArray[np.float32], *outputs: str, tensor: str = "input"
) -> tuple[Tensors, dict[str, dict[str, str]]]:
    """The tensors that came, and their parameters."""
    request = open_inference_pb2.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name=tensor, datatype="FP32", shape=rows.shape)
    for name in outputs:
        request.outputs.add(name=name)
    answer = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20)
    types = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}
    tensors, notes = {}, {}
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        tensors[output.name] = np.frombuffer(raw, types[output.datatype]).reshape(tuple(output.shape))
        notes[output.name] = {name: value.string_param for name, value in output.parameters.items()}
    return tensors, notes


def explained_score(channel: grpc.Channel, amount_minor: int) -> scoring_pb2.ScoreResponse:
    request = scoring_pb2.ScoreRequest(
        transaction_id="t",
        model="card_fraud",
        entities={"customer_id": "596", "terminal_id": "3156"},
        include_features=True,
        explain=scoring_pb2.ExplainOptions(players="EXPLAIN_PLAYERS_INPUTS"),
    )
    request.event_time.FromJsonString("2018-05-09T23:30:00Z")
    request.features["amount_minor"].int64_value = amount_minor
    answer = scoring_pb2_grpc.ScoringServiceStub(channel).Score(request, timeout=20)
    assert isinstance(answer, scoring_pb2.ScoreResponse)
    return answer


def test_tensors_are_explained_as_the_score_of_the_same_row(channel: grpc.Channel) -> None:
    scores = [explained_score(channel, amount) for amount in (90_000, 1_200)]
    rows = np.array([shown_inputs(score) for score in scores], dtype=np.float32)
    tensors, notes = infer(channel, "card_fraud", rows, CONTRIBUTIONS, ERRORS, RESIDUAL)
    names = feature_set().input_names
    assert tensors[CONTRIBUTIONS].shape == (2, len(names) + 1)
    assert tensors[ERRORS].shape == (2, len(names))
    assert tensors[RESIDUAL].shape == (2,)
    for row, score in zip(tensors[CONTRIBUTIONS], scores, strict=True):
        told = {one.player: one.contribution for one in score.explanation.contributions}
        assert {name: value for name, value in zip(names, row, strict=False) if value} == told
        assert row[-1] == score.explanation.base_margin
    assert not tensors[ERRORS].any()
    assert (tensors[RESIDUAL] < 1e-9).all()
    background = hashlib.sha256((bundle_path() / "background.npz").read_bytes()).hexdigest()
    assert notes[CONTRIBUTIONS] == {"method": "trees", "margin_space": "log_odds", "background_sha256": background}


def test_without_such_an_output_nothing_is_explained(channel: grpc.Channel) -> None:
    rows = np.array([shown_inputs(explained_score(channel, 90_000))], dtype=np.float32)
    assert not set(infer(channel, "card_fraud", rows)[0]) & {CONTRIBUTIONS, ERRORS, RESIDUAL}


def test_outputs_of_the_model_come_with_them(channel: grpc.Channel) -> None:
    rows = np.array([shown_inputs(explained_score(channel, 90_000))], dtype=np.float32)
    plain, _ = infer(channel, "card_fraud", rows, "probabilities")
    both, _ = infer(channel, "card_fraud", rows, CONTRIBUTIONS, "probabilities")
    assert list(both) == ["probabilities", CONTRIBUTIONS]
    assert np.array_equal(both["probabilities"], plain["probabilities"])
    margin = both[CONTRIBUTIONS][0].sum()
    assert 1 / (1 + np.exp(-margin)) == pytest.approx(float(both["probabilities"][0, 1]), abs=1e-6)


def test_a_network_has_errors(channel: grpc.Channel) -> None:
    rows = np.array([[280.0, 1.0, 7.0], [10.0, 0.0, 1.0], [150.0, 1.0, 5.0]], dtype=np.float32)
    tensors, notes = infer(channel, "network", rows, "score", CONTRIBUTIONS, ERRORS)
    assert notes[ERRORS]["method"] == "permutation"
    assert np.isfinite(tensors[CONTRIBUTIONS]).all()
    assert tensors[ERRORS].max() > 0
    scores = 1 / (1 + np.exp(-tensors[CONTRIBUTIONS].sum(axis=1)))
    assert scores == pytest.approx(tensors["score"][:, 0].astype(np.float64), abs=1e-5)


@pytest.mark.parametrize(
    ("model", "outputs", "said"),
    [
        ("silent", (CONTRIBUTIONS,), "this model version has no background rows"),
        ("card_fraud", (RESIDUAL, RESIDUAL), "asked for twice"),
        ("card_fraud", ("explanation",), "the model gives no such output"),
    ],
)
def test_what_cannot_be_is_refused_by_name(channel: grpc.Channel, model: str, outputs: tuple[str, ...], said: str) -> None:
    width = 3 if model == "silent" else len(feature_set().input_names)
    with pytest.raises(grpc.RpcError) as refused:
        infer(channel, model, np.zeros((1, width), dtype=np.float32), *outputs)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert said in refused.value.details()  # type: ignore[attr-defined]


def test_an_answer_that_would_be_too_large_is_refused_before_it_is_made(transport: str, tmp_path: Path) -> None:
    options = ["--set", "limits.send_message_bytes_max=65536", "--set", "explain.inline_ms_max=1000"]
    bundle = pack(tree_model(), tmp_path)
    with ServeProcess("--model", str(bundle), *options) as server, grpc.insecure_channel(server.target) as channel:
        rows = np.zeros((1_000, 3), dtype=np.float32)
        assert infer(channel, "tiny", rows, CONTRIBUTIONS)[0][CONTRIBUTIONS].shape == (1_000, 4)
        with pytest.raises(grpc.RpcError) as refused:
            infer(channel, "tiny", rows, CONTRIBUTIONS, ERRORS, RESIDUAL, "score")
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert "1000 rows have outputs of 68000 bytes" in refused.value.details()  # type: ignore[attr-defined]
