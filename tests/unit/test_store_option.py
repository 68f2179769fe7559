"""`--store` of commands that have no configuration: a URL with a password comes by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli.main import app

SECRET = "redis://:hunter2@127.0.0.1:1/0"
LABEL = ["label", "1", "--fraud", "--event-time", "2018-05-01T10:30:00Z", "--entity", "terminal_id=1"]
COMMANDS = {
    "ingest": ["ingest", "--demo-history"],
    "label": LABEL,
    "features show": ["features", "show", "customer_id", "596"],
    "doctor": ["doctor"],
}
INVOKE = {"NO_COLOR": "1", "COLUMNS": "200"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("url", [SECRET, "redis://127.0.0.1:1/0?password=hunter2"])
def test_a_password_on_the_command_line_is_refused(command: str, url: str) -> None:
    found = CliRunner().invoke(app, [*COMMANDS[command], "--store", url], env=INVOKE)
    said = found.output + str(found.exception)
    assert found.exit_code != 0
    assert "other users see command lines" in said
    assert "ASSAY_STORE__URL" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("command", ["ingest", "label", "features show"])
def test_the_environment_names_the_store_where_no_option_does(command: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, COMMANDS[command], env={**INVOKE, "ASSAY_STORE__URL": SECRET})
    assert found.exit_code == 1
    assert "redis://127.0.0.1:1/0: " in found.output
    assert "nobody answers there" in found.output
    assert "hunter2" not in found.output
    snapshot = f"embedded:{tmp_path / 'store.snapshot'}"
    found = CliRunner().invoke(app, [*COMMANDS[command], "--store", snapshot], env={**INVOKE, "ASSAY_STORE__URL": SECRET})
    assert "127.0.0.1" not in found.output, "the option wins"


def test_a_server_is_asked_whatever_store_the_environment_names(tmp_path: Path) -> None:
    target = ["--target", f"unix:{tmp_path / 'none.sock'}"]
    for command in ("label", "features show"):
        found = CliRunner().invoke(app, [*COMMANDS[command], *target], env={**INVOKE, "ASSAY_STORE__URL": SECRET})
        assert found.exit_code not in (0, 2), found.output
        assert "127.0.0.1" not in found.output
