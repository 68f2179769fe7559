"""Strict YAML: one document of plain mappings, lists and scalars, with the line of every value.

Refuses what lenient loaders let through: a key twice, tags, anchors and aliases (a few lines of aliases can unfold to gigabytes),
dates that look like strings, more than one document, a file past its size limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from assay.errors import FeatureSetError

BYTES_MAX = 4 << 20
DEPTH_MAX = 32

Path = tuple[str | int, ...]

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str")}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class YamlDocument:
    """Data of a file, and where each part of it stands."""

    source: str
    data: dict[str, Any]
    lines: dict[Path, int]  # line, from 1, of the value at a path

    def line_of(self, path: Path) -> int:
        """Line of the value at `path`, or of the nearest enclosing one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_yaml(text: str, source: str, *, holds: str = "name, version, entities, ...") -> YamlDocument:
    """Parses a mapping; `holds`: its keys, for errors. Raises FeatureSetError with source and line."""
    if len(text.encode()) > BYTES_MAX:
        raise FeatureSetError(f"{source}: larger than {BYTES_MAX >> 20} MiB, the most that a feature set may have")
    try:
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None:
            raise FeatureSetError(f"{source}: the file is empty; expected a mapping with {holds}")
        lines: dict[Path, int] = {}
        data = _Builder(source, lines).build(node, ())
    except yaml.YAMLError as error:
        raise FeatureSetError(_describe(error, source)) from None
    except RecursionError:
        raise FeatureSetError(f"{source}: nested deeper than {DEPTH_MAX} levels") from None
    if not isinstance(data, dict):
        raise FeatureSetError(f"{source}:1: expected a mapping with {holds}, found {kind_of(data)}")
    return YamlDocument(source, data, lines)


def kind_of(value: Any) -> str:
    """The type of a value in the words of the file, for errors that must not show the value."""
    kinds = {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a float",
        str: "a string",
        list: "a list",
        dict: "a mapping",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def dotted(path: Path) -> str:
    """('views', 'customer', 'inputs', 0) -> 'views.customer.inputs[0]'."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# --- implementation ---


class _Builder:
    """Turns nodes into data. Every node is visited once, so that aliases are seen and refused."""

    def __init__(self, source: str, lines: dict[Path, int]) -> None:
        self._source = source
        self._lines = lines
        self._seen: set[int] = set()
        self._constructor = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, path: Path) -> Any:
        if id(node) in self._seen:
            raise self._error(node, path, "aliases (*name) are not supported; write the value out")
        self._seen.add(id(node))
        if len(path) > DEPTH_MAX:
            raise self._error(node, path[:DEPTH_MAX], f"nested deeper than {DEPTH_MAX} levels")
        self._lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, path, "tag:yaml.org,2002:seq")
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._check_tag(node, path, "tag:yaml.org,2002:map")
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if key_node.tag == "tag:yaml.org,2002:str" else None
            if not isinstance(key, str):
                raise self._error(key_node, path, "a key must be a string; quote it")
            if key in data:
                raise self._error(
                    key_node, (*path, key), f"the key stands twice, first in line {self._lines[(*path, key)]}; remove one"
                )
            data[key] = self.build(value_node, (*path, key))
        return data

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag in _PLAIN_TAGS:
            return self._constructor.construct_object(node)
        if node.tag == "tag:yaml.org,2002:timestamp":
            raise self._error(node, path, "YAML reads this as a date; quote it")
        raise self._error(node, path, "tags are not supported; write a plain value")

    def _check_tag(self, node: yaml.Node, path: Path, tag: str) -> None:
        if node.tag != tag:
            raise self._error(node, path, "tags are not supported; write a plain value")

    def _error(self, node: yaml.Node, path: Path, message: str) -> FeatureSetError:
        place = f"{self._source}:{node.start_mark.line + 1}"
        return FeatureSetError(f"{place}: {dotted(path)}: {message}" if path else f"{place}: {message}")


def _describe(error: yaml.YAMLError, source: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{source}:{error.problem_mark.line + 1}:{error.problem_mark.column + 1}: not valid YAML: {error.problem}"
    return f"{source}: not valid YAML: {getattr(error, 'reason', 'unreadable characters')}"
