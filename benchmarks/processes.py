"""Servers under measurement: each a process of its own on a free loopback port, ended when the benchmark is."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import h2load, varied_load
from benchmarks.material import Material
from benchmarks.measure import Sample, process_cpu_s

SCORE = "assay.v1.ScoringService/Score"
SCORE_BATCH = "assay.v1.ScoringService/ScoreBatch"
MODEL_INFER = "inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Server:
    pid: int
    port: int
    ready_s: float  # from exec to the first word that it serves

    def load(self, method: str, message: bytes, *, requests: int, clients: int, in_flight: int, rows: int = 1) -> Sample:
        """Runs h2load and charges the server's CPU time to it. Work counts rows."""
        cpu_s = process_cpu_s(self.pid)
        result = h2load(self.port, method, message, requests=requests, clients=clients, in_flight=in_flight)
        return Sample(result.requests * rows, result.wall_s, process_cpu_s(self.pid) - cpu_s)

    def varied_load(self, method: str, messages: Path, *, requests: int, clients: int, in_flight: int) -> Sample:
        """The same with distinct messages."""
        cpu_s = process_cpu_s(self.pid)
        result = varied_load(self.port, method, messages, requests=requests, clients=clients, in_flight=in_flight)
        return Sample(result.requests, result.wall_s, process_cpu_s(self.pid) - cpu_s)

    def bench(self, messages: Path, seconds: float, *options: str) -> dict[str, Any]:
        """Runs `assay bench run`, in a closed loop unless `options` say otherwise: the one step of its JSON document."""
        with self.start_bench(messages, seconds, *options) as running:
            return running()

    @contextmanager
    def start_bench(self, messages: Path, seconds: float, *options: str) -> Iterator[Callable[[], dict[str, Any]]]:
        """The same in the background. Calling what is given waits for the step."""
        command = [sys.executable, "-m", "assay", "bench", "run", f"127.0.0.1:{self.port}", "--messages", str(messages), "--json"]
        command += ["--duration", str(seconds), "--server-pid", str(self.pid), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

            def wait() -> dict[str, Any]:
                out, errors = process.communicate(timeout=seconds + 120)
                if process.returncode != 0:
                    raise RuntimeError(f"{' '.join(command)} failed:\n{errors}")
                (step,) = json.loads(out)["steps"]
                found: dict[str, Any] = step
                return found

            try:
                yield wait
            finally:
                process.terminate()

    def latency_us_p50(self, method: str, messages: Path, requests: int) -> float:
        """Of distinct messages, one at a time."""
        result = varied_load(self.port, method, messages, requests=requests, clients=1, in_flight=1)
        assert result.latencies_us
        return statistics.median(result.latencies_us)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def assay_server(
    material: Material, *options: str, bundle: Path | None = None, repository: Path | None = None
) -> Iterator[Server]:
    """assay with a bundle (default: the 200 trees) or a repository, and the demo's history, on default settings: scores are
    recorded, at level spool."""
    command = [
        "serve",
        *(("--repository", str(repository)) if repository else ("--model", str(bundle or material.bundle))),
        "--store",
        f"embedded:{material.snapshot}",
        "--admin-socket",
        "off",
        "--set",
        f"audit.spool={material.folder / 'audit'}",
        "--set",
        "audit.sink=none",
    ]
    with _server(
        [sys.executable, "-m", "assay", *command, "--listen", "127.0.0.1:0", "--drain-delay", "0", "--json", *options]
    ) as server:
        yield server


@contextmanager
def on_core(index: int) -> Iterator[None]:
    """What this thread starts meanwhile has one core, the index-th of those that there are."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def grpcio_server(material: Material, *options: str) -> AbstractContextManager[Server]:
    """The same on the grpcio transport."""
    return assay_server(material, "--transport", "grpcio", *options)


@contextmanager
def empty_server(response: Path) -> Iterator[Server]:
    """grpc.aio with an empty handler that answers the bytes of `response`."""
    port = free_port()
    with _server([sys.executable, "-m", "benchmarks.servers.empty", str(port), str(response)], port) as server:
        yield server


@contextmanager
def hand_written_server(material: Material, features: Path) -> Iterator[Server]:
    """grpc.aio + google.protobuf + session.run."""
    port = free_port()
    model = str(material.bundle / "model.onnx")
    with _server([sys.executable, "-m", "benchmarks.servers.hand_written", str(port), model, str(features)], port) as server:
        yield server


@contextmanager
def torch_server(python: Path, environment: Mapping[str, str], model: Path, rows: Path, mode: str) -> Iterator[Server]:
    """grpc.aio + google.protobuf + a PyTorch module a request, in PyTorch's own environment (servers/torch_mlp.py)."""
    port = free_port()
    command = [str(python), "-m", "benchmarks.servers.torch_mlp", str(port), str(model), str(rows), mode]
    with _server(command, port, environment=environment) as server:
        yield server


@contextmanager
def bare_echo(response: Path) -> Iterator[Server]:
    """nghttp2 and nothing else, answering the bytes of `response` (servers/bare_echo.cc)."""
    source = Path(__file__).parent / "servers" / "bare_echo.cc"
    program = response.parent / "bare_echo"
    subprocess.run(["g++", "-std=c++17", "-O2", str(source), "-o", str(program), "-lnghttp2"], check=True)
    with _server([str(program), str(response)], says_port=True) as server:
        yield server


@contextmanager
def otlp_sink() -> Iterator[Server]:
    """A collector that throws spans away."""
    port = free_port()
    with _server([sys.executable, "-m", "benchmarks.servers.otlp_sink", str(port)], port) as server:
        yield server


@contextmanager
def abuser(victim: Server, flood: str) -> Iterator[Server]:
    """A client that floods a server (servers/abuser.py)."""
    with _server([sys.executable, "-m", "benchmarks.servers.abuser", str(victim.port), flood], victim.port) as server:
        yield server


@contextmanager
def scraped(port: int, interval_s: float) -> Iterator[None]:
    """Somebody reads /metrics all the while."""
    is_done = threading.Event()

    def scrape() -> None:
        while not is_done.wait(interval_s):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


@contextmanager
def _server(
    command: list[str], port: int | None = None, *, says_port: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if says_port:
                port = int(said)
            elif port is None:  # assay says where it listens, as JSON
                while said and not said.endswith("\n}\n"):
                    line = process.stdout.readline()
                    if not line:
                        raise RuntimeError(f"{' '.join(command)} did not start: {said}")
                    said += line
                port = int(json.loads(said)["listen"].rsplit(":", 1)[1])
            elif not said:
                raise RuntimeError(f"{' '.join(command)} did not start")
            yield Server(process.pid, port, time.monotonic() - start)
        finally:
            process.terminate()
            process.wait(60)
