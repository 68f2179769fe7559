"""The post-mortem's 'before': grpc.aio, google.protobuf and a PyTorch module, one request at a time on one thread, eager or
compiled.

It is kinder than life: the rows that the requests come to lie ready under their ids, it checks nothing and audits nothing.

    python -m benchmarks.servers.torch_mlp PORT WEIGHTS.npz ROWS.npz eager|compiled     ROWS.npz: ids (n,), rows (n, 15)
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
import torch
import uvloop

from assay.v1 import scoring_pb2, scoring_pb2_grpc
from benchmarks.torch_mlp import load

WARM_ROWS = (1, 2, 256)  # compiled anew for a single row and for many


class Scorer(scoring_pb2_grpc.ScoringServiceServicer):
    """Finds the row of a request and runs the model."""

    def __init__(self, model: Any, rows: str) -> None:
        self.model = model
        with np.load(rows, allow_pickle=False) as arrays:
            self.rows = dict(zip(arrays["ids"].tolist(), arrays["rows"], strict=True))

    def score(self, matrix: Any) -> Any:
        with torch.inference_mode():
            return self.model(torch.from_numpy(matrix))[:, 1]

    async def Score(self, request: scoring_pb2.ScoreRequest, context: grpc.aio.ServicerContext) -> scoring_pb2.ScoreResponse:  # noqa: N802
        score = float(self.score(self.rows[request.transaction_id][None, :])[0])
        return scoring_pb2.ScoreResponse(transaction_id=request.transaction_id, score=score)

    async def ScoreBatch(  # noqa: N802
        self, request: scoring_pb2.ScoreBatchRequest, context: grpc.aio.ServicerContext
    ) -> scoring_pb2.ScoreBatchResponse:
        scores = self.score(np.stack([self.rows[row.transaction_id] for row in request.requests])).tolist()
        response = scoring_pb2.ScoreBatchResponse()
        for row, score in zip(request.requests, scores, strict=True):
            response.results.add(
                transaction_id=row.transaction_id,
                response=scoring_pb2.ScoreResponse(transaction_id=row.transaction_id, score=score),
            )
        return response


async def serve(port: int, weights: str, rows: str, mode: str) -> None:
    torch.set_num_threads(1)
    model = load(weights)
    scorer = Scorer(torch.compile(model) if mode == "compiled" else model, rows)
    some = next(iter(scorer.rows.values()))
    for count in WARM_ROWS:
        scorer.score(np.stack([some] * count))
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 8 << 20)])
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(scorer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
