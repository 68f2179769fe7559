"""A small trained network on the tiny feature set of bundles.py, as an exporter writes it: normalisation, MatMul + Add, Relu,
Sigmoid. Big enough that INT8 moves its scores, small enough to train in a second."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from tests.support.bundles import sample_rows
from tests.support.onnx_models import make_model

NAMES = ("amount", "is_night", "tx_count_1d")
HIDDEN = (48, 32)


def labels_of(columns: dict[str, NDArray[np.float64]], seed: int = 2) -> NDArray[np.bool_]:
    """Fraud is likelier for large amounts at night, after many transactions; noise keeps it from being exact."""
    noise = np.random.default_rng(seed).normal(0, 0.7, len(columns["amount"]))
    return columns["amount"] / 100 + 1.5 * columns["is_night"] + columns["tx_count_1d"] / 3 + noise > 5.2


@lru_cache
def trained_mlp() -> onnx.ModelProto:
    columns = sample_rows(3_000, seed=3).columns
    inputs = np.stack([columns[name] for name in NAMES], axis=1)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    network = MLPClassifier(HIDDEN, max_iter=60, random_state=0, tol=0, n_iter_no_change=100, learning_rate_init=3e-3)
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is not asked to converge
            network.fit((inputs - mean) / deviation, labels_of(columns))
    return mlp_model(
        [weight.astype(np.float32) for weight in network.coefs_],
        [bias.astype(np.float32) for bias in network.intercepts_],
        mean.astype(np.float32),
        deviation.astype(np.float32),
    )


def mlp_model(
    weights: list[NDArray[np.float32]],
    biases: list[NDArray[np.float32]],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(deviation, "deviation")]
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["layer_0"]),
    ]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        constants += [numpy_helper.from_array(weight, f"weight_{index}"), numpy_helper.from_array(bias, f"bias_{index}")]
        nodes.append(
            helper.make_node("MatMul", [f"layer_{index - 1}", f"weight_{index}"], [f"product_{index}"], name=f"dense_{index}")
        )
        nodes.append(helper.make_node("Add", [f"product_{index}", f"bias_{index}"], [f"sum_{index}"]))
        last = index == len(weights)
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"sum_{index}"], ["score" if last else f"layer_{index}"]))
    return make_model(nodes, initializers=constants)
