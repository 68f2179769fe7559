"""The parts of quantising that need no model: the score map, limits, throughput, what the manifest says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay.errors import InputError
from assay.models.manifest import Manifest, Parent, parse_manifest
from assay.models.quality import Difference, Quality
from assay.models.quantize import Limits, Report, broken_limits, fit_score_map
from assay.models.refusal import BundleRefusedError
from assay.models.throughput import has_vnni, measure_throughput
from tests.support.bundles import pack
from tests.support.onnx_models import tree_model

REPORT = Report(
    parent_version="1",
    kind="int8-static",
    parent_bytes=400,
    model_bytes=100,
    calibration_rows=5,
    difference=Difference(rows=200, score_difference_max=0.02, score_difference_mean=0.001, decision_flips=3),
    parent_quality=Quality(0.95, 0.70, 0.30),
    quality=Quality(0.94, 0.71, 0.28),
    throughput=[],
    score_map=None,
    parent_scores=np.zeros(1),
    scores=np.zeros(1),
    broken=(),
    place=None,
)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(), ()),
        (Limits(score_difference_max=0.02), ()),  # at the limit is within it
        (Limits(score_difference_max=0.0199), ("score difference 0.02, the limit is 0.0199",)),
        (Limits(decision_flips_max=0.015), ()),
        (Limits(decision_flips_max=0.014), ("share of decisions that flip 0.015, the limit is 0.014",)),
        (Limits(auc_drop_max=0.009), ("drop of AUC 0.01, the limit is 0.009",)),
        (Limits(average_precision_drop_max=0), ()),  # it rose
        (Limits(card_precision_drop_max=0.01, auc_drop_max=0), ("drop of AUC 0.01", "drop of card precision 0.02")),
    ],
)
def test_limits_say_what_is_broken(limits: Limits, words: tuple[str, ...]) -> None:
    broken = broken_limits(limits, REPORT)
    assert len(broken) == len(words), broken
    assert all(said.startswith(word) for said, word in zip(broken, words, strict=True)), broken


def test_score_map_finds_the_map_that_was_applied() -> None:
    """Scores that were moved by a known map come back; the order of rows never changes."""
    parent = np.random.default_rng(3).beta(0.5, 3, 5_000)
    logits = np.log(parent / (1 - parent))
    moved = 1 / (1 + np.exp(-(logits + 0.3) / 1.4))  # so the way back is 1.4 * logit - 0.3
    found = fit_score_map(moved, parent)
    assert found.slope == pytest.approx(1.4, abs=1e-5)
    assert found.offset == pytest.approx(-0.3, abs=1e-5)
    same = fit_score_map(parent, parent)
    assert (same.slope, same.offset) == (pytest.approx(1, abs=1e-6), pytest.approx(0, abs=1e-6))


def test_score_map_bears_scores_of_0_and_1() -> None:
    found = fit_score_map(np.array([0.0, 0.2, 0.8, 1.0]), np.array([0.0, 0.25, 0.75, 1.0]))
    assert np.isfinite([found.slope, found.offset]).all()
    assert found.slope > 0


def test_score_map_refuses_what_it_cannot_map() -> None:
    rising = np.linspace(0.1, 0.9, 50)
    with pytest.raises(InputError, match="not probabilities"):
        fit_score_map(rising * 3, rising)
    with pytest.raises(InputError, match="do not rise with the parent's"):
        fit_score_map(rising[::-1], rising)


def test_throughput_runs_every_model_in_every_batch_size() -> None:
    seen: dict[str, list[int]] = {"parent": [], "quantised": []}

    def scorer(name: str):  # type: ignore[no-untyped-def]
        def score(rows: np.ndarray) -> np.ndarray:
            seen[name].append(len(rows))
            return np.zeros(len(rows))

        return score

    found = measure_throughput(
        {name: scorer(name) for name in seen}, np.zeros((10, 8), np.uint8), batches=(1, 16), run_s=0, rounds=2
    )
    assert [item.batch_rows for item in found] == [1, 16]
    assert all(set(item.rows_per_s) == set(seen) and min(item.rows_per_s.values()) > 0 for item in found)
    # Two rounds of one warm and one counted batch, for each size; the larger one is more than there are rows.
    assert seen["parent"] == seen["quantised"] == [1] * 4 + [16] * 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t\t: fpu avx_vnni\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd\n", None),
    ],
)
def test_vnni_is_read_from_the_processors_flags(tmp_path: Path, text: str, found: bool | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_vnni(tmp_path / "cpuinfo") is found
    assert has_vnni(tmp_path / "none") is None


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An ordinary bundle's, as it is read from the file."""
    place = pack(tree_model(), tmp_path_factory.mktemp("models"))
    return dict(yaml.safe_load((place / "manifest.yaml").read_text()))


def parse(manifest: dict[str, Any], **changes: object) -> Manifest:
    return parse_manifest(yaml.safe_dump({**manifest, **changes}).encode())


@pytest.mark.parametrize("version", ["2.5.0-onnx-int8", "2.5.0-onnx", "2026-11-27", "1", "a" * 64])
def test_versions_with_dashes_are_versions(manifest: dict[str, Any], version: str) -> None:
    assert parse(manifest, version=version).version == version


@pytest.mark.parametrize("version", ["2.5.0+int8", "-int8", "2.5.0/int8", "2.5.0-ONNX", "a" * 65, ""])
def test_other_versions_are_refused(manifest: dict[str, Any], version: str) -> None:
    with pytest.raises(BundleRefusedError, match="version"):
        parse(manifest, version=version)


def test_manifest_names_the_parent(manifest: dict[str, Any]) -> None:
    parent = {"version": "2.5.0-onnx", "manifest_sha256": "a" * 64, "conversion": "int8-static"}
    read = parse(manifest, lineage={**manifest["lineage"], "parent": parent})
    assert read.lineage.parent == Parent(version="2.5.0-onnx", manifest_sha256="a" * 64, conversion="int8-static")
    assert parse_manifest(read.to_yaml()) == read
    with pytest.raises(BundleRefusedError, match=r"lineage\.parent\.conversion"):
        parse(manifest, lineage={**manifest["lineage"], "parent": {**parent, "conversion": "int4"}})


def test_manifest_of_an_ordinary_model_says_nothing_of_it(manifest: dict[str, Any]) -> None:
    """Older versions of assay go on reading what they could read."""
    assert "is_batch_dependent" not in manifest
    assert "parent" not in manifest["lineage"]


def test_is_batch_dependent_is_true_or_absent(manifest: dict[str, Any]) -> None:
    """And it makes batches of one, whatever the server would take."""
    assert parse(manifest).batch_rows_max(256) == 256
    assert parse(manifest, is_batch_dependent=True).batch_rows_max(256) == 1
    with pytest.raises(BundleRefusedError, match="is_batch_dependent"):
        parse(manifest, is_batch_dependent=False)
