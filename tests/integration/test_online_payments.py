"""The example end to end: generated payments are ingested, a model is trained, packed and served.

What it sees of each payment is what pandas computes from the raw files. Null means three things, each as declared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.server import ServeProcess, reason_of, status_of, violations_of

for extra in ("xgboost", "sklearn", "onnxmltools", "pandas"):
    pytest.importorskip(extra, reason="needs: pip install scikit-learn skl2onnx onnxmltools xgboost-cpu pandas")

import pandas as pd  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "online_payments"
FEATURE_SET = EXAMPLE / "feature_set.yaml"
WORDS = ["groceries", "travel", "electronics", "gaming", "gift_cards", "crypto"]
EARTH_RADIUS_KM = 6371.0088
NEW_CUSTOMER = "new"  # has an account, has paid nothing yet


def python(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Example:
    """A directory with data/, models/ and store.snapshot, and the payments by transaction id."""

    directory: Path
    payments: pd.DataFrame


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """What the README does, smaller."""
    directory = tmp_path_factory.mktemp("online")
    python(EXAMPLE / "generate.py", "--customers", "250", "--days", "14", "--seed", "5", cwd=directory)
    accounts = directory / "data" / "customers.jsonl"
    opened = {"customer_id": NEW_CUSTOMER, "updated_at": "2025-03-10T00:00:00Z", "opened_at": "2025-03-10T00:00:00Z"}
    with accounts.open("a") as file:
        file.write(json.dumps(opened) + "\n")
    python(EXAMPLE / "train.py", "--allow-dirty", cwd=directory)
    base = ("-m", "assay", "ingest", "--feature-set", FEATURE_SET, "--store", "embedded:store.snapshot")
    python(*base, "--events", "data/events.jsonl", cwd=directory)
    python(*base, "--view", "account", "--attributes", accounts, cwd=directory)
    return Example(directory, read_payments(directory / "data"))


def read_payments(data: Path) -> pd.DataFrame:
    """The files, joined by pandas alone."""
    events = pd.json_normalize([json.loads(line) for line in (data / "events.jsonl").read_text().splitlines()])
    events.columns = [name.removeprefix("features.").removeprefix("entities.") for name in events.columns]
    events["at"] = pd.to_datetime(events["event_time"])
    accounts = pd.read_json(data / "customers.jsonl", lines=True, dtype={"customer_id": str})
    accounts["opened_at"] = pd.to_datetime(accounts["opened_at"])
    return events.merge(accounts[["customer_id", "opened_at"]], on="customer_id").set_index("transaction_id")


@pytest.fixture(scope="module")
def stub(example: Example) -> Iterator[scoring_pb2_grpc.ScoringServiceStub]:
    arguments = ("online_payments", "--store", "embedded:store.snapshot")
    with ServeProcess(*arguments, cwd=example.directory) as server, grpc.insecure_channel(server.target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


# --- by hand


def expected_inputs(payments: pd.DataFrame) -> pd.DataFrame:
    """Every model input, from the definitions in words: what the customer paid before, in time order."""
    rows = []
    for _, of_customer in payments.sort_values("at").groupby("customer_id"):
        times = of_customer["at"]
        for position, (transaction_id, payment) in enumerate(of_customer.iterrows()):
            before = of_customer.iloc[:position]
            last_hour = before[times.iloc[:position] > payment["at"] - pd.Timedelta("1h")]
            last_month = before[times.iloc[:position] > payment["at"] - pd.Timedelta("30D")]
            speed = np.nan if last_month.empty else kmh(last_month.iloc[-1], payment)
            rows.append(
                {
                    "transaction_id": transaction_id,
                    "amount": payment["amount_minor"] / 100,
                    "avg_amount_1h": 0.0 if last_hour.empty else last_hour["amount_minor"].mean() / 100,
                    "geo_velocity": speed,
                    "geo_velocity_is_missing": float(np.isnan(speed)),
                    "is_vpn_proxy": float(payment["is_vpn_proxy"]),
                    "merchant_category_index": category_index(payment["merchant_category"]),
                    "account_age_days": (payment["at"] - payment["opened_at"]) / pd.Timedelta("1D"),
                }
            )
    return pd.DataFrame(rows).set_index("transaction_id")


def category_index(word: str) -> float:
    return float(WORDS.index(word)) if word in WORDS else -1.0


def kmh(start: pd.Series[Any], end: pd.Series[Any]) -> float:
    """Great-circle speed; the arc from the chord between two points of the unit sphere, which is not the core's formula."""

    def point(payment: pd.Series[Any]) -> np.ndarray[Any, Any]:
        latitude, longitude = np.radians(payment["latitude"]), np.radians(payment["longitude"])
        return np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])

    arc = 2 * np.arcsin(np.linalg.norm(point(end) - point(start)) / 2)
    seconds = max((end["at"] - start["at"]).total_seconds(), 60.0)
    return float(EARTH_RADIUS_KM * arc / seconds * 3600)


# --- requests


def request_of(payment: dict[str, Any], transaction_id: str = "new-payment") -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=transaction_id, include_features=True)
    request.event_time.FromJsonString(payment["event_time"])
    request.entities["customer_id"] = payment["customer_id"]
    request.features["amount_minor"].int64_value = payment["amount_minor"]
    request.features["latitude"].double_value = payment["latitude"]
    request.features["longitude"].double_value = payment["longitude"]
    request.features["is_vpn_proxy"].bool_value = payment["is_vpn_proxy"]
    request.features["merchant_category"].string_value = payment["merchant_category"]
    return request


def payment(**changes: Any) -> dict[str, Any]:
    """A payment after all that are in the store."""
    values = {"customer_id": NEW_CUSTOMER, "event_time": "2025-03-16T00:00:00Z", "amount_minor": 5_000}
    place = {"latitude": 6.52, "longitude": 3.38, "is_vpn_proxy": True, "merchant_category": "gift_cards"}
    return {**values, **place, **changes}


def inputs_of(answer: scoring_pb2.ScoreResponse) -> dict[str, float]:
    return {item.name: item.value.double_value for item in answer.inputs}


# --- tests


def test_every_payment_is_served_as_pandas_computes_it(example: Example, stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    expected = expected_inputs(example.payments)
    assert expected["geo_velocity"].notna().sum() > 1_000
    assert (expected["avg_amount_1h"] > 0).sum() > 30, "few payments within an hour of another: nothing would be tested"
    assert set(expected["merchant_category_index"]) == {-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    chosen = expected.index[(expected["avg_amount_1h"] > 0) | (np.arange(len(expected)) % 7 == 0)]
    answers = [stub.Score(request_of(example.payments.loc[name].to_dict(), name)) for name in chosen]
    found = pd.DataFrame([inputs_of(answer) for answer in answers], index=chosen)[expected.columns]
    # float32 rounds to 24 bits; the rest is the order of operations.
    np.testing.assert_allclose(found, expected.loc[chosen], rtol=3e-7, atol=1e-6)
    scores = np.array([answer.score for answer in answers])
    is_fraud = example.payments.loc[chosen, "is_fraud"].to_numpy()
    assert scores[is_fraud].mean() > scores[~is_fraud].mean() + 0.5


def test_training_rows_are_the_served_rows(example: Example, stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    """The replay, which trained the model, and the server agree to the bit."""
    out = example.directory / "rows.parquet"
    options = ("--events", "data/events.jsonl", "--attributes", "account=data/customers.jsonl", "--out", out)
    python("-m", "assay", "features", "replay", "--feature-set", FEATURE_SET, *options, cwd=example.directory)
    table = pq.read_table(out).to_pandas().set_index("transaction_id").drop(columns="event_time")
    assert len(table) == len(example.payments)
    for name in table.index[::41]:
        served = inputs_of(stub.Score(request_of(example.payments.loc[name].to_dict(), name)))
        np.testing.assert_array_equal(np.float32(list(served.values())), table.loc[name, list(served)].to_numpy(np.float32))


def test_null_as_nan_and_as_a_default(stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    answer = stub.Score(request_of(payment()))
    inputs = inputs_of(answer)
    assert np.isnan(inputs["geo_velocity"])
    assert inputs["geo_velocity_is_missing"] == 1.0
    assert inputs["avg_amount_1h"] == 0.0
    assert inputs["account_age_days"] == 6.0
    assert set(answer.missing_features) == {"avg_amount_1h", "geo_velocity"}
    assert list(answer.imputed_features) == ["avg_amount_1h"]  # a missing one that is not here went in as NaN
    assert 0.0 <= answer.score <= 1.0


def test_null_as_an_error(stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.Score(request_of(payment(customer_id="has no account")))
    status = status_of(error.value)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(status) == "INVALID_REQUEST"
    assert list(violations_of(status).values()) == ["NULL_INPUT"]
    assert "account_age_days" in next(iter(violations_of(status)))


def test_a_known_customer_has_no_nulls(example: Example, stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    last = example.payments.sort_values("at").iloc[-1]
    soon = (last["at"] + pd.Timedelta("30min")).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = stub.Score(request_of(payment(customer_id=last["customer_id"], event_time=soon)))
    inputs = inputs_of(answer)
    assert not answer.missing_features
    assert not answer.imputed_features
    assert inputs["geo_velocity_is_missing"] == 0.0
    assert inputs["geo_velocity"] > 1_000, "from home to Lagos in half an hour"


def test_an_unknown_word_is_its_declared_index_and_is_not_missing(stub: scoring_pb2_grpc.ScoringServiceStub) -> None:
    answer = stub.Score(request_of(payment(merchant_category="never seen")))
    assert inputs_of(answer)["merchant_category_index"] == -1.0
    assert "merchant_category_index" not in answer.missing_features


@pytest.mark.parametrize(
    ("feature", "field", "value", "reason"),
    [
        ("is_vpn_proxy", "int64_value", 1, "WRONG_TYPE"),
        ("is_vpn_proxy", "string_value", "true", "WRONG_TYPE"),
        ("latitude", "double_value", 91.0, "OUT_OF_RANGE"),
        ("merchant_category", "int64_value", 4, "WRONG_TYPE"),
    ],
)
def test_types_and_ranges_are_strict(
    stub: scoring_pb2_grpc.ScoringServiceStub, feature: str, field: str, value: Any, reason: str
) -> None:
    request = request_of(payment())
    setattr(request.features[feature], field, value)
    with pytest.raises(grpc.RpcError) as error:
        stub.Score(request)
    assert violations_of(status_of(error.value)) == {f'features["{feature}"]': reason}
