"""One configuration file, YAML or TOML, as a nested mapping of keys. Strict: what looks like a slip is an error."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

from assay.errors import ConfigError


def read_config_file(file: Path) -> dict[str, Any]:
    """Raises ConfigError with the file's name and, where it is known, the line."""
    try:
        return parse_config(file, file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def parse_config(file: Path, contents: bytes) -> dict[str, Any]:
    """The contents of `file`, whose name says what they are. Raises ConfigError."""
    try:
        text = contents.decode("utf-8")
        if file.suffix == ".toml":
            values: Any = tomllib.loads(text)
        elif file.suffix in (".yaml", ".yml"):
            values = yaml.load(text, Loader=_StrictLoader)
        else:
            raise ConfigError(f"{file}: expected a .yaml, .yml or .toml file")
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply; no key is deeper than section.key") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{file}: not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}{_line(error)}"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") if not str(error).startswith(str(file)) else error from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping of keys, found {type(values).__name__}")
    return values


# --- implementation ---


class _StrictLoader(yaml.SafeLoader):
    """YAML in which the same key twice is an error, not a surprise. No aliases: a few lines of them can unfold to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1
            raise ConfigError(f"line {line}: aliases (*name) are not supported; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {key_node.start_mark.line + 1}: a key must be a name")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: the key stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark else ""
