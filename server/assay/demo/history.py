"""The demo's past: about 300,000 simulated transactions in a store, so that the first request already meets full windows.

Generated on the first start (a few seconds) and kept as a snapshot in the cache directory, under a name that is a hash of all it
depends on. Whatever is wrong with the cache (damaged, read-only, written by another version), the history is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from assay import _core
from assay.demo.paths import feature_set_path
from assay.demo.simulator import SIMULATOR_VERSION, SimulatorParameters, simulate
from assay.errors import CoreError, StoreError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet

# The moment the demo happens at: 38 days of history and a morning. Terminal windows end a week before and are filled too.
DEMO_TIME: Final = datetime(2018, 5, 9, 10, 30, tzinfo=UTC)
# With this seed the customer pays 3.7 times a day, 55.00 on average, now and then at this terminal.
DEMO_PARAMETERS: Final = SimulatorParameters(seed=464, customers=4_000, terminals=8_000, days=39)
DEMO_CUSTOMER_ID: Final = "596"
DEMO_TERMINAL_ID: Final = "3156"

STORE_BYTES_MAX: Final = 1 << 30

_EVENTS_PER_STEP = 20_000
_TOO_SMALL = "the demo's history does not fit into {:,} bytes; raise store.bytes_max (it takes about 21 MB)"

Progress = Callable[[int, int], None]  # (done, total) events


def demo_store(
    progress: Progress | None = None, *, cache: Path | None = None, bytes_max: int = STORE_BYTES_MAX
) -> _core.EmbeddedStore:
    """The store with the demo's history, from the cache or made now. Safe to call from several processes at once: one makes it.

    `cache` is the directory to keep it in (default: cache_directory()). Blocks; about five seconds the first time. Raises
    StoreError where the demo's feature set does not take the demo's events, or `bytes_max` (of the store) does not hold them.
    """
    plan = compile_plan(FeatureSet.load(feature_set_path()))
    path = (cache or cache_directory()) / snapshot_name(DEMO_PARAMETERS)
    with _only_process(path) as is_writable:
        return _load(path, bytes_max) or _make(plan, path if is_writable else None, bytes_max, progress)


def demo_log(plan: _core.FeaturePlan) -> _core.EventLog:
    """The events of the demo's history, sorted. `plan`: of the demo's feature set, else StoreError is raised."""
    log = _core.EventLog(plan)
    transactions = simulate(DEMO_PARAMETERS)
    before = int((DEMO_TIME - transactions.midnight).total_seconds())
    for block in transactions.select(transactions.seconds < before).json_lines():
        log.append(block)
    log.sort()
    if log.rejected_count:
        raise StoreError(
            f"demo history: {log.rejected_count} events do not fit the demo's feature set; they must change together"
        )
    return log


def cache_directory() -> Path:
    """$ASSAY_CACHE_DIR, else $XDG_CACHE_HOME/assay, else ~/.cache/assay. Not created here."""
    own = os.environ.get("ASSAY_CACHE_DIR")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "assay"


def snapshot_name(parameters: SimulatorParameters) -> str:
    """A name that changes with everything the history depends on: the simulation, the moment, what the views store."""
    feature_set = FeatureSet.load(feature_set_path())
    depends_on = {
        "simulator": SIMULATOR_VERSION,
        "parameters": {**asdict(parameters), "start": parameters.start.isoformat()},
        "until": DEMO_TIME.isoformat(),
        "views": {name: feature_set.view_hash(name).hex() for name in feature_set.views},
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"demo-history-{digest[:16]}.snapshot"


# --- implementation ---


def _load(path: Path, bytes_max: int) -> _core.EmbeddedStore | None:
    """None: there is no snapshot that can be trusted."""
    if not path.is_file():
        return None
    store = _core.EmbeddedStore(bytes_max)
    try:
        store.load(str(path))
    except CoreError as error:
        if error.reason == "STORE_FULL":
            raise StoreError(_TOO_SMALL.format(bytes_max)) from None
        return None
    return store if store.stats().record_count > 0 else None


def _make(plan: _core.FeaturePlan, path: Path | None, bytes_max: int, progress: Progress | None) -> _core.EmbeddedStore:
    log = demo_log(plan)
    store = _core.EmbeddedStore(bytes_max)
    writer = _core.EventWriter(plan, store)
    for first in range(0, log.event_count, _EVENTS_PER_STEP):
        stop = min(first + _EVENTS_PER_STEP, log.event_count)
        report = log.ingest(writer, first, stop)
        if store.stats().full_count:
            raise StoreError(_TOO_SMALL.format(bytes_max))
        if report.recorded_count != stop - first:
            raise StoreError("demo history: the demo's feature set refuses the demo's events; they must change together")
        if progress:
            progress(stop, log.event_count)
    if path is not None:
        try:
            store.save(str(path))
        except CoreError:
            path.unlink(missing_ok=True)  # a full disk: the demo goes on without a cache
    return store


@contextmanager
def _only_process(path: Path) -> Iterator[bool]:
    """Holds the cache's lock. Yields False where nothing can be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released with the handle, also when the process is killed
        yield True
    finally:
        os.close(handle)
