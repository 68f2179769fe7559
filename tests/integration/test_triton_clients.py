"""Triton's public clients against assay, on both transports: tritonclient (blocking and aio), and perf_analyzer."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.onnx_models import tree_model
from tests.support.server import ServeProcess
from tests.support.triton_venv import perf_analyzer, triton_venv

pytestmark = pytest.mark.usefixtures("transport")

# Run in tritonclient's own environment: what it is given and what it sees comes back as JSON.
CLIENT = """
import asyncio, json, sys
import grpc
import numpy as np
import tritonclient.grpc as blocking, tritonclient.grpc.aio as aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

target, rows = sys.argv[1], np.array(json.loads(sys.argv[2]), np.float32)
seen = {}

def tensor(module):
    made = module.InferInput("input", list(rows.shape), "FP32")
    made.set_data_from_numpy(rows)
    return [made]

client = blocking.InferenceServerClient(target)
seen["live"] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("trees"), client.is_model_ready("none")]
seen["server"] = client.get_server_metadata(as_json=True)
seen["model"] = client.get_model_metadata("trees", as_json=True)
seen["config"] = client.get_model_config("trees", as_json=True)["config"]
seen["index"] = client.get_model_repository_index(as_json=True)["models"]
raw = client.infer(
    "trees", tensor(blocking), outputs=[blocking.InferRequestedOutput("score")], request_id="r", priority=1, timeout=5_000_000
)
seen["raw"] = raw.as_numpy("score").tolist()
seen["id"] = raw.get_response().id

typed = service_pb2.ModelInferRequest(model_name="trees")
typed.inputs.add(name="input", datatype="FP32", shape=rows.shape).contents.fp32_contents.extend(rows.ravel().tolist())
given = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(target)).ModelInfer(typed, timeout=20)
seen["typed"] = np.frombuffer(given.raw_output_contents[0], np.float32).reshape(-1, 1).tolist()

async def ask():
    async with aio.InferenceServerClient(target) as other:
        seen["aio_live"] = [await other.is_server_ready(), await other.is_model_ready("trees")]
        seen["aio_model"] = await other.get_model_metadata("trees", as_json=True)
        seen["aio_config"] = (await other.get_model_config("trees", as_json=True))["config"]
        seen["aio_index"] = (await other.get_model_repository_index(as_json=True))["models"]
        seen["aio"] = (await other.infer("trees", tensor(aio))).as_numpy("score").tolist()
        seen["statistics"] = (await other.get_inference_statistics("trees", as_json=True))["model_stats"]

asyncio.run(ask())
seen["blocking_statistics"] = client.get_inference_statistics("trees", as_json=True)["model_stats"]

def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.status()
    return "answered"

seen["refused"] = {
    "load": refusal(client.load_model, "trees"),
    "unload": refusal(client.unload_model, "trees"),
    "system memory": refusal(client.get_system_shared_memory_status),
    "register": refusal(client.register_system_shared_memory, "region", "/region", 64),
    "unregister": refusal(client.unregister_system_shared_memory),
    "cuda memory": refusal(client.get_cuda_shared_memory_status),
    "register cuda": refusal(client.register_cuda_shared_memory, "region", b"aGFuZGxl", 0, 64),
    "unregister cuda": refusal(client.unregister_cuda_shared_memory),
    "trace": refusal(client.get_trace_settings),
    "trace update": refusal(client.update_trace_settings, settings={"trace_rate": "1"}),
    "log": refusal(client.get_log_settings),
    "log update": refusal(client.update_log_settings, settings={"log_info": False}),
}
shared = blocking.InferInput("input", list(rows.shape), "FP32")
shared.set_shared_memory("region", 12)
seen["refused"]["infer from shared memory"] = refusal(client.infer, "trees", [shared])
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    path = tmp_path_factory.mktemp("models") / "trees.onnx"
    path.write_bytes(tree_model().SerializeToString())
    with ServeProcess("--model", str(path)) as process:
        yield process


def expected(rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(tree_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["score"], {"input": rows})[0]


def test_tritonclient(server: ServeProcess) -> None:
    rows = np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32) * 100
    done = triton_venv().run("-c", CLIENT, server.target, json.dumps(rows.tolist()), timeout_s=60)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for way in ("raw", "typed", "aio"):
        np.testing.assert_array_equal(np.array(seen[way], np.float32), expected(rows))
    assert seen["id"] == "r"
    assert seen["live"] == [True, True, True, False]
    assert seen["aio_live"] == [True, True]
    assert seen["server"]["name"] == "assay"
    assert {"statistics", "model_configuration", "schedule_policy"} <= set(seen["server"]["extensions"])
    assert seen["model"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "3"]}]
    assert seen["model"]["outputs"] == [{"name": "score", "datatype": "FP32", "shape": ["-1", "1"]}]
    assert (seen["config"]["max_batch_size"], seen["config"]["backend"]) == (256, "onnxruntime")
    assert seen["index"] == [{"name": "trees", "version": "1", "state": "READY"}]
    assert [seen["aio_model"], seen["aio_config"], seen["aio_index"]] == [seen["model"], seen["config"], seen["index"]]
    (statistics,) = seen["statistics"]
    assert (statistics["name"], statistics["version"], statistics["inference_count"]) == ("trees", "1", "9")
    assert {"success", "queue", "compute_input", "compute_infer", "compute_output"} <= set(statistics["inference_stats"])
    assert [one["inference_count"] for one in seen["blocking_statistics"]] == ["9"]
    refused = seen["refused"]
    assert refused.pop("infer from shared memory") == "StatusCode.INVALID_ARGUMENT"
    assert set(refused.values()) == {"StatusCode.UNIMPLEMENTED"}, refused


@pytest.mark.torture
def test_perf_analyzer_sweeps_concurrency_and_breaks_the_time_down(server: ServeProcess, tmp_path: Path) -> None:
    table = tmp_path / "sweep.csv"
    # How stable two windows are is the machine's business: any difference will do.
    windows = ("--measurement-mode", "count_windows", "--measurement-request-count", "100", "-s", "999")
    done = perf_analyzer(
        "-m",
        "trees",
        "-i",
        "grpc",
        "-u",
        server.target,
        "--concurrency-range",
        "1:4:3",
        *windows,
        "-f",
        str(table),
        timeout_s=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = list(csv.DictReader(table.open()))
    assert [row["Concurrency"] for row in sweep] == ["1", "4"]
    for row in sweep:
        parts = [float(row[f"Server {part}"]) for part in ("Queue", "Compute Input", "Compute Infer", "Compute Output")]
        assert sum(parts) > 0
        assert float(row["Inferences/Second"]) > 0
    breakdown = re.findall(r"Avg request latency: \d+ usec \(overhead \d+ usec \+ queue \d+ usec \+ compute input", done.stdout)
    assert len(breakdown) == 2, done.stdout
