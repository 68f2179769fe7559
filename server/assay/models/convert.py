"""A trained estimator as ONNX, and what it says itself of the same rows: scikit-learn, XGBoost, LightGBM (their scikit-learn
classes, alone or in a Pipeline) and PyTorch modules.

The libraries are those of the training process; none is imported before an estimator of it is given.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.errors import InputError
from assay.models.inspection import OnnxInspection, inspect_model, read_model

OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
INPUT: Final = "input"
TORCH_OUTPUT: Final = "score"

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # (n, inputs) -> (n, columns)


@dataclass(frozen=True)
class Converted:
    """An estimator as ONNX, with one float32 input, and its own predictions."""

    model_bytes: bytes
    inspection: OnnxInspection
    predict: Predict
    library: str  # "scikit-learn 1.9.1"
    estimator: str  # its class


def convert(estimator: Any, input_names: Sequence[str]) -> Converted:
    """Raises InputError: no such estimator, or trained on other inputs; BundleError: the ONNX file is refused."""
    modules = [kind.__module__.partition(".")[0] for kind in type(estimator).__mro__]
    name = type(estimator).__name__
    if "torch" in modules:
        model_bytes, inspection = _torch_onnx(estimator, len(input_names))
        return Converted(model_bytes, inspection, _torch_predict(estimator), _version("torch"), name)
    if "sklearn" in modules:
        _check_names(estimator, input_names)
        model_bytes = _sklearn_onnx(estimator, len(input_names))
        library = next(distribution for module, distribution in _LIBRARIES if module in modules)
        return Converted(model_bytes, inspect_model(model_bytes), _sklearn_predict(estimator), _version(*library), name)
    raise InputError(
        f"estimator: {type(estimator).__module__}.{name} cannot be converted; expected a scikit-learn estimator or Pipeline, "
        "XGBClassifier, LGBMClassifier (no Booster) or a torch.nn.Module. Export anything else to ONNX and use assay model pack"
    )


# --- implementation ---

# Module -> the distributions that bring it. The first that an estimator's classes come from made it.
_LIBRARIES: Final = (("xgboost", ("xgboost", "xgboost-cpu")), ("lightgbm", ("lightgbm",)), ("sklearn", ("scikit-learn",)))
_MADE_UP_NAME = re.compile(r"Column_\d+|f\d+")  # what libraries call the columns of an array


def _version(*distributions: str) -> str:
    for name in distributions:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{distributions[0]} unknown"


def _check_names(estimator: Any, input_names: Sequence[str]) -> None:
    """An estimator that knows its columns by name must have been trained on the feature set's inputs, in their order."""
    trained_on = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    if not trained_on or all(_MADE_UP_NAME.fullmatch(name) for name in trained_on) or trained_on == list(input_names):
        return
    differing = next((pair for pair in zip(trained_on, input_names, strict=False) if pair[0] != pair[1]), None)
    found = f"column {differing[0]!r} where the feature set has {differing[1]!r}" if differing else f"{len(trained_on)} columns"
    raise InputError(
        f"estimator: it was trained on {found}; train it on the feature set's inputs, in order: {', '.join(input_names)[:300]}"
    )


def _sklearn_onnx(estimator: Any, input_count: int) -> bytes:
    skl2onnx = _need("skl2onnx", "skl2onnx")
    types = importlib.import_module("skl2onnx.common.data_types")
    _register_boosters(skl2onnx)
    from_names = _without_names(estimator)
    options = {id(from_names): {"zipmap": False}} if hasattr(from_names, "predict_proba") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about each other
        converted = skl2onnx.convert_sklearn(
            from_names,
            name=type(estimator).__name__,
            initial_types=[(INPUT, types.FloatTensorType([None, input_count]))],
            target_opset=OPSETS,
            options=options,
        )
    _declare_opset(converted)
    _round_edges_down(converted, from_names)
    return bytes(converted.SerializeToString())


def _declare_opset(model: Any) -> None:
    """skl2onnx declares the lowest opset that its operators need. Where each of them is the same at ours, ours is as true."""
    defs = importlib.import_module("onnx").defs
    kinds = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    for opset in model.opset_import:
        is_lower = opset.domain in ("", "ai.onnx") and opset.version < OPSETS[""]
        if is_lower and all(defs.get_schema(kind, OPSETS[""], "").since_version <= opset.version for kind in kinds):
            opset.version = OPSETS[""]


def _round_edges_down(model: Any, estimator: Any) -> None:
    """LightGBM's edges are float64 and lie between two values; ONNX's are float32. To the nearest, an edge may land on the upper
    value and take it in. Rounded down, `value <= edge` is the same for every float32 value."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if not hasattr(last, "booster_"):
        return
    lower: dict[tuple[int, float], float] = {}
    stack = [tree["tree_structure"] for tree in last.booster_.dump_model()["tree_info"]]
    while stack:
        node = stack.pop()
        if "split_feature" not in node:
            continue
        stack += [node["left_child"], node["right_child"]]
        if node["decision_type"] == "<=":
            nearest = np.float32(node["threshold"])
            is_above = float(nearest) > node["threshold"]
            down = np.nextafter(nearest, np.float32(-np.inf)) if is_above else nearest
            lower[int(node["split_feature"]), float(nearest)] = float(down)
    for node in model.graph.node:
        fields = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_values" in fields:
            edges = fields["nodes_values"].floats
            kept = zip(fields["nodes_featureids"].ints, edges, fields["nodes_modes"].strings, strict=True)
            edges[:] = [lower.get((place, edge), edge) if mode == b"BRANCH_LEQ" else edge for place, edge, mode in kept]


def _register_boosters(skl2onnx: Any) -> None:
    """skl2onnx writes opset 17 with onnxmltools' converters, which by themselves refuse it."""
    shapes = importlib.import_module("skl2onnx.common.shape_calculator")
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    kinds = (
        ("xgboost", "XGBClassifier", "XGBoostXGBClassifier", "xgboost.operator_converters.XGBoost", "convert_xgboost"),
        ("lightgbm", "LGBMClassifier", "LightGbmLGBMClassifier", "lightgbm.operator_converters.LightGbm", "convert_lightgbm"),
    )
    for module_name, class_name, alias, converter_module, converter in kinds:
        try:
            module = importlib.import_module(module_name)
            converters = importlib.import_module(f"onnxmltools.convert.{converter_module}")
        except ImportError:
            continue  # skl2onnx then says what it cannot convert
        skl2onnx.update_registered_converter(
            getattr(module, class_name),
            alias,
            shapes.calculate_linear_classifier_output_shapes,
            getattr(converters, converter),
            options=options,
        )


def _without_names(estimator: Any) -> Any:
    """onnxmltools knows the columns of a booster as f0, f1 ... only: the names that it learnt are taken from a copy of it."""
    if not type(estimator).__module__.startswith("xgboost") or estimator.get_booster().feature_names is None:
        return estimator
    copy: Any = importlib.import_module("copy").deepcopy(estimator)
    copy.get_booster().feature_names = None
    return copy


def _sklearn_predict(estimator: Any) -> Predict:
    function = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.predict
    names = getattr(estimator, "feature_names_in_", None)

    def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        rows: Any = matrix
        if names is not None and not all(_MADE_UP_NAME.fullmatch(str(name)) for name in names):
            rows = importlib.import_module("pandas").DataFrame(matrix, columns=list(names))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(function(rows), np.float64).reshape(len(matrix), -1)

    return predict


def _torch_onnx(module: Any, input_count: int) -> tuple[bytes, OnnxInspection]:
    torch = importlib.import_module("torch")
    was_training = module.training
    module.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="assay-export-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer exporter
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                module,
                (torch.zeros(2, input_count),),
                str(path),
                dynamo=False,
                opset_version=OPSETS[""],
                input_names=[INPUT],
                output_names=[TORCH_OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, TORCH_OUTPUT: {0: "batch"}},
            )
            return read_model(path)
    finally:
        module.train(was_training)


def _torch_predict(module: Any) -> Predict:
    torch = importlib.import_module("torch")

    def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        was_training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                return np.asarray(module(torch.from_numpy(matrix.copy())), np.float64).reshape(len(matrix), -1)
        finally:
            module.train(was_training)

    return predict


def _need(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"estimator: converting it needs {distribution}; install it: pip install 'assay[train]'") from None
