"""What is wrong with a feature set, in the words of its file: place, path, what was expected, what was found. Never the value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from assay.errors import FeatureSetError
from assay.features import definitions
from assay.features.yaml_document import Path, YamlDocument, dotted, kind_of

PROBLEMS_SHOWN_MAX = 20


@dataclass(frozen=True)
class Problem:
    path: Path
    message: str


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or '' when nothing is close."""
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def error_of(document: YamlDocument, problems: Iterable[Problem]) -> FeatureSetError:
    """One error that lists all problems in the order of the file."""
    ordered = sorted(
        set(problems), key=lambda problem: (document.line_of(problem.path), _sortable(problem.path), problem.message)
    )
    places = [f"{document.source}:{document.line_of(problem.path)}: " for problem in ordered[:PROBLEMS_SHOWN_MAX]]
    texts = [
        f"{place}{dotted(problem.path)}: {problem.message}" if problem.path else f"{place}{problem.message}"
        for place, problem in zip(places, ordered, strict=False)
    ]
    if len(ordered) > PROBLEMS_SHOWN_MAX:
        texts.append(f"... and {len(ordered) - PROBLEMS_SHOWN_MAX} more")
    return FeatureSetError("\n".join(texts))


def problems_of(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """Pydantic's findings in our words."""
    problems = []
    for finding in error.errors(include_url=False, include_input=False, include_context=True):
        path = _path_of(finding["loc"], finding["type"], data)
        if finding["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, _discriminator(finding["ctx"]["discriminator"])) if isinstance(_value_at(data, path), dict) else path
        problems.append(Problem(path, _message(dict(finding), _owner_of(path, data, model), path, _value_at(data, path))))
    return _most_specific(problems)


# --- implementation ---


def _most_specific(problems: list[Problem]) -> list[Problem]:
    """One problem a path, and none for a value with a problem inside: branches of a union complain each for itself."""
    first: dict[Path, Problem] = {}
    for problem in problems:
        if problem.path not in first or problem.message.startswith("expected a number"):  # wider than "an integer"
            first[problem.path] = problem
    return [
        problem for path, problem in first.items() if not any(other != path and other[: len(path)] == path for other in first)
    ]


def _sortable(path: Path) -> tuple[tuple[int, str], ...]:
    """inputs[2] before inputs[10]."""
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in path)


def _discriminator(text: str) -> str:
    return text.strip("'") if text.startswith("'") else "kind"  # the other is a function's name


def _message(finding: dict[str, Any], owner: type[BaseModel], path: Path, value: Any) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    found = kind_of(value)
    match kind:
        case "extra_forbidden":
            known = _keys_of(owner)
            return f"unknown key{did_you_mean(str(path[-1]), known)}; expected one of: {', '.join(known)}"
        case "missing":
            return "missing; it is required"
        case "literal_error":
            more = " or {default: NUMBER}" if path[-1:] == ("when_null",) else ""
            return f"expected {context['expected']}{more}, found {_hinted(value, context['expected'])}"
        case "union_tag_invalid":
            hint = did_you_mean(str(context["tag"]), _unquoted(context["expected_tags"]))
            return f"expected one of {context['expected_tags']}, found another string{hint}"
        case "union_tag_not_found":
            return "missing; it is required" if path[-1:] == ("op",) else f"expected a mapping, found {found}"
        case "string_pattern_mismatch":
            return "expected a name: a letter a-z, then letters a-z, digits and underscores"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters"
        case "too_short":
            return f"expected at least {context['min_length']} entries"
        case "too_long":
            return f"expected at most {context['max_length']} entries"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            sign = {
                "greater_than": "above",
                "greater_than_equal": "at least",
                "less_than": "below",
                "less_than_equal": "at most",
            }[kind]
            return f"expected a number {sign} {next(iter(context.values()))}"
        case "string_type":
            return f"expected a string, found {found}{'; quote it' if isinstance(value, bool | int | float) else ''}"
        case "duration":
            return str(context["problem"])
        case "duration_type":
            return f"expected a duration such as 30s, 15m, 1h or 7d, found {found}"
    expected = _EXPECTED.get(kind)
    return f"expected {expected}, found {found}" if expected else str(finding["msg"]).lower()


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def _hinted(value: Any, expected: str) -> str:
    return kind_of(value) + (did_you_mean(value, _unquoted(expected)) if isinstance(value, str) else "")


def _unquoted(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _path_of(location: tuple[int | str, ...], kind: str, data: Any) -> Path:
    """Pydantic's location as a path of the file: without the branches of unions that it names."""
    parts = list(location)
    if len(parts) > 2 and parts[0] in ("views", "derived"):
        del parts[2]  # the tag: which kind of view, which operation
    path: list[int | str] = []
    here: Any = data
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = cast(Any, here)[part]
            path.append(part)
        elif is_last and kind == "missing":
            path.append(part)
    return tuple(path)


def _owner_of(path: Path, data: Any, model: type[BaseModel]) -> type[BaseModel]:
    """The model whose key the last part of `path` is."""
    match path[:-1]:
        case ("request_features", _):
            return definitions.RequestFeature
        case ("views", _):
            is_attributes = _value_at(data, (*path[:-1], "kind")) == "attributes"
            return definitions.AttributeView if is_attributes else definitions.WindowView
        case ("views", _, "aggregates", _):
            return definitions.Aggregate
        case ("derived", _):
            return definitions.DERIVED_BY_OP.get(str(_value_at(data, (*path[:-1], "op"))), definitions.Derived)
        case ("inputs", _):
            return definitions.ModelInput
        case ("inputs", _, "when_null"):
            return definitions.NullDefault
    return model


def _keys_of(owner: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in owner.model_fields.items()]


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
