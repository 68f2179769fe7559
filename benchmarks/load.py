"""Load from h2load (nghttp2): a C client that costs a fraction of what a Python client would, so that the server is the limit."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadResult:
    requests: int
    failed: int
    wall_s: float
    data_bytes_per_request: float
    latencies_us: list[int]


def frame(message: bytes) -> bytes:
    """A gRPC message on the wire: flag, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def h2load(
    port: int, method: str, message: bytes, *, requests: int, clients: int, in_flight: int, keep_latencies: bool = False
) -> LoadResult:
    """Sends `message` to a method `requests` times: `clients` connections, `in_flight` streams each. Raises if one failed."""
    program = shutil.which("h2load")
    if program is None:
        raise SystemExit("benchmarks need h2load: sudo apt-get install -y nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(frame(message))
        log = Path(folder) / "log"
        command = [program, "-n", str(requests), "-c", str(clients), "-m", str(in_flight), "-t", "1", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += ["--log-file", str(log)] if keep_latencies else []
        command += [f"http://127.0.0.1:{port}/{method}"]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        latencies = [int(line.split("\t")[2]) for line in log.read_text().splitlines()] if keep_latencies else []
    finished = re.search(r"finished in ([\d.]+)(us|ms|s),", out)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    data = re.search(r"([\d.]+)(B|KB|MB|GB) \(\d+\) data", out) or re.search(r"\((\d+)\) data", out)
    assert finished, out
    assert counts, out
    assert data, out
    wall_s = float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]
    data_bytes = int(re.search(r"\((\d+)\) data", out)[1])  # type: ignore[index]
    result = LoadResult(int(counts[1]), int(counts[2]) + int(counts[3]), wall_s, data_bytes / max(1, int(counts[1])), latencies)
    if result.failed or result.requests != requests:
        raise RuntimeError(f"{result.failed} of {requests} requests failed:\n{out}")
    return result
