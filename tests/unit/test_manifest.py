"""The manifest of a bundle: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from assay.models.manifest import FILE_BYTES_MAX, MANIFEST_BYTES_MAX, Manifest, parse_manifest
from assay.models.refusal import BundleRefusedError


def good() -> dict[str, Any]:
    return {
        "format": 1,
        "name": "card_fraud",
        "version": "1.2-rc.1",
        "inputs": [{"tensor": "input", "dtype": "float32", "features": ["amount", "is_night"]}],
        "outputs": ["label", "probabilities"],
        "feature_set": {"name": "card_fraud", "version": "1", "schema_hash": "a" * 64},
        "score": {"output": "probabilities", "column": 1},
        "thresholds": [{"decision": "challenge", "score": 0.3}, {"decision": "decline", "score": 0.9}],
        "batch_tolerance": 0.0,
        "golden_tolerance": 1e-6,
        "timeout_ms": 1000,
        "lineage": {
            "git_commit": "b" * 40,
            "git_is_dirty": False,
            "data_sha256": "c" * 64,
            "created": "2026-11-23T18:00:00Z",
            "libraries": {"numpy": "2.4.6"},
        },
        "files": {name: {"sha256": "d" * 64, "bytes": 10} for name in FILE_BYTES_MAX},
    }


def parse(value: dict[str, Any]) -> Manifest:
    return parse_manifest(yaml.safe_dump(value, sort_keys=False).encode())


def test_good_manifest() -> None:
    manifest = parse(good())
    assert manifest.lineage.created == datetime(2026, 11, 23, 18, tzinfo=UTC)
    assert [threshold.decision for threshold in manifest.thresholds] == ["challenge", "decline"]


def test_written_manifest_reads_back_equal() -> None:
    manifest = parse(good())
    again = parse_manifest(manifest.to_yaml())
    assert again == manifest
    assert again.to_yaml() == manifest.to_yaml()


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(value: Any) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change("format", to=2), "format 2, this assay reads format 1"),
        (change("format", to="1"), "reads format 1"),
        (change("surprise", to=1), "surprise"),
        (change("lineage", "surprise", to=1), "lineage.surprise"),
        (change("name", to="../../etc"), "name"),
        (change("name", to="Card"), "name"),
        (change("name", to="a" * 65), "name"),
        (change("name", to="a\n"), "name"),
        (change("version", to=1), "version"),
        (change("version", to=".."), "version"),
        (change("inputs", to=[]), "inputs"),
        (change("inputs", 0, "dtype", to="float16"), "inputs.0.dtype"),
        (change("inputs", 0, "features", to=["amount", "amount"]), "each feature once"),
        (change("inputs", 0, "features", to=[]), "inputs.0.features"),
        (change("score", "output", to="nowhere"), "score.output"),
        (change("score", "column", to=-1), "score.column"),
        (change("score", "column", to=1.0), "score.column"),
        (change("score", "column", to=True), "score.column"),
        (change("thresholds", 1, "score", to=0.3), "ascending"),
        (change("thresholds", 1, "score", to=float("nan")), "thresholds.1.score"),
        (change("thresholds", 1, "decision", to="approve"), "thresholds.1.decision"),
        (change("thresholds", 1, "decision", to="challenge"), "each decision once"),
        (change("batch_tolerance", to=0.01), "batch_tolerance"),
        (change("batch_tolerance", to=-1e-9), "batch_tolerance"),
        (change("golden_tolerance", to=0.01), "golden_tolerance"),
        (change("timeout_ms", to=0), "timeout_ms"),
        (change("timeout_ms", to=60_001), "timeout_ms"),
        (change("feature_set", "schema_hash", to="A" * 64), "feature_set.schema_hash"),
        (change("lineage", "git_commit", to="main"), "lineage.git_commit"),
        (change("lineage", "git_commit", to="unknown"), "must be marked as dirty"),
        (change("lineage", "created", to="2026-11-23T18:00:00"), "lineage.created"),
        (change("files", "extra.bin", to={"sha256": "d" * 64, "bytes": 1}), "files"),
        (lambda value: value["files"].pop("golden.npz"), "files"),
        (lambda value: value.pop("lineage"), "lineage"),
    ],
)
def test_refuses(damage: Callable[[dict[str, Any]], None], reason: str) -> None:
    value = good()
    damage(value)
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    assert caught.value.file == "manifest.yaml"
    assert reason in caught.value.reason
    assert caught.value.mend


def test_lists_all_violations_without_their_values() -> None:
    value = good()
    value["name"], value["timeout_ms"], value["score"]["column"] = "SECRET-4111", "SECRET-4111", -3
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    assert all(place in caught.value.reason for place in ("name", "timeout_ms", "score.column"))
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"just words",
        b"format: 1\nformat: 1\n",
        b"a: &x [1]\nb: *x\n",
        b"a: !!python/object/apply:os.system [true]\n",
        b"{{{{",
        b"\xff\xfe\x00",
        b"a: " + b"[" * 5_000,
    ],
)
def test_refuses_what_is_no_strict_yaml(text: bytes) -> None:
    with pytest.raises(BundleRefusedError) as caught:
        parse_manifest(text)
    assert caught.value.file == "manifest.yaml"


def test_size_limit() -> None:
    padding = b"#" * (MANIFEST_BYTES_MAX - len(yaml.safe_dump(good()).encode()) - 1) + b"\n"
    whole = padding + yaml.safe_dump(good()).encode()
    assert len(whole) == MANIFEST_BYTES_MAX
    assert parse_manifest(whole).name == "card_fraud"
    with pytest.raises(BundleRefusedError, match="the limit is"):
        parse_manifest(b"#" + whole)
