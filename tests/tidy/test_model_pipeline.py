"""examples/ci/model-pipeline.yml cannot rot: its commands are held against the real ones, their options and their values."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer import BadParameter

from assay.cli.main import SUBCOMMANDS, load_subcommand

UsageError = BadParameter.__mro__[1]  # of the parser inside typer: also for what is missing or unknown
ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "examples" / "ci" / "model-pipeline.yml"


def lines() -> list[str]:
    """Every command of every step, in order."""
    (job,) = yaml.safe_load(PIPELINE.read_text())["jobs"].values()
    return [line for step in job["steps"] for line in step.get("run", "").splitlines() if line]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def parse(arguments: list[str], directory: Path) -> dict[str, Any]:
    """The command's parameters, by its own parser; files that it is given are there. Nothing is run."""
    for word in arguments:
        if "/" in word and ":" not in word and Path(word).suffix:
            (directory / word).parent.mkdir(parents=True, exist_ok=True)
            (directory / word).touch()
    assert arguments[0] in SUBCOMMANDS, f"no command {arguments[0]}"
    command, rest = load_subcommand(arguments[0]), arguments[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    with contextlib.chdir(directory), command.make_context(command.name, list(rest)) as context:
        return dict(context.params)


@pytest.mark.parametrize("line", [line for line in lines() if words(line)[0] == "assay"])
def test_the_command_takes_what_the_pipeline_gives_it(line: str, tmp_path: Path) -> None:
    assert parse(words(line)[1:], tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "modell check x",
        "model chek x",
        "model check x --latency-max 3",
        "model check x --latency-us-max soon",
        "model check",
        "model pack --model m --feature-set ./f.yaml --rows ./r.parquet --name n --version 1",  # no --score-output
        "model pack --model m --feature-set ./f.yaml --rows ./r.parquet --name n --version 1 --score-output s --split sideways",
    ],
)
def test_this_test_can_fail(line: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, UsageError)):
        parse(line.split(), tmp_path)


def test_its_steps_come_in_this_order() -> None:
    named = [" ".join(words(line)[1:3]) for line in lines() if words(line)[0] == "assay"]
    expected = ["data check", "model pull", "data check", "model pack", "model check", "model quantize", "model check"]
    assert named == expected
    assert [words(line)[0] for line in lines() if words(line)[0] != "assay"] == ["python"] * 3


def python_lines() -> Iterator[list[str]]:
    for line in lines():
        if words(line)[0] == "python" and words(line)[1] != "-m":
            yield words(line)[1:]


@pytest.mark.parametrize("given", list(python_lines()), ids=lambda given: given[0])
def test_scripts_are_there_and_have_these_options(given: list[str]) -> None:
    script = ROOT / given[0]
    text = script.read_text()
    for option in (word for word in given[1:] if word.startswith("--")):
        name = option.removeprefix("--").replace("-", "_")
        assert re.search(rf"\b{name}: Annotated|\"{option}\"", text), f"{given[0]} has no {option}"


def test_the_files_that_one_step_names_another_makes() -> None:
    """Paths under build/ come from the example's own scripts."""
    made = (ROOT / "examples" / "sentinel_torch" / "generate.py").read_text()
    made += (ROOT / "examples" / "sentinel_torch" / "train.py").read_text()
    for name in re.findall(r"build/sentinel/(\S+)", "\n".join(lines())):
        assert re.search(rf'[/"]{re.escape(name)}"', made), f"nothing makes build/sentinel/{name}"
