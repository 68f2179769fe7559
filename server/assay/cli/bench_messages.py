"""Files of distinct requests for the load generator: ext/core/load/message_file.h has the format."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assay import _core
from assay.cli.feature_sources import load_feature_set
from assay.client import Transaction
from assay.client.encode import encode_transaction
from assay.errors import InputError
from assay.features.compile import compile_plan

MAGIC, VERSION = b"assaymsg", 1
FILE_BYTES_MAX = 1 << 30
DEMO_COUNT = 100_000
ID_BYTES_MAX = 128
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Progress = Callable[[int, int], None]


def prepare_messages(
    out: Path, events: Path | None, feature_set: Path | None, count: int | None, model: str, progress: Progress
) -> dict[str, int]:
    """Writes ScoreRequests of `events` (None: the demo's newest) to `out`, whole or not at all. Raises InputError,
    FeatureSetError."""
    plan = compile_plan(load_feature_set(feature_set))
    found = _read_events(events, plan, count) if events is not None else _demo_events(plan, count or DEMO_COUNT)
    if not found:
        raise InputError(f"{events}: no events")
    wanted = count or len(found)
    return write_messages(out, _requests(found, wanted, model, progress), wanted)


def write_messages(out: Path, messages: Iterator[bytes], count: int) -> dict[str, int]:
    """Writes `count` messages to `out`, whole or not at all. Raises InputError."""
    partial = out.with_name(f"{out.name}.partial")
    written = len(MAGIC) + 8
    try:
        # Transactions: for the owner's eyes.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(MAGIC + struct.pack(">II", VERSION, count))
            for message in messages:
                written += 5 + len(message)
                if written > FILE_BYTES_MAX:
                    raise InputError(f"{out}: would be larger than 1 GiB, which the generator does not read: lower --count")
                file.write(struct.pack(">BI", 0, len(message)) + message)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return {"messages": count, "bytes": written}


# --- implementation ---


def _read_events(path: Path, plan: _core.FeaturePlan, count: int | None) -> list[_core.DecodedTransaction]:
    """The first `count` events of a file (None: all)."""
    found: list[_core.DecodedTransaction] = []
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(1 << 20), b""), 1):
                if not line.strip():
                    continue
                event = plan.decode_event_json(line.strip())
                if isinstance(event, _core.Refusal):
                    raise InputError(f"{path}: line {number} is no event of this feature set: {event.message}")
                if event.transaction_id in seen:
                    continue
                seen.add(event.transaction_id)
                found.append(event)
                if count is not None and len(found) == count:
                    break
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return found


def _demo_events(plan: _core.FeaturePlan, count: int) -> list[_core.DecodedTransaction]:
    """The newest of the demo's simulated payments, moved to the hour after its history ends: the store knows them."""
    from assay.demo.history import DEMO_PARAMETERS, DEMO_TIME
    from assay.demo.simulator import simulate

    transactions = simulate(DEMO_PARAMETERS)
    before = int((DEMO_TIME - transactions.midnight).total_seconds())
    past = transactions.select(transactions.seconds < before)
    newest = range(max(len(past) - count, 0), len(past))
    start_us = int(DEMO_TIME.timestamp()) * 1_000_000
    return [
        _core.DecodedTransaction(
            transaction_id=f"bench-{place}",
            event_time_us=start_us + place % 3600 * 1_000_000,
            entities={"customer_id": str(past.customer_ids[index]), "terminal_id": str(past.terminal_ids[index])},
            features={"amount_minor": int(past.amounts_cents[index])},
            is_fraud=None,
            model="",
            version="",
            priority=0,
            include_features=False,
            include_timings=False,
        )
        for place, index in enumerate(newest)
    ]


def _requests(found: list[_core.DecodedTransaction], count: int, model: str, progress: Progress) -> Iterator[bytes]:
    """Requests of the events in order, again from the first under new ids until there are `count`."""
    for index in range(count):
        event = found[index % len(found)]
        transaction_id = event.transaction_id if index < len(found) else _new_id(event.transaction_id, index // len(found))
        moment = EPOCH + timedelta(microseconds=event.event_time_us)
        request = encode_transaction(Transaction(transaction_id, moment, event.entities, event.features))
        request.model = model
        yield request.SerializeToString()
        if index % 10_000 == 0:
            progress(index, count)


def _new_id(transaction_id: str, turn: int) -> str:
    suffix = f"~{turn}"
    kept = transaction_id.encode()[: ID_BYTES_MAX - len(suffix)].decode(errors="ignore")
    return kept + suffix
