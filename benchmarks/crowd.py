"""A crowd: 100,000 customers with a past each, and transactions of customers chosen in Zipf's proportions (the customer of rank r
pays 1/r as often as the first), so that some records are hot and most are cold. Made once, kept in build/bench/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay import _core
from assay.cli.bench_messages import write_messages
from assay.demo.history import DEMO_PARAMETERS, DEMO_TIME
from assay.demo.simulator import Transactions
from benchmarks.material import SEED, Material, score_requests

CUSTOMERS, TERMINALS = 100_000, 20_000
EVENTS = 2_000_000  # of their past: 20 a customer
ZIPF_EXPONENT = 1.0


def crowd_snapshot(material: Material, report: Callable[[str], None]) -> Path:
    """The store that knows them."""
    path = material.folder / "crowd.snapshot"
    if path.exists():
        return path
    report(f"making a past of {CUSTOMERS:,} customers")
    log = _core.EventLog(material.plan)
    for block in _past().json_lines():
        log.append(block)
    log.sort()
    store = _core.EmbeddedStore(4 << 30)
    log.replay(_core.FeatureReader(material.plan, store), _core.EventWriter(material.plan, store), 0, log.event_count)
    store.save(str(path))
    return path


def crowd_file(material: Material, count: int, report: Callable[[str], None]) -> Path:
    """`count` distinct transactions of theirs for `assay bench`."""
    path = material.folder / f"crowd-{count}.bin"
    if path.exists():
        return path
    report(f"making {count:,} transactions of a crowd")
    random = np.random.default_rng(SEED)
    requests = score_requests(
        zipf(random, CUSTOMERS, count), random.integers(0, TERMINALS, count), random.integers(100, 30_000, count)
    )
    write_messages(path, (request.SerializeToString() for request in requests), count)
    return path


def zipf(random: np.random.Generator, ranks: int, count: int) -> NDArray[np.int64]:
    """`count` draws from 0..ranks-1, shape (count,): rank r with probability proportional to 1 / (r + 1)^ZIPF_EXPONENT, and which
    customer has which rank is drawn too."""
    weights = np.arange(1, ranks + 1) ** -ZIPF_EXPONENT
    drawn = np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(count))
    return random.permutation(ranks)[np.minimum(drawn, ranks - 1)]


# --- implementation ---


def _past() -> Transactions:
    random = np.random.default_rng(SEED + 1)
    midnight_s = int(np.datetime64(DEMO_PARAMETERS.start).astype("datetime64[s]").astype(np.int64))
    seconds = np.sort(random.integers(0, int(DEMO_TIME.timestamp()) - midnight_s, EVENTS))
    return Transactions(
        start=DEMO_PARAMETERS.start,
        seconds=seconds,
        customer_ids=random.integers(0, CUSTOMERS, EVENTS, dtype=np.int32),
        terminal_ids=random.integers(0, TERMINALS, EVENTS, dtype=np.int32),
        amounts_cents=random.integers(100, 30_000, EVENTS),
        scenarios=(random.random(EVENTS) < 0.01).astype(np.int8),
    )
