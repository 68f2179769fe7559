"""`assay model check` and `assay model pack`, as people run them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from assay.cli.model import app
from assay.demo.paths import bundle_path
from assay.features.feature_set import FeatureSet
from assay.models.bundle import read_bundle
from assay.models.gate import GATE_CHECKS
from assay.models.manifest import Source
from assay.models.refusal import BundleRefusedError
from assay.models.source_parity import SourceScores
from assay.models.verify import CHECKS
from tests.support.bundles import FEATURE_SET, edit_manifest, pack, rewrite, sample_rows
from tests.support.onnx_models import linear_model, tree_model

OPTIONS = ["--name", "tiny", "--version", "1", "--score-output", "score", "--thresholds", "challenge=0.4,decline=0.7"]
OPTIONS += ["--library", "by-hand=1"]  # these models' files do not say what wrote them


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120", "NO_COLOR": "1"})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory in a clean git repository with model.onnx, set.yaml, rows.parquet and rows.npz."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tree_model().SerializeToString())
    (folder / "set.yaml").write_bytes(FEATURE_SET)
    columns = sample_rows().columns
    pq.write_table(pa.table({"transaction_id": [str(i) for i in range(400)], **columns}), folder / "rows.parquet")
    np.savez(folder / "rows.npz", input=np.stack(list(columns.values()), axis=1).astype(np.float32))
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "all"],
    ):
        subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True)
    return folder


def pack_files(folder: Path, out: Path, *more: str | Path, rows: str = "rows.parquet", model: str = "model.onnx") -> Result:
    given = ["--model", folder / model, "--feature-set", folder / "set.yaml", "--rows", folder / rows, "--out", out]
    return run("pack", *given, *OPTIONS, *more)


def test_check_of_the_demo_fits_one_screen() -> None:
    result = run("check", bundle_path())
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) <= 24
    assert all(any(line.startswith(check) and " ok " in line for line in lines) for check in (*CHECKS, *GATE_CHECKS)), (
        result.output
    )


def test_check_json() -> None:
    result = run("check", bundle_path(), "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert document["refusal"] is None
    assert [item["check"] for item in document["checks"]] == [*CHECKS, *GATE_CHECKS]
    assert [bucket["rows"] for bucket in document["buckets"]] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert all(bucket["latency_us"] > 0 and bucket["memory_bytes"] >= 0 for bucket in document["buckets"])
    assert document["session_bytes"] > 0


def test_a_model_that_takes_longer_than_it_may_is_refused() -> None:
    result = run("check", bundle_path(), "--latency-us-max", "0.001")
    assert result.exit_code == 4
    assert "--latency-us-max is 0.001" in " ".join(result.output.split())


def test_a_model_that_takes_more_memory_than_it_may_is_refused() -> None:
    result = run("check", bundle_path(), "--memory-mib-max", "0.1", "--batch-rows-max", "2")
    assert result.exit_code == 4
    said = " ".join(result.output.split())
    assert "--memory-mib-max is 0.1" in said
    assert "what to do: use a smaller or quantised model" in said


def test_refused_bundle_exits_4_and_says_what_to_do(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path)
    with (bundle / "golden.npz").open("ab") as file:
        file.write(b"!")
    result = run("check", bundle)
    assert result.exit_code == 4
    assert "refused: golden.npz:" in result.output
    assert "what to do: " in result.output
    assert "not run" in result.output

    document = json.loads(run("check", bundle, "--json").stdout)
    assert document["passed"] is False
    assert document["refusal"]["file"] == "golden.npz"
    assert document["checks"][-1]["passed"] is False


def test_other_model_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    """Right hashes, right shapes, wrong scores: only the golden rows tell."""
    bundle = pack(tree_model(), tmp_path, batch_tolerance=1e-6)
    rewrite(bundle, "model.onnx", lambda _: linear_model().SerializeToString())
    result = run("check", bundle)
    assert result.exit_code == 4
    assert "golden rows score differently" in " ".join(result.output.split())


def test_a_manifest_that_tells_of_a_leak_is_refused(tmp_path: Path) -> None:
    told = {"labelled_rows": 400, "frauds": 9, "split": "time", "auc": {"amount": 0.99}, "accepted": []}
    bundle = pack(tree_model(), tmp_path)
    edit_manifest(bundle, lambda value: value.update(training=told))
    result = run("check", bundle)
    assert result.exit_code == 4
    assert "amount (AUC 0.990) alone tells fraud from genuine" in " ".join(result.output.split())
    edit_manifest(bundle, lambda value: value["training"].update(auc={"amount": 0.9}, split="random"))
    assert "parted at random" in " ".join(run("check", bundle).output.split())
    edit_manifest(bundle, lambda value: value["training"].update(accepted=["random-split"]))
    assert run("check", bundle).exit_code == 0


def test_scores_of_the_source_are_compared(tmp_path: Path) -> None:
    """A bundle whose model is not the one that was trained: hashes and golden scores are made anew, the source's are not."""
    source = SourceScores(Source(library="lib 1", estimator="Tree", tolerance=1e-6), lambda matrix: matrix[:, 0] * 0.0)
    with pytest.raises(BundleRefusedError, match="score otherwise than lib 1"):
        pack(tree_model(), tmp_path, source=source)
    bundle = pack(tree_model(), tmp_path)
    edit_manifest(bundle, lambda value: value.update(source={"library": "lib 1", "estimator": "Tree", "tolerance": 1e-6}))
    assert "do not belong together" in " ".join(run("check", bundle).output.split())


def test_check_of_nothing(tmp_path: Path) -> None:
    result = run("check", tmp_path / "nowhere")
    assert result.exit_code == 4
    assert "no such directory" in result.output


def test_check_of_a_directory_that_is_no_bundle_says_so(tmp_path: Path) -> None:
    """It once told people to remove whatever was in there."""
    (tmp_path / "precious").write_text("data")
    result = run("check", tmp_path)
    assert result.exit_code == 4
    assert "name the directory NAME/VERSION" in " ".join(result.output.split())
    assert "remove" not in result.output


def test_markup_in_a_name_is_text(tmp_path: Path) -> None:
    """A path or a name in a bundle must not be able to draw on the terminal."""
    result = run("check", tmp_path / "[red]x[/red]")
    assert "[red]x[/red]" in result.output.replace("\n", "")


@pytest.mark.parametrize("rows", ["rows.parquet", "rows.npz"])
def test_pack_then_check(files: Path, tmp_path: Path, rows: str) -> None:
    packed = pack_files(files, tmp_path / "models", rows=rows)
    assert packed.exit_code == 0, packed.output
    bundle = tmp_path / "models" / "tiny" / "1"
    assert run("check", bundle).exit_code == 0
    manifest = read_bundle(bundle).manifest
    head = subprocess.run(["git", "-C", files, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert (manifest.lineage.git_commit, manifest.lineage.git_is_dirty) == (head, False)
    assert manifest.batch_tolerance == 0.0, "trees are bit-exact by default"


def test_existing_version_needs_force(files: Path, tmp_path: Path) -> None:
    assert pack_files(files, tmp_path / "models").exit_code == 0
    again = pack_files(files, tmp_path / "models")
    assert again.exit_code == 4
    assert "this version exists" in again.output
    assert pack_files(files, tmp_path / "models", "--force").exit_code == 0


def test_dirty_tree_is_refused_unless_allowed(files: Path, tmp_path: Path) -> None:
    (files / "set.yaml").write_bytes(FEATURE_SET + b"\n# changed\n")
    refused = pack_files(files, tmp_path / "models")
    assert refused.exit_code == 1
    assert "--allow-dirty" in refused.output
    assert not (tmp_path / "models").exists()
    assert pack_files(files, tmp_path / "models", "--allow-dirty").exit_code == 0
    assert read_bundle(tmp_path / "models" / "tiny" / "1").manifest.lineage.git_is_dirty


def test_no_git_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "model.onnx").write_bytes(tree_model().SerializeToString())
    (tmp_path / "set.yaml").write_bytes(FEATURE_SET)
    pq.write_table(pa.table(sample_rows().columns), tmp_path / "rows.parquet")
    assert pack_files(tmp_path, tmp_path / "models").exit_code == 1
    assert pack_files(tmp_path, tmp_path / "models", "--allow-dirty").exit_code == 0
    assert read_bundle(tmp_path / "models" / "tiny" / "1").manifest.lineage.git_commit == "unknown"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--thresholds", "accept=0.5"], "challenge, review, decline"),
        (["--thresholds", "decline=high"], "a finite number"),
        (["--thresholds", "decline=nan"], "a finite number"),
        (["--name", "../evil"], "name"),
        (["--version", ".."], "version"),
        (["--input", "input"], "NAME=FEATURE"),
        (["--input", "input=amount"], "is_night"),
        (["--batch-tolerance", "0.5"], "batch_tolerance"),
        (["--score-output", "nothing"], "the model has score"),
        (["--library", "two words=1"], "expected NAME=VERSION of at most 64 letters"),
        (["--library", "torch=" + "1" * 65], "expected NAME=VERSION of at most 64 letters"),
        ([part for i in range(64) for part in ("--library", f"lib{i}=1")], "65 libraries, the limit is 64"),
        (["--accept", "nothing"], "expected names of inputs, or random-split"),
        (["--label-column", "nothing"], "no column nothing; it has transaction_id, amount"),
        (["--label-column", "amount"], "column amount: expected 0 and 1"),
    ],
)
def test_wrong_options_are_named(files: Path, tmp_path: Path, more: list[str], message: str) -> None:
    result = pack_files(files, tmp_path / "models", *more)
    assert result.exit_code == 4, result.output
    assert message in " ".join(result.output.split())
    assert not list((tmp_path / "models").glob("*"))


def test_rows_that_are_no_rows(files: Path, tmp_path: Path) -> None:
    (files / "broken.parquet").write_bytes(b"PAR1 no")
    result = pack_files(files, tmp_path / "models", "--allow-dirty", rows="broken.parquet")
    assert result.exit_code == 4
    assert "cannot be read as rows" in result.output


def with_labels(folder: Path) -> None:
    """rows.parquet gets a column is_fraud: the high amounts, so that `amount` alone tells it."""
    table = pq.read_table(folder / "rows.parquet")
    is_fraud = pa.array([value > 250 for value in table["amount"].to_pylist()])
    pq.write_table(table.append_column("is_fraud", is_fraud), folder / "rows.parquet")


def test_an_input_that_gives_the_label_away_is_refused_with_the_words_that_mend(files: Path, tmp_path: Path) -> None:
    """The label itself stands in the same file, and is no input."""
    with_labels(files)
    given = ["--allow-dirty", "--label-column", "is_fraud", "--split", "time"]
    refused = pack_files(files, tmp_path / "models", *given)
    assert refused.exit_code == 4
    said = " ".join(refused.output.split())
    assert "amount (AUC 1.000) alone tells fraud from genuine" in said
    assert "is_fraud (AUC" not in said
    mend = said.partition("pack with ")[2].partition(" (assay.pack")[0]
    assert mend == "--accept amount"
    assert pack_files(files, tmp_path / "models", *given, *mend.split()).exit_code == 0
    training = read_bundle(tmp_path / "models" / "tiny" / "1").manifest.training
    assert training is not None
    assert (training.labelled_rows, training.split, training.accepted) == (400, "time", ["amount"])
    assert set(training.auc) == {"amount", "is_night", "tx_count_1d"}


@pytest.mark.parametrize("rows", ["rows.parquet", "rows.npz"])
def test_a_random_split_is_refused_with_the_words_that_mend(files: Path, tmp_path: Path, rows: str) -> None:
    refused = pack_files(files, tmp_path / "models", "--split", "random", rows=rows)
    assert refused.exit_code == 4
    said = " ".join(refused.output.split())
    assert "parted at random" in said
    assert "pack with --accept random-split" in said
    assert pack_files(files, tmp_path / "models", "--split", "random", "--accept", "random-split", rows=rows).exit_code == 0
    assert run("check", tmp_path / "models" / "tiny" / "1").exit_code == 0


def test_labels_of_an_npz_are_none(files: Path, tmp_path: Path) -> None:
    refused = pack_files(files, tmp_path / "models", "--label-column", "is_fraud", rows="rows.npz")
    assert refused.exit_code == 4
    assert "labels come as a column of a Parquet file" in " ".join(refused.output.split())


def test_the_lineage_says_which_library_made_the_model(files: Path, tmp_path: Path) -> None:
    """What somebody says goes before what the file says, and that before what is installed here."""
    model = tree_model()
    model.producer_name, model.producer_version = "numpy", "0.1"
    (files / "model.onnx").write_bytes(model.SerializeToString())
    more = ["--allow-dirty", "--library", "onnx=0.2"]
    assert pack_files(files, tmp_path / "models", *more).exit_code == 0
    libraries = read_bundle(tmp_path / "models" / "tiny" / "1").manifest.lineage.libraries
    assert (libraries["by-hand"], libraries["numpy"], libraries["onnx"]) == ("1", "0.1", "0.2")
    assert "assay" in libraries


def test_a_model_that_no_library_is_said_of_is_refused(files: Path, tmp_path: Path) -> None:
    given = ["--model", files / "model.onnx", "--feature-set", files / "set.yaml", "--rows", files / "rows.parquet"]
    packed = ["pack", *given, *OPTIONS[: OPTIONS.index("--library")], "--out", tmp_path / "models"]
    refused = run(*packed)
    assert refused.exit_code == 4
    assert "say it: --library NAME=VERSION" in " ".join(refused.output.split())
    assert run(*packed, "--library", "torch").exit_code == 2
    assert run(*packed, "--library", "torch=1", "--library", "torch=2").exit_code == 2
    assert run(*packed, "--library", "torch=2.13.0+cpu").exit_code == 0


def test_rows_of_another_feature_set_are_refused_in_words(files: Path, tmp_path: Path) -> None:
    """What a replay wrote says which features it saw. A model that is trained on a day's counts must not be given an hour's."""
    other = FEATURE_SET.replace(b"window: 1d", b"window: 2d")
    table = pq.read_table(files / "rows.parquet")
    for yaml, exit_code in ((FEATURE_SET, 0), (other, 4)):
        pq.write_table(table.replace_schema_metadata({"assay.feature_set_yaml": yaml}), files / "rows.parquet")
        result = pack_files(files, tmp_path / f"out-{exit_code}", "--allow-dirty")
        assert result.exit_code == exit_code, result.output
    said = " ".join(result.stderr.split())
    for text in (other, FEATURE_SET):
        assert FeatureSet.parse(text.decode()).schema_hash in said
    assert "view customer tx_count_1d changed (count over 2d -> count over 1d)" in said


def test_a_bundle_with_another_feature_set_names_both_hashes(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path)
    trained_on = read_bundle(bundle).manifest.feature_set.schema_hash
    rewrite(bundle, "feature_set.yaml", lambda data: data.replace(b"divide_by: 100", b"divide_by: 10"))
    result = run("check", bundle)
    assert result.exit_code == 4
    said = "".join(result.stderr.split())
    assert trained_on in said
    assert FeatureSet.parse((bundle / "feature_set.yaml").read_text()).schema_hash in said
    assert "assayfeaturesdiff" in said
