"""deploy/kubernetes/examples of cards: the claim in place of the device plugin, the rules over dcgm-exporter's metrics, the job
that proves a card. overlays/gpu itself is test_kubernetes.py's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from assay.cli.output import EXIT_UNHEALTHY
from assay.config import CudaConfig
from tests.support.headings import anchors
from tests.support.kubernetes import FOLDER, build, the
from tests.support.prometheus import promtool

EXAMPLES = FOLDER / "examples"
README = (FOLDER / "README.md").read_text()
RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return found


HOT = example("gpu-hot-taint.yaml")["spec"]


def test_a_claim_takes_the_place_of_the_device_plugin() -> None:
    made = build(EXAMPLES / "gpu-claim")
    (deployment,), (template,) = made["Deployment"], made["ResourceClaimTemplate"]
    assert deployment["metadata"] == the("gpu", "Deployment")["metadata"]
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (claim,) = spec["resourceClaims"]
    assert container["resources"]["claims"] == [{"name": claim["name"]}]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert (template["metadata"]["name"], template["metadata"]["namespace"]) == (claim["resourceClaimTemplateName"], "assay")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    # The taint's own driver, and no toleration: a hot card's pod leaves, none comes.
    assert request["exactly"] == {"deviceClassName": HOT["deviceSelector"]["driver"]}


def test_a_hot_node_takes_no_pod_that_may_stay_for_a_minute() -> None:
    """The scheduler does not ask for how long a taint is tolerated. So the node has the taint with both effects, of which the
    overlay tolerates one."""
    (command,) = re.findall(r"^ *kubectl taint node \S+ (\S+gpu-hot=true:\S+ \S+)", README, re.MULTILINE)
    tainted = {tuple(re.split("[=:]", taint)) for taint in command.split()}
    key = HOT["taint"]["key"]
    assert tainted == {(key, "true", "NoSchedule"), (key, "true", "NoExecute")}
    tolerations = the("gpu", "Deployment")["spec"]["template"]["spec"]["tolerations"]
    assert [item["effect"] for item in tolerations if item["key"] == key] == ["NoExecute"]


def test_the_trial_goes_to_one_node_that_may_be_hot_and_fails_for_good_when_the_doctor_says_so() -> None:
    job = example("gpu-trial-job.yaml")["spec"]
    spec = job["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["restartPolicy"] == "Never", "a policy for failures needs it"
    fail, ignore = job["podFailurePolicy"]["rules"]
    assert fail == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [EXIT_UNHEALTHY]},
    }
    assert (ignore["action"], ignore["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert container["args"] == ["doctor", "--device", "cuda"]
    server = the("gpu", "Deployment")["spec"]["template"]["spec"]
    assert container["image"] == server["containers"][0]["image"]
    assert container["securityContext"] == server["containers"][0]["securityContext"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert spec["nodeSelector"].keys() == {"kubernetes.io/hostname"}
    # No effect: all of them.
    assert {"key": HOT["taint"]["key"], "operator": "Exists"} in spec["tolerations"]
    assert (
        job["template"]["metadata"]["labels"]
        .items()
        .isdisjoint(the("gpu", "Deployment")["spec"]["selector"]["matchLabels"].items())
    ), "the Service and the disruption budget would take it for a server"


def test_exit_code_75_starts_a_new_server() -> None:
    assert the("gpu", "Deployment")["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    assert "75" in README


def test_the_rules_over_dcgm_go_on_at_80_and_off_at_70(tmp_path: Path) -> None:
    rules = example("gpu-heat.yaml")["spec"]
    for rule in rules["groups"][0]["rules"]:
        assert rule["annotations"]["runbook_url"].partition("#")[2] in anchors(RUNBOOKS)
    cuda = CudaConfig()
    expression = rules["groups"][0]["rules"][0]["expr"]
    assert re.findall(r"(>=?) (\d+)", expression) == [(">=", str(cuda.hot_celsius)), (">", str(cuda.cool_celsius))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    labels = 'Hostname="gpu-node-7",gpu="0",UUID="GPU-1"'
    heat = {"severity": "warning", "Hostname": "gpu-node-7", "gpu": "0"}
    fault = {"severity": "critical", "Hostname": "gpu-node-7", "gpu": "1"}

    def hot(at: str, *fired: dict[str, str]) -> dict[str, Any]:
        return {"eval_time": at, "alertname": "NodeGpuHot", "exp_alerts": [{"exp_labels": item} for item in fired]}

    def faulty(at: str, *fired: dict[str, str]) -> dict[str, Any]:
        return {"eval_time": at, "alertname": "NodeGpuFault", "exp_alerts": [{"exp_labels": item} for item in fired]}

    story = {
        "interval": "15s",
        "input_series": [
            # Minutes: 0-1 warm, 1-4 hot, 4-7 between, 7-9 cool, 9-12 between again.
            {"series": f"DCGM_FI_DEV_GPU_TEMP{{{labels}}}", "values": "75x4 82x11 75x11 69x7 79x20"},
            {"series": 'DCGM_FI_DEV_GPU_TEMP{Hostname="gpu-node-8",gpu="0",UUID="GPU-2"}', "values": "79x60"},
            {"series": 'DCGM_FI_DEV_XID_ERRORS{Hostname="gpu-node-7",gpu="1",UUID="GPU-3"}', "values": "0x8 79x60"},
            {"series": 'DCGM_FI_DEV_XID_ERRORS{Hostname="gpu-node-8",gpu="1",UUID="GPU-4"}', "values": "0x8 31x60"},
        ],
        "alert_rule_test": [
            *(hot("1m45s"), hot("3m", heat), hot("6m", heat), hot("8m"), hot("11m")),
            *(faulty("1m"), faulty("4m", fault)),
        ],
    }
    for check in story["alert_rule_test"]:  # type: ignore[attr-defined]
        for expected in check["exp_alerts"]:
            is_heat = check["alertname"] == "NodeGpuHot"
            celsius = "82" if check["eval_time"] == "3m" else "75"
            expected["exp_annotations"] = {
                "summary": f"GPU 0 of gpu-node-7 has {celsius} C" if is_heat else "GPU 1 of gpu-node-7 has reported XID 79",
                "runbook_url": "https://github.com/assay-scoring/assay/blob/main/docs/operations.md#"
                + ("assaygpuhot" if is_heat else "assaygpufault"),
            }
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [story]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    promtool("check", "rules", tmp_path / "rules.yml")
    promtool("test", "rules", tmp_path / "test.yml")
