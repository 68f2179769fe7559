"""Trees as attributes of ONNX's operators, in both ways that ai.onnx.ml has for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")  # by their number in ai.onnx.ml 5


@dataclass(frozen=True)
class Leaf:
    weights: tuple[tuple[int, float], ...]  # (target, what it adds to it); a target may stand there twice


@dataclass(frozen=True)
class Split:
    feature: int
    edge: float
    mode: str
    is_missing_true: bool
    if_true: Tree
    if_false: Tree


Tree = Split | Leaf


def largest_leaf(tree: Tree) -> float:
    if isinstance(tree, Leaf):
        return sum(abs(weight) for _, weight in tree.weights)
    return max(largest_leaf(tree.if_true), largest_leaf(tree.if_false))


def targets_of(tree: Tree) -> set[int]:
    if isinstance(tree, Leaf):
        return {target for target, _ in tree.weights}
    return targets_of(tree.if_true) | targets_of(tree.if_false)


def listed_lists(trees: Sequence[Tree], prefix: str) -> dict[str, object]:
    """Attributes of ai.onnx.ml 1 and 3: lists by node, and by weight of a leaf."""
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    nodes: list[tuple[object, ...]] = []
    weights: list[tuple[int, int, int, float]] = []

    def add(tree: Tree, tree_id: int, first: int) -> int:
        place = len(nodes)
        node_id = place - first
        nodes.append(())
        if isinstance(tree, Leaf):
            nodes[place] = (tree_id, node_id, 0, 0.0, "LEAF", 0, 0, 0)
            weights.extend((tree_id, node_id, target, weight) for target, weight in tree.weights)
        else:
            if_true, if_false = add(tree.if_true, tree_id, first), add(tree.if_false, tree_id, first)
            ways = (if_true, if_false, int(tree.is_missing_true))
            nodes[place] = (tree_id, node_id, tree.feature, tree.edge, tree.mode, *ways)
        return node_id

    for tree_id, tree in enumerate(trees):
        add(tree, tree_id, len(nodes))
    lists = dict(zip((f"nodes_{name}" for name in names), map(list, zip(*nodes, strict=True)), strict=True))
    ids = dict(
        zip(
            (f"{prefix}_{name}" for name in ("treeids", "nodeids", "ids", "weights")),
            map(list, zip(*weights, strict=True)),
            strict=True,
        )
    )
    return {**lists, **ids}


def apart_lists(trees: Sequence[Tree]) -> dict[str, object]:
    """Attributes of ai.onnx.ml 5: nodes and leaves apart. A tree that is a leaf is a node whose ways both lead there."""
    nodes: list[tuple[float, ...]] = []
    leaves: list[tuple[int, float]] = []
    roots = []

    def add(tree: Tree) -> tuple[int, int]:
        """(place, whether it is a leaf)"""
        if isinstance(tree, Leaf):
            leaves.append(tree.weights[0])
            return len(leaves) - 1, 1
        place = len(nodes)
        nodes.append(())
        (if_true, is_true_leaf), (if_false, is_false_leaf) = add(tree.if_true), add(tree.if_false)
        mode, missing = MODES.index(tree.mode), int(tree.is_missing_true)
        nodes[place] = (tree.feature, tree.edge, mode, if_true, is_true_leaf, if_false, is_false_leaf, missing)
        return place, 0

    for tree in trees:
        roots.append(len(nodes))
        if isinstance(tree, Leaf):
            place, _ = add(tree)
            nodes.append((0, 0.0, 0, place, 1, place, 1, 0))
        else:
            add(tree)
    columns = [list(column) for column in zip(*nodes, strict=True)]
    names = (
        "featureids",
        "splits",
        "modes",
        "truenodeids",
        "trueleafs",
        "falsenodeids",
        "falseleafs",
        "missing_value_tracks_true",
    )
    lists: dict[str, object] = dict(zip((f"nodes_{name}" for name in names), columns, strict=True))
    lists["nodes_splits"] = numpy_helper.from_array(np.array(columns[1], np.float32), "splits")
    lists["nodes_modes"] = numpy_helper.from_array(np.array(columns[2], np.uint8), "modes")
    return {
        **lists,
        "tree_roots": roots,
        "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": numpy_helper.from_array(np.array([weight for _, weight in leaves], np.float32), "weights"),
    }
