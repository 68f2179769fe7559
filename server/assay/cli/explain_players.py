"""What `assay explain` takes as options, for its help: apart from all that is heavy."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

TOP_K_MAX: Final = 256  # of bars in a picture, and of lines on a terminal


class Players(StrEnum):
    """What contributes to a score."""

    inputs = "inputs"
    groups = "groups"
