"""NVIDIA's management library for tests: cards that say what they are told to say, errors that come when they are told to."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class FakeError(Exception):
    """As pynvml.NVMLError."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@dataclass
class FakeCard:
    utilization: int = 42
    memory_used: int = 3 << 30
    memory_total: int = 80 << 30
    temperature: int = 61
    slowdown: int = 92
    throttled: int = 0x1  # idle
    is_lost: bool = False
    has_events: bool = True
    missing: set[str] = field(default_factory=set)  # questions that this card does not know


class FakeNvml:
    """Stands in for the module pynvml. A handle is the card's index."""

    NVMLError = FakeError
    NVML_ERROR_TIMEOUT = 10
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    nvmlEventTypeXidCriticalError = 8  # noqa: N815 (NVML's name)

    def __init__(self, *cards: FakeCard, has_driver: bool = True) -> None:
        self.cards = cards
        self.has_driver = has_driver
        self.reads = 0
        self.is_shut_down = False
        self.may_answer = threading.Event()  # cleared: the driver hangs
        self.may_answer.set()
        self._events: queue.Queue[Any] = queue.Queue()

    def report_xid(self, card: int, xid: int) -> None:
        self._events.put(SimpleNamespace(device=card, eventType=8, eventData=xid))

    # --- what gpu.py calls

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.has_driver:
            raise FakeError(12)

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_shut_down = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetIndex(self, handle: int) -> int:  # noqa: N802
        self._card(handle, "index")
        return handle

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        self.reads += 1
        return SimpleNamespace(gpu=self._card(handle, "utilization").utilization)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        card = self._card(handle, "memory")
        return SimpleNamespace(used=card.memory_used, total=card.memory_total)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._card(handle, "temperature").temperature

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, threshold: int) -> int:  # noqa: N802
        assert threshold == self.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        return self._card(handle, "slowdown").slowdown

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802 (the only name in older ones)
        return self._card(handle, "throttled").throttled

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        return self

    def nvmlDeviceRegisterEvents(self, handle: int, kinds: int, events: object) -> None:  # noqa: N802
        assert (kinds, events) == (8, self)
        if not self.cards[handle].has_events:
            raise FakeError(3)

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:  # noqa: N802
        assert events is self
        try:
            return self._events.get(timeout=timeout_ms / 1e3)
        except queue.Empty:
            raise FakeError(self.NVML_ERROR_TIMEOUT) from None

    def _card(self, handle: int, question: str) -> FakeCard:
        self.may_answer.wait()
        card = self.cards[handle]
        if card.is_lost or question in card.missing:
            raise FakeError(15 if card.is_lost else 3)
        return card
