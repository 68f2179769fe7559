"""Small bundles for tests, and ways to damage them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import yaml

from assay import _core
from assay.models.bundle import file_record
from assay.models.manifest import MANIFEST_FILE, Threshold
from assay.models.ort_library import find_library
from assay.models.pack import Commit, PackRequest, Rows, pack_bundle

FEATURE_SET = b"""
name: tiny
version: "1"
entities: [customer_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0, maximum: 1_000_000}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      tx_count_1d: {op: count, window: 1d}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
  is_night: {op: is_night, first_hour: 0, last_hour: 6}
inputs: [amount, is_night, tx_count_1d]
"""


def runtime() -> _core.OrtRuntime:
    return _core.OrtRuntime(str(find_library()))


def sample_rows(count: int = 400, seed: int = 1) -> Rows:
    """Rows of the tiny feature set, as columns."""
    random = np.random.default_rng(seed)
    return Rows(
        columns={
            "amount": random.uniform(0, 300, count).round(2),
            "is_night": random.integers(0, 2, count).astype(np.float64),
            "tx_count_1d": random.integers(1, 9, count).astype(np.float64),
        }
    )


def pack_request(model: onnx.ModelProto | bytes, **changes: object) -> PackRequest:
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "model_bytes": model if isinstance(model, bytes) else model.SerializeToString(),
        "feature_set_bytes": FEATURE_SET,
        "rows": sample_rows(),
        "commit": Commit("0" * 40, is_dirty=False),
        "data_sha256": "1" * 64,
        "score_output": "score",
        "thresholds": (Threshold(decision="challenge", score=0.4), Threshold(decision="decline", score=0.7)),
    }
    return PackRequest(**{**values, **changes})  # type: ignore[arg-type]


def pack(model: onnx.ModelProto | bytes, out: Path, **changes: object) -> Path:
    return pack_bundle(pack_request(model, **changes), out, runtime())


def rewrite(bundle: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    """Changes one file and puts its new size and hash into the manifest: what an attacker with write access would do."""
    path = bundle / file
    path.write_bytes(change(path.read_bytes()))
    edit_manifest(bundle, lambda value: value["files"].update({file: file_record(path.read_bytes()).model_dump()}))


def edit_manifest(bundle: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Loads, changes and writes the manifest without checking it."""
    value = yaml.safe_load((bundle / MANIFEST_FILE).read_text())
    change(value)
    (bundle / MANIFEST_FILE).write_text(yaml.safe_dump(value, sort_keys=False))
