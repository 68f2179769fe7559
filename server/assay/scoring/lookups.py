"""The way of a row's records, where the store is remote: keys out, records in, a batch at a time.

As long as one server has all records and answers well, the core asks it by itself over a connection that is lent to it (a line).
What is not as usual, and every batch where there is no line, is one hop of Python. What each row may wait, and what becomes of it
when the store gives nothing, the core decides (ext/core/serving/lookups.h).
"""

from __future__ import annotations

import logging
import threading

from assay._core import Engine, Hops, LookupBatch
from assay.features.line import Line
from assay.features.store import RemoteStore

log = logging.getLogger("assay.store")

ROWS_MAX = 256  # of one hop


class LookupThreads:
    """Threads that fetch what the engine asks for. Start once; they end when the engine stops."""

    def __init__(self, engine: Engine, store: RemoteStore, count: int) -> None:
        self._engine = engine
        self._fetch = store.fetch
        self._open_line = store.open_line
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
        while (batch := self._next()) is not None:
            self._settle(batch)
            del batch  # not kept while waiting for the next

    def _next(self) -> LookupBatch | None:
        """A batch that is for Python. None: the engine has stopped."""
        while (line := self._open_line()) is not None:
            hops = self._hop(line)
            line.end(hops)
            if hops.end == "stopped":
                return None
            if hops.end == "odd":
                return hops.batch or self._engine.take_lookups(ROWS_MAX)
            if hops.batch is not None:  # its time is over
                hops.batch.fail()
        return self._engine.take_lookups(ROWS_MAX)

    def _hop(self, line: Line) -> Hops:
        try:
            return self._engine.run_hops(line.socket, ROWS_MAX, line.timeout_s, line.slow_s)
        except Exception:  # a thread that ended would cost every later row its time limit
            log.exception("look-up failed")
            return Hops("odd", 0, None)

    def _settle(self, batch: LookupBatch) -> None:
        try:
            records = self._fetch(batch.keys)
            if records is not None:
                return batch.give(records)
        except Exception:
            log.exception("look-up failed")
        batch.fail()
