"""How a ratio is measured on a noisy machine: interleaved pairs, CPU time, a 95 % interval, a probe that voids disturbed runs."""

from __future__ import annotations

import math
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STALL_MS_MAX = 5.0
# Two-sided 95 % quantiles of Student's t for n - 1 = 1..30 degrees of freedom; beyond that 1.96 is close enough.
T_95 = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09]
T_95 += [2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04]


@dataclass(frozen=True)
class Sample:
    """One run of one side: work done, how long it took and what the measured process burnt for it."""

    work: float  # requests or rows
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.work / self.wall_s

    @property
    def work_per_cpu_s(self) -> float:
        return self.work / self.cpu_s


@dataclass
class Ratio:
    """a over b, from interleaved pairs: geometric mean with its 95 % interval."""

    name: str
    budget: str
    unit: str
    pairs: list[tuple[float, float]] = field(default_factory=list)
    void_count: int = 0

    @property
    def logs(self) -> list[float]:
        return [math.log(a / b) for a, b in self.pairs]

    @property
    def value(self) -> float:
        return math.exp(statistics.fmean(self.logs))

    @property
    def interval(self) -> tuple[float, float]:
        if len(self.pairs) < 2:
            return self.value, self.value
        freedom = len(self.pairs) - 1
        half = (T_95[freedom - 1] if freedom <= len(T_95) else 1.96) * statistics.stdev(self.logs) / math.sqrt(len(self.pairs))
        centre = statistics.fmean(self.logs)
        return math.exp(centre - half), math.exp(centre + half)

    def as_dict(self) -> dict[str, object]:
        low, high = self.interval
        return {
            "name": self.name,
            "budget": self.budget,
            "ratio": round(self.value, 4),
            "interval_95": [round(low, 4), round(high, 4)],
            "pairs": len(self.pairs),
            "void_runs": self.void_count,
            "unit": self.unit,
            "median_a": round(statistics.median(a for a, _ in self.pairs), 2),
            "median_b": round(statistics.median(b for _, b in self.pairs), 2),
        }


def interleave(ratio: Ratio, a: Callable[[], float], b: Callable[[], float], pairs: int, report: Callable[[str], None]) -> Ratio:
    """Runs a, b, b, a, ... until `pairs` undisturbed pairs are in. A pair in which the probe saw a stall over 5 ms is void; after
    as many void pairs as asked for, the rest counts as it is and void_count says so."""
    while len(ratio.pairs) < pairs:
        order = (a, b) if len(ratio.pairs) % 2 == 0 else (b, a)
        with StallProbe() as probe:
            first, second = order[0](), order[1]()
        if probe.stall_ms > STALL_MS_MAX and ratio.void_count < pairs:
            ratio.void_count += 1
            continue
        ratio.pairs.append((first, second) if order[0] is a else (second, first))
        report(f"{ratio.name}: pair {len(ratio.pairs)}/{pairs}, ratio so far {ratio.value:.3f}")
    return ratio


def in_rounds(sides: Mapping[str, Callable[[], T]], rounds: int, report: Callable[[str], None]) -> list[dict[str, T]]:
    """More than two sides beside each other: in each round each runs once, in an order that turns. Rounds with a stall are void
    as pairs are."""
    names, found, void_count = list(sides), [], 0
    while len(found) < rounds:
        first = len(found) % len(names)
        with StallProbe() as probe:
            measured = {name: sides[name]() for name in names[first:] + names[:first]}
        if probe.stall_ms > STALL_MS_MAX and void_count < rounds:
            void_count += 1
            continue
        found.append(measured)
        report(f"{', '.join(names)}: round {len(found)}/{rounds}")
    return found


class StallProbe:
    """Looks for time that the machine took from us: a real-time thread that sleeps 1 ms and watches how late it wakes. Where the
    process may not have a real-time thread, the hypervisor's stolen time is taken instead."""

    def __enter__(self) -> StallProbe:
        self.stall_ms = 0.0
        self._stop = threading.Event()
        self._steal_start = stolen_s()
        self._is_realtime = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._is_realtime:
            self.stall_ms = 1000.0 * (stolen_s() - self._steal_start)

    def _watch(self) -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
            self._is_realtime = True
        except (PermissionError, OSError):
            return
        while not self._stop.is_set():
            start = time.monotonic()
            time.sleep(0.001)
            self.stall_ms = max(self.stall_ms, 1000.0 * (time.monotonic() - start) - 1.0)


def stolen_s() -> float:
    """CPU seconds that the hypervisor gave to others, over all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def process_cpu_s(pid: int) -> float:
    """CPU seconds of a process's threads so far."""
    return sum(seconds for _, seconds in thread_cpu_s(pid))


def thread_cpu_s(pid: int) -> list[tuple[str, float]]:
    """(name, CPU seconds so far) of each thread of a process, to the nanosecond (10 ms ticks of stat are too coarse for short
    runs). Those that ended meanwhile are left out."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.append(((task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0]) * 1e-9))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def process_rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def machine() -> dict[str, object]:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
