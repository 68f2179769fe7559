"""Bringing models out under load: what a shadow costs its champion, what loads do to the tail, how long a rollback takes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import yaml

from assay.v1 import model_pb2 as pb
from assay.v1 import model_pb2_grpc as rpc
from benchmarks.measure import Ratio, interleave, thread_cpu_s
from benchmarks.native import all_ok
from benchmarks.processes import Server, assay_server
from benchmarks.run import Run

MESSAGES = 200_000
RUN_S = 4.0
WAIT_S = 60.0
MODEL = "trees200"
CROWD = ("--warmup", "0.5", "--connections", "4", "--streams", "16")
ROLLBACKS = 20  # in each round


def rollout(run: Run) -> list[Ratio]:
    """64 in flight on the native transport, distinct transactions, two versions of the 200 trees; the shadow is switched on and
    off in one server. The champion's CPU is that of all threads but the shadow's."""
    messages = run.material.bench_file(MESSAGES)
    cpu = Ratio("champion's CPU per 1,000, with a shadow over without", "< 1.03", "CPU s per 1,000")
    p99 = Ratio("the same, p99", "not above 1, beyond its interval", "us")
    reloads = Ratio("p99 while versions come and go over p99 without", "<= 1.5", "us")
    rollback = Ratio(f"slowest of {ROLLBACKS} rollbacks under load, ms, over 100 ms", "<= 1", "ms")
    with _server(run) as (server, models):
        models.LoadModel(pb.LoadModelRequest(model=MODEL, version="2"), timeout=WAIT_S)
        tails: tuple[list[float], list[float]] = ([], [])

        def champion_cpu(shadow_share: float, tail: list[float]) -> Callable[[], float]:
            def measure() -> float:
                models.SetShadow(pb.SetShadowRequest(model=MODEL, version="2", share=shadow_share), timeout=WAIT_S)
                before = _champion_cpu_s(server)
                step = all_ok(server.bench(messages, RUN_S, *CROWD))
                tail.append(float(step["latency_us"]["p99"]))
                if shadow_share:
                    (status,) = models.ListModels(pb.ListModelsRequest(), timeout=WAIT_S).models
                    run.report(f"the shadow compared {status.shadow.compared_rows:,} rows and shed {status.shadow.shed_rows:,}")
                # The warm-up's calls cost too; it is the same part of both sides.
                return 1000 * (_champion_cpu_s(server) - before) / (float(step["rate"]) * RUN_S)

            return measure

        interleave(cpu, champion_cpu(1.0, tails[0]), champion_cpu(0.0, tails[1]), run.pairs, run.report)
        p99.pairs = list(zip(*tails, strict=True))
        models.SetShadow(pb.SetShadowRequest(model=MODEL, version="2", share=0.0), timeout=WAIT_S)

        def tail_us(changes: Callable[[], object] | None) -> Callable[[], float]:
            def measure() -> float:
                with server.start_bench(messages, RUN_S, *CROWD) as running, _repeated(changes):
                    return float(all_ok(running())["latency_us"]["p99"])

            return measure

        interleave(reloads, tail_us(lambda: _reload(models)), tail_us(None), run.pairs, run.report)
        models.LoadModel(pb.LoadModelRequest(model=MODEL, version="2"), timeout=WAIT_S)
        for index in range(run.pairs):
            with server.start_bench(messages, RUN_S, *CROWD) as running:
                rollback.pairs.append((_slowest_rollback_ms(models), 100.0))
                all_ok(running())
            run.report(f"rollbacks: {index + 1}/{run.pairs}")
    return [cpu, p99, reloads, rollback]


# --- implementation ---


@contextmanager
def _server(run: Run) -> Iterator[tuple[Server, rpc.ModelServiceStub]]:
    """With a repository, a store and an admin socket of its own. Its guard says nothing: this load is no ordinary one."""
    root = run.material.folder / "repository"
    shutil.rmtree(root, ignore_errors=True)
    for version in ("1", "2"):
        _add_version(run.material.bundle, root / MODEL / version)
    (root / "routes.json").write_text(f'{{"format": 1, "models": {{"{MODEL}": {{"champion": "1"}}}}}}')
    snapshot = shutil.copy(run.material.snapshot, run.material.folder / "store-rollout.snapshot")
    socket = run.material.folder / "rollout.sock"
    options: tuple[str, ...] = ("--transport", "native", "--store", f"embedded:{snapshot}", "--admin-socket", str(socket))
    options += ("--set", f"audit.spool={run.material.folder / 'audit-rollout'}", "--set", "rollout.guard.window_s=0")
    with assay_server(run.material, *options, repository=root) as server, grpc.insecure_channel(f"unix:{socket}") as channel:
        yield server, rpc.ModelServiceStub(channel)  # type: ignore[no-untyped-call]


def _add_version(bundle: Path, to: Path) -> None:
    shutil.copytree(bundle, to)
    manifest = yaml.safe_load((to / "manifest.yaml").read_text())
    (to / "manifest.yaml").write_text(yaml.safe_dump({**manifest, "version": to.name}, sort_keys=False))


def _champion_cpu_s(server: Server) -> float:
    return sum(seconds for name, seconds in thread_cpu_s(server.pid) if not name.startswith("assay-shadow"))


def _reload(models: rpc.ModelServiceStub) -> None:
    """The other version comes, answers, goes."""
    models.LoadModel(pb.LoadModelRequest(model=MODEL, version="2"), timeout=WAIT_S)
    models.PromoteModel(pb.PromoteModelRequest(model=MODEL, version="2"), timeout=WAIT_S)
    models.RollbackModel(pb.RollbackModelRequest(model=MODEL), timeout=WAIT_S)
    models.UnloadModel(pb.UnloadModelRequest(model=MODEL, version="2"), timeout=WAIT_S)


@contextmanager
def _repeated(change: Callable[[], object] | None) -> Iterator[None]:
    """Again and again in the background, the last one to its end. None: nothing."""
    end = threading.Event()

    def repeat() -> None:
        while change is not None and not end.is_set():
            change()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _slowest_rollback_ms(models: rpc.ModelServiceStub) -> float:
    slowest_s = 0.0
    for _ in range(ROLLBACKS):
        models.PromoteModel(pb.PromoteModelRequest(model=MODEL, version="2"), timeout=WAIT_S)
        began_s = time.monotonic()
        models.RollbackModel(pb.RollbackModelRequest(model=MODEL), timeout=WAIT_S)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s * 1000
