"""`assay ingest --kafka`, as a user starts it, against librdkafka's mock cluster and real stores."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from assay.cli.ingest import ingest
from assay.demo.paths import bundle_path, feature_set_path
from assay.features.feature_set import FeatureSet
from assay.features.show import show_entity
from assay.features.store import open_store
from assay.features.times import parse_time_us
from assay.models.shift import LARGE_PSI
from tests.support.feature_sets import SHOP
from tests.support.kafka_events import (
    SECRET,
    ingest_file,
    ingest_to_end,
    ingesting,
    make_events,
    make_labels,
    send_events,
    send_labels,
    state_of,
    time_of,
)
from tests.support.mock_kafka import NOT_ENOUGH_REPLICAS, MockKafka, mock_kafka
from tests.support.prometheus import RULES
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import wait_until

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "ingestion.md"
WATCHED = ("--fail-on-reject", "--metrics-listen", "127.0.0.1:0", "--bundle", str(bundle_path()))
WATCHED += ("--feature-set", str(feature_set_path()))

app = typer.Typer()
app.command()(ingest)


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        yield started


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest, redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


@pytest.fixture
def topic(kafka: MockKafka, request: pytest.FixtureRequest) -> str:
    """An empty topic of 3 partitions for each test."""
    name = "payments-" + re.sub(r"\W", "-", request.node.name)[-60:]
    kafka.create(name, 3)
    return name


def reading(topic: str) -> tuple[str, ...]:
    return ("--topic", topic, "--group", f"group-{topic}")


def test_topics_give_the_state_that_a_file_gives(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    events = make_events(random.Random(1), 3_000)
    send_events(kafka, topic, events)
    code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *reading(topic), "--fail-on-reject")
    assert code == 0, said
    assert "3,000 recorded" in said
    with redis.client() as client:
        state = state_of(client)
        client.flushall()
        ingest_file(tmp_path, redis.url, events)
        assert state == state_of(client)
        assert len(state) == 70
    records = [json.loads(line) for line in out.splitlines()]
    assert records
    for record in records:
        assert record["source_kafka_topic"] == topic
        assert record["schema_hash"] == FeatureSet.parse(SHOP).schema_hash
        assert record["validation_status"] == "SUCCESS"
    nulls = sum(record["features"][1]["null_count"] for record in records)
    assert nulls == sum(event["features"]["channel"] is None for event in events)
    assert sum(kafka.committed(f"group-{topic}", topic).values()) == 3_000


def test_an_embedded_store_is_saved_before_offsets_are_committed(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    store = f"embedded:{tmp_path / 'store.snapshot'}"
    events = make_events(random.Random(2), 300)
    send_events(kafka, topic, events)
    code, _, said = ingest_to_end(kafka, tmp_path, store, *reading(topic), "--fail-on-reject")
    assert code == 0, said
    with open_store(store, mode="read") as opened:
        views = show_entity(FeatureSet.parse(SHOP), opened, "customer_id", "c1", parse_time_us(time_of(300 * 7)))
    counts = {value.name: value.value for view in views for value in view.values}
    assert counts["count_1d"] == sum(event["entities"]["customer_id"] == "c1" for event in events)
    assert sum(kafka.committed(f"group-{topic}", topic).values()) == 300


BAD: list[bytes | None] = [
    b'{"transaction_id":"x1","event_time":"2026-01-01T00:00:00Z","entities":{"customer_id":"c1"},"features":{"amount_minor":"%s"}}'
    % SECRET.encode(),
    b'{"transaction_id":"x2",\n"event_time":"2026-01-01T00:00:00Z"}',
    None,
    b"   ",
    b"x" * 70_000,
    b"\xff",
]
REASONS = ["WRONG_TYPE", "MALFORMED_JSON", "MISSING_FIELD", "MALFORMED_JSON", "TOO_LONG", "MALFORMED_JSON"]


def send_good_and_bad(kafka: MockKafka, topic: str) -> None:
    """Offset 0 of partition 0 is good, then come the bad ones, then a good one."""
    good = [json.dumps(event).encode() for event in make_events(random.Random(3), 2)]
    kafka.send(topic, [(b"k", value) for value in [good[0], *BAD, good[1]]], partition=0)


def test_dead_letters_are_the_original_with_its_reasons(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    letters = f"{topic}.rejected"
    kafka.create(letters, 1)
    send_good_and_bad(kafka, topic)
    code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *reading(topic), "--dead-letter-topic", letters)
    assert code == 4, said
    assert "2 recorded" in said
    assert "6 were rejected" in said
    assert SECRET not in out + said
    assert json.loads(out.splitlines()[0])["validation_status"] == "FAIL"
    found = sorted(kafka.read(letters), key=lambda letter: int(dict(letter.headers())["assay_offset"]))
    assert [letter.value() for letter in found] == BAD
    assert {letter.key() for letter in found} == {b"k"}
    for offset, (letter, reason) in enumerate(zip(found, REASONS, strict=True), 1):
        headers = dict(letter.headers())
        assert headers["assay_reason"].decode() == reason
        assert (headers["assay_topic"], headers["assay_partition"]) == (topic.encode(), b"0")
        assert headers["assay_offset"] == str(offset).encode()
        assert json.loads(headers["assay_violations"])[0]["reason"] == reason
    assert kafka.committed(f"group-{topic}", topic)[0] == 8


def test_rejects_go_behind_those_of_earlier_runs(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    for run in (1, 2):
        send_good_and_bad(kafka, topic)
        code, _, said = ingest_to_end(kafka, tmp_path, redis.url, *reading(topic), "--rejects", str(path))
        assert code == 4, said
        kept = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert len(kept) == 6 * run
    places = sorted((reject["topic"], reject["partition"], reject["offset"]) for reject in kept)
    assert places == [(topic, 0, offset) for offset in [*range(1, 7), *range(9, 15)]]
    assert path.stat().st_mode & 0o777 == 0o600
    by_offset = {reject["offset"]: reject for reject in kept}
    assert by_offset[1]["original"].encode() == BAD[0]
    assert by_offset[6]["original_base64"] == "/w=="


def test_fail_on_reject_commits_up_to_the_reject(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    send_good_and_bad(kafka, topic)
    for _ in range(2):  # it meets the same one again
        code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *reading(topic), "--fail-on-reject")
        assert code == 4
        assert f"{topic}, partition 0, offset 1" in " ".join(said.split())
        assert SECRET not in out + said
        assert kafka.committed(f"group-{topic}", topic)[0] == 1


def test_a_replay_changes_nothing(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    send_events(kafka, topic, make_events(random.Random(4), 1_000))
    arguments = ("--topic", topic, "--fail-on-reject", "--json", "--group")
    assert json.loads(ingest_to_end(kafka, tmp_path, redis.url, *arguments, "first")[1])["recorded_count"] == 1_000
    with redis.client() as client:
        state = state_of(client)
        again = json.loads(ingest_to_end(kafka, tmp_path, redis.url, *arguments, "second")[1])
        assert (again["recorded_count"], again["duplicate_count"]) == (0, 1_000)
        assert state_of(client) == state


def test_sigterm_writes_commits_and_leaves(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    # Nothing would be written for 10 s, nothing committed for an hour, were it not for the signal.
    slow = ("--flush-ms", "10000", "--checkpoint-ms", "3600000", "--metrics-listen", "127.0.0.1:0", "--fail-on-reject")
    with ingesting(kafka, tmp_path, redis.url, *reading(topic), *slow) as running:
        page = running.metrics()
        wait_until(lambda: "assay_ingestion_lag_messages{" in page(), "a member with partitions")
        send_events(kafka, topic, make_events(random.Random(5), 500))
        wait_until(lambda: "assay_ingestion_held_messages 500" in page(), "500 held messages")
        code, _, said = running.terminate()
    assert code == 0, said
    assert "500 recorded" in said
    assert sum(kafka.committed(f"group-{topic}", topic).values()) == 500


def test_the_page_has_the_metrics_of_the_document(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    kafka.create(f"{topic}.rejected", 1)
    arguments = ("--dead-letter-topic", f"{topic}.rejected", "--metrics-listen", "127.0.0.1:0")
    with ingesting(kafka, tmp_path, redis.url, *reading(topic), *arguments) as running:
        page = running.metrics()
        send_good_and_bad(kafka, topic)
        wait_until(lambda: f'outcome="rejected",topic="{topic}"}} 6' in page(), "six rejects")
        text = page()
        assert running.terminate()[0] == 0
    assert f'assay_ingested_messages_total{{outcome="recorded",topic="{topic}"}} 2' in text
    assert 'assay_ingestion_rejects_total{reason="MALFORMED_JSON"} 3' in text
    assert 'assay_ingestion_wrong_types_total{field="features[\\"amount_minor\\"]"} 1' in text
    assert "assay_ingestion_away 0" in text
    assert "assay_ingestion_dropped_records_total 0" in text
    shown = set(re.findall(r"^# TYPE (assay_\w+) ", text, re.MULTILINE))
    assert shown == set(re.findall(r"^\| `(assay_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    assert SECRET not in text


def test_a_bundle_has_its_metrics_on_the_page_before_it_has_looked(
    kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path
) -> None:
    events = [event | {"features": {"amount_minor": 5}} for event in make_events(random.Random(8), 10)]
    with ingesting(kafka, tmp_path, redis.url, *reading(topic), *WATCHED) as running:
        page = running.metrics()
        send_events(kafka, topic, events)
        wait_until(lambda: f'outcome="recorded",topic="{topic}"}} 10' in page(), "the events")
        text = page()
        assert running.terminate()[0] == 0
    assert "assay_ingestion_samples_total 0" in text
    assert 'assay_ingestion_wrong_types_total{field="features[\\"amount_minor\\"]"} 0' in text
    for name in ("null_share", "type_share", "population_shift"):
        assert f"# TYPE assay_ingestion_{name} gauge" in text


@pytest.mark.torture
def test_a_bundle_looks_on_while_events_are_ingested(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    """Amounts come in another unit than in training: the page says so. A sample takes 10 s at least: it is waited for."""
    rng = random.Random(8)
    events = [event | {"features": {"amount_minor": rng.randrange(10**7)}} for event in make_events(rng, 4_000)]
    send_events(kafka, topic, events[:2_000])
    late = iter(events[2_000:])
    with ingesting(kafka, tmp_path, redis.url, *reading(topic), *WATCHED) as running:
        page = running.metrics()
        wait_until(lambda: f'outcome="recorded",topic="{topic}"}} 2000' in page(), "the events of the first sample")

        def has_looked() -> bool:
            send_events(kafka, topic, [next(late)])  # a sample ends with an event
            return "assay_ingestion_samples_total 1" in page()

        wait_until(has_looked, "the end of a sample")
        text = page()
        assert running.terminate()[0] == 0
    assert 'assay_ingestion_null_share{feature="amount_minor"} 0' in text
    assert 'assay_ingestion_type_share{feature="amount_minor",type="int64"} 1' in text
    shifts = dict(re.findall(r'assay_ingestion_population_shift{input="(\w+)"} (\S+)', text))
    assert set(shifts) == {"amount", "is_weekend", "is_night"}
    assert float(shifts["amount"]) > LARGE_PSI


def test_the_alerts_ask_for_metrics_of_the_page() -> None:
    """promtool has them in tests/tidy/test_alerts.py."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"] if "alert" in rule}
    documented = set(re.findall(r"^\| `(assay_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    linked = set(re.findall(r"\[(\w+)\]\(operations\.md#", DOCUMENT.read_text()))
    assert {"IngestionAway", "IngestionFallsBehind", "FieldChangedItsType", "FeatureIsNullMoreOften"} < linked <= alerts.keys()
    asked = " ".join(alerts[name] for name in linked)
    assert set(re.findall(r"assay_\w+", asked)) <= documented
    assert alerts["InputIsAnotherPopulation"] == f"assay_ingestion_population_shift > {LARGE_PSI}"


def test_labels_find_their_events(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    """Labels are all there before any event is: they wait. The state is the one of events that brought their labels along."""
    rng = random.Random(7)
    events = make_events(rng, 2_000)
    labels = make_labels(rng, events)
    label_topic, letters = f"{topic}.labels", f"{topic}.rejected"
    kafka.create(label_topic, 2)
    kafka.create(letters, 1)
    orphan = labels[0] | {"transaction_id": "nobody's"}
    broken = labels[1] | {"label_time": "yesterday"}
    send_labels(kafka, label_topic, [*labels, orphan, broken])
    arguments = (*reading(topic), "--label-topic", label_topic, "--dead-letter-topic", letters, "--label-wait-ms", "2000")
    with ingesting(kafka, tmp_path, redis.url, *arguments, "--metrics-listen", "127.0.0.1:0", "--json") as running:
        page = running.metrics()
        wait_until(lambda: re.search(r"assay_ingestion_waiting_labels [1-9]", page()) is not None, "labels that wait")
        send_events(kafka, topic, events)
        wait_until(lambda: sum(kafka.committed(f"group-{topic}", label_topic).values()) == 2_002, "all labels")
        code, out, said = running.terminate()
    assert code == 0, said
    counts = json.loads(out)
    assert (counts["recorded_count"], counts["rejected_count"]) == (4_000, 2)
    assert counts["rejects"] == {"EVENT_UNKNOWN": 1, "BAD_TIMESTAMP": 1}
    assert {json.loads(letter.value())["transaction_id"] for letter in kafka.read(letters)} == {"nobody's", "t1"}
    told = [
        event | {name: label[name] for name in ("is_fraud", "label_time")} for event, label in zip(events, labels, strict=True)
    ]
    with redis.client() as client:
        state = state_of(client)
        client.flushall()
        ingest_file(tmp_path, redis.url, told)
        assert state == state_of(client)


def test_metadata_records_go_to_a_topic_too(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    kafka.create(f"{topic}.metadata", 1)
    send_events(kafka, topic, make_events(random.Random(6), 100))
    arguments = ("--metadata-topic", f"{topic}.metadata", "--fail-on-reject")
    code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *reading(topic), *arguments)
    assert code == 0, said
    told = [json.loads(message.value()) for message in kafka.read(f"{topic}.metadata")]
    assert told == [json.loads(line) for line in out.splitlines()]


def test_metadata_records_that_are_dropped_are_counted(kafka: MockKafka, redis: RedisServer, topic: str, tmp_path: Path) -> None:
    kafka.create(f"{topic}.metadata", 1)
    kafka.fail_topic(f"{topic}.metadata", NOT_ENOUGH_REPLICAS)
    arguments = ("--metadata-topic", f"{topic}.metadata", "--fail-on-reject", "--metrics-listen", "127.0.0.1:0")
    quick = ("--kafka-option", "message.timeout.ms=300")
    with ingesting(kafka, tmp_path, redis.url, *reading(topic), *arguments, *quick) as running:
        page = running.metrics()
        send_events(kafka, topic, make_events(random.Random(8), 10))
        wait_until(lambda: "assay_ingestion_dropped_records_total 1" in page(), "a record that was dropped")
        assert running.terminate()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--topic", "t", "--group", "g", "--rejects", "r"), "--kafka BROKERS and --topic TOPIC belong together"),
        (("--kafka", "b:1", "--topic", "t", "--rejects", "r"), "--group is missing"),
        (("--kafka", "b:1", "--topic", "t", "--group", "g"), "--dead-letter-topic TOPIC, --rejects FILE and --fail-on-reject"),
        (("--kafka", "b:1", "--topic", "t", "--group", "g", "--rejects", "r", "--events", "e"), "give no --events"),
        (
            ("--kafka", "b:1", "--topic", "t", "--group", "g", "--rejects", "r", "--kafka-option", "enable.auto.commit=true"),
            "enable.auto.commit is set by assay: an offset is committed once its events are in the store",
        ),
        (
            ("--kafka", "b:1", "--topic", "t", "--group", "g", "--rejects", "r", "--kafka-option", f"sasl.password={SECRET}"),
            "sasl.password: other users see command lines",
        ),
        (
            ("--kafka", "b:1", "--topic", "t", "--group", "g", "--rejects", "r", "--kafka-option", f"security.protocol={SECRET}"),
            "--kafka-option security.protocol: librdkafka does not take this value",
        ),
        (
            ("--kafka", "b:1", "--topic", "t", "--group", "g", "--rejects", "r", "--kafka-option", f"no.such={SECRET}"),
            "--kafka-option no.such: librdkafka has no such option",
        ),
    ],
)
def test_wrong_usage_says_what_is_expected(
    arguments: tuple[str, ...], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["--store", f"embedded:{tmp_path / 's'}", *arguments])
    said = " ".join(result.output.split())
    assert result.exit_code == 2, said
    assert what in said
    assert SECRET not in said
