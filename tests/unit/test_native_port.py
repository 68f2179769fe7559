"""Every limit of the configuration reaches the native transport under its right name; no more connections than files."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.config import Config, ConnectionConfig, LimitsConfig, NativeTransportConfig
from assay.errors import ConfigError
from assay.transport import native as module
from assay.transport.native import NativePort, wants_native

HEADER = Path(__file__).resolve().parents[2] / "ext" / "core" / "transport" / "transport_options.h"
MANY = 1 << 20


class Core:
    """NativeTransport, which remembers what it was given."""

    given: dict[str, Any]

    def __init__(self, engine: object, forward_path: str, **options: Any) -> None:
        Core.given = options

    def start(self, fd: int) -> None:
        os.close(fd)

    def drain(self, grace_s: float) -> None: ...

    def wait_closed(self, timeout_s: float) -> bool:
        return True

    def stop(self) -> None: ...

    def drain_denials(self) -> list[Any]:
        return []


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The limit of open files, as the process is told; no test changes the real one."""
    limit = SimpleNamespace(soft=1024, hard=MANY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit.soft, limit.hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: setattr(limit, "soft", limits[0]))
    monkeypatch.setattr(module, "NativeTransport", Core)
    return limit


def given(config: Config) -> dict[str, Any]:
    """What the core is given."""

    async def run() -> None:
        security: Any = SimpleNamespace(follow=lambda _: None, count_elsewhere=lambda _: None)
        engine: Any = None
        port = NativePort(engine, config, security)
        port.bind("listen", "127.0.0.1:0")
        port.start(Path("/forward.sock"))
        await port.stop(0.0)

    asyncio.run(run())
    return Core.given


@pytest.mark.parametrize(
    ("wish", "is_built", "is_native"),
    [("auto", True, True), ("auto", False, False), ("native", True, True), ("grpcio", True, False), ("grpcio", False, False)],
)
def test_auto_takes_the_native_transport_where_it_was_built(
    wish: Any, is_built: bool, is_native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HAS_NATIVE_TRANSPORT", is_built)
    assert wants_native(Config(transport=wish)) is is_native


def test_the_native_transport_that_was_not_built_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_NATIVE_TRANSPORT", False)
    with pytest.raises(ConfigError, match=r"transport: this build has no native transport; install .*libnghttp2-dev"):
        wants_native(Config(transport="native"))


@pytest.mark.usefixtures("files")
def test_every_limit_is_passed_on() -> None:
    config = Config(
        limits=LimitsConfig(
            receive_message_bytes_max=2001,
            send_message_bytes_max=2002,
            metadata_bytes_max=2003,
            connection_streams_max=4,
            stream_messages_max=5,
            streams_max=6,
        ),
        connection=ConnectionConfig(
            ping_interval_s_min=7, keepalive_s=8, keepalive_timeout_s=9, idle_s_max=10, age_s_max=11, age_grace_s=20
        ),
        native_transport=NativeTransportConfig(
            io_threads=12, connections_max=13, held_bytes_max=2 << 20, forwarded_streams_max=14
        ),
    )
    assert given(config) == {
        "receive_message_bytes_max": 2001,
        "send_message_bytes_max": 2002,
        "metadata_bytes_max": 2003,
        "connection_streams_max": 4,
        "stream_messages_max": 5,
        "streams_max": 6,
        "ping_interval_s_min": 7,
        "keepalive_s": 8,
        "keepalive_timeout_s": 9,
        "idle_s_max": 10,
        "age_s_max": 11,
        "age_grace_s": 20,
        "stream_age_s_max": 18.0,
        "io_threads": 12,
        "connections_max": 13,
        "held_bytes_max": 2 << 20,
        "forwarded_streams_max": 14,
    }


@pytest.mark.usefixtures("files")
def test_the_defaults_are_those_of_the_core() -> None:
    found = re.findall(r"^  \w+ (\w+) = ([\d'u <]+);", HEADER.read_text(), re.MULTILINE)
    defaults = {name: value.replace("'", "").replace("u", "").split(" << ") for name, value in found}
    core = {name: int(value[0]) << int(value[1] if value[1:] else 0) for name, value in defaults.items()}
    for name, value in given(Config(native_transport={"io_threads": 1})).items():
        in_ns = re.sub(r"_s(_|$)", r"_ns\1", name)
        assert core[in_ns] == value * (1 if in_ns == name else 10**9), name


def test_as_many_files_are_allowed_as_all_connections_take(files: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    assert given(Config(native_transport={"io_threads": 1}))["connections_max"] == 10_000
    assert files.soft == 3 * 10_000 + 264 + 1024
    files.soft = 1024
    assert given(Config(native_transport={"connections_max": 5, "io_threads": 2}))["connections_max"] == 5
    assert files.soft == 3 * 5 + 2 * 264 + 1024
    assert not caplog.records


@pytest.mark.parametrize("is_asked_for", [False, True], ids=["default", "asked-for"])
@pytest.mark.parametrize(("hard", "possible"), [(31_288, 10_000), (31_287, 9_999), (4096, 936), (1024, 1)])
def test_fewer_connections_than_files_would_allow_are_said(
    files: SimpleNamespace, caplog: pytest.LogCaptureFixture, hard: int, possible: int, is_asked_for: bool
) -> None:
    caplog.set_level(logging.INFO, "assay")
    files.hard = hard
    asked_for = {"connections_max": 10_000} if is_asked_for else {}
    config = Config(native_transport={"io_threads": 1, **asked_for})
    assert given(config)["connections_max"] == possible
    assert files.soft == hard
    said = [record for record in caplog.records if "connections_max" in record.getMessage()]
    assert [record.levelno for record in said] == ([logging.WARNING] if possible < 10_000 and is_asked_for else [])


def test_without_a_limit_of_files_nothing_is_changed(files: SimpleNamespace) -> None:
    files.soft = files.hard = resource.RLIM_INFINITY
    assert given(Config(native_transport={"connections_max": 1 << 20}))["connections_max"] == 1 << 20
    assert files.soft == resource.RLIM_INFINITY
