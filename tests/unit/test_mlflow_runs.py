"""Of MLflow, without MLflow: sources in another form, a module that is not installed, a server that does not import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.errors import InputError
from assay.models.mlflow_runs import fetch, training_run
from assay.models.pack import Commit

RUN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "source",
    [
        "",
        "mlflow:",
        f"mlflow:runs:/{RUN}",
        f"mlflow:runs:/{RUN}/",
        f"mlflow:runs:/{RUN[:-1]}/bundle",
        f"mlflow:runs:/{RUN.upper()}/bundle",
        f"runs:/{RUN}/bundle",
        f"mlflow:runs:/{RUN}/../other/bundle",
        f"mlflow:runs:/{RUN}/a//b",
        f"mlflow:runs:/{RUN}/.hidden",
        f"mlflow:runs:/{RUN}/a\nb",
        f"mlflow:runs:/{RUN}/{'a' * 201}",
        f"mlflow:models:/fraud/1/{RUN}",
    ],
)
def test_a_source_in_another_form_is_refused_before_anything_is_asked(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match="expected mlflow:runs:/RUN/ARTIFACT"):
        fetch(source, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_mlflow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"pip install 'assay\[mlflow\]'"):
        fetch(f"mlflow:runs:/{RUN}/bundle", None, tmp_path)
    with (
        pytest.raises(InputError, match=r"pip install 'assay\[mlflow\]'"),
        training_run("sqlite://", "x", Commit("0" * 40, is_dirty=False), "0" * 64, {}),
    ):
        pass


def test_neither_a_server_nor_a_command_imports_mlflow() -> None:
    code = (
        "import sys\nimport assay.app, assay.cli.serve, assay.cli.model, assay.models.mlflow_runs\n"
        "sys.exit('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
