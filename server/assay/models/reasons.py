"""Why a score is high, in words: which inputs count as one, and the code and the texts of each reason.

People write it as a file (`assay model pack --reasons reasons.yaml`); packed, it stands in the bundle's manifest.

    groups:
      amount_history: [avg_amount_1d, avg_amount_7d]
    reasons:
      table: "1"
      codes:
      - {code: AMOUNT_UNUSUAL, for: amount_history, analyst: for those who look into it, customer: what may be told}
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from assay.errors import FeatureSetError, InputError
from assay.features.problems import PROBLEMS_SHOWN_MAX, Problem
from assay.features.yaml_document import YamlDocument, dotted, parse_yaml
from assay.models.names import Name

GROUPS_MAX: Final = 256
CODES_MAX: Final = 256
TEXT_LENGTH_MAX: Final = 500
REASONS_BYTES_MAX: Final = 1 << 20  # of the file

CODE_PATTERN: Final = r"^[A-Z][A-Z0-9_]{0,63}$"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # and what ends a line, and halves of letters


def _one_line(text: str) -> str:
    """Any language's text, no-break spaces and joiners included; nothing that begins a line or that a terminal obeys."""
    if _CONTROL.search(text):
        raise ValueError("expected one line without control characters (in YAML, >- folds several into one)")
    return text


InputName = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_LENGTH_MAX), AfterValidator(_one_line)]
Groups = Annotated[dict[Name, Annotated[list[InputName], Field(min_length=1)]], Field(min_length=1, max_length=GROUPS_MAX)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reason(_Part):
    """What is said where one player, a group or an input in no group, pushed the risk up."""

    code: Annotated[str, Field(pattern=CODE_PATTERN)]  # for programs: its meaning never changes
    player: InputName = Field(alias="for")
    analyst: Text
    customer: Text | None = None  # None: the customer may not be told


class ReasonTable(_Part):
    """The codes of a model. `table` names this wording of them: whoever stored a code can find what was said."""

    table: Name
    codes: Annotated[list[Reason], Field(min_length=1, max_length=CODES_MAX)]


class ReasonsFile(_Part):
    """What people write."""

    groups: Groups | None = None
    reasons: ReasonTable | None = None


def load_reasons(source: str | os.PathLike[str] | Mapping[str, Any], inputs: Collection[str]) -> ReasonsFile:
    """Reads a YAML file, or takes the same as a mapping, for a model with these inputs.

    Raises InputError with every violation: file and line (of a mapping only the key), what was expected, never a value.
    """
    document = YamlDocument("reasons", dict(source), {}) if isinstance(source, Mapping) else _read(Path(source))
    try:
        found = ReasonsFile.model_validate(document.data)
    except ValidationError as error:
        raise InputError(_text_of(document, _problems_of(error))) from None
    problems = name_problems(found.groups, found.reasons, inputs)
    if found == ReasonsFile():
        problems.append(Problem((), "expected groups, reasons or both"))
    if problems:
        raise InputError(_text_of(document, problems))
    return found


def name_problems(groups: Groups | None, reasons: ReasonTable | None, inputs: Collection[str]) -> list[Problem]:
    """Names that mean nothing, or two things, in a model with these inputs."""
    groups, known = groups or {}, frozenset(inputs)
    problems: list[Problem] = []
    grouped: set[str] = set()
    for group, members in groups.items():
        if group in known:
            problems.append(Problem(("groups", group), "expected a name that no input has"))
        for index, member in enumerate(members):
            if member not in known:
                problems.append(Problem(("groups", group, index), "expected an input of the model"))
            elif member in grouped:
                problems.append(Problem(("groups", group, index), "expected each input once, in one group"))
            grouped.add(member)
    players = {*groups, *(known - grouped)}
    codes_seen: set[str] = set()
    players_seen: set[str] = set()
    for index, reason in enumerate(reasons.codes if reasons else ()):
        place = ("reasons", "codes", index)
        if reason.code in codes_seen:
            problems.append(Problem((*place, "code"), "expected each code once"))
        if reason.player not in players:
            problems.append(Problem((*place, "for"), "expected a group, or an input that is in no group"))
        elif reason.player in players_seen:
            problems.append(Problem((*place, "for"), "expected one code for each group or input"))
        codes_seen.add(reason.code)
        players_seen.add(reason.player)
    return problems


# --- implementation ---


def _read(path: Path) -> YamlDocument:
    try:
        with path.open("rb") as file:
            data = file.read(REASONS_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give a YAML file with groups and reasons") from None
    if len(data) > REASONS_BYTES_MAX:
        raise InputError(f"{path}: larger than {REASONS_BYTES_MAX >> 20} MiB; give a YAML file with groups and reasons")
    try:
        return parse_yaml(data.decode(), str(path), holds="groups and reasons")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; give a YAML file with groups and reasons") from None
    except FeatureSetError as error:
        raise InputError(str(error)) from None


def _problems_of(error: ValidationError) -> list[Problem]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [Problem(tuple(step for step in item["loc"] if step != "[key]"), item["msg"]) for item in found]


def _text_of(document: YamlDocument, problems: list[Problem]) -> str:
    """All of them, a line each, in the order of the file. A mapping of a program has no lines."""
    lines = []
    for problem in sorted(problems, key=lambda problem: document.line_of(problem.path))[:PROBLEMS_SHOWN_MAX]:
        place = f"{document.source}:{document.line_of(problem.path)}" if document.lines else document.source
        lines.append(": ".join(filter(None, (place, dotted(problem.path), problem.message))))
    more = len(problems) - len(lines)
    return "\n".join([*lines, f"... and {more} more"] if more else lines)
