"""The cheapest grpc.aio server there is: a raw handler that answers the same bytes to all. What is left is grpc.aio's own cost.

python -m benchmarks.servers.empty PORT RESPONSE_FILE
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import uvloop


async def serve(port: int, response: bytes) -> None:
    async def answer(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return response

    methods = {name: grpc.unary_unary_rpc_method_handler(answer) for name in ("Score", "ScoreBatch")}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("assay.v1.ScoringService", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
