"""Configuration: read once, checked once, frozen.

Precedence: command line > environment (ASSAY_*, nested with __) > file (--config, YAML or TOML) > default. Keys that nobody knows
are refused, with the nearest known one named. `load_config` also says where each value came from; `printable_config` never shows
a secret.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from assay.errors import ConfigError

ENV_PREFIX = "ASSAY_"
# Variables of ours that are not configuration: the build's, the tests' and the caches'.
ENV_NOT_CONFIG = ("ASSAY_TEST_", "ASSAY_BENCH_", "ASSAY_DEBUG", "ASSAY_SANITIZE", "ASSAY_CACHE_DIR", "ASSAY_COMPLETE")
SECRET_SHOWN = "**********"
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StoreConfig(_Section):
    """The feature store."""

    url: SecretStr = Field(
        default=SecretStr("embedded:"),
        description="Where row records live: embedded: (this process) or embedded:PATH (the same, with its snapshot at PATH).",
    )
    bytes_max: int = Field(default=1 << 30, ge=1 << 20, description="Most memory that the embedded store takes, in bytes.")


class EngineConfig(_Section):
    """The slab of slots that all lanes share."""

    slots: int = Field(
        default=8192, ge=4, le=1 << 20, description="Rows in flight, all lanes together; more are refused (SLOTS_EXHAUSTED)."
    )
    batch_call_rows_max: int = Field(
        default=1024, ge=1, le=4096, description="Most rows of one ScoreBatch call; at most a quarter of the slots."
    )

    @model_validator(mode="after")
    def _batch_fits(self) -> EngineConfig:
        if self.batch_call_rows_max * 4 > self.slots:
            raise ValueError(
                f"batch_call_rows_max ({self.batch_call_rows_max}) must be at most a quarter of slots ({self.slots})"
            )
        return self


class LaneConfig(_Section):
    """Each model's queue and runners."""

    runners: int = Field(
        default=0, ge=0, le=256, description="Threads that run batches of one model. 0: one fewer than the cores, at least 1."
    )
    batch_rows_max: int = Field(default=256, ge=1, le=4096, description="Most rows of one run of the model.")
    queue_rows_max: int = Field(
        default=4096, ge=1, le=1 << 20, description="Most rows that wait for a runner; more are refused (QUEUE_FULL)."
    )
    queue_delay_us_max: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="How long an idle runner may wait for more rows, in microseconds. 0: not at all.",
    )
    inline_run_us_max: int = Field(
        default=50,
        ge=0,
        le=1_000,
        description="A model that scores a row within this many microseconds (measured at load) is run by the thread that took "
        "the request, while no row waits before it: quicker than waking a runner. 0: runners run everything.",
    )
    timeout_ms_max: int = Field(
        default=60_000,
        ge=1,
        le=60_000,
        description="Longest that any call may take, in milliseconds: a cap on the timeout that the bundle declares.",
    )


class LimitsConfig(_Section):
    """What one client may ask of the server."""

    receive_message_bytes_max: int = Field(
        default=4 << 20, ge=1024, le=1 << 30, description="Largest message that is read, in bytes."
    )
    send_message_bytes_max: int = Field(
        default=16 << 20, ge=1024, le=1 << 30, description="Largest message that is sent, in bytes."
    )
    metadata_bytes_max: int = Field(default=16 << 10, ge=1024, le=1 << 20, description="Largest metadata of a call, in bytes.")
    connection_streams_max: int = Field(
        default=1000, ge=1, le=1 << 20, description="Concurrent calls of one connection; more wait at the client."
    )
    stream_messages_max: int = Field(
        default=64, ge=1, le=65_536, description="Messages in flight of one ScoreStream; then reading stops."
    )
    streams_max: int = Field(default=256, ge=1, le=65_536, description="Open ScoreStream calls; more are refused (STREAM_LIMIT).")


class ConnectionConfig(_Section):
    """Keepalive and age of connections. 0 turns a limit off where it says so."""

    ping_interval_s_min: int = Field(
        default=10, ge=1, description="Clients that ping more often than this, in seconds, are sent away."
    )
    keepalive_s: int = Field(default=60, ge=1, description="The server pings a silent connection after this many seconds.")
    keepalive_timeout_s: int = Field(default=20, ge=1, description="And closes it when no answer comes within this many seconds.")
    idle_s_max: int = Field(
        default=300, ge=0, description="A connection without calls is closed after this many seconds. 0: never."
    )
    age_s_max: int = Field(
        default=0,
        ge=0,
        description="A connection is asked to reconnect after this many seconds (10 % jitter), so that load spreads. 0: never.",
    )
    age_grace_s: int = Field(default=60, ge=1, description="How long calls of such a connection may still run, in seconds.")


class DrainConfig(_Section):
    """What happens between SIGTERM and exit."""

    delay_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Lame duck: health says NOT_SERVING, calls are still answered. Skipped after Ctrl-C.",
    )
    grace_s: float = Field(default=30.0, ge=0, le=3600, description="How long calls in flight may take after that.")


class Config(BaseSettings):
    """Everything that can be configured. Built by load_config(); Config(...) itself reads nothing but its arguments."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    listen: str = Field(default="127.0.0.1:50051", description="HOST:PORT of the public listener; port 0 takes a free one.")
    reuse_port: bool = Field(
        default=False, description="Share the port (SO_REUSEPORT), so that a new process can overlap the old one."
    )
    reflection: bool = Field(default=True, description="Answer gRPC reflection.")
    admin_socket: str = Field(
        default="auto",
        description="Path of the admin listener's Unix socket. auto: in the runtime directory, named after the port. off: none.",
    )
    models: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Bundles to serve (NAME/VERSION directories), the default model first. Empty: the demo."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line that is logged."
    )
    store: StoreConfig = StoreConfig()
    engine: EngineConfig = EngineConfig()
    lane: LaneConfig = LaneConfig()
    limits: LimitsConfig = LimitsConfig()
    connection: ConnectionConfig = ConnectionConfig()
    drain: DrainConfig = DrainConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, separator, port = value.rpartition(":")
        if not separator or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ValueError("expected HOST:PORT, for example 127.0.0.1:50051 or [::1]:50051")
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        # An environment variable holds a list as PATH does, or as JSON.
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part for part in value.split(os.pathsep) if part]

    @field_validator("admin_socket")
    @classmethod
    def _socket_fits(cls, value: str) -> str:
        if not value or "\0" in value:
            raise ValueError("expected a path, auto or off")
        if len(os.fsencode(value)) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"a Unix socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter one")
        return value

    @property
    def is_demo(self) -> bool:
        """True if no model is named: the demo bundle is served."""
        return not self.models

    @property
    def runner_count(self) -> int:
        return self.lane.runners or max(1, (os.cpu_count() or 1) - 1)


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
        (f"file {file}", _read_file(file) if file else {}),
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
    if not separator or not key:
        raise ConfigError("--set expects KEY=VALUE, for example --set engine.slots=4096")
    _put(values, tuple(key.strip().split(".")), value)


def printable_config(loaded: LoadedConfig) -> dict[str, tuple[Any, str]]:
    """Dotted key -> (value fit to be shown, where it came from), in the order of declaration."""
    table: dict[str, tuple[Any, str]] = {}
    for path in known_keys():
        value: Any = loaded.config
        for part in path.split("."):
            value = getattr(value, part)
        table[path] = (_shown(value), loaded.sources.get(path, "default"))
    return table


def known_keys() -> list[str]:
    """Every key, dotted, in the order of declaration."""
    return [".".join(path) for path in _known_paths(Config)]


def runtime_dir() -> Path:
    """Where sockets go: XDG_RUNTIME_DIR/assay, or a directory of this user alone under /tmp. Not made here."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "assay" if base else Path(f"/tmp/assay-{os.getuid()}")


# --- implementation ---


def _known_paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            yield from _known_paths(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name)


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
        elif key not in known:
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
    value: Any = merged
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else value
    key = ".".join(path) or "configuration"
    source = next((sources[name] for name in (key, path[0] if path else "") if name in sources), "default")
    found = "" if isinstance(value, Mapping) else f" (found {type(value).__name__})"
    return f"{key}: {str(item['msg']).removeprefix('Value error, ')}{found} ({source})"


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value())
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return value


def _without_password(url: str) -> str:
    """A store's URL with its user and password hidden; everything else of it helps the reader."""
    if url.startswith("embedded:"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL: nobody knows which part of it is secret
        return SECRET_SHOWN
    if not parts.netloc:
        return SECRET_SHOWN
    if "@" not in parts.netloc and not parts.query:
        return url
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{SECRET_SHOWN}@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, netloc, parts.path, SECRET_SHOWN if parts.query else "", ""))


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = [name for name in environ if name.upper().startswith(ENV_PREFIX) and not name.upper().startswith(ENV_NOT_CONFIG)]
    known = known_keys()
    wrong = []
    for name in names:
        key = name.upper().removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {ENV_PREFIX}{near[0].upper().replace('.', '__')}?" if near else ""
            wrong.append(f"{name}: no such variable (environment){hint}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return dict(EnvSettingsSource(Config)())


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


def _read_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            values: Any = tomllib.loads(text)
        elif file.suffix in (".yaml", ".yml"):
            values = yaml.load(text, Loader=_StrictLoader)
        else:
            raise ConfigError(f"{file}: expected a .yaml, .yml or .toml file")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
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


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark else ""
