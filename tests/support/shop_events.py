"""Events of SHOP, and whether two stores show the same of them."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from assay import _core
from assay.features.store import open_store
from tests.support.server import EVENT_TIME

START_US = int(EVENT_TIME.timestamp()) * 1_000_000
DAY_US = 86_400_000_000
ODD_ID = "c:{%} é\t"  # a customer's id may be any text


def lines(seed: int, count: int) -> list[bytes]:
    """Events of few customers and terminals over 40 days: rings overflow into tiles, some are labelled, some repeat."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        when_us = START_US - rng.randrange(40 * DAY_US)
        event: dict[str, Any] = {
            "transaction_id": f"t{number}",
            "event_time": np.datetime_as_string(np.datetime64(when_us, "us")) + "Z",
            "entities": {"customer_id": rng.choice(["c1", "c2", ODD_ID]), "terminal_id": f"m{rng.randrange(3)}"},
            "features": {"amount_minor": rng.randrange(100_000)},
        }
        if rng.random() < 0.5:
            event["features"]["channel"] = rng.choice(["web", "app", "shop"])
        if rng.random() < 0.3:
            event["is_fraud"] = rng.random() < 0.2
        made.append(json.dumps(event).encode() + b"\n")
    return made + rng.sample(made, count // 10)


def sorted_log(plan: _core.FeaturePlan, events: list[bytes]) -> _core.EventLog:
    log = _core.EventLog(plan)
    log.append(b"".join(events))
    assert log.rejected_count == 0, log.rejections()
    log.sort()
    return log


def rows_of(plan: _core.FeaturePlan, store: _core.EmbeddedStore, customer: str, terminal: str) -> tuple[Any, ...]:
    reader = _core.FeatureReader(plan, store)
    entities = {"customer_id": customer, "terminal_id": terminal}
    read = [reader.read("probe", START_US + day * DAY_US, entities, {"amount_minor": 5}) for day in range(-20, 20)]
    return tuple(read)


def check_same(plan: _core.FeaturePlan, url: str, local: _core.EmbeddedStore) -> None:
    """Every entity's row, at many moments, is the same from both stores."""
    with open_store(url) as store:
        for customer in ("c1", "c2", ODD_ID, "nobody"):
            for terminal in ("m0", "m1", "m2"):
                remote = _core.EmbeddedStore()
                target = _core.EventWriter(plan, remote)
                for view, kind, entity in (
                    ("customer", "customer_id", customer),
                    ("terminal", "terminal_id", terminal),
                    ("profile", "customer_id", customer),
                ):
                    ref = target.record_of(view, entity)
                    source = _core.EventWriter(plan, store.records_of(plan, {kind: entity}).store)
                    sealed = source.take_changed_record(ref, None)
                    if sealed is not None:
                        assert target.put_record(ref, sealed) == 0
                assert rows_of(plan, remote, customer, terminal) == rows_of(plan, local, customer, terminal)
