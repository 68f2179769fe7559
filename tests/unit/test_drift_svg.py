"""Plots without a library: bars are as high as their shares, labels say what is in a bin."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest

from assay.cli.drift_svg import Bin, bars, bin_labels

SVG = "{http://www.w3.org/2000/svg}"


def test_labels_have_as_few_digits_as_tell_the_edges_apart() -> None:
    assert bin_labels([]) == ["all"]
    assert bin_labels([0.0, 1.0]) == ["< 0", "0 to 1", "≥ 1"]
    assert bin_labels([0.27000001072883606, 2.0799999]) == ["< 0.27", "0.27 to 2.08", "≥ 2.08"]
    assert bin_labels([0.9967125654220581, 0.998331606388092]) == ["< 0.997", "0.997 to 0.998", "≥ 0.998"]
    assert bin_labels([0.99671, 0.99683]) == ["< 0.9967", "0.9967 to 0.9968", "≥ 0.9968"]
    assert bin_labels([12_345.0, 99_000.0]) == ["< 12,300", "12,300 to 99,000", "≥ 99,000"]
    assert bin_labels([1.0, 1.00000001]) == ["< 1.0", "1.0 to 1.00000001", "≥ 1.00000001"]


def test_bars_are_as_high_as_their_shares(rng: random.Random) -> None:
    for _ in range(100):
        top = 10 ** rng.uniform(-5, 0)
        bins = [Bin(f"<{n}>", top * rng.random(), top * rng.random()) for n in range(rng.randint(1, 20))]
        drawing = ElementTree.fromstring(bars(bins, "a & b"))
        heights = [float(bar.get("height", "")) for bar in drawing.iter(f"{SVG}rect")]
        shares = [share for one in bins for share in (one.then, one.now)]
        assert len(heights) == len(shares)
        scale = max(heights) / max(shares)
        assert heights == pytest.approx([share * scale for share in shares], abs=0.02)
        assert 90 < max(heights) <= 190.01  # the picture is used, and not left
        lines = [text.text or "" for text in drawing.iter(f"{SVG}text") if (text.text or "").endswith("%")]
        assert 2 <= len(lines) <= 7
        assert lines[0] == "0%"
        assert float(lines[-1].rstrip("%")) / 100 >= max(shares) * 0.994  # of three digits


def test_nothing_in_any_bin_is_a_plot_all_the_same() -> None:
    for bins in ([Bin("all", 0.0, 0.0)], []):
        assert ElementTree.fromstring(bars(bins, "empty")).tag == f"{SVG}svg"
