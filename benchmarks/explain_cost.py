"""What an exact explanation costs: the demo's model over its budget; beside the shap package's on one thread; by trees, depth and
background rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay._core import TreeExplainer
from assay.demo.paths import bundle_path
from assay.models.bundle import read_bundle
from assay.models.convert import Converted, convert
from benchmarks.material import LEAVES, SEED, TREES, training_rows
from benchmarks.measure import Ratio, interleave
from benchmarks.run import Run

ROW_US = 200.0  # the budget of one explanation
BACKGROUND_ROWS, ROWS = 128, 1_000
SHAP_ROWS, SIZED_ROWS = 16, 100  # what shap is asked, and what models are asked whose size alone matters
TOLERANCE = 1e-5
ROUNDS = 5  # of each point of the picture
# The size of the models alone matters. They are trained on a part of the rows, with labels of which some are turned: there is
# always more to learn, so that every tree grows to what it may be.
TRAINING_ROWS_MAX, TURNED_SHARE = 20_000, 0.3

# By XGBoost's names. The demo's model is of the first size (examples/card_fraud/train.py).
DEMO = {"n_estimators": 100, "max_depth": 3}
LEAFY = {"n_estimators": TREES, "grow_policy": "lossguide", "max_leaves": LEAVES, "max_depth": 0}
LARGE = {"n_estimators": 500, "max_depth": 8}
TREE_COUNTS, DEPTHS, BACKGROUNDS = (25, 50, 100, 200, 350, 500), (1, 2, 3, 4, 5, 6, 7, 8, 10), (1, 8, 16, 32, 64, 128)


def explain(run: Run) -> list[Ratio]:
    """One explanation of the demo's model; rows explained by us and by shap; what 500 trees of depth 8 cost. Draws the rest."""
    material = run.material
    matrix = material.matrix(material.requests(BACKGROUND_ROWS + ROWS))
    rows = _Rows(background=matrix[:BACKGROUND_ROWS].copy(), asked=matrix[BACKGROUND_ROWS:].copy())
    run.report("simulating what models are trained on")
    columns, is_fraud = training_rows(material)
    inputs = np.stack(list(columns.values()), axis=1).astype(np.float32)
    training = _Training(run, inputs, is_fraud, list(columns))

    ratios = [*_demo(run, rows)]
    beside = {"100 trees of depth 3": DEMO, f"{TREES} trees of {LEAVES} leaves": LEAFY, "500 trees of depth 8": LARGE}
    for name, parameters in beside.items():
        ratios += _beside_shap(run, name, training.model(parameters), rows)
    _plot(_sweeps(run, training, rows), material.folder / "explain.png")
    run.say(f"written: {material.folder / 'explain.png'}")
    return ratios


# --- implementation ---


@dataclass(frozen=True)
class _Rows:
    background: NDArray[np.float32]
    asked: NDArray[np.float32]


@dataclass(frozen=True)
class _Model:
    classifier: Any
    converted: Converted

    @property
    def leaves_mean(self) -> float:
        """Of a tree."""
        return statistics.fmean(tree.count("leaf=") for tree in self.classifier.get_booster().get_dump())

    def explainer(self, background: NDArray[np.float32]) -> TreeExplainer:
        output = self.converted.inspection.outputs[-1].name
        return TreeExplainer(self.converted.model_bytes, output, 1, background.shape[1], background)


@dataclass(frozen=True)
class _Training:
    run: Run
    inputs: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    names: list[str]

    def model(self, parameters: Mapping[str, Any]) -> _Model:
        import xgboost

        self.run.report(f"training {parameters}")
        classifier = xgboost.XGBClassifier(
            **parameters, tree_method="hist", base_score=0.5, min_child_weight=0, n_jobs=1, random_state=0
        )
        classifier.fit(*self._some)
        return _Model(classifier, convert(classifier, self.names))

    @cached_property
    def _some(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        random = np.random.default_rng(SEED)
        chosen = random.choice(len(self.inputs), TRAINING_ROWS_MAX, replace=False)
        return self.inputs[chosen], self.is_fraud[chosen] ^ (random.random(TRAINING_ROWS_MAX) < TURNED_SHARE)


def _demo(run: Run, rows: _Rows) -> list[Ratio]:
    """The bundle that is served, one row a call."""
    bundle = read_bundle(bundle_path())
    score = bundle.manifest.score
    model = bundle.files["model.onnx"]
    explainer = TreeExplainer(model, score.output, score.column, rows.background.shape[1], rows.background)
    p50 = Ratio("one explanation of the demo's model, p50, us over 200 us", "<= 1", "us")
    p99 = Ratio("the same, p99", "reported", "us")
    for index in range(run.pairs):
        took_us = _lone_us(explainer, rows.asked)
        p50.pairs.append((float(np.median(took_us)), ROW_US))
        p99.pairs.append((float(np.percentile(took_us, 99)), ROW_US))
        run.report(f"explain: {index + 1}/{run.pairs}, {p50.pairs[-1][0]:.1f} us")
    return [p50, p99]


def _lone_us(explainer: TreeExplainer, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row in a call of its own. Distinct rows: trees like repetition."""
    took_ns = []
    for index in range(len(rows)):
        row = rows[index : index + 1]
        started_ns = time.perf_counter_ns()
        explainer.explain(row)
        took_ns.append(time.perf_counter_ns() - started_ns)
    return np.array(took_ns) / 1e3


def _beside_shap(run: Run, name: str, model: _Model, rows: _Rows) -> list[Ratio]:
    """The same rows in one call, which is kind to shap: what a call of it costs is shared by them."""
    import shap

    explainer = model.explainer(rows.background)
    masker = shap.maskers.Independent(rows.background, max_samples=len(rows.background))  # else it takes 100 rows of them
    reference = shap.TreeExplainer(model.classifier, masker, feature_perturbation="interventional", model_output="raw")

    def shap_values(some: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(reference.shap_values(some, check_additivity=False))

    asked = rows.asked[:SHAP_ROWS]
    difference = float(np.abs(explainer.explain(asked)[1] - shap_values(asked)).max())
    if difference > TOLERANCE:
        raise SystemExit(f"{name}: values differ from shap's by {difference:g}: the comparison is void")
    mebibytes = explainer.memory_bytes / 2**20
    run.say(f"{name}: {model.leaves_mean:.0f} leaves a tree, {mebibytes:.1f} MiB; values equal to shap's to {difference:.1g}")
    ratio = Ratio(f"{name}: rows explained over shap's", ">= 5", "rows per CPU s")
    lone = Ratio(f"{name}: one explanation, p50, us over 200 us", "reported", "us")

    def rows_per_cpu_s(values: Callable[[NDArray[np.float32]], object]) -> Callable[[], float]:
        return lambda: len(asked) / _cpu_s(lambda: values(asked))

    interleave(ratio, rows_per_cpu_s(explainer.explain), rows_per_cpu_s(shap_values), run.pairs, run.report)
    lone.pairs = [(float(np.median(_lone_us(explainer, rows.asked[:SIZED_ROWS]))), ROW_US) for _ in range(run.pairs)]
    return [ratio, lone]


def _cpu_s(work: Callable[[], object]) -> float:
    """Of the process: a second thread would count."""
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _sweeps(run: Run, training: _Training, rows: _Rows) -> dict[str, list[tuple[int, float]]]:
    """What is varied -> (its value, microseconds of CPU a row)."""
    asked = rows.asked[:SIZED_ROWS]

    def cost_us(name: str, explainer: TreeExplainer) -> float:
        run.report(f"explain: {name}")
        return statistics.median(1e6 * _cpu_s(lambda: explainer.explain(asked)) / len(asked) for _ in range(ROUNDS))

    def by(what: str, values: Iterable[int], explainer: Callable[[int], TreeExplainer]) -> tuple[str, list[tuple[int, float]]]:
        return what, [(value, cost_us(f"{what} {value}", explainer(value))) for value in values]

    demo = training.model(DEMO)
    of_trees = lambda count: training.model({"n_estimators": count, "max_depth": 6}).explainer(rows.background)  # noqa: E731
    of_depth = lambda depth: training.model({"n_estimators": 100, "max_depth": depth}).explainer(rows.background)  # noqa: E731
    return dict(
        [
            by("trees of depth 6", TREE_COUNTS, of_trees),
            by("depth of 100 trees", DEPTHS, of_depth),
            by(
                "background rows, 100 trees of depth 3", BACKGROUNDS, lambda count: demo.explainer(rows.background[:count].copy())
            ),
        ]
    )


def _plot(sweeps: Mapping[str, list[tuple[int, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(sweeps), figsize=(10, 3.2), layout="constrained")
    for axes, (what, points) in zip(panels, sweeps.items(), strict=True):
        values, costs = zip(*points, strict=True)
        axes.plot(values, costs, marker="o", color="#2a7f4f")
        axes.axhline(ROW_US, color="black", linewidth=1)
        axes.annotate("0.2 ms", (values[0], ROW_US), xytext=(0, 3), textcoords="offset points", fontsize=8)
        axes.set_yscale("log")
        axes.set_xlabel(what, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("µs of CPU for one explanation", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
