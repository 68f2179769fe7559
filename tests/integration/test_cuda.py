"""A server on a machine that seems to have a card: `auto` takes it only for models that prove themselves there, and says so once
when it does not; `cuda` refuses; on the card rows run in batches, and a batch that is too large for it is halved.

The card is played by tests/support/fake_cuda.py. Nothing here has run on a real one.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.demo.paths import bundle_path
from assay.models.cuda_build import CUDA_12, CUDA_13
from assay.models.cuda_machine import find_driver
from assay.models.gate import GATE_CHECKS
from assay.models.verify import CHECKS
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support import cuda_messages
from tests.support.bundles import pack
from tests.support.cuda_messages import MESSAGES, Message
from tests.support.fake_cuda import FakeCuda
from tests.support.onnx_models import linear_model
from tests.support.recorded_scores import read_log
from tests.support.server import ServeProcess, make_request, wait_until

ROWS = [0, 5716, 30_000, 1_000_000]
METRICS = ("--set", "metrics_listen=127.0.0.1:0")
LOUD = "on the CPU instead of CUDA"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FakeCuda:
    """A machine with a driver. Every test gives it a script of its own."""
    cuda = FakeCuda(tmp_path_factory.mktemp("cuda"))
    cuda.install_driver()
    return cuda


@pytest.fixture
def cuda(compiled: FakeCuda) -> FakeCuda:
    compiled.script()
    compiled.forget()
    return compiled


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with CUDA kernels: matrix product and sigmoid."""
    return str(pack(linear_model(), tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def serve(cuda: FakeCuda, bundle: str) -> Iterator[Callable[..., ServeProcess]]:
    servers = []

    def start(*arguments: str, model: str = bundle) -> ServeProcess:
        servers.append(ServeProcess("--model", model, *arguments, environment=cuda.environment()))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def device_of(server: ServeProcess) -> str:
    (model,) = server.ready["models"]
    return str(model["device"])


def score(server: ServeProcess, amounts: list[int] = ROWS) -> list[float]:
    with grpc.insecure_channel(server.target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        return [stub.Score(make_request(amount_minor=amount)).score for amount in amounts]


def loud_lines(server: ServeProcess) -> list[dict[str, Any]]:
    """The log is JSON where no terminal is."""
    lines = [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == LOUD]


@pytest.fixture(scope="module")
def cpu_scores(bundle: str) -> list[float]:
    """Of the real runtime, without any CUDA."""
    with ServeProcess("--model", bundle, "--device", "cpu") as server:
        return score(server)


# --- on the card


def test_a_model_that_proves_itself_is_served_on_the_card(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    server = serve()
    assert device_of(server) == "cuda:0"
    assert score(server) == cpu_scores
    assert loud_lines(server) == []
    assert cuda.log("session") == ["0"]
    options = dict(line.split("=") for line in cuda.log("option"))
    assert options["gpu_mem_limit"] == str(2 << 30)
    assert (options["device_id"], options["use_tf32"]) == ("0", "0")
    assert (options["arena_extend_strategy"], options["cudnn_conv_algo_search"]) == ("kSameAsRequested", "HEURISTIC")
    assert cuda.log("pinned"), "buffers of the runs"


def test_the_named_device_and_its_memory_are_asked_for(cuda: FakeCuda, serve: Callable[..., ServeProcess]) -> None:
    server = serve("--device", "cuda:3", "--set", "cuda.memory_bytes_max=0")
    assert device_of(server) == "cuda:3"
    assert cuda.log("session") == ["3"]
    assert not any(line.startswith("gpu_mem_limit") for line in cuda.log("option"))


def test_rows_on_the_card_are_run_by_a_runner(cuda: FakeCuda, serve: Callable[..., ServeProcess]) -> None:
    """On the CPU this model's rows run inline; a thread that must answer may not wait for a card. A held device shows it: while
    the only runner hangs in a run, the event loop still answers."""
    server = serve("--device", "cuda", "--set", "lane.inline_run_us_max=1000")
    with grpc.insecure_channel(server.target) as channel, ThreadPoolExecutor(2) as pool:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        stub.Score(make_request())
        cuda.script(hold=1)
        hanging = pool.submit(stub.Score, make_request(), timeout=60)
        cuda.wait_for_held_run()
        with pytest.raises(grpc.RpcError) as refused:
            stub.Score(scoring_pb2.ScoreRequest(transaction_id="unknown", model="nobody"), timeout=30)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert not hanging.done()
        cuda.script()
        assert hanging.result(60).HasField("score")


def test_a_call_of_many_rows_is_one_batch(cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]) -> None:
    server = serve("--device", "cuda")
    cuda.forget()
    assert score_batch(server, 4) == cpu_scores
    assert cuda.log("run") == cuda.log("bound") == ["4"]
    assert cuda.log("plain") == []


def test_a_batch_too_large_for_the_card_is_halved_and_the_next_is_smaller(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    server = serve("--device", "cuda")
    cuda.script(run_error=cuda_messages.MEMORY_AT_RUN.text, run_rows_max=2)
    cuda.forget()
    assert score_batch(server, 8) == cpu_scores * 2
    assert cuda.log("run") == ["8", "4", "2", "2", "2", "2"]  # the second half is no longer tried whole
    cuda.forget()
    assert score_batch(server, 8) == cpu_scores * 2
    assert cuda.log("run") == ["2", "2", "2", "2"]


def test_scores_of_the_card_that_are_not_finite_come_from_the_cpu(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    server = serve("--device", "cuda", *METRICS)
    cuda.script(shift="nan")
    assert score_batch(server, 4) == cpu_scores
    assert 'assay_card_cpu_rows_total{card="0",cause="not_finite"} 4.0' in metrics_page(server)


def test_a_score_is_on_record_with_the_device_that_gave_it(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], tmp_path: Path
) -> None:
    server = serve("--device", "cuda", "--set", f"audit.spool={tmp_path}")
    score_batch(server, 2)
    cuda.script(shift="nan")
    score_batch(server, 2)
    server.close()
    devices = [runtime.rpartition(", ")[2] for runtime in read_log(tmp_path / "writer-0").runtimes()]
    assert devices == ["cuda:0", "cuda:0", "cpu", "cpu"]


def test_a_card_that_fails_for_good_fails_no_row_and_the_server_asks_to_be_started_again(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    server = serve("--device", "cuda")
    cuda.script(run_error=cuda_messages.ILLEGAL_ADDRESS_AT_RUN.text)
    assert score_batch(server, 4) == cpu_scores
    assert server.process.wait(60) == 75
    assert "a card is lost for this process" in server.stderr()
    assert "CUDA failure 700: an illegal memory access was encountered" in server.stderr()


def test_a_server_may_go_on_with_a_dead_card(cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]) -> None:
    server = serve("--device", "cuda", "--set", "cuda.exit_when_dead=false", *METRICS)
    cuda.script(run_error=cuda_messages.ILLEGAL_ADDRESS_AT_RUN.text)
    assert score_batch(server, 4) == cpu_scores
    assert 'assay_card_dead{card="0"} 1.0' in metrics_page(server)
    cuda.forget()
    assert score(server) == cpu_scores
    assert cuda.log("run") == []


def test_a_run_that_hangs_is_answered_by_the_cpu_and_ends_the_server(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    server = serve("--device", "cuda", "--set", "cuda.hang_ms_max=300", "--set", "drain.grace_s=2")
    cuda.script(hold=1)
    assert score_batch(server, 4) == cpu_scores
    assert server.process.wait(60) == 75


# --- heat


def health_of(server: ServeProcess) -> str:
    with grpc.insecure_channel(server.target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def test_a_hot_card_rests_and_its_server_is_not_ready_until_it_is_cool(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    """Heat is NVML's, here a module in its place that reads a file."""
    cuda.install_nvml()
    cuda.heat(60)
    server = serve("--device", "cuda", *METRICS)
    assert health_of(server) == "SERVING"
    cuda.heat(81)
    wait_until(lambda: health_of(server) == "NOT_SERVING", "heat to be noticed")
    cuda.forget()
    assert score_batch(server, 4) == cpu_scores, "who calls all the same has an answer"
    assert cuda.log("run") == []
    assert 'assay_card_hot{card="0"} 1.0' in metrics_page(server)
    cuda.heat(75)
    assert health_of(server) == "NOT_SERVING"
    cuda.heat(70)
    wait_until(lambda: health_of(server) == "SERVING", "the card to be taken again")
    assert score_batch(server, 4) == cpu_scores
    assert cuda.log("run") == ["4"]
    assert server.process.poll() is None


# --- the memory of a card

GIB = 1 << 30


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ({"memory_row": 32 << 20}, "512 rows ran out of memory"),
        ({"memory_row": 29 << 20}, "512 rows leave 512 MiB free, less than cuda.memory_reserve_bytes (1,024 MiB)"),
    ],
)
def test_a_card_of_16_gib_is_given_the_batches_that_it_holds_whatever_was_asked_for(
    tmp_path: Path, bundle: str, cpu_scores: list[float], script: dict[str, object], why: str
) -> None:
    cuda = FakeCuda(tmp_path)
    cuda.install_driver()
    cuda.install_libraries(CUDA_13)
    memory = {"memory_total": 16 * GIB, "memory_session": GIB, "memory_error": cuda_messages.MEMORY_AT_RUN.text, **script}
    cuda.script(**memory)
    sizes = ("--set", "lane.batch_rows_max=512", "--set", "engine.batch_call_rows_max=1024")
    sizes += ("--set", "cuda.memory_bytes_max=0", "--set", f"cuda.memory_reserve_bytes={GIB}")
    with ServeProcess("--model", bundle, "--device", "cuda", *sizes, *METRICS, environment=cuda.environment()) as server:
        assert cuda.log("session") == ["0", "0"], "the arena of the first had grown too large"
        tried = [int(rows) for rows in cuda.log("run")]
        assert (max(tried), tried.index(512), tried.count(512)) == (512, 9, 1)
        cuda.forget()
        assert score_batch(server, 600) == cpu_scores * 150
        assert cuda.log("run") == ["256", "256", "88"]
        page = metrics_page(server)
        for metric in ("assay_card_batch_rows_limit", "assay_card_batch_rows_max"):
            assert f'{metric}{{card="0",model="tiny",version="1"}} 256.0' in page
        lines = [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]
        (line,) = [line for line in lines if line["message"] == "the card holds smaller batches than were asked for"]
        assert (line["severity_text"], line["batch_rows_max"], line["wanted_rows"], line["why"]) == ("WARN", 256, 512, why)
        assert line["bytes_by_rows"].split()[-1] == f"256:{256 * int(str(script['memory_row']))}"


def metrics_page(server: ServeProcess) -> str:
    with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=30) as page:
        return str(page.read().decode())


def score_batch(server: ServeProcess, rows: int) -> list[float]:
    amounts = [ROWS[index % len(ROWS)] for index in range(rows)]
    with grpc.insecure_channel(server.target) as channel:
        requests = [make_request(f"t{index}", amount_minor=amount) for index, amount in enumerate(amounts)]
        reply = scoring_pb2_grpc.ScoringServiceStub(channel).ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests))
        return [result.response.score for result in reply.results]


# --- not on the card

STEPS = {"update": "update_error", "append": "append_error", "session": "session_error", "run": "run_error"}


def script_of(message: Message) -> dict[str, object]:
    return {STEPS[message.step]: message.text}


@pytest.mark.parametrize("name", ["no_libraries_13", "illegal_address_at_run"])
def test_auto_serves_on_the_cpu_and_says_why_once(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float], name: str
) -> None:
    message = MESSAGES[name]
    cuda.script(**script_of(message))
    server = serve()
    assert device_of(server) == "cpu"
    assert score(server) == cpu_scores
    (line,) = loud_lines(server)
    assert (line["severity_text"], line["device"], line["models"]) == ("WARN", "auto", "tiny 1")
    assert message.says in line["why"]
    assert message.advises in line["why"]


# Proves a bundle on the card once for each NAME=SCRIPT on the command line; prints JSON: name -> the refusal. One process for
# all: what takes long is to start it and to inspect the model, and neither looks at the card.
PROVE = """
import json, sys
from pathlib import Path
from assay._core import OrtRuntime
from assay.models.device import DeviceWish, choose_device
from assay.models.ort_library import find_library
from assay.models.refusal import BundleRefusedError
from assay.models.verify import make_step, prove_session, read_candidate

bundle, script, *failures = sys.argv[1:]
runtime, step, refusals = OrtRuntime(str(find_library())), make_step(None), {}
candidate, wish = read_candidate(Path(bundle), step), DeviceWish("cuda")
for failure in failures:
    name, _, line = failure.partition("=")
    Path(script).write_text(line)
    try:
        choose_device(wish, lambda: None, lambda device: prove_session(candidate, runtime, device, wish, 2, step))
    except BundleRefusedError as error:
        refusals[name] = str(error)
print(json.dumps(refusals))
"""


def test_every_failure_of_the_wheels_is_explained(cuda: FakeCuda, bundle: str) -> None:
    """Through the core, which shortens what ONNX Runtime says."""
    failing = {name: message for name, message in MESSAGES.items() if message.step in STEPS}
    assert len(failing) == len(MESSAGES) - 1  # the CPU wheel says its own before it has options
    lines = [f"{name}={STEPS[message.step]}={' '.join(message.text.split())}" for name, message in failing.items()]
    done = cuda.python("-c", PROVE, bundle, cuda.environment()["ASSAY_TEST_CUDA_SCRIPT"], *lines)
    assert done.returncode == 0, done.stderr
    refusals = json.loads(done.stdout)
    assert list(refusals) == list(failing)
    for name, message in failing.items():
        assert refusals[name].startswith("device cuda:0: "), name
        assert message.says in refusals[name], name
        assert message.advises in refusals[name], name
        assert "scorer-7" not in refusals[name], name


def test_a_refusal_at_the_command_line(cuda: FakeCuda, bundle: str) -> None:
    message = cuda_messages.OLD_DRIVER_AT_SESSION
    cuda.script(**script_of(message))
    refused = cuda.run("model", "check", bundle, "--device", "cuda:1", "--batch-rows-max", "2", "--json")
    assert refused.returncode == 4, refused.stderr
    document = json.loads(refused.stdout)
    assert document["refusal"]["file"] == "device cuda:1"
    assert message.says in document["refusal"]["reason"]
    assert message.advises in document["refusal"]["mend"]
    assert document["checks"][-1]["check"] == "device"
    assert not document["checks"][-1]["passed"]


def test_a_check_shows_the_steps_that_were_passed_on_the_card(cuda: FakeCuda, bundle: str) -> None:
    checked = cuda.run("model", "check", bundle, "--batch-rows-max", "2", "--json")
    document = json.loads(checked.stdout)
    assert [item["check"] for item in document["checks"]] == [*CHECKS, *GATE_CHECKS]
    details = {item["check"]: item["detail"] for item in document["checks"]}
    assert details["device"] == "cuda:0"
    assert "batches of 1, 2" in details["warm-up"]


def test_scores_that_differ_on_the_card_keep_auto_off_it(
    cuda: FakeCuda, serve: Callable[..., ServeProcess], cpu_scores: list[float]
) -> None:
    cuda.script(shift=1e-3)
    server = serve()
    assert device_of(server) == "cpu"
    assert score(server) == cpu_scores
    (line,) = loud_lines(server)
    assert "golden rows score differently, by up to 0.001" in line["why"]
    assert "golden_tolerance" in line["why"]


def test_scores_that_differ_within_the_tolerance_do_not(cuda: FakeCuda, serve: Callable[..., ServeProcess]) -> None:
    cuda.script(shift=5e-7)
    assert device_of(serve()) == "cuda:0"


def test_a_driver_too_old_for_the_wheel_is_not_even_tried(cuda: FakeCuda, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_CUDA_DRIVER", "12080")
    refused = cuda.run("model", "check", bundle, "--device", "cuda", "--batch-rows-max", "2", "--json")
    assert refused.returncode == 4
    refusal = json.loads(refused.stdout)["refusal"]
    assert refusal["reason"] == "NVIDIA's driver serves CUDA 12.8, the wheel is for CUDA 13"
    assert "R580" in refusal["mend"]
    assert "gpu-cu12" in refusal["mend"]
    assert cuda.log("session") == []


@pytest.mark.parametrize("script", [{"shift": 1e-3}, script_of(cuda_messages.OLD_DRIVER_AT_OPTIONS)])
def test_cuda_refuses_to_start_without_it(cuda: FakeCuda, bundle: str, script: dict[str, object]) -> None:
    cuda.script(**script)
    options = ("--listen", "127.0.0.1:0", "--admin-socket", "off", "--audit-sink", "none", "--device", "cuda")
    refused = cuda.run("serve", "--model", bundle, *options)
    assert refused.returncode == 1
    assert "device cuda:0: " in refused.stderr
    assert "golden" in refused.stderr or "R580" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_trees_stay_on_the_cpu_without_a_word(cuda: FakeCuda, serve: Callable[..., ServeProcess]) -> None:
    server = serve(model=str(bundle_path()))
    assert device_of(server) == "cpu"
    assert '"WARN"' not in server.stderr()
    assert cuda.log("session") == []
    refused = cuda.run("model", "check", str(bundle_path()), "--device", "cuda")
    assert refused.returncode == 4
    assert "no CUDA kernels for trees" in refused.stdout + refused.stderr


@pytest.mark.skipif(find_driver() is not None, reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("has_libraries", [False, True])
def test_a_machine_without_a_driver(tmp_path: Path, bundle: str, has_libraries: bool) -> None:
    """The wheel for CUDA is pip's default on Linux, card or not: quiet. With NVIDIA's wheels somebody meant to use a card."""
    cuda = FakeCuda(tmp_path)
    if has_libraries:
        cuda.install_libraries(CUDA_13)
    with ServeProcess("--model", bundle, environment=cuda.environment()) as server:
        assert device_of(server) == "cpu"
        assert len(loud_lines(server)) == has_libraries
        assert ("there is no NVIDIA driver" in server.stderr()) == has_libraries
    assert cuda.log("session") == []


@pytest.mark.parametrize(("version", "cuda_version", "build"), [("1.31.1", "13.0", CUDA_13), ("1.26.0", "12.8", CUDA_12)])
def test_nvidias_libraries_are_opened_in_order_before_the_session(
    tmp_path: Path, bundle: str, version: str, cuda_version: str, build: Any
) -> None:
    cuda = FakeCuda(tmp_path, version=version, cuda_version=cuda_version)
    cuda.install_driver()
    cuda.install_libraries(build)
    checked = cuda.run("model", "check", bundle, "--device", "cuda", "--batch-rows-max", "2")
    assert checked.returncode == 0, checked.stdout
    assert cuda.log("opened") == ["libcuda.so.1", *build.libraries]
    assert cuda.lines()[: len(build.libraries) + 1] == [f"opened {name}" for name in ("libcuda.so.1", *build.libraries)]


# --- doctor


def cuda_findings(cuda: FakeCuda, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = cuda.run("doctor", "--json", *arguments)
    return done.returncode, {item["name"]: item for item in json.loads(done.stdout) if "cuda" in item["name"]}


def test_doctor_computes_on_the_card(cuda: FakeCuda) -> None:
    _, findings = cuda_findings(cuda)
    assert findings["cuda trial"]["status"] == "ok"
    assert findings["cuda trial"]["found"].startswith("cuda:0 computes as the CPU does")
    assert cuda.log("session") == ["0"]


def test_doctor_says_what_keeps_the_server_off_the_card(cuda: FakeCuda) -> None:
    message = cuda_messages.OLD_DRIVER_AT_OPTIONS
    cuda.script(**script_of(message))
    code, findings = cuda_findings(cuda, "--device", "cuda:2")
    assert code == 3
    assert findings["cuda trial"]["status"] == "failed"
    assert message.says in findings["cuda trial"]["found"]
    assert message.advises in findings["cuda trial"]["mend"]
    assert "libcudart.so.13" in findings["cuda libraries"]["found"]


def test_doctor_sees_a_card_that_computes_wrongly(cuda: FakeCuda) -> None:
    cuda.script(shift=1)
    _, findings = cuda_findings(cuda)
    assert findings["cuda trial"]["status"] == "warning"
    assert "differently from the CPU, by 1" in findings["cuda trial"]["found"]
