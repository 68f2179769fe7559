"""assay.v1.ModelService: which versions are loaded, and which of them answer. Answers on the admin listener only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import Message

from assay._core import Engine
from assay.scoring.rollout import Rollout, RolloutError
from assay.transport.look_worker import Answer, LookWorker
from assay.transport.model_messages import rollout_message
from assay.v1 import model_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

LOAD_S_MAX = 600.0  # waits for a load, or for the last calls of what is unloaded

Request = TypeVar("Request", bound=Message)


class ModelService:
    """What `rollout` does, for callers. Looks, steps and loads have a thread each: a rollback waits for no load."""

    def __init__(self, rollout: Rollout, engine: Engine, *, answer_bytes_max: int) -> None:
        self._rollout = rollout
        self._engine = engine
        self._looks = LookWorker("assay-models", "looks at models", engine, answer_bytes_max=answer_bytes_max)
        self._steps = LookWorker("assay-steps", "steps of rollouts", engine, answer_bytes_max=answer_bytes_max)
        self._loads = LookWorker(
            "assay-loads", "loads of models", engine, answer_bytes_max=answer_bytes_max, wait_s_max=LOAD_S_MAX
        )

    @property
    def held_count(self) -> int:
        """Calls that are under way or wait."""
        return self._looks.held_count + self._steps.held_count + self._loads.held_count

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Bytes in, bytes out: messages are read and made on a thread."""
        rollout = self._rollout

        def step(kind: type[Request], change: Callable[[Request], None], response: type[Message]) -> Handler:
            return self._handler(self._steps, kind, change, response)

        def load(kind: type[Request], change: Callable[[Request], None], response: type[Message]) -> Handler:
            return self._handler(self._loads, kind, change, response)

        pb = model_pb2
        methods = {
            "ListModels": grpc.unary_unary_rpc_method_handler(self._list_models),
            "LoadModel": load(pb.LoadModelRequest, lambda of: rollout.load(of.model, of.version), pb.LoadModelResponse),
            "UnloadModel": load(pb.UnloadModelRequest, lambda of: rollout.unload(of.model, of.version), pb.UnloadModelResponse),
            "PromoteModel": step(
                pb.PromoteModelRequest, lambda of: rollout.promote(of.model, of.version), pb.PromoteModelResponse
            ),
            "RollbackModel": step(pb.RollbackModelRequest, lambda of: rollout.rollback(of.model), pb.RollbackModelResponse),
            "SetCanary": step(
                pb.SetCanaryRequest, lambda of: rollout.set_canary(of.model, of.version, of.share), pb.SetCanaryResponse
            ),
            "SetShadow": step(
                pb.SetShadowRequest, lambda of: rollout.set_shadow(of.model, of.version, of.share), pb.SetShadowResponse
            ),
        }
        return {f"/assay.v1.ModelService/{name}": handler for name, handler in methods.items()}

    def close(self) -> None:
        """Waits for the step that is under way, not on the event loop; a load, or a look at a disk that hangs, is left behind."""
        self._steps.close()
        self._looks.leave()
        self._loads.leave()

    # --- implementation ---

    async def _list_models(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer(model_pb2.ListModelsRequest, self._all_models, data, context)

    def _all_models(self, _: model_pb2.ListModelsRequest) -> bytes:
        """On the thread."""
        self._rollout.look()
        models = (rollout_message(model) for model in self._rollout.status())
        return model_pb2.ListModelsResponse(models=models).SerializeToString()

    def _handler(
        self, worker: LookWorker, kind: type[Request], change: Callable[[Request], None], response: type[Message]
    ) -> Handler:
        """Of a method that changes a model and answers what the model is then. Requests have a `model`, responses too."""

        def make(request: Request) -> Answer:
            """On the worker's thread."""
            try:
                change(request)
            except RolloutError as error:
                return self._engine.refuse(error.reason, str(error))
            status = self._rollout.model_status(request.model)  # type: ignore[attr-defined]
            message = rollout_message(status) if status is not None else None
            return response(model=message).SerializeToString()

        async def answer(data: bytes, context: Context) -> bytes:
            return await worker.answer(kind, make, data, context)

        return grpc.unary_unary_rpc_method_handler(answer)
