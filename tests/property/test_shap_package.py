"""TreeExplainer's values of a converted model are those that the shap package gives for the trained one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay._core import TreeExplainer
from assay.models.convert import convert

for extra in ("xgboost", "lightgbm", "sklearn", "skl2onnx", "onnxmltools"):
    pytest.importorskip(extra, reason="needs: pip install scikit-learn skl2onnx onnxmltools xgboost-cpu lightgbm")

from lightgbm import LGBMClassifier  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from xgboost import XGBClassifier  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training libraries and of shap, about each other

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
TRAINING_ROWS, BACKGROUND_ROWS, ROWS, FEATURES = 400, 128, 30, 6
TOLERANCE = 1e-5  # of the largest value: bases and leaves of a booster are float32 here, and double there

# Which of them take rows with missing values, in shap too.
KINDS: list[tuple[Callable[..., Any], bool, dict[str, Any]]] = [
    (XGBClassifier, True, {"n_jobs": 1}),
    (LGBMClassifier, True, {"n_jobs": 1, "verbose": -1, "min_child_samples": 5}),
    (GradientBoostingClassifier, False, {}),
    (GradientBoostingRegressor, False, {}),
    (RandomForestClassifier, False, {"n_jobs": 1}),
]


@pytest.fixture(scope="module")
def shap() -> Any:
    """Not imported with this file: it takes seconds."""
    return pytest.importorskip("shap", reason="needs: pip install 'shap<0.52'")


def made_rows(random: np.random.Generator, has_missing: bool) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Inputs, one of them with few values, and what is to be learnt of them."""
    rows = random.normal(size=(TRAINING_ROWS, FEATURES)).astype(np.float32)
    rows[:, 1] = np.round(rows[:, 1] * 2)
    target = rows[:, 0] + rows[:, 1] * rows[:, 2] + random.normal(size=TRAINING_ROWS)
    if has_missing:
        rows[random.random(rows.shape) < 0.2] = np.nan
    return rows, target.astype(np.float64)


@pytest.mark.parametrize(("kind", "takes_missing", "options"), KINDS, ids=[kind.__name__ for kind, _, _ in KINDS])
def test_values_are_shaps(
    shap: Any, rng: random.Random, kind: Callable[..., Any], takes_missing: bool, options: dict[str, Any]
) -> None:
    for _ in range(2 * SCALE):
        rows, target = made_rows(np.random.default_rng(rng.randrange(1 << 32)), takes_missing and rng.random() < 0.5)
        estimator = kind(n_estimators=rng.randint(1, 40), max_depth=rng.randint(1, 8), random_state=0, **options)
        is_classifier = hasattr(estimator, "predict_proba")
        estimator.fit(rows, target > 0 if is_classifier else target)
        converted = convert(estimator, [f"f{place}" for place in range(FEATURES)])
        background, asked = rows[:BACKGROUND_ROWS].copy(), rows[-ROWS:].copy()

        output = converted.inspection.outputs[-1].name
        explainer = TreeExplainer(converted.model_bytes, output, 1 if is_classifier else 0, FEATURES, background)
        margins, contributions = explainer.explain(asked)

        # Without max_samples it would take 100 rows of them.
        masker = shap.maskers.Independent(background, max_samples=len(background))
        reference = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional", model_output="raw")
        expected = np.asarray(reference.shap_values(asked))
        base = np.ravel(reference.expected_value)[-1]
        if expected.ndim == 3:  # of each class
            expected = expected[..., 1]

        tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(contributions, expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(explainer.base, base, rtol=0, atol=tolerance)
        predicted = converted.predict(asked)[:, -1]
        np.testing.assert_allclose(explainer.score(margins), predicted, rtol=0, atol=tolerance)
