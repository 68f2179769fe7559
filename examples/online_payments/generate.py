"""Makes online payments with account takeovers among them: events.jsonl and customers.jsonl, the same for the same seed.

    python examples/online_payments/generate.py --out data

Customers pay from around their home now and then. Some accounts, most of them young, are taken over: within an hour somebody far
away, often behind a VPN, buys what can be sold on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

START = datetime(2025, 3, 1, tzinfo=UTC)
CATEGORIES = (
    "groceries",
    "travel",
    "electronics",
    "gaming",
    "gift_cards",
    "crypto",
    "pets",
)  # the feature set does not know pets
GENUINE_WEIGHTS = (0.4, 0.15, 0.15, 0.1, 0.05, 0.05, 0.1)
FRAUD_WEIGHTS = (0.0, 0.1, 0.3, 0.1, 0.3, 0.2, 0.0)
CITIES = (
    (50.85, 4.35),
    (52.37, 4.9),
    (48.86, 2.35),
    (40.42, -3.7),
    (59.33, 18.06),
    (6.52, 3.38),
    (1.35, 103.82),
    (40.71, -74.01),
)
HOME_CITIES = 5  # of the first of them; takeovers come from the others
TAKEOVER_SHARE = 0.08
PAYMENTS_PER_DAY = 1.2

Payment = dict[str, Any]


def main(
    out: Annotated[Path, typer.Option(help="Directory for events.jsonl and customers.jsonl.", file_okay=False)] = Path("data"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same payments.")] = 0,
    customers: Annotated[int, typer.Option(min=1)] = 2_000,
    days: Annotated[int, typer.Option(min=2)] = 28,
) -> None:
    """Write synthetic payments and the customers' accounts."""
    random = np.random.default_rng(seed)
    accounts: list[dict[str, str]] = []
    payments: list[Payment] = []
    for number in range(customers):
        age_days = float(random.exponential(600)) + 1
        opened = START - timedelta(seconds=round(age_days * 86_400))
        accounts.append({"customer_id": str(number), "updated_at": _text(opened), "opened_at": _text(opened)})
        payments += _payments_of(str(number), age_days, days, random)
    payments.sort(key=lambda payment: (payment["event_time"], payment["entities"]["customer_id"]))
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "customers.jsonl", accounts)
    _write(out / "events.jsonl", ({"transaction_id": f"p{index}", **payment} for index, payment in enumerate(payments)))
    frauds = sum(payment["is_fraud"] for payment in payments)
    print(f"{len(payments):,} payments of {customers:,} customers in {out}, {frauds:,} of them fraud")


# --- implementation ---


def _payments_of(customer_id: str, age_days: float, days: int, random: np.random.Generator) -> list[Payment]:
    """One customer's payments in any order, no two within one second: their order is then beyond doubt."""
    home = CITIES[random.integers(HOME_CITIES)]
    mean_cents = float(random.uniform(1_000, 8_000))
    seconds = random.integers(0, days * 86_400, random.poisson(PAYMENTS_PER_DAY * days))
    payments = {int(at): _payment(customer_id, int(at), home, mean_cents, random, is_fraud=False) for at in seconds}
    if random.random() < TAKEOVER_SHARE * (3 if age_days < 90 else 1):
        away = CITIES[random.integers(HOME_CITIES, len(CITIES))]
        first = int(random.integers(0, days * 86_400 - 3_600))
        for at in first + random.integers(0, 3_600, random.integers(3, 9)):
            payments[int(at)] = _payment(customer_id, int(at), away, 3 * mean_cents, random, is_fraud=True)
    return list(payments.values())


def _payment(
    customer_id: str, at_s: int, place: tuple[float, float], mean_cents: float, random: np.random.Generator, *, is_fraud: bool
) -> Payment:
    latitude, longitude = (float(value) for value in (np.array(place) + random.normal(0, 0.1, 2)).round(4))
    return {
        "event_time": _text(START + timedelta(seconds=at_s)),
        "entities": {"customer_id": customer_id},
        "features": {
            "amount_minor": 1 + int(random.gamma(2, mean_cents / 2)),
            "latitude": latitude,
            "longitude": longitude,
            "is_vpn_proxy": bool(random.random() < (0.6 if is_fraud else 0.08)),
            "merchant_category": str(random.choice(CATEGORIES, p=FRAUD_WEIGHTS if is_fraud else GENUINE_WEIGHTS)),
        },
        "is_fraud": is_fraud,
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, rows: list[dict[str, str]] | Iterator[Payment]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


if __name__ == "__main__":
    typer.run(main)
