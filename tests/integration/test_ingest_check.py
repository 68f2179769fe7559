"""`assay ingest --check`: what it says of a sample of a file and of topics; that it shows no value and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from assay.cli.ingest import ingest
from assay.demo.paths import bundle_path
from assay.errors import BundleError
from assay.models.baseline import INPUT_QUANTILES, make_histogram
from assay.models.bundle import read_bundle
from assay.models.event_check import training_data
from assay.models.manifest import FEATURE_SET_FILE
from assay.models.shift import LARGE_PSI, NOTABLE_PSI, VALUES_MIN, population_shift
from tests.support.feature_sets import SHOP
from tests.support.kafka_events import SECRET, make_events, send_events
from tests.support.mock_kafka import MockKafka, mock_kafka

app = typer.Typer()
app.command()(ingest)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--check", *(str(argument) for argument in arguments)])


@pytest.fixture
def feature_set(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        yield started


def test_a_file_field_by_field(tmp_path: Path, feature_set: Path) -> None:
    events = make_events(random.Random(1), 50)
    events[0]["features"]["amount_minor"] = SECRET
    events[1]["features"] |= {"extra": 1}
    del events[2]["features"]["channel"]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in [*events, {"no": "event"}]))
    result = run("--events", path, "--feature-set", feature_set, "--json")
    assert result.exit_code == 4, result.output
    found = json.loads(result.stdout)
    assert found["event_count"] == 48
    assert sum(found["rejects"].values()) == 3
    amounts = [event["features"]["amount_minor"] for event in events[1:]]
    amount = found["fields"]["features.amount_minor"]
    assert amount["types"] == {"int64": 49, "string": 1}
    assert (amount["min"], amount["max"], amount["missing"]) == (min(amounts), max(amounts), 1)
    assert found["fields"]["features.channel"]["missing"] == 2
    assert found["fields"]["entities.customer_id"]["distinct"] == len({event["entities"]["customer_id"] for event in events})
    assert found["fields"]["undeclared features"]["types"] == {"int64": 1}
    assert found["reject_fields"]['features["amount_minor"]'] >= 1
    text = run("--events", path, "--feature-set", feature_set).output
    for shown in (result.output, text):
        assert SECRET not in shown
        assert "c1" not in shown.replace("c1d", "")


def test_the_sample_is_limited(tmp_path: Path, feature_set: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in make_events(random.Random(1), 50)))
    for count in (49, 50, 51):
        result = run("--events", path, "--feature-set", feature_set, "--json", "--messages", str(count))
        assert json.loads(result.stdout)["event_count"] == min(count, 50)


def test_topics_and_their_keys(kafka: MockKafka, feature_set: Path) -> None:
    kafka.create("checked", 3)
    send_events(kafka, "checked", make_events(random.Random(2), 300))
    kafka.send("checked", [(b"k", None)], partition=1)
    before = kafka.committed("assay-check", "checked")
    arguments = ("--kafka", kafka.brokers, "--topic", "checked", "--feature-set", feature_set, "--json")
    result = run(*arguments, "--messages", "1000")
    assert result.exit_code == 4, result.output
    found = json.loads(result.stdout)
    assert (found["event_count"], found["rejects"]) == (300, {"MISSING_FIELD": 1})
    assert found["keys"] == {
        "checked -> customer": {"matching": 300, "named": 300},
        "checked -> terminal": {"matching": 0, "named": 300},
    }
    assert kafka.committed("assay-check", "checked") == before == {}
    few = json.loads(run(*arguments, "--messages", "30").stdout)
    assert few["event_count"] + sum(few["rejects"].values()) == 30


def demo_events(rng: random.Random, amount: Any) -> list[dict[str, Any]]:
    return [
        {
            "transaction_id": str(number),
            "event_time": f"2018-04-{1 + number % 28:02}T{number % 24:02}:00:00Z",
            "entities": {"customer_id": "1", "terminal_id": "2"},
            "features": {"amount_minor": amount(rng)},
        }
        for number in range(2_000)
    ]


def test_a_bundle_says_what_it_was_trained_on(tmp_path: Path) -> None:
    histogram = json.loads((bundle_path() / "baseline.json").read_bytes())["inputs"]["amount"]
    edges, counts = histogram["edges"], histogram["counts"]

    def trained(rng: random.Random) -> int:
        position = rng.choices(range(1, len(edges)), counts[1:-1])[0]
        return round(100 * rng.uniform(edges[position - 1], edges[position]))

    for amount, is_shifted in ((trained, False), (lambda rng: 100 * trained(rng), True)):
        path = tmp_path / "events.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in demo_events(random.Random(3), amount)))
        result = run("--events", path, "--bundle", bundle_path(), "--messages", "2000", "--json")
        assert result.exit_code == 0, result.output
        shifts = json.loads(result.stdout)["psi"]
        assert set(shifts) == {"amount", "is_weekend", "is_night"}  # the other inputs come from views
        assert (shifts["amount"] > LARGE_PSI) if is_shifted else (shifts["amount"] < NOTABLE_PSI)
        if is_shifted:
            assert "another population" in run("--events", path, "--bundle", bundle_path()).output


def test_a_few_rows_are_no_population(tmp_path: Path) -> None:
    events = demo_events(random.Random(3), lambda rng: 5716)
    path = tmp_path / "events.jsonl"
    for count, is_enough in ((VALUES_MIN, True), (VALUES_MIN - 1, False)):
        path.write_text("".join(json.dumps(event) + "\n" for event in events[:count]))
        found = json.loads(run("--events", path, "--bundle", bundle_path(), "--json").stdout)
        assert (found["row_count"], bool(found["psi"])) == (count, is_enough)
        text = run("--events", path, "--bundle", bundle_path()).output
        assert ("psi: a score would take 999 of the events, too few to compare; 1,000 are enough" in text) is not is_enough
        assert ("psi amount: " in text) is is_enough
    assert "psi" not in run("--events", path).output


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"delay: 7d", b"delay: 6d", "schema hash"),
        (b"name: card_fraud", b"name: other", "not the manifest's"),
        (b"n", b"\xff", "UTF-8"),
    ],
)
def test_a_bundle_whose_feature_set_is_not_of_its_training_is_refused(old: bytes, new: bytes, says: str) -> None:
    bundle = read_bundle(bundle_path())
    files = {**bundle.files, FEATURE_SET_FILE: bundle.files[FEATURE_SET_FILE].replace(old, new)}
    with pytest.raises(BundleError, match=says):
        training_data(dataclasses.replace(bundle, files=files))


def test_population_shift_is_what_its_formula_says() -> None:
    values = np.concatenate([np.arange(1_000.0), [np.nan] * 10])
    histogram = make_histogram(values, INPUT_QUANTILES)
    assert population_shift(histogram, values) == 0
    assert population_shift(histogram, values + 5_000) > 1
    assert population_shift(histogram, np.full(100, np.nan)) > 1
    halves = make_histogram(np.array([0.0, 1.0] * 50), (0.5,))
    assert (halves.edges, halves.counts) == ([1.0], [50, 50])
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert population_shift(halves, np.array([0.0] * 80 + [1.0] * 20)) == pytest.approx(expected)


def test_a_source_is_asked_for() -> None:
    assert "--check wants" in run().output
