"""`assay data check`, as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from assay.cli.data import PROBLEMS_SHOWN_MAX, app
from tests.support.bundles import FEATURE_SET, pack, sample_rows
from tests.support.onnx_models import tree_model

HEADER = "amount,is_night,tx_count_1d"


def run(*arguments: str | Path) -> Result:
    given = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, ["check", *given], env={"COLUMNS": "120", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tree_model(), tmp_path_factory.mktemp("models"), rows=sample_rows(3_000))


def write(path: Path, rows: np.ndarray, header: str = HEADER) -> Path:  # type: ignore[type-arg]
    np.savetxt(path, rows, delimiter=",", fmt="%.9g", comments="", header=header)
    return path


@pytest.fixture
def rows() -> np.ndarray:  # type: ignore[type-arg]
    return np.stack(list(sample_rows(2_000, seed=2).columns.values()), axis=1)


def test_sound_data_pass(bundle: Path, rows: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    result = run(write(tmp_path / "rows.csv", rows), "--bundle", bundle)
    assert result.exit_code == 0, result.output
    assert "2,000 rows, baseline of 3,000 rows" in result.stdout
    assert "amount" in result.stdout
    assert result.stdout.count("as in the baseline") == 2  # is_night follows the clock
    assert run(tmp_path / "rows.csv", "--bundle", bundle.parent).exit_code == 0, "NAME is its newest version"


def test_another_unit_is_refused_with_what_to_do(bundle: Path, rows: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """The post-mortem's upstream change: pounds became pence."""
    rows[:, 0] *= 100
    result = run(write(tmp_path / "rows.csv", rows), "--bundle", bundle)
    assert result.exit_code == 4
    assert "refused: amount: PSI " in result.stderr
    assert "what to do: look for another unit" in result.stderr
    assert run(tmp_path / "rows.csv", "--bundle", bundle, "--psi-max", "100").exit_code == 0
    document = json.loads(run(tmp_path / "rows.csv", "--bundle", bundle, "--json").stdout)
    assert (document["passed"], document["rows"], document["baseline_rows"]) == (False, 2_000, 3_000)
    (problem,) = document["problems"]
    assert (problem["check"], problem["column"]) == ("shift", "amount")
    assert {column["name"] for column in document["columns"]} == set(HEADER.split(","))


def test_a_first_model_has_a_feature_set_alone(rows: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    (tmp_path / "set.yaml").write_bytes(FEATURE_SET)
    path = write(tmp_path / "rows.csv", rows[:9], f"{HEADER}")
    result = run(path, "--feature-set", tmp_path / "set.yaml")
    assert result.exit_code == 0, result.output
    assert "baseline" not in result.stdout.splitlines()[0]
    write(path, rows[:9], "amount,is_night,other")
    missing = run(path, "--feature-set", tmp_path / "set.yaml")
    assert missing.exit_code == 4
    assert "tx_count_1d: the file has no such column" in missing.stderr
    assert "not looked at, no input of the feature set: other" in missing.stdout


def test_names_and_cells_of_a_file_draw_nothing(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER},\x1b[2J[red]x\nSECRET,0,1,\n")
    result = run(path, "--bundle", bundle)
    assert result.exit_code == 4
    assert "\x1b" not in result.output
    assert "SECRET" not in result.output
    assert "1 cells are no numbers, the first in row 1" in result.stderr


def test_many_problems_are_cut_but_not_in_json(tmp_path: Path) -> None:
    names = [f"f{index}" for index in range(PROBLEMS_SHOWN_MAX + 5)]
    features = "\n".join(f"  {name}: {{dtype: float64}}" for name in names)
    (tmp_path / "set.yaml").write_text(
        f'name: wide\nversion: "1"\nentities: [a]\nrequest_features:\n{features}\ninputs: [{", ".join(names)}]\n'
    )
    (tmp_path / "rows.csv").write_text("id\n1\n")
    result = run(tmp_path / "rows.csv", "--feature-set", tmp_path / "set.yaml")
    assert result.exit_code == 4
    assert result.stderr.count("refused: ") == PROBLEMS_SHOWN_MAX
    assert "and 5 more" in result.stderr
    document = json.loads(run(tmp_path / "rows.csv", "--feature-set", tmp_path / "set.yaml", "--json").stdout)
    assert len(document["problems"]) == len(names)


def test_usage_and_failure(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("amount\n1\n")
    assert run(path).exit_code == 2
    assert run(tmp_path / "none.csv", "--bundle", bundle).exit_code == 1
    assert run(path, "--bundle", tmp_path / "none").exit_code == 1
    assert run(path, "--bundle", bundle, "--psi-max", "-1").exit_code == 2
