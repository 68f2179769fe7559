"""What the gate finds of latency and memory, at its limits; and that the memory of batches is really that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from assay.models import batch_memory, measure_memory
from assay.models.batch_memory import BatchMemory, measure_batch_memory
from assay.models.bundle import read_bundle
from assay.models.gate import check_latencies, check_memory
from assay.models.refusal import BundleRefusedError
from tests.support.bundles import edit_manifest, pack
from tests.support.onnx_models import INPUT_COUNT, make_model, tree_model

MIB = 1 << 20


def test_a_latency_at_its_limit() -> None:
    latencies = {1: 10.0, 2: 20.0}
    assert check_latencies(latencies, None) == "1: 10, 2: 20 us"
    assert check_latencies(latencies, 20.0)
    with pytest.raises(BundleRefusedError, match=r"a batch of 2 takes 20 us, --latency-us-max is 19\.5"):
        check_latencies(latencies, 19.5)


def test_memory_at_its_limit() -> None:
    memory = BatchMemory(3 * MIB, {1: 0, 64: MIB // 2})
    assert check_memory(memory, None) == "session 3.0 MiB; batches add 1: 0.0, 64: 0.5"
    assert check_memory(memory, 3.5)
    with pytest.raises(BundleRefusedError, match=r"the session with a batch of 64 takes 3\.5 MiB, --memory-mib-max is 3\.4"):
        check_memory(memory, 3.4)
    with pytest.raises(BundleRefusedError, match=r"with a batch of 1 takes 3\.0 MiB"):
        check_memory(memory, 2)


def test_a_kernel_that_does_not_tell() -> None:
    """Without a limit it is said; a limit that cannot be held against anything is refused."""
    assert check_memory(None, None).startswith("not measured")
    with pytest.raises(BundleRefusedError, match="leave --memory-mib-max out"):
        check_memory(None, 100)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tree_model(), tmp_path_factory.mktemp("models"))


def wide_bundle(out: Path, width: int) -> Path:
    """A model that makes `width` floats of each row before it says one."""
    weights = numpy_helper.from_array(np.full((INPUT_COUNT, width), 1e-6, np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["score"], axes=[1], keepdims=1),
    ]
    return pack(make_model(nodes, initializers=[weights]), out)


def test_the_memory_of_a_batch_is_what_its_tensors_take(tmp_path: Path) -> None:
    """100,000 floats a row are 0.4 MB: 64 rows take 24 MiB more than the session, one row a part of one."""
    found = measure_batch_memory(read_bundle(wide_bundle(tmp_path, 100_000)), 64)
    assert found is not None
    assert list(found.batch_bytes) == [1, 2, 4, 8, 16, 32, 64]
    assert list(found.batch_bytes.values()) == sorted(found.batch_bytes.values())
    assert found.session_bytes > INPUT_COUNT * 400_000  # its weights
    assert found.batch_bytes[64] >= 24 * MIB
    assert found.batch_bytes[64] < 3 * 24 * MIB
    assert found.batch_bytes[1] < 6 * MIB


def test_a_bundle_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    place = pack(tree_model(), tmp_path)
    read = read_bundle(place)
    edit_manifest(place, lambda value: value.update(timeout_ms=7))
    with pytest.raises(BundleRefusedError, match="changed while it was checked"):
        measure_batch_memory(read, 2)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 1", "exit 1: no message"),
        ("echo Killed >&2; kill -9 $$", "exit -9: Killed"),
        ("exec sleep 60", "no answer within 0.2 s"),
    ],
)
def test_a_child_that_does_not_answer_is_a_refusal(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\n{script}\n")
    child.chmod(0o755)
    monkeypatch.setattr(batch_memory.sys, "executable", str(child))
    if "sleep" in script:
        monkeypatch.setattr(batch_memory, "_WALL_SECONDS_MAX", 0.2)
    with pytest.raises(BundleRefusedError, match="its memory could not be measured") as refused:
        measure_batch_memory(read_bundle(bundle), 2)
    assert says in refused.value.reason


def test_a_kernel_that_keeps_no_peak(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_memory, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(measure_memory.resource, "setrlimit", lambda *_: None)
    read = read_bundle(bundle)
    assert measure_memory.main(bundle, read.manifest_sha256, 1) == measure_memory.UNMEASURABLE
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\nexit {measure_memory.UNMEASURABLE}\n")
    child.chmod(0o755)
    monkeypatch.setattr(batch_memory.sys, "executable", str(child))
    assert measure_batch_memory(read, 1) is None
