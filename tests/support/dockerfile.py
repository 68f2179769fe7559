"""A Dockerfile as a list of instructions by stage: enough to compare and to run ours, where no Docker is at hand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next. `base` is an image, or the name of an earlier stage."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        """The arguments of every such instruction, in order."""
        return [arguments for found, arguments in self.instructions if found == keyword]


def read_stages(path: Path) -> dict[str, Stage]:
    """Stages by name, in order; every stage must have one. Comments are dropped, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, arguments = line.strip().partition(" ")
        if keyword == "FROM":
            base, name = arguments.split(" AS ")
            stages[name] = Stage(name, base)
        elif keyword:
            assert stages, f"{keyword} before the first FROM"
            list(stages.values())[-1].instructions.append((keyword, arguments))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage, what it is made from, and so on to the one that starts from an image."""
    found = [stages[name]]
    while found[-1].base in stages:
        found.append(stages[found[-1].base])
    return found


def environment(stages: dict[str, Stage], name: str) -> dict[str, str]:
    """What ENV sets in a stage, inherited values included."""
    values: dict[str, str] = {}
    for stage in reversed(lineage(stages, name)):
        for arguments in stage.all("ENV"):
            values.update(re.findall(r"(\w+)=(\S+)", arguments))
    return values
