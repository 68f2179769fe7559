"""deploy/compose.yaml, without an engine: files that it names are there, ports are loopback's and unique, images are pinned,
containers are hardened and limited, the server's settings are known. The collector's pipelines name what is configured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from assay._core import DECISIONS
from assay.cli.main import app
from assay.config_loading import load_config
from assay.observe import semconv
from tests.support.dockerfile import read_stages
from tests.support.locks import read_lock

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"history", "topics"}  # jobs
OWN_IMAGES = {"assay:cpu", "assay:ingest"}
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
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?", service["image"]), f"{name}: {service['image']}"


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
        monkeypatch.setenv(key, value)
    config = load_config().config
    assert config.store.url.get_secret_value() == "redis://redis:6379/0"
    assert config.tracing.endpoint == "http://collector:4317"
    grace = int(SERVICES["server"]["stop_grace_period"].removesuffix("s"))
    assert grace > config.drain.delay_s + config.drain.grace_s


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
