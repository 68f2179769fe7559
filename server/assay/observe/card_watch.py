"""Cards that models run on: what happened to them, told in the log once, as checks, and as families of /metrics.

A thread looks at the core's counts once a second. STATES of a card: in use -> hot -> in use (at `hot_celsius`, and back at
`cool_celsius`); any -> dead, which is for ever and is told to `on_dead` once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from assay._core import Card, CardStats
from assay.observe.logs import log_event
from assay.observe.status import Check

if TYPE_CHECKING:
    from prometheus_client.core import Metric

INTERVAL_S = 1.0
FAULT_LOG_LOOKS = 60  # one line of faults in so many looks

log = logging.getLogger("assay.card")


class CardWatch:
    """look() is one look; start() has a thread do it. `temperatures`: of each card by its CUDA index, None where nobody knows."""

    def __init__(
        self,
        cards: Mapping[int, Card],
        temperatures: Callable[[int], int | None],
        *,
        hot_celsius: int,
        cool_celsius: int,
        on_dead: Callable[[], None],
        on_heat: Callable[[bool], None],
    ) -> None:
        self._cards = cards
        self._temperatures = temperatures
        self._hot_celsius, self._cool_celsius = hot_celsius, cool_celsius
        self._on_dead, self._on_heat = on_dead, on_heat
        self._hot: set[int] = set()
        self._dead: set[int] = set()
        self._told: dict[int, tuple[int, int]] = {}  # faults that were told of, and in which look
        self._looks = 0
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assay-cards", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        self._looks += 1
        for index, card in list(self._cards.items()):
            stats = card.stats()
            self._tell_faults(index, stats)
            if stats.is_dead and index not in self._dead:
                self._dead.add(index)
                log_event(log, logging.ERROR, "a card is lost for this process; the CPU scores", card=index, why=stats.why)
                self._on_dead()
            self._judge_heat(index, card)

    def checks(self) -> Iterator[Check]:
        for index, card in list(self._cards.items()):
            stats = card.stats()
            reduced = any(use.rows < use.rows_max for use in stats.uses)
            value = "dead" if stats.is_dead else "hot" if stats.is_hot else "smaller batches" if reduced else "in use"
            yield Check(f"card_{index}", value, is_ok=value == "in use")

    def families(self) -> Iterable[Metric]:
        return card_families({index: card.stats() for index, card in list(self._cards.items())})

    # --- implementation

    def _run(self) -> None:
        while not self._is_closing.wait(INTERVAL_S):
            try:
                self.look()
            except Exception:  # a look that fails must not be the last
                log.exception("a look at the cards failed")

    def _tell_faults(self, index: int, stats: CardStats) -> None:
        count = sum(stats.faults.values())
        told, looked = self._told.get(index, (0, -FAULT_LOG_LOOKS))
        if count > told and self._looks - looked >= FAULT_LOG_LOOKS:
            self._told[index] = (count, self._looks)
            faults = {name: n for name, n in stats.faults.items() if n}
            log_event(log, logging.WARNING, "a card had faults", card=index, newest=stats.last_fault, **faults)

    def _judge_heat(self, index: int, card: Card) -> None:
        celsius = self._temperatures(index)
        is_hot = index in self._hot
        if celsius is None or (celsius > self._cool_celsius if is_hot else celsius < self._hot_celsius):
            return
        before = bool(self._hot)
        (self._hot.discard if is_hot else self._hot.add)(index)
        card.set_hot(not is_hot)
        message = "a card has cooled down and takes batches again" if is_hot else "a card is too hot: the CPU scores"
        log_event(log, logging.WARNING, message, card=index, celsius=celsius)
        if bool(self._hot) != before:
            self._on_heat(bool(self._hot))


def card_families(cards: Mapping[int, CardStats]) -> Iterator[Metric]:
    """Nothing where no model runs on a card."""
    if not cards:
        return
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    dead = GaugeMetricFamily("assay_card_dead", "1 when the card is lost for this process", labels=("card",))
    hot = GaugeMetricFamily("assay_card_hot", "1 while the card is too warm to be given batches", labels=("card",))
    faults = CounterMetricFamily("assay_card_faults", "What went wrong with a card, by kind", labels=("card", "fault"))
    rows = CounterMetricFamily("assay_card_cpu_rows", "Rows that the CPU ran for a card, by cause", labels=("card", "cause"))
    caps = GaugeMetricFamily(
        "assay_card_batch_rows_limit", "Rows that a card is given at once now; 0: none", labels=("card", "model", "version")
    )
    most = GaugeMetricFamily(
        "assay_card_batch_rows_max", "Rows that it is given at once when nothing is wrong", labels=("card", "model", "version")
    )
    for index, stats in cards.items():
        card = str(index)
        dead.add_metric((card,), float(stats.is_dead))
        hot.add_metric((card,), float(stats.is_hot))
        for name, count in stats.faults.items():
            faults.add_metric((card, name), count)
        for name, count in stats.cpu_rows.items():
            rows.add_metric((card, name), count)
        lowest = {(use.model, use.version): use for use in sorted(stats.uses, key=lambda use: -use.rows)}
        for (model, version), use in lowest.items():
            caps.add_metric((card, model, version), use.rows)
            most.add_metric((card, model, version), use.rows_max)
    yield from (dead, hot, faults, rows, caps, most)
