"""What the benchmarks serve and send: a 200-tree, 31-leaf LightGBM model on the demo's 15 inputs, a store with its history,
and distinct transactions of many customers. Made once, kept in build/bench/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay import _core
from assay.cli.bench_messages import write_messages as write_bench_messages
from assay.demo.history import DEMO_PARAMETERS, DEMO_TIME, demo_store
from assay.demo.paths import feature_set_path
from assay.demo.simulator import SimulatorParameters, simulate
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns
from assay.models.manifest import UNKNOWN_COMMIT
from assay.models.ort_library import find_library
from assay.models.pack import Commit, PackRequest, Rows, pack_bundle
from assay.v1 import scoring_pb2
from benchmarks.varied_load import write_messages

if TYPE_CHECKING:
    from onnx import ModelProto

TREES, LEAVES = 200, 31
TRAINING = SimulatorParameters(seed=7, customers=1_000, terminals=2_000, days=75)
SEED = 11


@dataclass(frozen=True)
class Material:
    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "models" / "trees200" / "1"

    @property
    def snapshot(self) -> Path:
        return self.folder / "store.snapshot"

    @cached_property
    def feature_set(self) -> FeatureSet:
        return FeatureSet.load(feature_set_path())

    @cached_property
    def plan(self) -> _core.FeaturePlan:
        return compile_plan(self.feature_set)

    @cached_property
    def reader(self) -> _core.FeatureReader:
        store = _core.EmbeddedStore(4 << 30)
        store.load(str(self.snapshot))
        return _core.FeatureReader(self.plan, store)

    def requests(self, count: int) -> list[scoring_pb2.ScoreRequest]:
        """Distinct transactions of customers and terminals that the store knows, seconds after the history ends."""
        random = np.random.default_rng(SEED)
        customers = random.integers(0, DEMO_PARAMETERS.customers, count)
        terminals = random.integers(0, DEMO_PARAMETERS.terminals, count)
        return list(score_requests(customers, terminals, random.integers(100, 30_000, count)))

    def matrix(self, requests: list[scoring_pb2.ScoreRequest]) -> NDArray[np.float32]:
        """The model inputs of the requests, (n, 15): what ONNX Runtime alone is given, ready."""
        rows = []
        for request in requests:
            features = {name: value.int64_value for name, value in request.features.items()}
            time_us = request.event_time.ToMicroseconds()
            read = self.reader.read(request.transaction_id, time_us, dict(request.entities), features)
            assert isinstance(read, _core.ReadRow)
            rows.append(np.frombuffer(read.row, dtype=np.float32)[: len(self.plan.input_names)])
        return np.stack(rows)

    def messages_file(self, count: int) -> Path:
        """Distinct ScoreRequests for varied_load.py."""
        return write_messages(self.folder / "messages.bin", [request.SerializeToString() for request in self.requests(count)])

    def bench_file(self, count: int) -> Path:
        """The same for `assay bench`."""
        path = self.folder / f"bench-{count}.bin"
        if not path.exists():
            write_bench_messages(path, (request.SerializeToString() for request in self.requests(count)), count)
        return path


def score_requests(
    customers: NDArray[np.int64], terminals: NDArray[np.int64], amounts: NDArray[np.int64]
) -> Iterator[scoring_pb2.ScoreRequest]:
    """One for each place of the three (n,), within the hour after the history ends."""
    start_s = int(DEMO_TIME.timestamp())
    for index, (customer, terminal, amount) in enumerate(
        zip(customers.tolist(), terminals.tolist(), amounts.tolist(), strict=True)
    ):
        request = scoring_pb2.ScoreRequest(transaction_id=f"bench-{index}")
        request.event_time.seconds = start_s + index % 3600
        request.entities["customer_id"] = str(customer)
        request.entities["terminal_id"] = str(terminal)
        request.features["amount_minor"].int64_value = amount
        yield request


def prepare(folder: Path, report: Callable[[str], None]) -> Material:
    """Makes what is not there yet."""
    material = Material(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not material.snapshot.exists():
        report("making the demo's history")
        demo_store(cache=folder).save(str(material.snapshot))
    if not material.bundle.exists():
        report(f"training {TREES} trees of {LEAVES} leaves")
        _train(material)
    return material


def training_rows(material: Material) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """The demo's inputs of a simulation's transactions, as (n,) columns in the feature set's order, and which are fraud."""
    transactions = simulate(TRAINING)
    log = _core.EventLog(material.plan)
    for block in transactions.json_lines():
        log.append(block)
    log.sort()
    store = _core.EmbeddedStore(4 << 30)
    reader, writer = _core.FeatureReader(material.plan, store), _core.EventWriter(material.plan, store)
    packed, _, _, _ = log.replay(reader, writer, 0, log.event_count)
    columns = {name: values.astype(np.float64) for name, values in input_columns(material.plan, packed).items()}
    return columns, transactions.is_fraud


def pack(material: Material, name: str, model: ModelProto, columns: Mapping[str, NDArray[np.float64]]) -> None:
    """Makes the bundle `name` of a model on the demo's inputs; `columns` are rows of them, its golden rows and baseline."""
    request = PackRequest(
        name=name,
        version="1",
        model_bytes=model.SerializeToString(),
        feature_set_bytes=feature_set_path().read_bytes(),
        rows=Rows(columns=dict(columns)),
        commit=Commit(UNKNOWN_COMMIT, True),
        data_sha256="0" * 64,
        score_output="probabilities",
        score_column=1,
    )
    pack_bundle(request, material.folder / "models", _core.OrtRuntime(str(find_library())), is_replacing=True)


# --- implementation ---


def _train(material: Material) -> None:
    import lightgbm
    from onnx.version_converter import convert_version
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import convert_sklearn, update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    columns, is_fraud = training_rows(material)
    # LightGBM's own defaults have 31 leaves.
    model = lightgbm.LGBMClassifier(n_estimators=TREES, num_leaves=LEAVES, random_state=0, n_jobs=1, verbose=-1)
    model.fit(np.stack(list(columns.values()), axis=1).astype(np.float32), is_fraud)
    trees = model.booster_.dump_model()["tree_info"]
    assert len(trees) == TREES, len(trees)
    leaves_mean = float(np.mean([tree["num_leaves"] for tree in trees]))
    assert leaves_mean > 0.9 * LEAVES, f"{leaves_mean}: the trees stayed smaller than promised"
    update_registered_converter(
        lightgbm.LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    onnx_model = convert_sklearn(
        model,
        initial_types=[("input", FloatTensorType([None, len(columns)]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
        options={id(model): {"zipmap": False}},
    )
    pack(material, "trees200", convert_version(onnx_model, 17), columns)
    (material.folder / "trees.json").write_text(json.dumps({"trees": TREES, "leaves_mean": leaves_mean}))
