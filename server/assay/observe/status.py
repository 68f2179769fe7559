"""How the server is: gathered from its parts when somebody asks, and every minute for the log.

A part says how it is by a source of checks: `board.add(lambda: [Check("store", "away", is_ok=False)])`. The status line, `assay
status` and GetStatus show them all.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from assay._core import EngineMetrics, EngineStats
from assay.observe.latencies import FineCounts, fine_counts, quantile_s, since, together
from assay.observe.logs import log_event

WINDOW_S = 60.0
LOOK_INTERVAL_S = 5.0  # between two looks that are kept: the window is as exact as this

log = logging.getLogger("assay")


class State(enum.Enum):
    """Whether calls are taken."""

    NOT_SERVING = "not serving"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True)
class Check:
    """What one part of the server says of itself. `name` and `value` are ours: nothing that a client chose."""

    name: str
    value: str
    is_ok: bool = True


CheckSource = Callable[[], Iterable[Check]]


@dataclass(frozen=True)
class ModelIdentity:
    model: str
    version: str
    sha256: str
    device: str


@dataclass(frozen=True)
class Identity:
    """What runs here."""

    assay: str = ""
    python: str = ""
    onnxruntime: str = ""
    cuda_build: str = ""  # 12 or 13; empty: for the CPU
    driver: str = ""
    models: Sequence[ModelIdentity] = ()


@dataclass(frozen=True)
class ModelStatus:
    identity: ModelIdentity
    scores: int  # rows answered since the start
    rows_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class ServerStatus:
    """One look. Rates and percentiles are of the last `window_s`."""

    state: State
    identity: Identity
    started_at_s: float  # wall clock
    pid: int
    window_s: float
    rows_per_s: float
    p50_s: float | None
    p99_s: float | None
    queued_rows: int
    slots_used: int
    slots: int
    models: Sequence[ModelStatus]
    checks: Sequence[Check] = field(default=())

    @property
    def is_healthy(self) -> bool:
        return self.state is State.SERVING and all(check.is_ok for check in self.checks)


class EngineNumbers(Protocol):
    """The core's: assay._core.Engine."""

    def stats(self) -> EngineStats: ...
    def metrics(self) -> EngineMetrics: ...


class StatusBoard:
    """Where parts say how they are. Thread-safe. Clocks are for tests."""

    def __init__(
        self,
        engine: EngineNumbers,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = State.NOT_SERVING
        self.identity = Identity()
        self.find_models: Callable[[], Sequence[ModelIdentity]] | None = None  # where they change: what is loaded now
        self._engine = engine
        self._clock = clock
        self._started_s, self._started_at_s = clock(), wall_clock()
        self._sources: list[CheckSource] = []
        self._lock = threading.Lock()
        # Histograms as they were; as many as make a window, and the first is what the window is counted from.
        self._looks: deque[_Look] = deque([_Look(self._started_s, {})], maxlen=int(WINDOW_S / LOOK_INTERVAL_S) + 1)

    def add(self, source: CheckSource) -> None:
        """One more part that says how it is. Any time."""
        self._sources.append(source)

    def keep_look(self) -> None:
        """Every LOOK_INTERVAL_S: percentiles are counted from one of these."""
        look = self._look(self._engine.metrics())
        with self._lock:
            self._looks.append(look)

    def status(self) -> ServerStatus:
        """How the server is now."""
        metrics, stats = self._engine.metrics(), self._engine.stats()
        now = self._look(metrics)
        with self._lock:
            before = self._looks[0]
        window_s = max(now.at_s - before.at_s, 1e-9)
        identity = self.identity
        if self.find_models is not None:
            identity = replace(identity, models=tuple(self.find_models()))
        identities = {(model.model, model.version): model for model in identity.models}
        added = {key: since(counts, before.counts.get(key, {})) for key, counts in now.counts.items()}
        models = [
            ModelStatus(
                identities.get(key, ModelIdentity(*key, "", "")),
                sum(now.counts[key].values()),
                sum(counts.values()) / window_s,
                quantile_s(counts, 0.5),
                quantile_s(counts, 0.99),
            )
            for key, counts in added.items()
        ]
        order = {key: index for index, key in enumerate(identities)}
        models.sort(key=lambda model: order.get((model.identity.model, model.identity.version), len(order)))
        total = together(added.values())
        return ServerStatus(
            self.state,
            identity,
            self._started_at_s,
            os.getpid(),
            window_s,
            sum(total.values()) / window_s,
            quantile_s(total, 0.5),
            quantile_s(total, 0.99),
            stats.queued_rows,
            stats.slots_used,
            stats.slots,
            models,
            tuple(self._checks()),
        )

    # --- implementation ---

    def _look(self, metrics: EngineMetrics) -> _Look:
        return _Look(self._clock(), {(lane.model, lane.version): fine_counts(lane.inference) for lane in metrics.lanes})

    def _checks(self) -> Iterable[Check]:
        for source in tuple(self._sources):
            try:
                yield from source()
            except Exception:  # one that cannot say how it is must not silence the others
                log.exception("a check failed")
                yield Check(getattr(source, "__name__", "check"), "cannot be had", is_ok=False)


def log_status(status: ServerStatus) -> None:
    """One line: `status`, as the log has it every minute."""
    log_event(log, logging.INFO if status.is_healthy else logging.WARNING, "status", **status_fields(status))


def status_fields(status: ServerStatus) -> dict[str, Any]:
    """The fields of that line. Times are milliseconds."""
    identity = status.identity
    return {
        "status": status.state.value if status.is_healthy or status.state is not State.SERVING else "degraded",
        "models": ",".join(f"{model.identity.model} {model.identity.version}" for model in status.models) or None,
        "assay": identity.assay or None,
        "python": identity.python or None,
        "onnxruntime": identity.onnxruntime or None,
        "cuda": identity.cuda_build or None,
        "driver": identity.driver or None,
        "p50_ms": _ms(status.p50_s),
        "p99_ms": _ms(status.p99_s),
        "rows_per_s": round(status.rows_per_s, 1),
        "queued_rows": status.queued_rows,
        "slots_used": status.slots_used,
        **{check.name: check.value for check in status.checks},
        "failing": ",".join(check.name for check in status.checks if not check.is_ok) or None,
    }


# --- implementation ---


@dataclass(frozen=True)
class _Look:
    at_s: float
    counts: dict[tuple[str, str], FineCounts]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
