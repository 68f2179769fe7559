"""What a good team would write by hand in a week: grpc.aio, google.protobuf, a dict as feature store, session.run a request.

It is kinder than life: its windows are finished values that never go wrong, it checks nothing and audits nothing.

    python -m benchmarks.servers.hand_written PORT MODEL.onnx FEATURES.npz
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import numpy as np
import onnxruntime as ort
import uvloop

from assay.v1 import scoring_pb2, scoring_pb2_grpc


class Scorer(scoring_pb2_grpc.ScoringServiceServicer):
    """Joins the request with ready features and runs the model, one request at a time."""

    def __init__(self, model: str, features: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[-1].name
        with np.load(features, allow_pickle=False) as arrays:
            self.rows = dict(zip(arrays["customers"].tolist(), arrays["rows"], strict=True))
        self.default = np.zeros(15, dtype=np.float32)

    def row(self, request: scoring_pb2.ScoreRequest) -> np.ndarray:
        row = self.rows.get(request.entities["customer_id"], self.default).copy()
        row[0] = request.features["amount_minor"].int64_value / 100
        time = request.event_time.ToDatetime()
        row[1] = time.weekday() >= 5
        row[2] = time.hour <= 6
        return row

    async def Score(self, request: scoring_pb2.ScoreRequest, context: grpc.aio.ServicerContext) -> scoring_pb2.ScoreResponse:  # noqa: N802
        scores = self.session.run([self.output], {self.input: self.row(request)[None, :]})[0]
        return scoring_pb2.ScoreResponse(transaction_id=request.transaction_id, score=float(scores[0, 1]))

    async def ScoreBatch(  # noqa: N802
        self, request: scoring_pb2.ScoreBatchRequest, context: grpc.aio.ServicerContext
    ) -> scoring_pb2.ScoreBatchResponse:
        matrix = np.stack([self.row(row) for row in request.requests])
        scores = self.session.run([self.output], {self.input: matrix})[0][:, 1]
        response = scoring_pb2.ScoreBatchResponse()
        for row, score in zip(request.requests, scores.tolist(), strict=True):
            response.results.add(
                transaction_id=row.transaction_id,
                response=scoring_pb2.ScoreResponse(transaction_id=row.transaction_id, score=score),
            )
        return response


async def serve(port: int, model: str, features: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 8 << 20)])
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(Scorer(model, features), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
