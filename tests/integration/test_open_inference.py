"""The Open Inference Protocol on both transports: a plain file and a bundle, by generated stubs. test_triton_clients.py has
public clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.inference import open_inference_pb2 as pb
from assay.inference import open_inference_pb2_grpc as rpc
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.onnx_models import dynamic_int8_model, tree_model
from tests.support.server import ServeProcess

pytestmark = pytest.mark.usefixtures("transport")

MODEL = "trees"


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "trees.onnx").write_bytes(tree_model().SerializeToString())
    (folder / "int8.onnx").write_bytes(dynamic_int8_model().SerializeToString())
    with ServeProcess("--model", str(folder / "trees.onnx"), "--model", f"moody={folder / 'int8.onnx'}") as process:
        yield process


@pytest.fixture
def stub(server: ServeProcess) -> Iterator[rpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.target) as channel:
        yield rpc.GRPCInferenceServiceStub(channel)


def request_of(rows: np.ndarray, model: str = MODEL) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id="r-1", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    return request


def expected(rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(tree_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["score"], {"input": rows})[0]


@pytest.mark.parametrize("count", [1, 7, 300])
def test_outputs_are_the_models(stub: rpc.GRPCInferenceServiceStub, count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32) * 100
    answer = stub.ModelInfer(request_of(rows), timeout=20)
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "r-1")
    assert (answer.outputs[0].name, answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("score", "FP32", [count, 1])
    given = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(count, 1)
    np.testing.assert_array_equal(given, expected(rows))


def test_a_model_that_depends_on_its_batch_runs_row_by_row(stub: rpc.GRPCInferenceServiceStub, server: ServeProcess) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="moody"), timeout=20)
    width = metadata.inputs[0].shape[1]
    rows = np.random.default_rng(3).normal(size=(5, width)).astype(np.float32)
    rows[0] *= 1e4

    def ask(part: np.ndarray) -> bytes:
        request = request_of(part, "moody")
        request.inputs[0].name = metadata.inputs[0].name
        return bytes(stub.ModelInfer(request, timeout=20).raw_output_contents[0])

    assert ask(rows) == b"".join(ask(rows[i : i + 1]) for i in range(len(rows)))
    assert stub.ModelConfig(pb.ModelConfigRequest(name="moody"), timeout=20).config.max_batch_size == 1
    assert "every row is run alone" in server.stderr()


def test_refusals(stub: rpc.GRPCInferenceServiceStub, server: ServeProcess) -> None:
    rows = np.zeros((1, 3), np.float32)

    def code_of(call: object, message: object) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=20)  # type: ignore[operator]
        code: grpc.StatusCode = caught.value.code()
        return code

    assert code_of(stub.ModelInfer, request_of(rows, "nobody")) is grpc.StatusCode.NOT_FOUND
    assert code_of(stub.ModelInfer, request_of(rows.astype(np.float64))) is grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(stub.ModelInfer, request_of(np.zeros((1025, 3), np.float32))) is grpc.StatusCode.INVALID_ARGUMENT
    methods = (("ModelMetadata", pb.ModelMetadataRequest), ("ModelConfig", pb.ModelConfigRequest))
    for method, message in (*methods, ("ModelStatistics", pb.ModelStatisticsRequest)):
        assert code_of(getattr(stub, method), message(name="nobody")) is grpc.StatusCode.NOT_FOUND
        assert code_of(getattr(stub, method), message(name=MODEL, version="9")) is grpc.StatusCode.NOT_FOUND
    for request, ready in ((("nobody", ""), False), ((MODEL, "9"), False), ((MODEL, ""), True), ((MODEL, "1"), True)):
        assert stub.ModelReady(pb.ModelReadyRequest(name=request[0], version=request[1]), timeout=20).ready is ready
    with grpc.insecure_channel(server.target) as channel:
        score = scoring_pb2_grpc.ScoringServiceStub(channel).Score
        assert code_of(score, scoring_pb2.ScoreRequest(transaction_id="t")) is grpc.StatusCode.FAILED_PRECONDITION
        for name in ("SystemSharedMemoryRegister", "RepositoryModelLoad", "LogSettings"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            assert code_of(call, b"") is grpc.StatusCode.UNIMPLEMENTED


def test_statistics_add_up(stub: rpc.GRPCInferenceServiceStub) -> None:
    def look() -> pb.ModelStatistics:
        (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=MODEL), timeout=20).model_stats
        return found

    before = look()
    stub.ModelInfer(request_of(np.zeros((5, 3), np.float32)), timeout=20)
    after = look()
    assert after.inference_count - before.inference_count == 5
    assert after.execution_count > before.execution_count
    stats = after.inference_stats
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert all(part.count == after.inference_count for part in parts)
    assert sum(part.ns for part in parts) == stats.success.ns
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=20).ready
    assert {one.name for one in stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=20).models} == {MODEL, "moody"}


def test_an_answer_that_is_too_large_is_not_computed(transport: str, tmp_path: Path) -> None:
    (tmp_path / "trees.onnx").write_bytes(tree_model().SerializeToString())
    options = ("--model", str(tmp_path / "trees.onnx"), "--set", "limits.send_message_bytes_max=1024")
    with ServeProcess(*options) as process, grpc.insecure_channel(process.target) as channel:
        small = rpc.GRPCInferenceServiceStub(channel)
        assert len(small.ModelInfer(request_of(np.zeros((200, 3), np.float32)), timeout=20).raw_output_contents[0]) == 800
        with pytest.raises(grpc.RpcError) as caught:
            small.ModelInfer(request_of(np.zeros((300, 3), np.float32)), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "300 rows have outputs of 1200 bytes" in caught.value.details()
        (stats,) = small.ModelStatistics(pb.ModelStatisticsRequest(name=MODEL), timeout=20).model_stats
        assert (stats.inference_count, stats.inference_stats.success.count) == (200, 200)


def test_a_bundles_model_answers_too(transport: str) -> None:
    """The demo: the tensors of its model, whatever its features are."""
    with ServeProcess() as process, grpc.insecure_channel(process.target) as channel:
        demo = rpc.GRPCInferenceServiceStub(channel)
        metadata = demo.ModelMetadata(pb.ModelMetadataRequest(), timeout=20)
        (tensor,) = metadata.inputs
        rows = np.zeros((2, *tensor.shape[1:]), np.float32)
        request = pb.ModelInferRequest(raw_input_contents=[rows.tobytes()])
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=rows.shape)
        answer = demo.ModelInfer(request, timeout=20)
        assert [output.name for output in answer.outputs] == [output.name for output in metadata.outputs]
        assert all(output.shape[0] == 2 for output in answer.outputs)


def test_labels_are_known_to_every_method(stub: rpc.GRPCInferenceServiceStub) -> None:
    rows = np.zeros((1, 3), np.float32)
    request = request_of(rows)
    request.model_version = "@champion"
    assert stub.ModelInfer(request, timeout=20).model_version == "1"
    assert stub.ModelReady(pb.ModelReadyRequest(name=MODEL, version="@champion"), timeout=20).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name=MODEL, version="@challenger"), timeout=20).ready
    (statistics,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=MODEL, version="@champion"), timeout=20).model_stats
    assert statistics.version == "1"
