"""The one hop of Python on the way of a score, and only where the store is remote: keys out, records in, a batch at a time.

What each row may wait, and what becomes of it when the store gives nothing, the core decides (ext/core/serving/lookups.h).
"""

from __future__ import annotations

import logging
import threading

from assay._core import Engine, LookupBatch
from assay.features.store import Fetch

log = logging.getLogger("assay.store")

ROWS_MAX = 256  # of one hop


class LookupThreads:
    """Threads that fetch what the engine asks for. Start once; they end when the engine stops."""

    def __init__(self, engine: Engine, fetch: Fetch, count: int) -> None:
        self._engine = engine
        self._fetch = fetch
        self._threads = [threading.Thread(target=self._run, name=f"assay-lookup-{i}", daemon=True) for i in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """After Engine.stop(). A fetch that hangs is left behind: its rows have been answered."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)

    def _run(self) -> None:
        while (batch := self._engine.take_lookups(ROWS_MAX)) is not None:
            self._settle(batch)
            del batch  # not kept while waiting for the next

    def _settle(self, batch: LookupBatch) -> None:
        try:
            records = self._fetch(batch.keys)
            if records is not None:
                return batch.give(records)
        except Exception:  # a thread that ended would cost every later row its time limit
            log.exception("look-up failed")
        batch.fail()
