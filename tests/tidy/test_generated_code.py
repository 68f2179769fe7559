"""server/assay/v1 and server/assay/inference are what tools/generate_protos.py makes of proto/ today."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "server" / "assay" / "v1"


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_protos.py"), str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, f"grpcio-tools {version('grpcio-tools')}: {made.stderr}"
    fresh: dict[str, bytes] = {}
    committed: dict[str, bytes] = {}
    for package in ("v1", "inference"):
        fresh |= {f"{package}/{path.name}": path.read_bytes() for path in (tmp_path / "assay" / package).iterdir()}
        there = (path for path in (GENERATED.parent / package).iterdir() if path.is_file())
        committed |= {f"{package}/{path.name}": path.read_bytes() for path in there}
    assert sorted(fresh) == sorted(committed)
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert not stale, f"stale: {', '.join(stale)}; run `make proto` and commit"


def test_the_descriptor_set_stands_alone() -> None:
    """It has every import (grpcurl -protoset and Envoy need them), after its imports, with comments."""
    shipped = FileDescriptorSet.FromString((GENERATED / "assay.binpb").read_bytes())
    seen: set[str] = set()
    for file in shipped.file:
        assert set(file.dependency) <= seen, f"{file.name} stands before its imports"
        seen.add(file.name)
    assert {
        "assay/v1/scoring.proto",
        "assay/v1/feature.proto",
        "assay/v1/drift.proto",
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
        "google/protobuf/timestamp.proto",
    } <= seen
    for file in shipped.file:
        if file.package == "assay.v1":
            assert any(place.leading_comments for place in file.source_code_info.location)
            own = importlib.import_module(file.name.replace("/", ".").replace(".proto", "_pb2"))
            assert {message.name for message in file.message_type} == set(own.DESCRIPTOR.message_types_by_name)


def test_the_generator_is_no_newer_than_the_floors_of_pyproject() -> None:
    """Generated code refuses a runtime older than its generator."""
    import tomllib

    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (floor,) = [item.partition(">=")[2] for item in dependencies if item.startswith("grpcio>=")]
    code = (GENERATED / "scoring_pb2_grpc.py").read_text()
    made_with = code.partition("GRPC_GENERATED_VERSION = '")[2].partition("'")[0]
    assert tuple(map(int, made_with.split("."))) <= tuple(map(int, floor.split(".")))
