"""deploy/kubernetes: the overlays build, and what they come to holds together: drains, probes, limits, rights, selectors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.config import Config
from assay.config_loading import load_config
from assay.errors import ConfigError
from assay.transport.roles import parse_roles
from tests.support.dockerfile import read_stages
from tests.support.kubernetes import FOLDER, OVERLAYS, build, bytes_of, objects, the
from tests.support.prometheus import promtool
from tests.support.promql import selectors

ROOT = Path(__file__).resolve().parents[2]
FLUSH_S = 10  # what an exit may take after the last call: spans to a slow collector 6 s (docs), audit records
KINDS = {
    "Namespace",
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
}

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def pod(overlay: str) -> dict[str, Any]:
    found: dict[str, Any] = the(overlay, "Deployment")["spec"]["template"]
    return found


def container(overlay: str) -> dict[str, Any]:
    (found,) = pod(overlay)["spec"]["containers"]
    return dict(found)


def settings(overlay: str) -> dict[str, Any]:
    (found,) = [item["data"]["assay.yaml"] for item in objects(overlay)["ConfigMap"] if "assay.yaml" in item["data"]]
    values: dict[str, Any] = yaml.safe_load(found)
    return values


def is_selected(labels: dict[str, str], selector: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_it_builds_and_has_all_parts(overlay: str) -> None:
    assert objects(overlay).keys() == KINDS
    names = [item["metadata"]["namespace"] for kind, items in objects(overlay).items() for item in items if kind != "Namespace"]
    assert set(names) == {the(overlay, "Namespace")["metadata"]["name"]}


def test_selectors_choose_the_pods_of_this_overlay_alone(overlay: str) -> None:
    (other,) = set(OVERLAYS) - {overlay}
    own, foreign = (pod(name)["metadata"]["labels"] for name in (overlay, other))
    found = {
        "Deployment": the(overlay, "Deployment")["spec"]["selector"]["matchLabels"],
        "Service": the(overlay, "Service")["spec"]["selector"],
        "PodDisruptionBudget": the(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": the(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    }
    for spread in pod(overlay)["spec"]["topologySpreadConstraints"]:
        found[spread["topologyKey"]] = spread["labelSelector"]["matchLabels"]
    for what, selector in found.items():
        assert is_selected(own, selector), what
        assert not is_selected(foreign, selector), what
    target = the(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", the(overlay, "Deployment")["metadata"]["name"])


def test_the_servers_settings_are_known(overlay: str, tmp_path: Path) -> None:
    (tmp_path / "assay.yaml").write_text(yaml.safe_dump(settings(overlay)))
    config = load_config(file=tmp_path / "assay.yaml").config
    ports = {item["name"]: item["containerPort"] for item in container(overlay)["ports"]}
    listeners = {"grpc": config.listen, "health": config.health_listen, "metrics": config.metrics_listen}
    assert {name: address.rpartition(":") for name, address in listeners.items()} == {
        name: ("0.0.0.0", ":", str(port)) for name, port in ports.items()
    }


def test_the_environment_is_known_and_holds_no_secret(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in container(overlay)["env"]:
        name = variable["name"]
        if "valueFrom" in variable:
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "assay-secrets"
            continue
        if name.startswith("ASSAY_"):
            monkeypatch.setenv(name, variable["value"])
    assert load_config().config.device == ("cuda" if overlay == "gpu" else "auto")
    monkeypatch.setenv("ASSAY_NO_SUCH_KEY", "1")
    with pytest.raises(ConfigError):
        load_config()


def test_a_pod_has_the_time_that_its_drain_takes(overlay: str) -> None:
    spec = pod(overlay)["spec"]
    drain = Config.model_validate({"drain": settings(overlay)["drain"]}).drain
    before = container(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= before + drain.delay_s + drain.grace_s + FLUSH_S
    readiness = container(overlay)["readinessProbe"]
    assert drain.delay_s > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_three_probes_ask_the_health_port(overlay: str) -> None:
    found = container(overlay)
    (health,) = [item["containerPort"] for item in found["ports"] if item["name"] == "health"]
    assert [found[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")] == [health] * 3
    # Liveness is the process's own: a store that is away must not restart all servers.
    assert found["livenessProbe"]["grpc"]["service"] == "grpc.health.v1.Health"
    startup = found["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


def test_rollouts_take_no_capacity_away(overlay: str) -> None:
    rolling = the(overlay, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    # A card is seldom to spare.
    assert rolling == ({"maxSurge": 1, "maxUnavailable": 0} if overlay == "cpu" else {"maxSurge": 0, "maxUnavailable": 1})
    assert the(overlay, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    scaler = the(overlay, "HorizontalPodAutoscaler")["spec"]
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert "replicas" not in the(overlay, "Deployment")["spec"], "the scaler's own"
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_the_service_is_headless(overlay: str) -> None:
    service = the(overlay, "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert [item["targetPort"] for item in service["ports"]] == ["grpc"]


def test_a_pod_may_do_nothing_but_serve(overlay: str) -> None:
    spec, found = pod(overlay)["spec"], container(overlay)
    user, group = read_stages(ROOT / "Dockerfile")["server"].all("USER")[0].split(":")
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert (security["runAsUser"], security["runAsGroup"]) == (int(user), int(group))
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "Kubernetes would set ASSAY_PORT and others, which stop the start"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    enforced = the(overlay, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_memory_and_disk_have_limits_that_fit(overlay: str) -> None:
    resources = container(overlay)["resources"]
    for name in ("cpu", "memory", "ephemeral-storage"):
        assert name in resources["limits"]
        assert name in resources["requests"]
    volumes = {item["name"]: item for item in pod(overlay)["spec"]["volumes"]}
    sizes = {name: bytes_of(item["emptyDir"]["sizeLimit"]) for name, item in volumes.items() if "emptyDir" in item}
    assert sizes["audit"] > settings(overlay)["audit"]["spool_bytes_max"]
    assert bytes_of(resources["limits"]["ephemeral-storage"]) >= sum(sizes.values())
    assert {item["name"] for item in container(overlay)["volumeMounts"]} == volumes.keys()
    mounts = {item["name"]: item["mountPath"] for item in container(overlay)["volumeMounts"]}
    assert settings(overlay)["audit"]["spool"].startswith(f"{mounts['audit']}/")


def test_the_network_lets_through_what_is_needed_alone(overlay: str) -> None:
    policy = the(overlay, "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    peers = {
        rule["to"][0]["podSelector"]["matchLabels"].get("app.kubernetes.io/name", "dns"): {item["port"] for item in rule["ports"]}
        for rule in policy["egress"]
    }
    assert peers == {"dns": {53}, "redis": {6379}, "kafka": {9092, 9093}, "otel-collector": {4317}}
    # Labels of this kustomization in a peer's selector would mean that nothing is reached.
    assert all("app.kubernetes.io/component" not in rule["to"][0]["podSelector"]["matchLabels"] for rule in policy["egress"])
    assert [item["port"] for rule in policy["ingress"] for item in rule["ports"]] == ["grpc", "metrics"]
    endpoint = settings(overlay)["tracing"]["endpoint"]
    assert int(endpoint.rpartition(":")[2]) in peers["otel-collector"]


def test_only_a_server_on_cards_takes_one_and_goes_where_they_are(overlay: str) -> None:
    spec = pod(overlay)["spec"]
    tolerated = {(item["key"], item["effect"]) for item in spec.get("tolerations", [])}
    cards = container(overlay)["resources"]["limits"].get("nvidia.com/gpu", 0)
    image = container(overlay)["image"]
    if overlay == "cpu":
        assert (cards, tolerated) == (0, set())
        assert ":cpu-" in image
        return
    assert cards == 1
    assert ":cuda-" in image
    taint = yaml.safe_load((FOLDER / "examples" / "gpu-hot-taint.yaml").read_text())["spec"]["taint"]
    assert tolerated == {("nvidia.com/gpu", "NoSchedule"), (taint["key"], taint["effect"])}
    (hot,) = [item for item in spec["tolerations"] if item["key"] == taint["key"]]
    assert 0 < hot["tolerationSeconds"] <= spec["terminationGracePeriodSeconds"]


def test_the_scalers_metric_is_made_of_what_servers_show(overlay: str, tmp_path: Path) -> None:
    (rule,) = yaml.safe_load((FOLDER / "autoscaling" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    wanted = [item["pods"]["metric"]["name"] for item in the(overlay, "HorizontalPodAutoscaler")["spec"]["metrics"]]
    assert wanted == [rule["name"]["as"]]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="assay"')
    assert {name for name, _ in selectors(query)} == {"assay_stage_seconds_sum", "assay_stage_seconds_count"}
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "scaler", "rules": [{"record": "delay", "expr": query}]}]})
    )
    promtool("check", "rules", tmp_path / "rules.yml")


def test_the_claim_takes_the_place_of_the_empty_directory(overlay: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "examples" / "audit-claim.yaml", tmp_path)
    patched = {
        "resources": [os.path.relpath(FOLDER / "overlays" / overlay, tmp_path)],
        "patches": [{"path": "audit-claim.yaml", "target": {"kind": "Deployment"}}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(patched))
    (deployment,) = build(tmp_path)["Deployment"]
    (volume,) = [item for item in deployment["spec"]["template"]["spec"]["volumes"] if item["name"] == "audit"]
    assert volume.keys() == {"name", "ephemeral"}
    claimed = volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
    assert bytes_of(claimed) > settings(overlay)["audit"]["spool_bytes_max"]


def test_roles_are_roles(overlay: str) -> None:
    (found,) = [item["data"]["roles.yaml"] for item in objects(overlay)["ConfigMap"] if "roles.yaml" in item["data"]]
    assert parse_roles(Path("roles.yaml"), found.encode())
