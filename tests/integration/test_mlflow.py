"""Bundles and ONNX models through MLflow: what a training logs comes back proved, with its lineage; a pickle never does.

Needs MLflow (pip install 'assay[mlflow]', in the development lock); a SQLite store of its own, nothing outside this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from assay.errors import AssayError, BundleError, InputError
from assay.models import mlflow_runs
from assay.models.bundle import read_bundle
from assay.models.mlflow_runs import FILES_MAX, TrainingRun, training_run
from assay.models.pack import Commit
from assay.models.pull import PulledBundle, pull_bundle
from tests.support.bundles import FEATURE_SET, pack, runtime, sample_rows
from tests.support.onnx_models import linear_model, tree_model

pytest.importorskip("mlflow", reason="needs: pip install 'assay[mlflow]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and SQLAlchemy

COMMIT = Commit("c" * 40, is_dirty=False)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "online_payments"
PARAMETERS = {"depth": 3, "note": "a\x1b[2Jb", "long": "x" * 300}


@dataclass(frozen=True)
class Store:
    """A store of MLflow in a directory."""

    directory: Path
    uri: str

    def run(self, log: Callable[[TrainingRun], object], commit: Commit = COMMIT) -> str:
        """A finished run in which `log` was called; its id."""
        with training_run(self.uri, "test", commit, "d" * 64, PARAMETERS) as run:
            log(run)
        return run.run_id

    def bundle_run(self, out: Path, **changes: Any) -> str:
        """A finished run with a bundle."""

        def log(run: TrainingRun) -> None:
            run.log_metrics({"auc": 0.9})
            run.log_bundle(pack(tree_model(), out, **{"mlflow_run": run.run_id, **changes}))

        return self.run(log)

    def log_directory(self, directory: Path, **changes: Any) -> str:
        """A finished run with the files of a directory as the artifact `model`."""
        return self.run(lambda run: run.client.log_artifacts(run.run_id, str(directory), "model"), **changes)

    def artifact(self, run_id: str, name: str) -> Path:
        """Where a file of a run lies."""
        (found,) = self.directory.rglob(f"{run_id}/artifacts/{name}")
        return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    directory = tmp_path_factory.mktemp("mlflow")
    before = Path.cwd()
    os.chdir(directory)  # MLflow puts artifacts beside it
    try:
        made = Store(directory, f"sqlite:///{directory}/mlflow.db")
        made.run(lambda run: None)  # makes the tables and the experiment
    finally:
        os.chdir(before)
    return made


@pytest.fixture(scope="module")
def sound_run(store: Store) -> str:
    """A run with a bundle, which nobody changes."""
    return store.bundle_run(store.directory / "packed")


def pull(store: Store, run_id: str, out: Path, artifact: str = "bundle", **options: Any) -> PulledBundle:
    return pull_bundle(f"mlflow:runs:/{run_id}/{artifact}", store.uri, out, runtime(), **options)


def assay(*arguments: str | Path) -> Result:
    from assay.cli.model import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120", "NO_COLOR": "1"})


def test_a_bundle_comes_back_as_it_was_packed(store: Store, sound_run: str, tmp_path: Path) -> None:
    pulled = pull(store, sound_run, tmp_path / "models")
    assert pulled.place == tmp_path / "models" / "tiny" / "1"
    assert read_bundle(pulled.place).files == read_bundle(store.directory / "packed" / "tiny" / "1").files
    assert pulled.manifest.lineage.mlflow_run == sound_run
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["tiny"]
    with pytest.raises(BundleError, match="this version exists"):
        pull(store, sound_run, tmp_path / "models")
    pull(store, sound_run, tmp_path / "models", is_replacing=True)


def test_as_a_person_pulls_it(store: Store, sound_run: str, tmp_path: Path) -> None:
    run_id = sound_run
    given = ["pull", f"mlflow:runs:/{run_id}/bundle", "--tracking-uri", store.uri, "--out", tmp_path / "models"]
    result = assay(*given)
    assert result.exit_code == 0, result.output
    assert f"of run {run_id}" in " ".join(result.stderr.split())
    assert assay(*given).exit_code == 4
    document = json.loads(assay(*given, "--force", "--json").stdout)
    assert document["mlflow_run"] == run_id
    secret = assay("pull", f"mlflow:runs:/{run_id}/bundle", "--tracking-uri", "https://me:secret@mlflow.example")
    assert secret.exit_code == 2
    assert "MLFLOW_TRACKING_URI" in secret.stderr
    assert "secret" not in secret.stderr


@pytest.mark.parametrize("said", [None, "e" * 32])
def test_a_bundle_of_another_run_is_refused(store: Store, tmp_path: Path, said: str | None) -> None:
    run_id = store.bundle_run(tmp_path / "packed", mlflow_run=said)
    with pytest.raises(BundleError, match=f"and lies in run {run_id}; pack it with --mlflow-run"):
        pull(store, run_id, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_bundle_that_was_changed_in_the_store_is_refused(store: Store, tmp_path: Path) -> None:
    run_id = store.bundle_run(tmp_path / "packed")
    store.artifact(run_id, "bundle/model.onnx").write_bytes(linear_model().SerializeToString())
    with pytest.raises(BundleError, match=r"model\.onnx: "):
        pull(store, run_id, tmp_path / "models")
    store.artifact(run_id, "bundle/golden.npz").unlink()
    with pytest.raises(InputError, match=r"golden\.npz is missing; log the bundle again"):
        pull(store, run_id, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_files_beyond_a_bundles_are_not_fetched(store: Store, tmp_path: Path) -> None:
    run_id = store.bundle_run(tmp_path / "packed")
    beside = store.artifact(run_id, "bundle/model.onnx").parent
    (beside / "model.pkl").write_bytes(b"\x80\x04.")
    (beside / "deeper").mkdir()
    assert len(list(pull(store, run_id, tmp_path / "models").place.iterdir())) == 6


def test_a_background_comes_with_its_bundle_and_only_with_it(store: Store, tmp_path: Path) -> None:
    run_id = store.bundle_run(tmp_path / "packed", background_rows=0)
    pulled = pull(store, run_id, tmp_path / "models")
    assert pulled.manifest.explanation is None
    assert not (pulled.place / "background.npz").exists()

    run_id = store.bundle_run(tmp_path / "explained")
    store.artifact(run_id, "bundle/background.npz").unlink()
    with pytest.raises(BundleError, match=r"background\.npz: the file is missing"):
        pull(store, run_id, tmp_path / "models", is_replacing=True)


def test_what_is_not_there_is_said(store: Store, tmp_path: Path) -> None:
    run_id = store.run(lambda run: None)
    with pytest.raises(InputError, match="there is no such artifact"):
        pull(store, run_id, tmp_path)
    with pytest.raises(InputError, match="check the run, the artifact and --tracking-uri"):
        pull(store, "f" * 32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_did_not_finish(store: Store, tmp_path: Path) -> None:
    runs: list[str] = []

    def fail(run: TrainingRun) -> None:
        runs.append(run.run_id)
        run.client.log_text(run.run_id, "format: 1", "bundle/manifest.yaml")
        with pytest.raises(InputError, match="the run is RUNNING"):
            pull(store, run.run_id, tmp_path / "models")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.run(fail)
    with pytest.raises(InputError, match="the run is FAILED"):
        pull(store, runs[0], tmp_path / "models")


def test_names_and_sizes_are_looked_at_before_anything_is_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.bundle_run(tmp_path / "packed")
    directory = store.artifact(run_id, "bundle/model.onnx").parent
    monkeypatch.setitem(mlflow_runs.FILE_BYTES_MAX, "model.onnx", 10)
    with pytest.raises(InputError, match=r"model\.onnx is larger than 10 bytes"):
        pull(store, run_id, tmp_path / "models")
    monkeypatch.undo()
    for number in range(FILES_MAX - 6):
        (directory / f"more{number}").touch()
    pull(store, run_id, tmp_path / "models")
    (directory / "one more").touch()
    with pytest.raises(InputError, match="65 files, a bundle has at most 6"):
        pull(store, run_id, tmp_path / "models", is_replacing=True)
    (directory / "one more").rename(directory / "..x")
    (directory / "more0").unlink()
    with pytest.raises(InputError, match="a name that is none of ours"):
        pull(store, run_id, tmp_path / "models", is_replacing=True)


# --- ONNX


@pytest.fixture(scope="module")
def onnx_run(store: Store) -> str:
    """A model that was logged the way MLflow's documents show."""
    import mlflow
    import mlflow.onnx

    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment("test")
    with mlflow.start_run(tags={"mlflow.source.git.commit": "a" * 40}) as run:
        mlflow.log_params({"depth": 4})
        mlflow.onnx.log_model(tree_model(), name="model")
    return str(run.info.run_id)


def pack_options(folder: Path) -> list[str | Path]:
    (folder / "set.yaml").write_bytes(FEATURE_SET)
    pq.write_table(pa.table(sample_rows().columns), folder / "rows.parquet")
    return [
        *("--feature-set", folder / "set.yaml", "--rows", folder / "rows.parquet", "--name", "tiny", "--version", "1"),
        *("--score-output", "score", "--library", "by-hand=1", "--out", folder / "models"),
    ]


def test_an_onnx_model_becomes_a_bundle_with_its_runs_lineage(store: Store, onnx_run: str, tmp_path: Path) -> None:
    given = ["pack", "--model", f"mlflow:runs:/{onnx_run}/model", "--tracking-uri", store.uri, *pack_options(tmp_path)]
    refused = assay(*given)
    assert refused.exit_code == 1
    assert "it says not that all was committed" in " ".join(refused.stderr.split())
    import mlflow

    mlflow.MlflowClient(store.uri).set_tag(onnx_run, "assay.git_is_dirty", "false")  # what it told us to do
    packed = assay(*given)
    assert packed.exit_code == 0, packed.output
    lineage = read_bundle(tmp_path / "models" / "tiny" / "1").manifest.lineage
    assert (lineage.git_commit, lineage.git_is_dirty, lineage.mlflow_run) == ("a" * 40, False, onnx_run)
    assert lineage.parameters == {"depth": "4"}
    assert lineage.data_sha256 == mlflow_runs_sha256(tmp_path / "rows.parquet")
    assert assay(*given, "--mlflow-run", "x").exit_code == 2
    with pytest.raises(InputError, match=f"assay model pack --model mlflow:runs:/{onnx_run}/model"):
        pull(store, onnx_run, tmp_path / "models", "model")


def mlflow_runs_sha256(path: Path) -> str:
    from assay.models.pack import sha256_of_file

    return sha256_of_file(path)


def test_what_a_run_says_stands_in_the_manifest(store: Store, tmp_path: Path) -> None:
    """Parameters are foreign words: printable, and not too long."""
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged" / "MLmodel").write_text("flavors: {onnx: {data: m.onnx}}")
    (tmp_path / "logged" / "m.onnx").write_bytes(tree_model().SerializeToString())
    run_id = store.log_directory(tmp_path / "logged")
    given = ["pack", "--model", f"mlflow:runs:/{run_id}/model", "--tracking-uri", store.uri, *pack_options(tmp_path)]
    packed = assay(*given)
    assert packed.exit_code == 0, packed.output
    lineage = read_bundle(tmp_path / "models" / "tiny" / "1").manifest.lineage
    assert (lineage.git_commit, lineage.git_is_dirty, lineage.data_sha256) == ("c" * 40, False, "d" * 64)
    assert lineage.parameters == {"depth": "3", "note": "a?[2Jb", "long": "x" * 247 + "..."}


@pytest.mark.parametrize(
    ("mlmodel", "says"),
    [
        ("flavors: {sklearn: {pickled_model: model.pkl}, python_function: {}}", "flavours python_function, sklearn.*as a pickle"),
        ("flavors: {onnx: {data: model.pkl}}", "names no ONNX file"),
        ("flavors: {onnx: {data: ../../other.onnx}}", "names no ONNX file"),
        ("flavors: {onnx: {data: 7}}", "names no ONNX file"),
        ("flavors: {onnx: {data: absent.onnx}}", "there is no such file"),
        ("flavors: [", "is not YAML"),
        ("a: &x [1]\nflavors: *x", "is not YAML"),
        ("other: 1", "flavours none"),
    ],
)
def test_models_that_are_never_loaded(store: Store, tmp_path: Path, mlmodel: str, says: str) -> None:
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged" / "MLmodel").write_text(mlmodel)
    (tmp_path / "logged" / "model.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    run_id = store.log_directory(tmp_path / "logged")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(AssayError, match=says):
        mlflow_runs.fetch(f"mlflow:runs:/{run_id}/model", store.uri, into)
    assert not list(into.rglob("*.pkl"))


def test_neither_a_bundle_nor_a_model(store: Store, tmp_path: Path) -> None:
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged" / "plot.png").write_bytes(b"x")
    run_id = store.log_directory(tmp_path / "logged")
    with pytest.raises(InputError, match=r"holds plot\.png: no bundle and no model"):
        pull(store, run_id, tmp_path / "models", "model")


# --- the examples


@pytest.mark.torture  # trains, in processes that import MLflow
def test_the_example_logs_what_is_pulled(store: Store, tmp_path: Path) -> None:
    for extra in ("xgboost", "sklearn", "onnxmltools"):
        pytest.importorskip(extra, reason="needs: pip install 'assay[train]'")

    def python(*arguments: str | Path) -> str:
        command = [sys.executable, "-W", "ignore", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    python(EXAMPLE / "generate.py", "--customers", "120", "--days", "7")
    said = python(EXAMPLE / "train.py", "--allow-dirty", "--mlflow", store.uri)
    source = said.partition("assay model pull ")[2].split()[0]
    result = assay("pull", source, "--tracking-uri", store.uri, "--out", tmp_path / "pulled")
    assert result.exit_code == 0, result.output
    lineage = read_bundle(tmp_path / "pulled" / "online_payments" / "1").manifest.lineage
    assert lineage.mlflow_run is not None
    assert lineage.mlflow_run in source
    assert lineage.parameters is not None
    assert lineage.parameters["n_estimators"] == "60"
    import mlflow

    run = mlflow.MlflowClient(store.uri).get_run(lineage.mlflow_run)
    assert run.data.tags["assay.data_sha256"] == lineage.data_sha256
    assert 0 < run.data.metrics["average_precision"] <= 1
    assert np.isfinite(run.data.metrics["average_precision"])


def test_what_mlflow_says_of_a_store_is_passed_on(tmp_path: Path) -> None:
    """Newer ones take no plain directories."""
    with pytest.raises(InputError, match=r"MLflow at file:///.*"):
        Store(tmp_path, f"file://{tmp_path}/mlruns").run(lambda run: None)
