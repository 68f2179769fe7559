"""assay.v1.FeatureService, its reads: what a model would see, what it was given, what a feature set is. None changes anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc

from assay._core import Engine, Refusal
from assay.errors import CoreError, RecordError, StoreError
from assay.features.served import ModelFeatures, ServedFeatures
from assay.observe.logs import log_event
from assay.transport.feature_messages import feature_set_message, look_message, score_request_of
from assay.transport.look_worker import Answer, LookWorker
from assay.transport.served_rows_messages import page_rows, served_rows_message
from assay.v1 import feature_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

log = logging.getLogger("assay.store")


class FeatureLooks:
    """Looks are rare and for people: one thread makes them, off the event loop, one after the other."""

    def __init__(self, served: ServedFeatures, engine: Engine, *, answer_bytes_max: int) -> None:
        self._served = served
        self._engine = engine
        self._looks = LookWorker("assay-looks", "looks at features", engine, answer_bytes_max=answer_bytes_max)

    @property
    def held_count(self) -> int:
        """Looks that are under way or wait: a remote store may hold the one thread for seconds."""
        return self._looks.held_count

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Bytes in, bytes out: messages are read and made on the thread."""
        return {
            "/assay.v1.FeatureService/GetFeatures": grpc.unary_unary_rpc_method_handler(self._get_features),
            "/assay.v1.FeatureService/GetServedRows": grpc.unary_unary_rpc_method_handler(self._get_served_rows),
            "/assay.v1.FeatureService/DescribeFeatureSet": grpc.unary_unary_rpc_method_handler(self._describe_feature_set),
        }

    def close(self) -> None:
        """Waits for the look that is being made, if there is one: not on the event loop."""
        self._looks.close()

    # --- implementation ---

    async def _get_features(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer_of_model(self._served, feature_pb2.GetFeaturesRequest, self._look, data, context)

    async def _get_served_rows(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer_of_model(self._served, feature_pb2.GetServedRowsRequest, self._page, data, context)

    async def _describe_feature_set(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer_of_model(
            self._served, feature_pb2.DescribeFeatureSetRequest, self._describe, data, context
        )

    # On the thread.

    def _look(self, request: feature_pb2.GetFeaturesRequest, model: ModelFeatures) -> Answer:
        if not request.entities:
            return self._engine.refuse("MISSING_ENTITY", f"entities: name one or more of {', '.join(model.feature_set.entities)}")
        transaction = model.decode(score_request_of(request, model.feature_set.entities))
        if isinstance(transaction, Refusal):
            return transaction
        try:
            look = model.look(transaction, request.entities.keys())
        except StoreError as error:
            log_event(log, logging.WARNING, "features not shown", error=str(error))
            return self._engine.refuse("STORE_UNAVAILABLE")
        except CoreError as error:  # the embedded store knows as many views as it may
            return self._engine.refuse(error.reason, error.message)
        refusal = look.refusal
        if isinstance(refusal, RecordError):
            refusal = self._engine.refuse(refusal.reason, "no row of inputs is shown without it")
        return look_message(model, transaction, look, refusal).SerializeToString()

    def _page(self, request: feature_pb2.GetServedRowsRequest, model: ModelFeatures) -> Answer:
        after = max(0, request.after_position)
        newest = self._engine.stats().sampled_rows
        rows = self._engine.served_rows(after, page_rows(model))
        return served_rows_message(model, rows, after, newest).SerializeToString()

    def _describe(self, _: feature_pb2.DescribeFeatureSetRequest, model: ModelFeatures) -> Answer:
        return feature_set_message(model.feature_set).SerializeToString()
