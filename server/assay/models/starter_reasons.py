"""What `assay init` writes so that scores can be explained in words: a start of reasons.yaml, for its owner to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from assay.models.reasons import CODES_MAX, GROUPS_MAX

REASONS_FILE: Final = "reasons.yaml"

_WINDOW: Final = re.compile(r"(.+)_[0-9]+(?:s|min|m|h|d|w)")  # amount_avg_7d is amount_avg over a window
_HEAD: Final = """\
# What makes a score of the model {model} high, in words. Written by `assay init`; it is yours to change (docs/bundles.md). A text
# must be true whether the value was high or low. `customer`: what a customer may be told; without it, nothing is. Never tell what
# a score compares with, or from where on. Another wording is another table; a code keeps its meaning for good.
"""


def starter_reasons(inputs: Sequence[str]) -> dict[str, Any]:
    """Groups: inputs that differ by the window in their name only. A code for every player, as many as there may be; nothing for
    customers: what they may be told, only the owner knows.
    """
    groups = _windows_of_one_thing(inputs)
    group_of = {name: group for group, members in groups.items() for name in members}
    players = list(dict.fromkeys(group_of.get(name, name) for name in inputs))[:CODES_MAX]
    codes = [{"code": name.upper(), "for": name, "analyst": f"{name} raised the risk."} for name in players]
    return {**({"groups": groups} if groups else {}), "reasons": {"table": "1", "codes": codes}}


def reasons_yaml(model: str, reasons: Mapping[str, Any]) -> str:
    """The text of the file."""
    return _HEAD.format(model=model) + yaml.safe_dump(dict(reasons), sort_keys=False, width=120)


# --- implementation ---


def _windows_of_one_thing(inputs: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in inputs:
        match = _WINDOW.fullmatch(name)
        if match and match[1] not in inputs:
            found.setdefault(match[1], []).append(name)
    several = [(stem, names) for stem, names in found.items() if len(names) > 1]
    return dict(several[:GROUPS_MAX])
