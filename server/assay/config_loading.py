"""Configuration: read once, checked once.

Precedence: command line > environment (ASSAY_*, nested with __) > file (--config, YAML or TOML) > default. Keys that nobody knows
are refused, with the nearest known one named. `load_config` also says where each value came from; `printable_config` never shows
a secret.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource

from assay.config import ENV_PREFIX, Config, Section
from assay.config_file import read_config_file
from assay.errors import ConfigError
from assay.store_url import has_password, parse_store_url

# Variables of ours that are not configuration: the build's, the tests' and the caches'. Where one ends in _: all that begin so.
ENV_NOT_CONFIG = (
    "ASSAY_TEST_",
    "ASSAY_BENCH_",
    "ASSAY_DEBUG",
    "ASSAY_SANITIZE",
    "ASSAY_NATIVE",
    "ASSAY_CACHE_DIR",
    "ASSAY_COMPLETE",
)
SECRET_SHOWN = "**********"


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and, for each dotted key, where its value came from (`default` where a key is absent)."""

    config: Config
    sources: Mapping[str, str]


def load_config(command_line: Mapping[str, Any] | None = None, file: Path | None = None) -> LoadedConfig:
    """Merges the four sources. `command_line` is nested like the file. Raises ConfigError with every wrong key at once."""
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, values in (
        (f"file {file}", read_config_file(file) if file else {}),
        ("environment", _read_environment(os.environ)),
        ("command line", command_line or {}),
    ):
        _check_keys(values, name)
        for path, value in _leaves(values):
            _put(merged, path, value)
            sources[".".join(path)] = name
    try:
        config = Config(**merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(dict(item), merged, sources) for item in error.errors())) from None
    return LoadedConfig(config, sources)


def set_dotted(values: dict[str, Any], assignment: str) -> None:
    """Puts `engine.slots=4096` into a nested mapping. Raises ConfigError."""
    key, separator, value = assignment.partition("=")
    if not separator or not re.fullmatch(r"[\w .-]+", key):  # not one that was forgotten, with a URL in its place
        raise ConfigError("--set expects KEY=VALUE, for example --set engine.slots=4096")
    _put(values, tuple(key.strip().split(".")), value)


def check_command_line(values: Mapping[str, Any]) -> None:
    """Raises ConfigError where `values`, of a command line and nested like the file, hold a secret: other users see those."""
    secrets = {key for key, kind in _known_fields(Config) if kind is SecretStr}
    given = {".".join(path): value for path, value in _leaves(values)}
    wrong = [
        f"{key}: other users see command lines; a URL with a password goes into {_variable(key)} or a file"
        for key, value in given.items()
        if key in secrets and isinstance(value, str) and has_password(value)
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))


def printable_config(loaded: LoadedConfig) -> dict[str, tuple[Any, str]]:
    """Dotted key -> (value fit to be shown, where it came from), in the order of declaration."""
    table: dict[str, tuple[Any, str]] = {}
    for path in known_keys():
        value: Any = loaded.config
        for part in path.split("."):
            value = getattr(value, part)
        table[path] = (_shown(value), _source_of(path, loaded.sources))
    return table


def known_keys() -> list[str]:
    """Every key, dotted, in the order of declaration."""
    return [key for key, _ in _known_fields(Config)]


# --- implementation ---


def _known_fields(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of every key."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _known_fields(field.annotation, (*prefix, name))
        else:
            yield ".".join((*prefix, name)), field.annotation


def _variable(key: str) -> str:
    """Of the environment, for a dotted key."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def _is_known(key: str) -> bool:
    """Whether it is a key, or a name in a mapping by names that are not ours."""
    return any(key == known or (get_origin(kind) is dict and _is_within(key, known)) for known, kind in _known_fields(Config))


def _source_of(path: str, sources: Mapping[str, str]) -> str:
    """Where a value came from; of a mapping, where its parts did."""
    found = dict.fromkeys(source for key, source in sources.items() if _is_within(key, path))
    return ", ".join(found) or "default"


def _sections() -> set[str]:
    return {key.split(".")[0] for key in known_keys() if "." in key}


def _leaves(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, str(name)))
        else:
            yield (*prefix, str(name)), value


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {part} is a value, not a section")
        values = inner
    values[path[-1]] = value


def _check_keys(values: Mapping[str, Any], source: str) -> None:
    known = known_keys()
    sections = _sections()
    wrong = []
    for path, value in _leaves(values):
        key = ".".join(path)
        if key in sections:
            wrong.append(f"{key}: expected a section with keys, found {type(value).__name__} ({source})")
        elif not _is_known(key):
            wrong.append(f"{key}: no such key ({source}){_did_you_mean(key, known)}")
    if wrong:
        raise ConfigError("\n".join(wrong))


def _did_you_mean(key: str, known: list[str]) -> str:
    last = key.split(".")[-1]
    near = [candidate for candidate in known if candidate.split(".")[-1] == last]  # the right name in the wrong section
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else "; `assay config schema` lists all keys"


def _describe(item: Mapping[str, Any], merged: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """One line for one wrong value: the key, what was expected, the type that was found, the source. Never the value."""
    path = [str(part) for part in item["loc"]]
    if not path:  # about keys of several sections: the message names them
        return str(item["msg"]).removeprefix("Value error, ")
    value: Any = merged
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else value
    key = ".".join(path)
    source = next((found for name, found in sources.items() if _is_within(name, key) or _is_within(key, name)), "default")
    found = "" if isinstance(value, Mapping) else f" (found {type(value).__name__})"
    return f"{key}: {str(item['msg']).removeprefix('Value error, ')}{found} ({source})"


def _is_within(inner: str, outer: str) -> bool:
    """Whether one dotted key is the other or below it: what is wrong may be a whole section, or one item of a list."""
    return f"{inner}.".startswith(f"{outer}.")


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return value


def _without_password(url: str) -> str:
    """A store's URL with its user and password hidden; everything else of it helps the reader."""
    if url.startswith("embedded:"):
        return url
    parsed = parse_store_url(url)
    if parsed is None:
        return SECRET_SHOWN
    location = parsed.location
    if parsed.has_user:
        location = location.replace("://", f"://{SECRET_SHOWN}@", 1)
    return f"{location}?{SECRET_SHOWN}" if parsed.options else location


def _is_for_us(name: str) -> bool:
    others = any(name.startswith(other) if other.endswith("_") else name == other for other in ENV_NOT_CONFIG)
    return name.startswith(ENV_PREFIX) and not others


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = [name for name in environ if _is_for_us(name.upper())]
    known = known_keys()
    wrong = []
    for name in names:
        key = name.upper().removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if not _is_known(key):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {_variable(near[0])}?" if near else ""
            wrong.append(f"{name}: no such variable (environment){hint}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return dict(EnvSettingsSource(Config)())
