"""NVIDIA cards as NVML sees them: load, memory, heat, what holds the clocks down, and errors (XID).

Needs the package nvidia-ml-py (the extras gpu and gpu-cu12 bring it) and a driver; where either is missing there are no such
metrics and no line about it. A thread of its own asks, every few seconds: a driver that hangs or a card that is lost costs no
scrape more than what was known of that card. XID errors are events that the driver reports: the thread waits for them between
two readings, so none is missed, and a card whose driver reports none (some virtual ones) has no counter.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from assay.observe.logs import log_event

INTERVAL_S = 5.0
AGE_S_MAX = 3 * INTERVAL_S  # a reading that is older says nothing: the driver hangs
XID_LOG_S = 60.0  # one line for each card and error in this time

log = logging.getLogger("assay.gpu")


def load_nvml() -> Any | None:
    """NVIDIA's bindings of NVML, if they are installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


@dataclass(frozen=True)
class Reading:
    """One card at one moment. What the driver did not tell is None."""

    utilization_ratio: float | None
    memory_used_bytes: int | None
    memory_limit_bytes: int | None
    temperature_celsius: int | None
    slowdown_celsius: int | None  # at which the card slows itself down
    throttled: int | None  # bits of THROTTLE_REASONS

    @property
    def is_lost(self) -> bool:
        """Whether the driver told nothing at all."""
        return self == _NOTHING


# NVML's bits of nvmlDeviceGetCurrentClocksEventReasons that hold a busy card down. (Idle, and clocks that somebody set, are no
# trouble.)
THROTTLE_REASONS: Mapping[str, int] = {
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}


class GpuWatch:
    """Watches from its making until close(). `nvml`: what load_nvml() gives, or what stands in for it."""

    def __init__(self, nvml: Any, *, interval_s: float = INTERVAL_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._interval_s = interval_s
        self._now_s = now_s
        self._is_closing = threading.Event()
        self._events: Any | None = None  # NVML's set of events
        self._handles: dict[str, Any] = {}
        self._readings: dict[str, Reading] = {}
        self._read_at_s = 0.0
        self._xids: Counter[str] = Counter()
        self._xid_logged_s: dict[tuple[str, int], float] = {}
        self._thread = threading.Thread(target=self._run, name="assay-gpu", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the thread unless the driver hangs."""
        self._is_closing.set()
        self._thread.join(2 * _WAIT_MS / 1e3)

    def readings(self) -> Mapping[str, Reading]:
        """The newest of each card. Nothing until the first one. Never asks the driver, never raises."""
        readings = self._readings
        is_old = self._now_s() - self._read_at_s > AGE_S_MAX
        return dict.fromkeys(readings, _NOTHING) if is_old else readings

    def families(self) -> Iterator[Metric]:
        """Nothing until the first reading. Never asks the driver, never raises."""
        readings = self.readings()
        if not readings:
            return
        lost = GaugeMetricFamily("assay_gpu_lost", "1 while the driver tells nothing about the card", labels=("gpu",))
        throttled = GaugeMetricFamily(
            "assay_gpu_throttled", "1 while this holds the card's clocks down", labels=("gpu", "reason")
        )
        for gpu, reading in readings.items():
            lost.add_metric((gpu,), float(reading.is_lost))
            for reason, bit in THROTTLE_REASONS.items() if reading.throttled is not None else ():
                throttled.add_metric((gpu, reason), float(bool((reading.throttled or 0) & bit)))
        yield lost
        for name, text, attribute in _GAUGES:
            family = GaugeMetricFamily(name, text, labels=("gpu",))
            for gpu, reading in readings.items():
                if (value := getattr(reading, attribute)) is not None:
                    family.add_metric((gpu,), value)
            yield family
        yield throttled
        xids = CounterMetricFamily("assay_gpu_xid_errors", "Errors (XID) that the driver reported of the card", labels=("gpu",))
        for gpu, count in list(self._xids.items()):
            xids.add_metric((gpu,), count)
        yield xids

    # --- implementation: all of it is the thread's

    def _run(self) -> None:
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:  # no driver, or none that can be asked
            log.debug("no GPU metrics: %s", error)
            return
        try:
            self._find_cards()
            while self._handles and not self._is_closing.is_set():
                readings = {gpu: self._read(handle) for gpu, handle in self._handles.items()}
                self._read_at_s = self._now_s()
                self._readings = readings
                self._wait()
        except Exception:  # of bindings and a driver that do not fit each other
            log.exception("GPU metrics ended")
        finally:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _find_cards(self) -> None:
        for index in range(self._nvml.nvmlDeviceGetCount()):
            with suppress(self._nvml.NVMLError):
                self._handles[str(index)] = self._nvml.nvmlDeviceGetHandleByIndex(index)
        with suppress(self._nvml.NVMLError):
            self._events = self._nvml.nvmlEventSetCreate()
        for gpu, handle in self._handles.items() if self._events is not None else ():
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlDeviceRegisterEvents(handle, self._nvml.nvmlEventTypeXidCriticalError, self._events)
                self._xids[gpu] = 0

    def _read(self, handle: Any) -> Reading:
        nvml = self._nvml

        def ask(question: str, *arguments: Any) -> Any | None:
            try:
                return getattr(nvml, question)(handle, *arguments)
            except (nvml.NVMLError, AttributeError):  # not of this card, this driver or these bindings; or the card is lost
                return None

        rates = ask("nvmlDeviceGetUtilizationRates")
        memory = ask("nvmlDeviceGetMemoryInfo")
        # The second name is what older drivers and bindings have.
        throttled = ask("nvmlDeviceGetCurrentClocksEventReasons")
        return Reading(
            utilization_ratio=rates.gpu / 100 if rates is not None else None,
            memory_used_bytes=memory.used if memory is not None else None,
            memory_limit_bytes=memory.total if memory is not None else None,
            temperature_celsius=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            slowdown_celsius=ask("nvmlDeviceGetTemperatureThreshold", nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            throttled=ask("nvmlDeviceGetCurrentClocksThrottleReasons") if throttled is None else throttled,
        )

    def _wait(self) -> None:
        """Until the next reading; counts the errors that come meanwhile."""
        until_s = self._now_s() + self._interval_s
        while not self._is_closing.is_set() and (left_s := until_s - self._now_s()) > 0:
            if not self._xids:
                self._is_closing.wait(left_s)
                continue
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, max(1, min(int(left_s * 1e3), _WAIT_MS)))
            except self._nvml.NVMLError as error:
                # Nothing came, as a rule. Anything else comes at once, again and again: the driver is not to be asked in a
                # circle.
                if getattr(error, "value", None) != getattr(self._nvml, "NVML_ERROR_TIMEOUT", None):
                    self._is_closing.wait(left_s)
                continue
            self._count_xid(event)

    def _count_xid(self, event: Any) -> None:
        try:
            gpu = str(self._nvml.nvmlDeviceGetIndex(event.device))
        except self._nvml.NVMLError:  # it is lost
            gpu = next(iter(self._handles)) if len(self._handles) == 1 else "unknown"
        self._xids[gpu] += 1
        key, now_s = (gpu, int(event.eventData)), self._now_s()
        if now_s - self._xid_logged_s.get(key, -XID_LOG_S) >= XID_LOG_S and len(self._xid_logged_s) < _XID_KINDS_MAX:
            self._xid_logged_s[key] = now_s
            log_event(log, logging.WARNING, "the driver reports an error of a GPU", gpu=gpu, xid=key[1])


# --- implementation ---

_NOTHING = Reading(None, None, None, None, None, None)
_WAIT_MS = 500  # close() waits for this
_XID_KINDS_MAX = 4096
_GAUGES = (
    ("assay_gpu_utilization_ratio", "Part of the time in which the card was busy", "utilization_ratio"),
    ("assay_gpu_memory_used_bytes", "Memory of the card in use, by whatever process", "memory_used_bytes"),
    ("assay_gpu_memory_limit_bytes", "Memory of the card", "memory_limit_bytes"),
    ("assay_gpu_temperature_celsius", "Temperature of the card", "temperature_celsius"),
    ("assay_gpu_slowdown_temperature_celsius", "Temperature at which the card slows itself down", "slowdown_celsius"),
)
