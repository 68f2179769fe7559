"""`assay serve NAME`: which bundle a name means, and what is said where it means none."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import InputError
from assay.models.locate import locate_bundle


def make(directory: Path, *versions: str) -> None:
    for version in versions:
        (directory / version).mkdir(parents=True)
        (directory / version / "manifest.yaml").touch()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bundle_is_itself(here: Path) -> None:
    make(here / "models" / "fraud", "1", "2")
    assert locate_bundle("models/fraud/1") == Path("models/fraud/1")
    assert locate_bundle("fraud/1") == Path("models/fraud/1")
    assert locate_bundle(str(here / "models" / "fraud" / "1")) == here / "models" / "fraud" / "1"


@pytest.mark.parametrize(
    ("versions", "newest"),
    [(["1"], "1"), (["9", "10"], "10"), (["1.9", "1.10"], "1.10"), (["2", "1.5"], "2"), (["candidate"], "candidate")],
)
def test_a_name_is_its_newest_version(here: Path, versions: list[str], newest: str) -> None:
    make(here / "models" / "fraud", *versions)
    (here / "models" / "fraud" / "feature_set.yaml").touch()
    (here / "models" / "fraud" / "99").mkdir()  # holds no bundle
    assert locate_bundle("fraud") == Path("models/fraud") / newest


def test_a_path_comes_before_a_name_of_the_models(here: Path) -> None:
    make(here / "fraud", "1")
    make(here / "models" / "fraud", "2")
    assert locate_bundle("fraud") == Path("fraud/1")
    (here / "other").mkdir()  # a directory, but of no bundles
    make(here / "models" / "other", "3")
    assert locate_bundle("other") == Path("models/other/3")


def test_versions_without_an_order_are_not_guessed(here: Path) -> None:
    make(here / "models" / "fraud", "1", "candidate")
    with pytest.raises(InputError, match=r"2 versions \(1, candidate\).*name one: models/fraud/1"):
        locate_bundle("fraud")


def test_what_is_not_there_is_answered_with_what_is(here: Path) -> None:
    with pytest.raises(InputError, match=r"no bundle at fraud and models/fraud; make one with assay init"):
        locate_bundle("fraud")
    make(here / "models" / "fraud", "1")
    with pytest.raises(InputError, match=r"did you mean fraud\?"):
        locate_bundle("frodd")
    with pytest.raises(InputError, match="models holds: fraud"):
        locate_bundle("payments")
    (here / "m.onnx").touch()
    with pytest.raises(InputError, match=r"this is a file; .* assay init NAME --model m\.onnx"):
        locate_bundle("m.onnx")
