"""Random tree ensembles as ONNX models: every shape that ai.onnx.ml has for them (1, 3, 5), and what may stand around the trees.
Some of them ONNX Runtime reads in ways of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tests.support.onnx_models import make_model
from tests.support.tree_nodes import MODES, Leaf, Split, Tree, apart_lists, largest_leaf, listed_lists, targets_of

DEPTH_MAX = 40
LABEL, OUTPUT = "label", "score"


@dataclass(frozen=True)
class RandomTrees:
    """One number of a model's output, and rows that meet the trees' thresholds exactly."""

    kind: str  # for people
    model: bytes
    column: int
    margin_model: bytes  # the same without a transformation: its `margin_column` is what is explained
    margin_column: int
    takes_doubles: bool
    background: NDArray[np.float32]
    rows: NDArray[np.float32]
    leaf_sum: float  # of the largest leaf of every tree: what float32's rounding is relative to


def random_trees(rng: random.Random, *, features_max: int, background_rows_max: int, row_count: int) -> RandomTrees:
    """Of 1 to `features_max` features. All numbers are of float32."""
    return _Maker(rng, rng.randint(1, features_max)).make(rng.randint(1, background_rows_max), row_count)


# --- implementation ---


@dataclass
class _Maker:
    rng: random.Random
    feature_count: int
    values: list[float] = field(init=False)  # few of them, so that thresholds repeat and rows meet them
    scalers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        self.values = rng.choice(
            [
                [step / 4 for step in range(-4, 5)],
                [float(step) for step in range(-2, 8)],
                [float(np.float32(rng.gauss(0, 3))) for _ in range(12)],
            ]
        )
        self.nan_share = rng.choice((0.0, 0.1, 0.4))
        self.missing_true = [rng.random() < 0.5 for _ in range(self.feature_count)]
        self.is_missing_alike = rng.random() < 0.6  # at all nodes that ask for a feature
        self.chain_share = rng.choice((0.5, 0.9, 1.0))
        self.modes = rng.choice((("BRANCH_LEQ",), ("BRANCH_LT",), ("BRANCH_LEQ", "BRANCH_GT"), ("BRANCH_EQ",), MODES))
        self.scalers = [self._scaler() for _ in range(rng.choice((0, 0, 1, 2)))]

    def make(self, background_rows: int, row_count: int) -> RandomTrees:
        rng = self.rng
        opset = rng.choice((1, 3, 5))
        make_node = self._ensemble if opset == 5 else rng.choice((self._classifier, self._regressor))
        made = make_node()
        before, after = self._before(), self._after(made)
        takes_doubles = rng.random() < 0.2
        if takes_doubles:
            before.insert(0, ("Cast", "", {"to": TensorProto.FLOAT}))
        return RandomTrees(
            f"{made.operator} of ai.onnx.ml {opset}, {made.attributes.get('post_transform', 'NONE')}, column {made.column}, "
            f"{len(made.trees)} trees of {self.feature_count} features, {' '.join(step[0] for step in (*before, *after))}",
            self._model(opset, made, before, after, takes_doubles),
            made.column,
            self._model(opset, made.without_transformation(), before, [], takes_doubles),
            made.margin_column,
            takes_doubles,
            self._rows(background_rows),
            self._rows(row_count),
            sum(largest_leaf(tree) for tree in made.trees) / made.divisor + made.base_sum,
        )

    # --- numbers

    def _rows(self, count: int) -> NDArray[np.float32]:
        return np.array([[self._value() for _ in range(self.feature_count)] for _ in range(count)], np.float32)

    def _value(self) -> float:
        return float("nan") if self.rng.random() < self.nan_share else self.rng.choice(self.values)

    def _scaler(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(offset, scale): of each feature its own, or one for all."""
        count = self.rng.choice((1, self.feature_count))
        return (
            np.array([self.rng.gauss(0, 1) for _ in range(count)], np.float32),
            np.array([self.rng.choice((0.5, 2.0, 0.1, -1.5)) for _ in range(count)], np.float32),
        )

    def _edge(self, feature: int) -> float:
        """A threshold that a row can meet, behind the scalers."""
        value = np.full(self.feature_count, self.rng.choice(self.values), np.float32)
        for offset, scale in self.scalers:
            value = (value - offset) * scale
        return float(value[feature])

    # --- trees

    def _trees(self, targets: Sequence[int], *, weights_max: int, is_positive: bool = False) -> list[Tree]:
        trees = []
        for _ in range(self.rng.choice((1, 2, 5, 12))):
            depth = self.rng.choice((0, 1, 3, 6, DEPTH_MAX))
            leaves = self.rng.randint(depth + 1, depth + 12)
            trees.append(self._tree(depth, leaves, targets, weights_max, is_positive))
        return trees

    def _tree(self, depth: int, leaves: int, targets: Sequence[int], weights_max: int, is_positive: bool) -> Tree:
        """Of `leaves` leaves at most. Where splits give one way a single leaf, a few leaves make a deep tree."""
        rng = self.rng
        if depth == 0 or leaves == 1:
            return self._leaf(targets, weights_max, is_positive)
        one = 1 if rng.random() < self.chain_share else rng.randint(1, leaves - 1)
        sides = [self._tree(depth - 1, count, targets, weights_max, is_positive) for count in (one, leaves - one)]
        rng.shuffle(sides)
        feature = rng.randrange(self.feature_count)
        is_missing_true = self.missing_true[feature] if self.is_missing_alike else rng.random() < 0.5
        return Split(feature, self._edge(feature), rng.choice(self.modes), is_missing_true, *sides)

    def _leaf(self, targets: Sequence[int], weights_max: int, is_positive: bool) -> Leaf:
        rng = self.rng
        chosen = rng.choices(targets, k=rng.choice((1, 1, weights_max)))
        weights = [float(np.float32(rng.choice((0.0, rng.gauss(0, 1), rng.gauss(0, 10))))) for _ in chosen]
        return Leaf(
            tuple((target, abs(weight) if is_positive else weight) for target, weight in zip(chosen, weights, strict=True))
        )

    def _bases(self, count: int) -> dict[str, list[float]]:
        return {"base_values": [float(np.float32(self.rng.gauss(0, 1))) for _ in range(count)]} if self.rng.random() < 0.5 else {}

    # --- the node

    def _classifier(self) -> _Node:
        rng = self.rng
        classes = rng.choice((2, 2, 3, 4))
        is_for_one = classes == 2 and rng.random() < 0.8
        targets = [rng.choice((0, 0, 0, 1))] if is_for_one else list(range(classes))
        trees = self._trees(targets, weights_max=3, is_positive=rng.random() < 0.3)
        column = rng.randrange(classes)
        labels = rng.choice(
            ({"classlabels_int64s": list(range(classes))}, {"classlabels_strings": [f"c{label}" for label in range(classes)]})
        )
        # Weights for the first class alone: one margin for both columns.
        is_of_two = classes == 2 and all(targets_of(tree) == {0} for tree in trees)
        return _Node(
            "TreeEnsembleClassifier", trees, column, 1 if is_of_two else column,
            {**labels, **self._bases(1 if is_of_two else classes), "post_transform": rng.choice(("NONE", "LOGISTIC"))},
        )  # fmt: skip

    def _regressor(self) -> _Node:
        targets = self.rng.choice((1, 1, 3))
        column = self.rng.randrange(targets)
        attributes = {
            **self._bases(targets),
            "n_targets": targets,
            "aggregate_function": self.rng.choice(("SUM", "SUM", "AVERAGE")),
            "post_transform": self.rng.choice(("NONE", "LOGISTIC")),
        }
        trees = self._trees(range(targets), weights_max=3 if targets > 1 else self.rng.choice((1, 1, 1, 2)))
        return _Node("TreeEnsembleRegressor", trees, column, column, attributes)

    def _ensemble(self) -> _Node:
        targets = self.rng.choice((1, 1, 3))
        column = self.rng.randrange(targets)
        attributes = {
            "n_targets": targets,
            "aggregate_function": self.rng.choice((0, 1, 1)),  # average, sum
            "post_transform": self.rng.choice((0, 2)) if targets == 1 else 0,  # none, logistic
        }
        return _Node("TreeEnsemble", self._trees(range(targets), weights_max=1), column, column, attributes)

    # --- what stands around it

    def _before(self) -> list[_Step]:
        steps: list[_Step] = []
        for offset, scale in self.scalers:
            steps.append(("Scaler", "ai.onnx.ml", {"offset": offset.tolist(), "scale": scale.tolist()}))
            if self.rng.random() < 0.3:
                steps.append(self.rng.choice((("Identity", "", {}), ("Cast", "", {"to": TensorProto.FLOAT}))))
        return steps

    def _after(self, made: _Node) -> list[_Step]:
        steps: list[_Step] = self.rng.choice(([], [], [("Identity", "", {})], [("Cast", "", {"to": TensorProto.DOUBLE})]))
        is_plain = made.attributes["post_transform"] in ("NONE", 0) and made.column == made.margin_column
        return [("Sigmoid", "", {}), *steps] if is_plain and self.rng.random() < 0.4 else steps

    def _model(self, opset: int, made: _Node, before: list[_Step], after: list[_Step], takes_doubles: bool) -> bytes:
        nodes = []
        name = "input"
        for index, (operator, domain, attributes) in enumerate(before):
            nodes.append(helper.make_node(operator, [name], [f"before{index}"], domain=domain, **attributes))
            name = f"before{index}"
        last = OUTPUT if not after else "trees"
        outputs = [LABEL, last] if made.operator == "TreeEnsembleClassifier" else [last]
        nodes.append(made.node(name, outputs))
        for index, (operator, domain, attributes) in enumerate(after):
            name = OUTPUT if index == len(after) - 1 else f"after{index}"
            nodes.append(helper.make_node(operator, [last], [name], domain=domain, **attributes))
            last = name
        is_double = any(attributes.get("to") == TensorProto.DOUBLE for _, _, attributes in after)
        kind_in, kind_out = (TensorProto.DOUBLE if flag else TensorProto.FLOAT for flag in (takes_doubles, is_double))
        model = make_model(
            nodes,
            inputs=[helper.make_tensor_value_info("input", kind_in, ("batch", self.feature_count))],
            outputs=[helper.make_tensor_value_info(OUTPUT, kind_out, ("batch", None))],
            opsets={"": 17, "ai.onnx.ml": opset},
        )
        return bytes(model.SerializeToString())


_Step = tuple[str, str, dict[str, object]]  # operator, domain, attributes


@dataclass(frozen=True)
class _Node:
    operator: str
    trees: list[Tree]
    column: int
    margin_column: int  # of the node without a transformation
    attributes: dict[str, object]

    @property
    def divisor(self) -> int:
        return len(self.trees) if self.attributes.get("aggregate_function") in ("AVERAGE", 0) else 1

    @property
    def base_sum(self) -> float:
        return float(np.abs(self.attributes.get("base_values", [0.0])).max())

    def without_transformation(self) -> _Node:
        none = 0 if self.operator == "TreeEnsemble" else "NONE"
        return _Node(self.operator, self.trees, self.column, self.margin_column, {**self.attributes, "post_transform": none})

    def node(self, name: str, outputs: list[str]) -> NodeProto:
        if self.operator == "TreeEnsemble":
            lists: dict[str, object] = apart_lists(self.trees)
        else:
            lists = listed_lists(self.trees, "class" if self.operator == "TreeEnsembleClassifier" else "target")
        return helper.make_node(self.operator, [name], outputs, domain="ai.onnx.ml", **lists, **self.attributes)
