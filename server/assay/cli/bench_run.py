"""One step of `assay bench run`: a load run from its start to its end, with the server's CPU time beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assay import _core
from assay.errors import ConfigError

POLL_S = 0.02  # how far the window's edges and the server's clock are apart, at most
PEM_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class TlsFiles:
    authorities: Path | None
    certificate: Path | None
    key: Path | None
    server_name: str | None

    @property
    def is_on(self) -> bool:
        return self != TlsFiles(None, None, None, None)


@dataclass(frozen=True)
class Plan:
    """What `assay bench run` was asked for."""

    target: str
    method: str
    messages: Path
    rates: tuple[float | None, ...]  # None: a closed loop
    arrivals: str
    connections: int
    streams: int
    threads: int
    duration_s: float
    warmup_s: float
    timeout_s: float
    backlog_max: int
    spin: bool
    metadata: tuple[tuple[str, str], ...]
    shuffle: bool
    seed: int
    server_pid: int | None
    tls: TlsFiles


@dataclass(frozen=True)
class StepResult:
    rate_offered: float | None  # calls a second; None: a closed loop
    load: _core.LoadResult
    message_count: int
    server_cpu_s: float | None  # of the calls below
    server_calls: int
    is_stopped: bool  # by Ctrl-C

    @property
    def failure(self) -> str:
        return self.load.failure

    @property
    def ok_count(self) -> int:
        return self.load.ok.count

    @property
    def rate(self) -> float:
        """OK answers a second."""
        return self.load.ok_in_window / self.load.duration_s if self.load.duration_s > 0 else 0.0

    @property
    def server_cpu_s_per_1000(self) -> float | None:
        return self.server_cpu_s * 1000 / self.server_calls if self.server_cpu_s is not None and self.server_calls else None


def run_step(plan: Plan, rate: float | None, show: Callable[[_core.LoadProgress], None]) -> StepResult:
    """Runs to the end, or to Ctrl-C: what was measured so far counts. Raises ValueError (wrong options or messages), OSError (the
    target)."""
    server = _ServerClock(plan.server_pid)
    run = _make_run(plan, rate)
    run.start()
    is_stopped = False
    while True:
        try:
            is_ended = run.wait(POLL_S)
            found = run.progress()
            server.look(found)
            if is_ended:
                break
            show(found)
        except KeyboardInterrupt:
            is_stopped = True
            run.stop()
    return StepResult(rate, run.result(), run.message_count, server.cpu_s, server.calls, is_stopped)


def read_tls(files: TlsFiles) -> dict[str, bytes]:
    """The PEM texts, by LoadRun's names. Raises OSError, ConfigError."""
    if not files.is_on:
        return {}
    if files.authorities is None:
        raise ConfigError("--tls-ca is missing: whom is the generator to trust?")
    if (files.certificate is None) != (files.key is None):
        raise ConfigError("--tls-certificate and --tls-key go together; give both (mTLS) or neither")
    named = {"tls_authorities": files.authorities, "tls_certificate": files.certificate, "tls_key": files.key}
    return {name: _read_pem(path) for name, path in named.items() if path is not None}


# --- implementation ---


def _make_run(plan: Plan, rate: float | None) -> _core.LoadRun:
    pem = read_tls(plan.tls)
    return _core.LoadRun(
        target=plan.target,
        method=plan.method,
        messages=str(plan.messages),
        threads=plan.threads,
        connections=plan.connections,
        streams=plan.streams,
        arrivals=_core.LOAD_ARRIVALS["closed" if rate is None else plan.arrivals],
        rate_per_s=rate or 0.0,
        backlog_max=plan.backlog_max,
        spin=plan.spin,
        warm_up_s=plan.warmup_s,
        duration_s=plan.duration_s,
        timeout_s=plan.timeout_s,
        shuffle=plan.shuffle,
        seed=plan.seed,
        metadata=plan.metadata,
        tls=plan.tls.is_on,
        tls_authorities=pem.get("tls_authorities", b""),
        tls_certificate=pem.get("tls_certificate", b""),
        tls_key=pem.get("tls_key", b""),
        tls_server_name=plan.tls.server_name or "",
    )


def _read_pem(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(PEM_BYTES_MAX + 1)
    if len(data) > PEM_BYTES_MAX:
        raise ConfigError(f"{path}: not a PEM file: longer than {PEM_BYTES_MAX:,} bytes")
    return data


class _ServerClock:
    """CPU time of the server between two looks at it, and how many calls ended between them."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._start: tuple[float, int] | None = None
        self._end: tuple[float, int] | None = None
        if pid is not None and _cpu_s(pid) is None:
            raise ValueError(f"--server-pid {pid}: no such process on this machine, or not yours to look at")

    def look(self, found: _core.LoadProgress) -> None:
        """To be called often: it takes the first look of the window, and its last."""
        if self._pid is None or found.phase not in ("measuring", "draining", "ended") or self._end is not None:
            return
        cpu_s = _cpu_s(self._pid)
        if cpu_s is None:  # it has ended; the calls say so
            return
        if self._start is None:
            self._start = cpu_s, found.ended
        elif found.phase != "measuring":
            self._end = cpu_s, found.ended

    @property
    def cpu_s(self) -> float | None:
        return None if self._start is None or self._end is None else self._end[0] - self._start[0]

    @property
    def calls(self) -> int:
        return 0 if self._start is None or self._end is None else self._end[1] - self._start[1]


def _cpu_s(pid: int) -> float | None:
    """User and system time of all threads, those that have ended included."""
    try:
        # The name in the second field may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
