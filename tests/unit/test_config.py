"""Configuration: precedence, provenance, unknown keys, secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assay.cli.config import load
from assay.config import Config, runtime_dir
from assay.config_loading import known_keys, load_config, printable_config, set_dotted
from assay.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ASSAY_"):
            monkeypatch.delenv(name)


def write(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "a.yaml", "engine: {slots: 100, batch_call_rows_max: 7}\nlane: {batch_rows_max: 3}\nlisten: 'h:1'\n")
    monkeypatch.setenv("ASSAY_ENGINE__SLOTS", "200")
    monkeypatch.setenv("ASSAY_LANE__BATCH_ROWS_MAX", "5")
    loaded = load_config({"engine": {"slots": 300}}, file)
    assert loaded.config.engine.slots == 300
    assert loaded.config.lane.batch_rows_max == 5
    assert loaded.config.engine.batch_call_rows_max == 7
    assert loaded.config.drain.grace_s == Config().drain.grace_s
    shown = printable_config(loaded)
    assert shown["engine.slots"] == (300, "command line")
    assert shown["lane.batch_rows_max"] == (5, "environment")
    assert shown["engine.batch_call_rows_max"] == (7, f"file {file}")
    assert shown["drain.grace_s"][1] == "default"
    assert list(shown) == known_keys()


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    yaml = write(tmp_path, "a.yml", "listen: '127.0.0.1:1'\nmodels: [a/1, b/2]\nlimits: {streams_max: 9}\n")
    toml = write(tmp_path, "a.toml", 'listen = "127.0.0.1:1"\nmodels = ["a/1", "b/2"]\n[limits]\nstreams_max = 9\n')
    assert load_config(file=yaml).config == load_config(file=toml).config
    assert load_config(file=yaml).config.models == (Path("a/1"), Path("b/2"))


@pytest.mark.parametrize(
    ("value", "models"),
    [("/a/1:/b/2", ("/a/1", "/b/2")), ('["/a/1"]', ("/a/1",)), ("", ()), ("/with space/1", ("/with space/1",))],
)
def test_models_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, models: tuple[str, ...]) -> None:
    monkeypatch.setenv("ASSAY_MODELS", value)
    config = load_config().config
    assert config.models == tuple(map(Path, models))
    assert config.is_demo == (not models)


@pytest.mark.parametrize(
    ("values", "key", "hint"),
    [
        ({"engin": {"slots": 1}}, "engin.slots", "engine.slots"),
        ({"engine": {"slot": 1}}, "engine.slot", "engine.slots"),
        ({"limits": {"slots": 1}}, "limits.slots", "engine.slots"),
        ({"listn": "h:1"}, "listn", "listen"),
        ({"zzzzzzzz": 1}, "zzzzzzzz", "assay config schema"),
    ],
)
def test_unknown_keys_are_refused_and_the_nearest_is_named(values: dict[str, Any], key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert f"{key}: no such key" in str(caught.value)
    assert hint in str(caught.value)


def test_unknown_environment_variables_are_refused_but_not_those_of_tests_and_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASSAY_TEST_DATA", "ASSAY_DEBUG", "ASSAY_SANITIZE", "ASSAY_NATIVE", "ASSAY_CACHE_DIR"):
        monkeypatch.setenv(name, "1")
    load_config()
    monkeypatch.setenv("ASSAY_ENGIN__SLOTS", "1")
    with pytest.raises(ConfigError, match=r"ASSAY_ENGIN__SLOTS.*did you mean ASSAY_ENGINE__SLOTS\?"):
        load_config()


def test_variables_of_the_native_transport_are_not_the_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """ASSAY_NATIVE is the build's, and whatever began so was once passed over."""
    monkeypatch.setenv("ASSAY_NATIVE", "off")
    monkeypatch.setenv("ASSAY_NATIVE_TRANSPORT__IO_THREADS", "2")
    assert load_config().config.native_transport.io_threads == 2
    monkeypatch.setenv("ASSAY_NATIVE_TRANSPORT__IO_THREAD", "2")
    with pytest.raises(ConfigError, match=r"did you mean ASSAY_NATIVE_TRANSPORT__IO_THREADS\?"):
        load_config()


def test_all_wrong_keys_and_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"a": 1, "engine": {"b": 2}})
    assert "a: no such key" in str(caught.value)
    assert "engine.b: no such key" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_config({"engine": {"slots": "many"}, "lane": {"runners": -1}})
    assert "engine.slots" in str(caught.value)
    assert "found str" in str(caught.value)
    assert "lane.runners" in str(caught.value)


@pytest.mark.parametrize("listen", ["50051", ":50051", "h:", "h:x", "h:65536", "h:-1", ""])
def test_a_wrong_address_is_refused(listen: str) -> None:
    for key in ("listen", "metrics_listen"):
        with pytest.raises(ConfigError, match=f"{key}: expected HOST:PORT"):
            load_config({key: listen})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:65535", "localhost:50051"])
def test_a_right_address_is_taken(listen: str) -> None:
    assert load_config({"listen": listen, "health_listen": listen}).config.health_listen == listen
    assert load_config({"metrics_listen": listen}).config.metrics_listen == listen


MTLS = {"tls": {"certificate": "c.pem", "key": "k.pem", "client_ca": "a.pem"}, "roles": "roles.yaml"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"listen": "off"}, "listen: expected HOST:PORT"),
        ({"health_listen": "on"}, "health_listen: expected HOST:PORT"),
        ({"tls": {"certificate": "c.pem"}}, "certificate and key go together"),
        ({"tls": {"key": "k.pem"}}, "certificate and key go together"),
        ({"tls": {"client_ca": "a.pem"}}, "client_ca needs certificate and key"),
        ({"tls": MTLS["tls"]}, "tls.client_ca needs roles"),
        ({"roles": "roles.yaml"}, "roles needs tls.client_ca"),
        ({"admin_listen": "127.0.0.1:0"}, "admin_listen needs tls.client_ca"),
        ({"admin_listen": "127.0.0.1:0", "tls": {"certificate": "c.pem", "key": "k.pem"}}, "admin_listen needs tls.client_ca"),
    ],
)
def test_half_a_protection_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert says in str(caught.value)


def test_whole_protections_are_taken_and_shown() -> None:
    assert load_config({"tls": {"certificate": "c.pem", "key": "k.pem"}}).config.tls.client_ca is None
    shown = printable_config(load_config({**MTLS, "admin_listen": "[::]:50053"}))
    assert shown["tls.client_ca"] == ("a.pem", "command line")
    assert shown["roles"] == ("roles.yaml", "command line")
    assert printable_config(load_config())["tls.key"] == (None, "default")


@pytest.mark.parametrize(("age", "grace", "stream"), [(600, 600, 540.0), (600, 1, 0.9), (0, 600, 0.0)])
def test_a_stream_ends_before_the_grace_of_its_connection(age: int, grace: int, stream: float) -> None:
    connection = load_config({"connection": {"age_s_max": age, "age_grace_s": grace}}).config.connection
    assert connection.stream_age_s_max == pytest.approx(stream)


def test_metrics_may_be_left_to_us_or_be_off() -> None:
    for value in ("auto", "off"):
        assert load_config({"metrics_listen": value}).config.metrics_listen == value
        with pytest.raises(ConfigError, match="HOST:PORT"):
            load_config({"listen": value})


def test_limits_at_and_past_their_ends() -> None:
    assert load_config({"engine": {"slots": 4096, "batch_call_rows_max": 1024}}).config.engine.slots == 4096
    with pytest.raises(ConfigError, match=r"quarter of slots .* \(command line\)"):
        load_config({"engine": {"slots": 4095, "batch_call_rows_max": 1024}})
    with pytest.raises(ConfigError, match=r"lane\.batch_rows_max"):
        load_config({"lane": {"batch_rows_max": 0}})
    with pytest.raises(ConfigError, match="Unix socket"):
        load_config({"admin_socket": "/" + "x" * 107})
    assert load_config({"admin_socket": "/" + "x" * 106}).config.admin_socket


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("io_threads", 0, 64),
        ("connections_max", 1, 1 << 20),
        ("held_bytes_max", 1 << 20, 1 << 40),
        ("forwarded_streams_max", 1, 65_536),
    ],
)
def test_limits_of_the_native_transport_at_and_past_their_ends(key: str, least: int, most: int) -> None:
    # Or the least of held_bytes_max were too little.
    small = {"receive_message_bytes_max": 1 << 19, "send_message_bytes_max": 1 << 19}
    for value in (least, most):
        config = load_config({"native_transport": {key: str(value)}, "limits": small}).config
        assert getattr(config.native_transport, key) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=rf"native_transport\.{key}: .* \(command line\)"):
            load_config({"native_transport": {key: value}})


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (2, 2), (4, 2), (11, 2), (12, 3), (32, 8), (256, 8)])
def test_io_threads_go_by_the_cores_unless_they_are_named(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert load_config().config.io_thread_count == threads
    assert load_config({"native_transport": {"io_threads": 5}}).config.io_thread_count == 5


@pytest.mark.parametrize("limit", ["receive_message_bytes_max", "send_message_bytes_max"])
def test_the_native_transport_has_room_for_the_largest_message(limit: str) -> None:
    values = {"transport": "native", "native_transport": {"held_bytes_max": 64 << 20}, "limits": {limit: 32 << 20}}
    assert load_config(values).config.transport == "native"
    for change in ({"native_transport": {"held_bytes_max": (64 << 20) - 1}}, {"limits": {limit: (32 << 20) + 1}}):
        with pytest.raises(ConfigError, match=r"native_transport\.held_bytes_max .* at least twice the largest"):
            load_config({**values, **change})
        assert load_config({**values, **change, "transport": "grpcio"}).config.transport == "grpcio"  # holds no message


def test_a_secret_is_never_shown() -> None:
    secret = "hunter2-secret"
    for url in (f"redis://user:{secret}@host:6379/0", f"redis://:{secret}@host", f"redis://host/0?password={secret}"):
        loaded = load_config({"store": {"url": url}})
        shown = f"{printable_config(loaded)} {loaded.config} {loaded.config!r} {loaded.config.model_dump_json()}"
        assert secret not in shown
        assert "host" in str(printable_config(loaded)["store.url"])
    # One that was not percent-encoded stands anywhere in the URL: nothing of it is shown.
    for url in (
        f"redis://:a#{secret}@host/0",
        f"redis://app:7/{secret}@host",
        f"redis://:12/34{secret}@h:1/0",
        f"redis://:a?b@{secret}/0",
    ):
        assert printable_config(load_config({"store": {"url": url}}))["store.url"] == ("**********", "command line")
    with pytest.raises(ConfigError) as caught:
        load_config({"store": {"url": [secret]}, "engine": {"slots": secret}})
    assert secret not in str(caught.value)


@pytest.mark.parametrize(("key", "variable"), [("store.url", "ASSAY_STORE__URL"), ("audit.sink", "ASSAY_AUDIT__SINK")])
@pytest.mark.parametrize("url", ["redis://:hunter2@h/0?stream=s", "redis://h/0?stream=s&password=hunter2"])
def test_a_secret_does_not_stand_on_a_command_line(key: str, variable: str, url: str) -> None:
    """--set and the options that are keys alike: `ps` shows both."""
    for given in ([f"{key}={url}"], {key: url}):
        with pytest.raises(ConfigError, match=f"^{re.escape(key)}: .*command line.*{variable}") as caught:
            load(None, *((given, None) if isinstance(given, list) else (None, given)))
        assert "hunter2" not in str(caught.value)
    harmless = "redis://h/0?stream=s"
    loaded = load(None, [f"{key}={harmless}"])
    assert loaded.sources[key] == "command line"


def test_both_secrets_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"audit\.sink: .*\n(.*)store\.url: "):
        load(None, ["audit.sink=redis://:hunter2@h", "store.url=redis://:hunter2@h"])


def test_what_is_no_key_is_not_shown() -> None:
    """A key that was forgotten leaves its value in the key's place."""
    with pytest.raises(ConfigError, match="--set expects KEY=VALUE") as caught:
        load(None, ["redis://:hunter2@h/0?stream=s"])
    assert "hunter2" not in str(caught.value)


def test_configuration_is_frozen() -> None:
    config = load_config().config
    with pytest.raises(ValidationError):
        config.listen = "h:1"
    with pytest.raises(ValidationError):
        config.engine.slots = 5


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", "engine: {slots: 1}\nengine: {slots: 2}\n", "stands twice"),
        ("a.yaml", "engine: [", "not valid YAML"),
        ("a.yaml", "- 1\n", "expected a mapping"),
        ("a.yaml", "engine: 3\n", "expected a section"),
        ("a.yaml", "x: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("a.toml", "engine = ", "not valid TOML"),
        ("a.json", "{}", "expected a .yaml, .yml or .toml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, name: str, text: str, says: str) -> None:
    file = write(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        load_config(file=file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(file=tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(file=tmp_path / "b.yaml")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(file=write(tmp_path, "a.yaml", "# nothing\n")).config == Config()


def test_set_dotted() -> None:
    values: dict[str, Any] = {}
    set_dotted(values, "engine.slots=64")
    set_dotted(values, "listen=h:1")
    assert values == {"engine": {"slots": "64"}, "listen": "h:1"}
    for wrong in ("engine.slots", "=3", ""):
        with pytest.raises(ConfigError, match="KEY=VALUE"):
            set_dotted(values, wrong)
    with pytest.raises(ConfigError, match="not a section"):
        set_dotted(values, "listen.x=1")


def test_every_key_has_a_description_and_the_schema_names_it() -> None:
    schema = Config.model_json_schema()
    for key in known_keys():
        *sections, name = key.split(".")
        holder = schema
        for section in sections:
            holder = schema["$defs"][holder["properties"][section]["$ref"].rpartition("/")[2]]
        assert holder["properties"][name].get("description"), key


def test_runtime_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert runtime_dir() == Path("/run/user/7/assay")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.getuid()) in runtime_dir().name
