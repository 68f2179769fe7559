"""Names that people give: of models, versions, groups of inputs, tables of reasons. Some name directories, so no path is one."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
