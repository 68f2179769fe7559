"""Load from a process of its own: h2load (nghttp2) for one message over and over, varied_load.py for distinct ones."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadResult:
    requests: int
    failed: int
    wall_s: float
    latencies_us: list[int] | None = None  # of each request; h2load keeps none


def grpc_frame(message: bytes) -> bytes:
    """A gRPC message on the wire: flag, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def h2load(port: int, method: str, message: bytes, *, requests: int, clients: int, in_flight: int) -> LoadResult:
    """Sends `message` to a method `requests` times: `clients` connections, `in_flight` streams each. Raises if one failed."""
    program = shutil.which("h2load")
    if program is None:
        raise SystemExit("benchmarks need h2load: sudo apt-get install -y nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(grpc_frame(message))
        command = [program, "-n", str(requests), "-c", str(clients), "-m", str(in_flight), "-t", "1", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += [f"http://127.0.0.1:{port}/{method}"]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    finished = re.search(r"finished in ([\d.]+)(us|ms|s),", out)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert finished, out
    assert counts, out
    wall_s = float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]
    result = LoadResult(int(counts[1]), int(counts[2]) + int(counts[3]), wall_s)
    if result.failed or result.requests != requests:
        raise RuntimeError(f"{result.failed} of {requests} requests failed:\n{out}")
    return result


def varied_load(port: int, method: str, messages: Path, *, requests: int, clients: int, in_flight: int) -> LoadResult:
    """Sends the messages of a file (varied_load.write_messages) in turn. Raises if one failed."""
    command = [sys.executable, "-m", "benchmarks.varied_load", str(port), method, str(messages)]
    command += ["--requests", str(requests), "--clients", str(clients), "--in-flight", str(in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} of {requests} requests failed")
    return LoadResult(found["succeeded"], 0, found["wall_s"], found["latencies_us"])
