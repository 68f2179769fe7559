"""inference.GRPCInferenceService: the Open Inference Protocol (KServe v2) with parts of Triton's superset.

ModelInfer is bytes in, bytes out: the core decodes and encodes. The rest is asked rarely and made here, of what is served.
Methods for shared memory, loading, streams, trace and log settings have no row in the policy table: UNIMPLEMENTED, on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from assay import __version__
from assay._core import STAGES, TENSOR_TYPES, Engine, LaneMetrics, LatencyHistogram, Refusal, TensorInfo
from assay.inference import open_inference_pb2 as pb
from assay.scoring.tensor_models import TensorModel, TensorModels
from assay.transport.replies import Replies
from assay.transport.scoring_service import unary_handler
from assay.transport.status import abort, parse

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from assay.transport.grpc_types import Context, Handler

SERVICE: Final = "inference.GRPCInferenceService"
EXTENSIONS: Final = ("model_configuration", "statistics", "model_repository(index)", "schedule_policy")
PLATFORM: Final = "onnxruntime_onnx"
DATATYPES: Final = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}

_NAMES = {number: name for name, number in TENSOR_TYPES.items()}
_CONFIG_TYPES = {
    "float32": pb.TYPE_FP32,
    "float64": pb.TYPE_FP64,
    "int32": pb.TYPE_INT32,
    "int64": pb.TYPE_INT64,
    "bool": pb.TYPE_BOOL,
}
# Which stages of a row are which of Triton's parts.
_PARTS = {
    "queue": ("queue",),
    "compute_input": ("decode", "look_up", "assemble"),
    "compute_infer": ("infer",),
    "compute_output": ("commit", "respond"),
}


class InferenceService:
    """`models`: what is served. `is_serving`: what health says."""

    def __init__(
        self,
        engine: Engine,
        replies: Replies,
        models: TensorModels,
        is_serving: Callable[[], bool],
        *,
        answer_bytes_max: int,
    ) -> None:
        self._engine = engine
        self._models = models
        self._is_serving = is_serving
        self._infer = unary_handler(engine.submit_infer, engine, replies, answer_bytes_max)

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Bytes in, bytes out."""
        handlers: dict[str, Handler] = {"ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer)}
        for name, (request, answer) in self._rare_methods().items():
            handlers[name] = grpc.unary_unary_rpc_method_handler(self._rare(request, answer))
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    # --- implementation ---

    def _rare_methods(self) -> dict[str, tuple[type[Message], Callable[..., Message | str]]]:
        """Method -> its request's type, and what answers. Text as an answer: the reason why there is no such model."""
        return {
            "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True)),
            "ServerReady": (pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=self._is_serving())),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, _server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._repository_index),
        }

    def _rare(self, request_type: type[Message], answer: Callable[..., Message | str]) -> Callable[..., object]:
        async def handle(data: bytes, context: Context) -> bytes:
            request = await parse(request_type, data, context)
            found = answer(request)
            if isinstance(found, str):
                await abort(context, self._unknown(found, request))
            return found.SerializeToString()

        return handle

    def _unknown(self, reason: str, request: Any) -> Refusal:
        detail = f"version {request.version[:64]!r}" if reason == "UNKNOWN_VERSION" else f"model {request.name[:64]!r}"
        return self._engine.refuse_call(reason, detail)

    def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Of an unknown model: no, as Triton says. Clients ask in order to wait for one."""
        is_known = isinstance(self._models.find(request.name, request.version), TensorModel)
        return pb.ModelReadyResponse(ready=is_known and self._is_serving())

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse | str:
        model = self._models.find(request.name, request.version)
        if isinstance(model, str):
            return model
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=[one.version for one in self._models.all if one.name == model.name],
            platform=PLATFORM,
            inputs=[_metadata(tensor) for tensor in model.inputs],
            outputs=[_metadata(tensor) for tensor in model.outputs],
        )

    def _model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse | str:
        model = self._models.find(request.name, request.version)
        return model if isinstance(model, str) else pb.ModelConfigResponse(config=_config(model))

    def _model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse | str:
        version = request.version
        if request.name:
            found = self._models.find(request.name, version)
            if isinstance(found, str):
                return found
            version = found.version if version else ""  # a label is a version's; without one all are told
        lanes = self._engine.metrics().lanes
        wanted = [lane for lane in lanes if request.name in ("", lane.model) and version in ("", lane.version)]
        return pb.ModelStatisticsResponse(model_stats=[_statistics(lane) for lane in wanted])

    def _repository_index(self, _: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        index = pb.RepositoryIndexResponse()
        for model in self._models.all:
            index.models.add(name=model.name, version=model.version, state="READY")
        return index


# --- implementation ---


def _server_metadata(_: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
    return pb.ServerMetadataResponse(name="assay", version=__version__, extensions=EXTENSIONS)


def _metadata(tensor: TensorInfo) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=DATATYPES[_NAMES[tensor.onnx_type]], shape=[-1, *tensor.dims]
    )


def _config(model: TensorModel) -> pb.ModelConfig:
    kind = pb.ModelInstanceGroup.KIND_CPU if model.cuda_index is None else pb.ModelInstanceGroup.KIND_GPU
    gpus = [] if model.cuda_index is None else [model.cuda_index]
    config = pb.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend="onnxruntime",
        max_batch_size=model.batch_rows_max,
        default_model_filename="model.onnx",
        instance_group=[pb.ModelInstanceGroup(name=f"{model.name}_0", count=model.runners, kind=kind, gpus=gpus)],
        dynamic_batching=pb.ModelDynamicBatching(max_queue_delay_microseconds=model.queue_delay_us_max, priority_levels=2),
    )
    for tensor in model.inputs:
        config.input.add(name=tensor.name, data_type=_CONFIG_TYPES[_NAMES[tensor.onnx_type]], dims=tensor.dims)
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=_CONFIG_TYPES[_NAMES[tensor.onnx_type]], dims=tensor.dims)
    return config


def _statistics(lane: LaneMetrics) -> pb.ModelStatistics:
    """Every row counts once, however many came in one request."""
    rows = sum(_count(histogram) for histogram in lane.inference)
    took_ns = sum(histogram.sum for histogram in lane.inference)
    stages = {name: histogram.sum for (name, _, _), histogram in zip(STAGES, lane.stages, strict=True)}
    statistics = pb.ModelStatistics(
        name=lane.model, version=lane.version, inference_count=rows, execution_count=sum(lane.batch_rows.counts)
    )
    statistics.inference_stats.success.count, statistics.inference_stats.success.ns = rows, took_ns
    for part, names in _PARTS.items():
        duration = getattr(statistics.inference_stats, part)
        duration.count, duration.ns = rows, sum(stages[name] for name in names)
    return statistics


def _count(histogram: LatencyHistogram) -> int:
    return sum(histogram.counts)
