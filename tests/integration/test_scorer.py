"""assay.Scorer: the scores that a server would give, from an array that nobody copies."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import assay
from assay.demo.paths import bundle_path
from assay.errors import BundleError
from assay.features.rows import unpack_rows
from assay.models.golden import parse_golden
from assay.models.verify import make_step, read_candidate
from tests.support.bundles import pack, sample_rows
from tests.support.onnx_models import input_value, make_model, tree_model, weights


def matrix_of(count: int = 400) -> np.ndarray:
    return np.stack(list(sample_rows(count).columns.values()), axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def demo() -> assay.Scorer:
    return assay.Scorer(bundle_path())


def test_golden_rows_get_their_scores(demo: assay.Scorer) -> None:
    candidate = read_candidate(bundle_path(), make_step(None))
    rows, expected = parse_golden(candidate.bundle.files["golden.npz"], candidate.plan)
    (matrix,) = unpack_rows(candidate.plan, rows).values()
    assert demo.features == candidate.feature_set.input_names
    assert np.abs(demo.score(matrix) - expected).max() <= 1e-6


def test_any_number_of_rows_gives_the_same_bits(demo: assay.Scorer) -> None:
    """Alone, in batches of 256 and where the last batch is cut; 15 columns, so that rows are not 8-aligned."""
    matrix = np.random.default_rng(5).uniform(0, 300, (1_027, 15)).astype(np.float32)
    together = demo.score(matrix)
    assert together.shape == (1_027,)
    alone = np.concatenate([demo.score(matrix[i : i + 1]) for i in range(0, 1_027, 13)])
    assert alone.tobytes() == np.ascontiguousarray(together[::13]).tobytes()
    assert demo.score(matrix[:0]).shape == (0,)


def test_threads_may_share_one(demo: assay.Scorer) -> None:
    matrix = np.random.default_rng(6).uniform(0, 300, (2_000, 15)).astype(np.float32)
    expected = demo.score(matrix).tobytes()
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(demo.score(matrix).tobytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_the_array_is_read_where_it_lies(demo: assay.Scorer) -> None:
    """A read-only mapping of a file scores as it is, and is not written to."""
    matrix = np.random.default_rng(7).uniform(0, 300, (300, 15)).astype(np.float32)
    locked = np.frombuffer(matrix.tobytes(), np.float32).reshape(matrix.shape)
    assert not locked.flags.writeable
    assert demo.score(locked).tobytes() == demo.score(matrix).tobytes()
    assert locked.tobytes() == matrix.tobytes()


@pytest.mark.parametrize(
    ("matrix", "error", "words"),
    [
        (np.zeros((2, 15)), TypeError, "expected a float32 array, not float64"),
        ([[0.0] * 15], TypeError, "not list"),
        (np.zeros((2, 14), np.float32), ValueError, r"expected the shape \(n, 15\), not \(2, 14\)"),
        (np.zeros(15, np.float32), ValueError, "shape"),
        (np.zeros((15, 2), np.float32).T, ValueError, "not C-contiguous"),
        (np.zeros((4, 15), np.float32)[:, ::-1], ValueError, "not C-contiguous"),
    ],
)
def test_anything_else_is_refused(demo: assay.Scorer, matrix: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        demo.score(matrix)  # type: ignore[arg-type]


def test_the_core_checks_what_it_is_given(demo: assay.Scorer) -> None:
    """The binding hands addresses to C++: it trusts no caller, ours neither."""
    model, good, scores = demo._model, np.zeros((2, 15), np.float32), np.zeros(2)
    for arguments in (
        (good, 99, 0, 256, scores),
        (good, 0, 0, 256, scores),  # the label: an integer
        (good, 1, -1, 256, scores),
        (good, 1, 0, 0, scores),
        (good, 1, 0, 256, np.zeros(3)),
        (good, 1, 0, 256, np.zeros(2, np.float32)),
        (good.astype(np.float64), 1, 0, 256, scores),
        (good[:, :14].copy(), 1, 0, 256, scores),
    ):
        with pytest.raises(ValueError, match="expected"):
            model.score_matrix(*arguments)
    with pytest.raises(assay.errors.CoreError):  # a column that the output does not have
        model.score_matrix(good, 1, 7, 256, scores)


def test_a_model_of_two_inputs_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["a", "b"], ["all"], axis=1), helper.make_node("MatMul", ["all", "weights"], ["score"])]
    inputs = [input_value("a", ("batch", 1)), input_value("b", ("batch", 2))]
    bundle = pack(
        make_model(nodes, initializers=[weights()], inputs=inputs),
        tmp_path,
        tensor_features={"a": ["amount"], "b": ["is_night", "tx_count_1d"]},
    )
    with pytest.raises(BundleError, match=r"a \(float32\), b \(float32\)"):
        assay.Scorer(bundle)


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path)
    assert np.isin(assay.Scorer(str(bundle)).score(matrix_of()).round(6), [0.09375, 0.3125, 0.59375, 0.8125]).all()
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        assay.Scorer(bundle)


def test_import_assay_stays_light() -> None:
    code = (
        "import sys, assay\n"
        "heavy = {'numpy', 'pydantic', 'onnx', 'pyarrow', 'assay._core', 'assay.models'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else not hasattr(assay, 'Scorer') or hasattr(assay, 'nothing'))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
