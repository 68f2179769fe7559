"""The post-mortem's 'before' beside assay: one MLP in eager PyTorch and compiled by torch.compile, each behind grpc.aio, against
its ONNX export served by assay on both transports. All four get the same transactions from one generator and must answer the same
scores first."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx

from assay.cli.bench_messages import write_messages
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from benchmarks.material import Material, pack, training_rows
from benchmarks.measure import Ratio, in_rounds
from benchmarks.processes import SCORE_BATCH, Server, assay_server, torch_server
from benchmarks.run import BATCH_ROWS, Run
from tests.support.own_venv import OwnVenv, environment
from tests.support.torch_venv import torch_venv

MESSAGES = 20_000
RUN_S = 3.0
COMPARED = 256
TOLERANCE = 1e-5  # of a score: float32, whose sums have another order in each runtime
AFTER, BEFORE = ("native", "grpcio"), ("eager", "compiled")
NAMES = {"eager": "eager PyTorch", "compiled": "torch.compile"}


@dataclass(frozen=True)
class Figures:
    """Of one run of one server."""

    rate: float
    cpu_s_per_1000: float
    p50_us: float
    p99_us: float


def before(run: Run) -> list[Ratio]:
    """Unary Score, 64 in flight, and ScoreBatch of 256; each transport over each of the two."""
    files = _prepare(run)
    requests = run.material.requests(MESSAGES)
    batches = [requests[first : first + BATCH_ROWS] for first in range(0, MESSAGES - BATCH_ROWS + 1, BATCH_ROWS)]
    many = run.material.folder / "before-batches.bin"
    write_messages(many, (scoring_pb2.ScoreBatchRequest(requests=rows).SerializeToString() for rows in batches), len(batches))
    single = run.material.bench_file(MESSAGES)
    with ExitStack() as stack:
        servers = {
            mode: stack.enter_context(torch_server(files.venv.python, files.environment, files.weights, files.rows, mode))
            for mode in BEFORE
        }
        for transport in AFTER:
            store = shutil.copy(run.material.snapshot, run.material.folder / f"before-{transport}.snapshot")
            options = ("--transport", transport, "--store", f"embedded:{store}")
            servers[transport] = stack.enter_context(assay_server(run.material, *options, bundle=files.bundle))
        _compare(run, servers, requests[:COMPARED])
        unary = _rounds(run, servers, single, "--warmup", "0.5", "--connections", "4", "--streams", "16")
        batch = _rounds(run, servers, many, "--warmup", "0.5", "--method", SCORE_BATCH, "--connections", "2", "--streams", "2")
    ratios = []
    for base in BEFORE:
        for side in AFTER:
            what = f"{side} over {NAMES[base]}"
            ratios += [
                _ratio(f"{what}: unary Score, 64 in flight", "calls/s", unary, side, base, lambda one: one.rate),
                _ratio(f"{what}: CPU per 1,000", "CPU s per 1,000", unary, side, base, lambda one: one.cpu_s_per_1000),
                _ratio(f"{what}: p50", "us", unary, side, base, lambda one: one.p50_us),
                _ratio(f"{what}: p99", "us", unary, side, base, lambda one: one.p99_us),
                _ratio(f"{what}: ScoreBatch({BATCH_ROWS})", "rows per CPU s", batch, side, base, _rows_per_cpu_s),
            ]
    return ratios


# --- implementation ---


@dataclass(frozen=True)
class _Files:
    venv: OwnVenv
    environment: dict[str, str]
    weights: Path
    rows: Path
    bundle: Path


def _prepare(run: Run) -> _Files:
    """Trains, exports and packs the MLP; writes the ready row of each request for the servers that have no feature store."""
    material, folder = run.material, run.material.folder
    run.report("PyTorch's own environment")
    venv = torch_venv()
    files = _Files(
        venv,
        {**environment(), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")},
        folder / "mlp.npz",
        folder / f"mlp-rows-{MESSAGES}.npz",
        folder / "models" / "mlp" / "1",
    )
    if not files.bundle.exists():
        run.report("training and exporting the MLP")
        _train(material, venv, files)
    if not files.rows.exists():
        run.report("the rows of all requests")
        requests = material.requests(MESSAGES)
        np.savez(files.rows, ids=np.array([request.transaction_id for request in requests]), rows=material.matrix(requests))
    return files


def _train(material: Material, venv: OwnVenv, files: _Files) -> None:
    columns, is_fraud = training_rows(material)
    training, model = material.folder / "mlp-training.npz", material.folder / "mlp.onnx"
    np.savez(training, rows=np.stack(list(columns.values()), axis=1).astype(np.float32), is_fraud=is_fraud)
    done = venv.run("-m", "benchmarks.torch_mlp", training, files.weights, model)
    if done.returncode != 0:
        raise SystemExit(f"PyTorch did not train or export the MLP:\n{done.stderr}")
    pack(material, "mlp", onnx.load(model), columns)


def _compare(run: Run, servers: dict[str, Server], requests: Sequence[scoring_pb2.ScoreRequest]) -> None:
    """Ends the benchmark if two servers do not say the same of a transaction."""
    scores = {}
    for name, server in servers.items():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            scores[name] = np.array([stub.Score(request, timeout=30).score for request in requests])
    reference = scores[BEFORE[0]]
    for name, found in scores.items():
        if (difference := float(np.abs(found - reference).max())) > TOLERANCE:
            raise SystemExit(f"{name} scores otherwise than {NAMES[BEFORE[0]]}, by {difference:g}: the comparison is void")
    spread = max(float(np.abs(found - reference).max()) for found in scores.values())
    run.say(
        f"{len(requests)} transactions: all servers say the same to {spread:.1g}; "
        f"scores from {reference.min():.3f} to {reference.max():.3f}"
    )


def _rounds(run: Run, servers: dict[str, Server], messages: Path, *options: str) -> list[dict[str, Figures]]:
    def measure(server: Server) -> Callable[[], Figures]:
        def once() -> Figures:
            step = server.bench(messages, RUN_S, *options)
            if set(step["outcomes"]) != {"OK"}:
                raise SystemExit(f"not every call was answered: {step['outcomes']}")
            latency = step["latency_us"]
            return Figures(float(step["rate"]), float(step["server_cpu_s_per_1000"]), latency["p50"], latency["p99"])

        return once

    for server in servers.values():
        measure(server)()  # warm
    return in_rounds({name: measure(server) for name, server in servers.items()}, run.pairs, run.report)


def _ratio(
    name: str,
    unit: str,
    rounds: list[dict[str, Figures]],
    side: str,
    base: str,
    figure: Callable[[Figures], float],
) -> Ratio:
    return Ratio(name, "reported", unit, [(figure(one[side]), figure(one[base])) for one in rounds])


def _rows_per_cpu_s(one: Figures) -> float:
    return 1000 * BATCH_ROWS / one.cpu_s_per_1000
