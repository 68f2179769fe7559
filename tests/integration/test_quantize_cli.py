"""`assay model quantize` as people run it: a trained network converted, compared, packed and served."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import assay
from assay.cli.model import app
from assay.models.bundle import read_bundle
from assay.models.leaks import look_for_leaks
from assay.models.verify import verify_bundle
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.bundles import pack, runtime, sample_rows
from tests.support.onnx_models import tree_model
from tests.support.server import ServeProcess, make_request
from tests.support.trained_mlp import NAMES, labels_of, trained_mlp

ROWS = 1_500


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/tiny/1, the parent, and rows.parquet with labels, cards and times."""
    folder = tmp_path_factory.mktemp("quantize")
    rows = sample_rows(ROWS, seed=3)
    labels = labels_of(rows.columns)
    training = look_for_leaks(rows.columns, labels, "time")
    said = {"libraries": {"torch": "0.1", "onnx": "0.1"}, "mlflow_run": "e" * 32, "parameters": {"layers": "2"}}
    pack(trained_mlp(), folder / "models", rows=rows, batch_tolerance=1e-6, training=training, **said)
    table = {**rows.columns, "is_fraud": labels, "card": [str(index % 90) for index in range(ROWS)]}
    days = np.datetime64("2026-01-01", "us") + np.arange(ROWS) * np.timedelta64(10, "m")
    pq.write_table(pa.table({**table, "event_time": pa.array(days)}), folder / "rows.parquet")
    return folder


def quantize(place: Path, version: str, *more: str) -> Result:
    return run("quantize", place / "models/tiny/1", "--rows", place / "rows.parquet", "--version", version, *more)


def matrix() -> np.ndarray:
    columns = sample_rows(300, seed=9).columns
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32)


def wild(rows: np.ndarray) -> np.ndarray:
    """The same rows with one in front whose numbers are thirty times too large."""
    return np.concatenate([rows[:1] * 30, rows]).astype(np.float32)


def test_static_int8_is_smaller_nearly_as_good_and_no_neighbour_moves_a_bit(place: Path) -> None:
    labels = ("--label-column", "is_fraud", "--card-column", "card")
    found = quantize(place, "1-int8", "--json", "--decision-flips-max", "0.05", "--auc-drop-max", "0.01", *labels)
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    assert report["model_bytes"]["quantised"] < report["model_bytes"]["parent"]
    assert 0 < report["difference"]["score_difference_max"] < 0.1  # it is another model, and not far from its parent
    assert report["quality"]["quantised"]["auc"] > 0.9
    manifest = read_bundle(place / "models/tiny/1-int8").manifest
    parent = read_bundle(place / "models/tiny/1")
    assert manifest.lineage.parent is not None
    assert manifest.lineage.parent.manifest_sha256 == parent.manifest_sha256
    assert manifest.training == parent.manifest.training  # what was found of leaks is not lost on the way
    assert (manifest.lineage.mlflow_run, manifest.lineage.parameters) == ("e" * 32, {"layers": "2"})
    assert manifest.lineage.libraries["torch"] == "0.1"
    assert manifest.lineage.libraries["onnx"] != "0.1", "what quantised it"
    scorer = assay.Scorer(place / "models/tiny/1-int8")
    together = scorer.score(matrix())
    assert scorer.score(wild(matrix()))[1:].tobytes() == together.tobytes()
    assert np.concatenate([scorer.score(row.reshape(1, -1)) for row in matrix()]).tobytes() == together.tobytes()


def test_dynamic_int8_wants_a_word_and_is_given_one_row_at_a_time(place: Path) -> None:
    refused = quantize(place, "1-dynamic", "--dynamic")
    assert refused.exit_code == 4
    assert "--batch-dependent" in refused.output
    made = quantize(place, "1-dynamic", "--dynamic", "--batch-dependent")
    assert made.exit_code == 0, made.output
    path = place / "models/tiny/1-dynamic"
    verified = verify_bundle(path, runtime())
    assert verified.batch_rows_max(256) == 1
    rows = matrix()
    # What is avoided: the model itself lets a wild row move its neighbours' scores.
    scores, moved = np.empty(len(rows)), np.empty(len(rows) + 1)
    verified.model.score_matrix(rows, verified.score_output, verified.score_column, 512, scores)
    verified.model.score_matrix(wild(rows), verified.score_output, verified.score_column, 512, moved)
    assert np.abs(moved[1:] - scores).max() > 1e-4
    scorer = assay.Scorer(path)
    assert scorer.score(wild(rows))[1:].tobytes() == scorer.score(rows).tobytes()
    ordinary = [make_request(f"t{index}", amount_minor=100 * index) for index in range(8)]
    with ServeProcess("--model", str(path)) as server, grpc.insecure_channel(server.target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        alone = [stub.Score(request).score for request in ordinary]
        among = scoring_pb2.ScoreBatchRequest(requests=[*ordinary, make_request("wild", amount_minor=1_000_000)])
        together = [result.response.score for result in stub.ScoreBatch(among).results]
    assert together[:8] == alone


def test_a_broken_limit_leaves_nothing_behind(place: Path) -> None:
    before = sorted((place / "models/tiny").iterdir())
    found = quantize(place, "1-strict", "--score-difference-max", "1e-9")
    assert found.exit_code == 4
    assert "score difference" in found.output
    assert "nothing was written" in found.output
    assert sorted((place / "models/tiny").iterdir()) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--auc-drop-max", "0.1"), "--label-column"),
        (("--label-column", "is_fraud", "--card-precision-drop-max", "0.1"), "--card-column"),
        (("--keep", "no_such_layer"), "dense_1"),
        (("--label-column", "no_such_column"), "no column no_such_column"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(place: Path, more: tuple[str, ...], words: str) -> None:
    found = quantize(place, "1-refused", *more)
    assert found.exit_code == 4
    assert words in " ".join(found.output.split())
    assert not (place / "models/tiny/1-refused").exists()


def test_fp16_and_a_map_back_to_the_parents_scale(place: Path) -> None:
    found = quantize(place, "1-half", "--fp16", "--recalibrate", "--json", "--score-difference-max", "0.01")
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    assert report["score_map"]["slope"] == pytest.approx(1, abs=0.05)
    assert run("check", place / "models/tiny/1-half").exit_code == 0


def test_trees_and_converted_models_are_refused(place: Path, tmp_path: Path) -> None:
    trees = pack(tree_model(), tmp_path, name="trees")
    found = run("quantize", trees, "--rows", place / "rows.parquet", "--version", "2")
    assert (found.exit_code, "nothing to quantise" in " ".join(found.output.split())) == (4, True)
    assert quantize(place, "1-twice").exit_code == 0
    again = run("quantize", place / "models/tiny/1-twice", "--rows", place / "rows.parquet", "--version", "3")
    assert (again.exit_code, "converted model already" in " ".join(again.output.split())) == (4, True)
