"""assay.pack in the training process: for every library the bundle says what the estimator says, or there is no bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import assay
from assay.errors import BundleError, InputError
from assay.models.bundle import read_bundle
from assay.models.golden import parse_source_scores
from assay.models.manifest import Explanation
from tests.support.bundles import FEATURE_SET
from tests.support.torch_venv import torch_venv

for extra in ("xgboost", "lightgbm", "sklearn", "skl2onnx", "onnxmltools", "pandas"):
    pytest.importorskip(extra, reason="needs: pip install scikit-learn skl2onnx onnxmltools xgboost-cpu lightgbm pandas")

import pandas as pd  # noqa: E402
from lightgbm import LGBMClassifier  # noqa: E402
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: E402
from xgboost import XGBClassifier  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training libraries, about each other

NAMES = ["amount", "is_night", "tx_count_1d"]
RANDOM = np.random.default_rng(17)
ROWS = np.stack([RANDOM.uniform(0, 300, 3_000), RANDOM.integers(0, 2, 3_000), RANDOM.integers(1, 9, 3_000)], axis=1)
ROWS = ROWS.astype(np.float32)
LABELS = (ROWS[:, 0] / 100 + ROWS[:, 2] / 4 + RANDOM.normal(size=len(ROWS))) > 3.2
OTHERS = np.random.default_rng(18).permuted(ROWS, axis=0)

ESTIMATORS: list[tuple[str, Callable[[], Any], float]] = [
    ("scikit-learn", lambda: RandomForestClassifier(20, max_depth=6, random_state=0, n_jobs=1), 1e-5),
    ("scikit-learn", lambda: GradientBoostingClassifier(n_estimators=20, random_state=0), 1e-5),
    ("scikit-learn", lambda: make_pipeline(StandardScaler(), LogisticRegression()), 1e-5),
    ("xgboost", lambda: XGBClassifier(n_estimators=30, max_depth=3, n_jobs=1, random_state=0), 1e-6),
    ("lightgbm", lambda: LGBMClassifier(n_estimators=30, num_leaves=15, n_jobs=1, verbose=-1, random_state=0), 1e-6),
    ("xgboost", lambda: make_pipeline(FunctionTransformer(), XGBClassifier(n_estimators=9, n_jobs=1)), 1e-6),
]


@pytest.fixture
def feature_set(tmp_path: Path) -> Path:
    (tmp_path / "set.yaml").write_bytes(FEATURE_SET)
    return tmp_path / "set.yaml"


def pack(estimator: Any, feature_set: Path, rows: Any = ROWS, **changes: Any) -> Path:
    options = {"name": "tiny", "version": "1", "data": "a" * 64, "allow_dirty": True, "out": feature_set.parent / "models"}
    return assay.pack(estimator, feature_set, rows, **{**options, **changes})


@pytest.mark.parametrize(("library", "make", "tolerance"), ESTIMATORS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_bundle_says_what_the_estimator_says(
    feature_set: Path, library: str, make: Callable[[], Any], tolerance: float
) -> None:
    """On rows that neither training nor packing saw."""
    estimator = make().fit(ROWS, LABELS)
    bundle = pack(estimator, feature_set, labels=LABELS, split="time", thresholds={"decline": 0.9, "review": 0.5})
    expected = estimator.predict_proba(OTHERS)[:, 1]
    assert np.abs(assay.Scorer(bundle).score(OTHERS) - expected).max() <= tolerance

    manifest = read_bundle(bundle).manifest
    assert manifest.source is not None
    assert manifest.source.estimator == type(estimator).__name__
    assert manifest.source.library.startswith(("scikit-learn ", "xgboost", "lightgbm "))
    assert library.split()[0] in manifest.source.library or type(estimator).__name__ == "Pipeline"
    assert [threshold.score for threshold in manifest.thresholds] == [0.5, 0.9]
    assert manifest.training is not None
    assert (manifest.training.labelled_rows, manifest.training.split) == (3_000, "time")
    kept = parse_source_scores(read_bundle(bundle).files["golden.npz"])
    assert kept is not None
    assert len(np.unique(kept)) > 1
    assert manifest.explanation == Explanation(background_rows=128), "trees and linear models are read, not sampled"


def test_a_network_gets_a_smaller_background(feature_set: Path) -> None:
    bundle = pack(MLPClassifier((4,), max_iter=20, random_state=0).fit(ROWS, LABELS), feature_set)
    assert read_bundle(bundle).manifest.explanation == Explanation(background_rows=16)


def test_reasons_are_given_as_a_mapping_or_as_a_file(feature_set: Path) -> None:
    estimator = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(ROWS, LABELS)
    said = {
        "groups": {"habit": ["amount", "tx_count_1d"]},
        "reasons": {"table": "1", "codes": [{"code": "HABIT", "for": "habit", "analyst": "Far from habit."}]},
    }
    file = feature_set.with_name("reasons.yaml")
    file.write_text(yaml.safe_dump(said))
    given = [
        read_bundle(pack(estimator, feature_set, reasons=reasons, background_rows=9, force=True)).manifest.explanation
        for reasons in (said, file, str(file))
    ]
    assert given[0] is not None
    assert (given[0].background_rows, given[0].groups) == (9, said["groups"])
    assert given[0] == given[1] == given[2]
    for refused in ({"groups": {"habit": ["amuont"]}}, {"groups": {"habit": ["amount"]}, "reason": {}}):
        with pytest.raises(InputError, match=r"^reasons: (groups\.habit\[0\]|reason): "):
            pack(estimator, feature_set, reasons=refused, version="2")
    with pytest.raises(InputError, match="without background rows nothing is explained"):
        pack(estimator, feature_set, reasons=said, background_rows=0, version="2")


@pytest.mark.parametrize("kind", [XGBClassifier, LGBMClassifier, RandomForestClassifier])
def test_trained_on_a_data_frame(feature_set: Path, kind: Any) -> None:
    frame = pd.DataFrame(ROWS, columns=NAMES)
    options = {"verbose": -1} if kind is LGBMClassifier else {}
    estimator = kind(n_estimators=5, max_depth=3, n_jobs=1, random_state=0, **options).fit(frame, LABELS)
    bundle = pack(estimator, feature_set, frame)
    expected = estimator.predict_proba(pd.DataFrame(OTHERS, columns=NAMES))[:, 1]
    assert np.abs(assay.Scorer(bundle).score(OTHERS) - expected).max() <= 1e-6
    assert estimator.feature_names_in_.tolist() == NAMES, "the estimator is as it was"


def test_columns_in_another_order_are_refused(feature_set: Path) -> None:
    """The worst silent error there is: every value in its neighbour's place."""
    frame = pd.DataFrame(ROWS, columns=NAMES)[["is_night", "amount", "tx_count_1d"]]
    estimator = RandomForestClassifier(3, random_state=0).fit(frame, LABELS)
    with pytest.raises(InputError, match="column 'is_night' where the feature set has 'amount'"):
        pack(estimator, feature_set, frame)


def test_a_conversion_that_loses_something_is_refused(feature_set: Path) -> None:
    """ONNX's scaler rounds otherwise than scikit-learn's, and that sends a few rows down another branch of a tree."""
    estimator = make_pipeline(StandardScaler(), XGBClassifier(n_estimators=9, n_jobs=1)).fit(ROWS, LABELS)
    with pytest.raises(BundleError, match=r"of 3000 rows score otherwise than scikit-learn .* \(Pipeline\)"):
        pack(estimator, feature_set)
    assert not (feature_set.parent / "models" / "tiny").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "which data made this model"),
        ({"allow_dirty": False}, "no git commit, or changes that are not committed"),
        ({"rows": ROWS[:, :2]}, r"expected an array \(n, 3\)"),
        ({"rows": {"amount": ROWS[:, 0]}}, "no column is_night, tx_count_1d"),
        ({"labels": LABELS[:5]}, "expected 3000 values"),
        ({"labels": np.zeros(3_000)}, "only one of both"),
        ({"accept": ["nothing"]}, "expected names of inputs, or random-split"),
        ({"score_column": 2}, r"has 2 column\(s\)"),
    ],
)
def test_what_is_missing_is_named(feature_set: Path, changes: dict[str, Any], words: str) -> None:
    estimator = LogisticRegression().fit(ROWS, LABELS)
    with pytest.raises(InputError, match=words):
        pack(estimator, feature_set, **changes)


def test_anything_else_is_no_estimator(feature_set: Path) -> None:
    booster = XGBClassifier(n_estimators=2).fit(ROWS, LABELS).get_booster()
    for thing in (booster, b"\x80\x04pickle", {"model": 1}):
        with pytest.raises(InputError, match="cannot be converted; expected a scikit-learn estimator"):
            pack(thing, feature_set)


def test_a_leak_is_refused_unless_it_is_accepted_by_name(feature_set: Path) -> None:
    leaking = ROWS.copy()
    leaking[:, 1] = LABELS
    estimator = LogisticRegression().fit(leaking, LABELS)
    with pytest.raises(BundleError, match=r"is_night \(AUC 1.000\) alone tells fraud from genuine"):
        pack(estimator, feature_set, leaking, labels=LABELS)
    with pytest.raises(BundleError, match="parted at random"):
        pack(estimator, feature_set, leaking, split="random")
    bundle = pack(estimator, feature_set, leaking, labels=LABELS, split="random", accept=["is_night", "random-split"])
    training = read_bundle(bundle).manifest.training
    assert training is not None
    assert training.accepted == ["is_night", "random-split"]


TORCH = """
import sys
import numpy as np
import torch
import assay

torch.manual_seed(3)
first = (torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Dropout(0.5))
model = torch.nn.Sequential(*first, torch.nn.Linear(16, 1), torch.nn.Sigmoid())
rows = np.random.default_rng(4).uniform(0, 3, (1_000, 3)).astype(np.float32)
bundle = assay.pack(model, "set.yaml", rows, name="tiny", version="1", data="a" * 64, allow_dirty=True)
assert model.training, "the module is as it was"
others = np.random.default_rng(5).uniform(0, 3, (500, 3)).astype(np.float32)
model.eval()
with torch.inference_mode():
    expected = model(torch.from_numpy(others)).numpy()[:, 0]
worst = np.abs(assay.Scorer(bundle).score(others) - expected).max()
assert worst <= 1e-6, worst
np.save("rows.npy", rows)

batch = {0: "batch"}
torch.onnx.export(model, torch.from_numpy(rows[:2]), "old.onnx", dynamo=False, opset_version=17,
                  input_names=["input"], output_names=["score"], dynamic_axes={"input": batch, "score": batch})
torch.onnx.export(model, (torch.from_numpy(rows[:2]),), "new.onnx", dynamo=True, external_data=True, opset_version=18,
                  input_names=["input"], output_names=["score"], dynamic_shapes=({0: torch.export.Dim("batch")},))
"""


@pytest.mark.torture  # builds an environment of 900 MB, once
@pytest.mark.timeout(580)
def test_torch_both_ways_and_in_process(feature_set: Path) -> None:
    """assay.pack of a module; the post-mortem's own export call; the newer exporter with its data in a file beside the model."""
    from typer.testing import CliRunner

    from assay.cli.model import app

    venv, folder = torch_venv(), feature_set.parent
    done = venv.run("-c", TORCH, cwd=folder)
    assert done.returncode == 0, done.stderr[-3_000:]
    source = read_bundle(folder / "models" / "tiny" / "1").manifest.source
    assert source is not None
    assert source.library.startswith("torch 2.")

    rows = np.load(folder / "rows.npy")
    np.savez(folder / "rows.npz", input=rows)
    scores = {}
    assert (folder / "new.onnx.data").exists(), "the newer exporter keeps its tensors beside the model"
    for way in ("old", "new"):
        command = (
            f"pack --model {folder}/{way}.onnx --feature-set {feature_set} --rows {folder}/rows.npz --name {way} --version 1"
        )
        command += f" --score-output score --out {folder}/models --allow-dirty"
        packed = CliRunner().invoke(app, command.split())
        assert packed.exit_code == 0, packed.output
        lineage = read_bundle(folder / "models" / way / "1").manifest.lineage
        assert lineage.libraries["pytorch"].startswith("2.")
        scores[way] = assay.Scorer(folder / "models" / way / "1").score(rows)
    assert np.abs(scores["old"] - scores["new"]).max() <= 1e-6
    assert np.abs(scores["old"] - assay.Scorer(folder / "models" / "tiny" / "1").score(rows)).max() <= 1e-6
