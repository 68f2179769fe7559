"""`assay ingest`, as a user calls it: events and attributes into a store, rejects kept, one metadata record a flush."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from assay import _core
from assay.cli.ingest import ingest
from assay.cli.ingest_modes import MODES
from assay.features.attribute_row import printable
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.show import show_entity
from assay.features.store import open_store
from assay.features.times import parse_time_us

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "card_fraud" / "feature_set.yaml"

app = typer.Typer()
app.command()(ingest)


def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def event(number: int, day: int, amount: Any = 1_000, **more: Any) -> str:
    document = {
        "transaction_id": str(number),
        "event_time": f"2018-04-{day:02}T12:00:00Z",
        "entities": {"customer_id": "596", "terminal_id": "3156"},
        "features": {"amount_minor": amount},
    }
    return json.dumps(document | more)


def values_of(url: str, feature_set: Path, entity: str, entity_id: str, at: str) -> dict[str, Any]:
    with open_store(url, mode="read") as store:
        views = show_entity(FeatureSet.load(feature_set), store, entity, entity_id, parse_time_us(at))
    return {value.name: value.shown for view in views for value in view.values}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"embedded:{tmp_path / 'store.snapshot'}"


def test_events_arrive_and_come_again_for_nothing(tmp_path: Path, url: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join([event(2, 2, 3_000), event(1, 1), event(1, 1)]))
    result = run("--events", path, "--store", url, "--feature-set", DEMO, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    counts = {name: document[f"{name}_count"] for name in ("event", "recorded", "duplicate", "late", "rejected", "line")}
    assert counts == {"event": 3, "recorded": 2, "duplicate": 1, "late": 0, "rejected": 0, "line": 3}
    assert not document["is_stopped"]
    values = values_of(url, DEMO, "customer_id", "596", "2018-04-03T00:00:00Z")
    assert (values["customer_tx_count_7d"], values["customer_amount_minor_avg_7d"]) == (2, 2_000.0)
    again = json.loads(run("--events", path, "--store", url, "--feature-set", DEMO, "--json").stdout)
    assert (again["recorded_count"], again["duplicate_count"]) == (0, 3)
    assert values_of(url, DEMO, "customer_id", "596", "2018-04-03T00:00:00Z") == values


def test_one_metadata_record_a_flush_with_the_known_fields(tmp_path: Path, url: str) -> None:
    path = tmp_path / "events.jsonl"
    # In order of time: a later slice must not bring what an earlier one has made too late.
    lines = [event(number, 1 + number // 200, number) for number in range(4_000)]
    path.write_text("\n".join(lines))
    before = datetime.now(UTC)
    result = run("--events", path, "--store", url, "--feature-set", DEMO, "--flush-rows", "1000")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) >= 2
    for record in records:
        assert list(record) == [
            "feature_set_version", "timestamp", "source_kafka_topic", "schema_hash", "features", "validation_status",
        ]  # fmt: skip
        assert record["feature_set_version"] == "1"
        assert before <= datetime.fromisoformat(record["timestamp"]) <= datetime.now(UTC)
        assert record["source_kafka_topic"] == "file:events.jsonl"
        assert record["schema_hash"] == FeatureSet.load(DEMO).schema_hash
        assert record["features"] == [{"name": "amount_minor", "type": "int64", "null_count": 0}]
        assert record["validation_status"] == "SUCCESS"
    assert "4,000 recorded" in result.stderr


def test_what_came_too_late_is_counted_and_said(tmp_path: Path, url: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(event(number, 1 + number % 20, number) for number in range(4_000)))
    result = run("--events", path, "--store", url, "--feature-set", DEMO, "--flush-rows", "1000")
    assert result.exit_code == 0
    assert "came too late" in " ".join(result.stderr.split())
    assert "--flush-rows" in result.stderr


def test_slices_give_the_state_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(event(number, 1 + number % 20, number) for number in range(3_000)))
    one, many = f"embedded:{tmp_path / 'one'}", f"embedded:{tmp_path / 'many'}"
    assert run("--events", path, "--store", one, "--feature-set", DEMO).exit_code == 0
    lines = path.read_bytes().splitlines(keepends=True)
    ordered = sorted(lines, key=lambda line: json.loads(line)["event_time"])
    for start in range(0, len(ordered), 1_000):
        data = b"".join(ordered[start : start + 1_000])
        assert run("--events", "-", "--store", many, "--feature-set", DEMO, stdin=data).exit_code == 0
    at = "2018-04-28T00:00:00Z"
    assert values_of(one, DEMO, "customer_id", "596", at) == values_of(many, DEMO, "customer_id", "596", at)


def test_rejects_are_named_kept_and_stop_nothing(tmp_path: Path, url: str) -> None:
    rejects = tmp_path / "rejects.jsonl"
    secret = "4111111111111111"
    bad = [event(3, 3, 5716.0), event(4, 4, secret), '{"transaction_id":"5"', '{"a":1,"a":2}', "\udcff", "x" * 100_000]
    data = "\n".join([event(1, 1), *bad, event(2, 2)]).encode("utf-8", "surrogateescape")
    result = run("--events", "-", "--store", url, "--feature-set", DEMO, "--rejects", rejects, stdin=data)
    assert result.exit_code == 4
    assert "2 recorded" in result.stderr
    assert "6 were rejected" in result.stderr
    assert 'features["amount_minor"]' in result.stderr
    assert secret not in result.stderr
    kept = [json.loads(line) for line in rejects.read_bytes().splitlines()]
    assert [reject["line"] for reject in kept] == [2, 3, 4, 5, 6, 7]
    assert [reject["reason"] for reject in kept][:3] == ["WRONG_TYPE", "WRONG_TYPE", "MALFORMED_JSON"]
    assert [reject.get("original") for reject in kept][:4] == bad[:4]
    assert kept[4]["original_base64"] == "/w=="
    for reject in kept[:5]:
        original = data[reject["source_offset_bytes"] :].split(b"\n")[0]
        assert original.decode("utf-8", "surrogateescape") == bad[reject["line"] - 2]
    assert json.loads(result.stdout.splitlines()[0])["validation_status"] == "FAIL"
    assert values_of(url, DEMO, "customer_id", "596", "2018-04-03T00:00:00Z")["customer_tx_count_7d"] == 2


def test_an_event_ahead_of_the_clock_is_a_reject(tmp_path: Path, url: str) -> None:
    """A producer's milliseconds for seconds ended the whole run with EVENT_IN_FUTURE, valid events included."""
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join([event(1, 1), event(2, 2, event_time="9999-01-01T00:00:00Z"), event(3, 3)]))
    rejects = tmp_path / "rejects.jsonl"
    result = run("--events", path, "--store", url, "--feature-set", DEMO, "--rejects", rejects, "--json")
    assert result.exit_code == 4
    assert "EVENT_IN_FUTURE" in rejects.read_text()
    assert values_of(url, DEMO, "customer_id", "596", "2018-04-03T12:00:00Z")["customer_tx_count_7d"] == 2


def test_a_label_ahead_of_the_clock_is_a_reject(tmp_path: Path, url: str) -> None:
    """The store refused it, and the whole run with it, without naming a line."""
    path, rejects = tmp_path / "events.jsonl", tmp_path / "rejects.jsonl"
    path.write_text("\n".join([event(1, 1), event(2, 2, is_fraud=True, label_time="2999-01-01T00:00:00Z"), event(3, 3)]))
    result = run("--events", path, "--store", url, "--feature-set", DEMO, "--rejects", rejects)
    assert result.exit_code == 4
    (reject,) = [json.loads(line) for line in rejects.read_text().splitlines()]
    (violation,) = reject["violations"]
    assert (reject["line"], violation["reason"], violation["field"]) == (2, "EVENT_IN_FUTURE", "label_time")
    assert "expected at most 300 s ahead of this machine's clock; check" in violation["description"]
    assert "2 recorded" in result.stderr


@pytest.mark.parametrize(("ahead_s", "code"), [(240, 0), (360, 4)])
def test_clocks_may_differ_by_five_minutes(tmp_path: Path, url: str, profile: Path, ahead_s: int, code: int) -> None:
    """One event 23 h ahead expired what short windows held, and real events were too late for a day."""
    moment = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
    data = event(1, 1, event_time=moment).encode()
    assert run("--events", "-", "--store", url, "--feature-set", DEMO, stdin=data).exit_code == code
    row = json.dumps(GOOD | {"updated_at": moment}).encode()
    result = run("--view", "home", "--attributes", "-", "--store", url, "--feature-set", profile, stdin=row)
    assert result.exit_code == code


def test_a_mended_copy_of_the_rejects_can_be_sent_again(tmp_path: Path, url: str) -> None:
    rejects = tmp_path / "rejects.jsonl"
    run("--events", "-", "--store", url, "--feature-set", DEMO, "--rejects", rejects, stdin=event(3, 3, 5716.0).encode())
    mended = json.loads(rejects.read_text())["original"].replace("5716.0", "5716").encode()
    assert run("--events", "-", "--store", url, "--feature-set", DEMO, stdin=mended).exit_code == 0
    assert values_of(url, DEMO, "customer_id", "596", "2018-04-04T00:00:00Z")["customer_amount_minor_avg_7d"] == 5_716.0


def test_rejects_go_behind_those_of_earlier_runs(tmp_path: Path, url: str) -> None:
    """A run that failed had destroyed them before it was known to work."""
    rejects = tmp_path / "rejects.jsonl"
    arguments = ("--events", "-", "--feature-set", DEMO, "--rejects", rejects)
    for store, code in ((url, 4), (f"embedded:{tmp_path}", 1), (url, 4)):
        assert run(*arguments, "--store", store, stdin=event(3, 3, 5716.0).encode()).exit_code == code
    assert [json.loads(line)["original"] for line in rejects.read_text().splitlines()] == [event(3, 3, 5716.0)] * 2


def test_rejects_never_go_into_another_file_of_the_command(tmp_path: Path, url: str, profile: Path) -> None:
    """It was emptied, with exit code 0."""
    path, link, here = tmp_path / "events.jsonl", tmp_path / "link", tmp_path / "here"
    path.write_text(event(1, 1))
    link.symlink_to(path)
    here.symlink_to(tmp_path)
    from_events = ["--events", path, "--store", url, "--feature-set", profile]
    cases = [
        (from_events, path, "--events"),
        (from_events, link, "--events"),
        (["--view", "home", "--attributes", path, *from_events[2:]], path, "--attributes"),
        (from_events, here / "store.snapshot", "--store"),
        (from_events, tmp_path / "store.snapshot.lock", "--store"),
        (from_events, profile, "--feature-set"),
        (["--kafka", "b:1", "--topic", "t", "--group", "g", "--store", url], tmp_path / "store.snapshot", "--store"),
    ]
    before = profile.read_text()
    for arguments, rejects, option in cases:
        result = run(*arguments, "--rejects", rejects)
        said = " ".join(result.stderr.split())
        assert (result.exit_code, f"is a file of {option} too, and would be spoilt; name another" in said) == (2, True), said
    assert (path.read_text(), profile.read_text()) == (event(1, 1), before)
    assert sorted(tmp_path.iterdir()) == sorted([path, link, here, profile])


def test_nothing_is_saved_when_the_store_is_full(tmp_path: Path, url: str) -> None:
    assert run("--events", "-", "--store", url, "--feature-set", DEMO, stdin=event(1, 1).encode()).exit_code == 0
    before = (tmp_path / "store.snapshot").read_bytes()
    many = "\n".join(event(n, 1, entities={"customer_id": f"c{n}", "terminal_id": f"t{n}"}) for n in range(20_000)).encode()
    result = run("--events", "-", "--store", url, "--feature-set", DEMO, "--store-bytes-max", str(1 << 20), stdin=many)
    assert result.exit_code == 1
    assert "STORE_FULL" in result.stderr
    assert (tmp_path / "store.snapshot").read_bytes() == before


def test_usage(tmp_path: Path, url: str) -> None:
    for arguments in (
        ["--store", url],
        ["--store", url, "--view", "profile"],
        ["--store", url, "--attributes", "a.jsonl"],
        ["--store", url, "--group", "g"],
    ):
        result = run(*arguments)
        assert (result.exit_code, "give one of --events" in result.stderr) == (2, True)
    result = run("--store", "embedded:", "--events", "a.jsonl")
    assert (result.exit_code, "--store embedded:PATH" in result.stderr) == (2, True)
    result = run("--store", url, "--events", tmp_path / "absent.jsonl", "--feature-set", DEMO)
    assert (result.exit_code, "cannot be read" in " ".join(result.stderr.split())) == (1, True)
    assert not (tmp_path / "store.snapshot").exists()
    result = run("--help")
    assert (result.exit_code, result.stdout.count("assay ingest --")) == (0, 5)


FILE, ROWS, DEMOS, TOPIC = ["--events", "e"], ["--view", "v", "--attributes", "a"], ["--demo-history"], ["--kafka", "b:1"]
CHECKED, CHECKED_TOPIC = ["--check", *FILE], ["--check", *TOPIC, "--topic", "t"]
NO_EFFECT = [
    (FILE, ["--fail-on-reject"], "give no --fail-on-reject with --events: it belongs to --kafka"),
    (FILE, ["--dead-letter-topic", "t"], "give no --dead-letter-topic with --events: it belongs to --kafka"),
    (FILE, ["--label-topic", "t"], "give no --label-topic with --events"),
    (FILE, ["--label-wait-ms", "60000"], "give no --label-wait-ms with --events"),  # its default
    (FILE, ["--stop-at-end"], "give no --stop-at-end with --events"),
    (FILE, ["--metrics-listen", "auto"], "give no --metrics-listen with --events"),
    (FILE, ["--group", "g"], "give no --group with --events"),
    (FILE, ["--bundle", "b"], "give no --bundle with --events: it belongs to --kafka, --check --events, --check --kafka"),
    (FILE, ["--messages", "5"], "give no --messages with --events"),
    (FILE, ROWS, "give no --view with --events: it belongs to --attributes"),
    (ROWS, ["--flush-ms", "5"], "give no --flush-ms with --attributes: it belongs to --kafka"),
    (DEMOS, ["--feature-set", "f.yaml"], "give no --feature-set with --demo-history"),
    (DEMOS, ["--rejects", "r"], "give no --rejects with --demo-history: it belongs to --events, --attributes, --kafka"),
    (DEMOS, ["--flush-rows", "5"], "give no --flush-rows with --demo-history"),
    (TOPIC, FILE, "give no --events with --kafka"),
    (TOPIC, DEMOS, "give no --demo-history with --kafka"),
    (
        [*TOPIC, "--topic", "t", "--group", "g", "--fail-on-reject"],
        ["--bundle", "b"],
        "--bundle with --kafka shows on the metrics page: give --metrics-listen too",
    ),
    (CHECKED, ["--rejects", "r"], "give no --rejects with --check --events: it belongs to --events, --attributes, --kafka"),
    (CHECKED, ROWS, "give no --view with --check --events: it belongs to --attributes"),
    (CHECKED, ["--kafka-option", "a=b"], "give no --kafka-option with --check --events: it belongs to --kafka, --check --kafka"),
    (CHECKED_TOPIC, ["--store-bytes-max", "2000000"], "give no --store-bytes-max with --check --kafka"),
    (CHECKED_TOPIC, ["--group", "g"], "give no --group with --check --kafka: it belongs to --kafka"),
    (CHECKED_TOPIC, FILE, "give no --events with --check --kafka"),
]


@pytest.mark.parametrize(("mode", "options", "says"), NO_EFFECT, ids=[" ".join([*m, *o]) for m, o, _ in NO_EFFECT])
def test_an_option_that_would_do_nothing_is_usage(url: str, mode: list[str], options: list[str], says: str) -> None:
    where = [] if "--check" in mode else ["--store", url]
    result = run(*mode, *where, *options)
    assert (result.exit_code, says in " ".join(result.stderr.split())) == (2, True), result.output


def test_a_store_does_nothing_for_a_look(url: str) -> None:
    result = run(*CHECKED, "--store", url)
    assert (result.exit_code, "give no --store with --check --events" in " ".join(result.stderr.split())) == (2, True)


def test_every_option_belongs_to_a_mode() -> None:
    known = {param.name for param in typer.main.get_command(app).params} - {"help", "install_completion", "show_completion"}
    assert set().union(*MODES.values()) == known


# --- attributes

PROFILE = """
name: profile
version: "7"
entities: [customer_id]
views:
  home:
    kind: attributes
    entity: customer_id
    attributes: {tier: string, latitude: float64, opened_at: time, vip: bool, orders: int64}
derived:
  is_gold: {op: equals, of: tier, value: gold}
  days: {op: days_since, since: opened_at}
inputs:
  - {name: is_gold, when_null: {default: 0}}
  - {name: days, when_null: nan}
  - {name: latitude, when_null: nan}
"""

GOOD: dict[str, Any] = {
    "customer_id": "596", "updated_at": "2018-04-01T00:00:00Z", "tier": "gold", "latitude": 50.85,
    "opened_at": "2017-04-01T00:00:00+02:00", "vip": True, "orders": 3,
}  # fmt: skip


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


def attributes_of(url: str, profile: Path, customer: str = "596") -> dict[str, Any]:
    return values_of(url, profile, "customer_id", customer, "2018-05-01T00:00:00Z")


def test_attributes_from_json_lines(url: str, profile: Path) -> None:
    rows = [
        GOOD,
        GOOD | {"customer_id": "7", "tier": None, "latitude": None, "opened_at": None, "vip": None, "orders": None},
        GOOD | {"updated_at": "2018-03-01T00:00:00Z", "orders": 99},  # older than what is there
        GOOD,
    ]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    result = run("--view", "home", "--attributes", "-", "--store", url, "--feature-set", profile, "--json", stdin=data)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [document[f"{name}_count"] for name in ("event", "recorded", "duplicate", "late", "rejected")] == [4, 2, 1, 1, 0]
    (flush,) = document["flushes"]
    nulls = {feature["name"]: (feature["type"], feature["null_count"]) for feature in flush["features"]}
    assert nulls == {
        "latitude": ("float64", 1),
        "opened_at": ("time", 1),
        "orders": ("int64", 1),
        "tier": ("string", 1),
        "vip": ("bool", 1),
    }
    assert (flush["source_kafka_topic"], flush["feature_set_version"]) == ("stdin", "7")
    assert attributes_of(url, profile) == {
        "tier": "(text)",
        "latitude": 50.85,
        "opened_at": "2017-03-31T22:00:00Z",
        "vip": True,
        "orders": 3,
    }
    assert set(attributes_of(url, profile, "7").values()) == {None}
    plan = compile_plan(FeatureSet.load(profile))
    with open_store(url, mode="read") as store:
        row = _core.FeatureReader(plan, store.core).read("1", parse_time_us("2018-03-31T22:00:00Z"), {"customer_id": "596"}, {})
        assert isinstance(row, _core.ReadRow)
        assert memoryview(row.row).cast("f")[:2].tolist() == [1.0, 365.0]


BAD_ROWS = {
    "an integer for a float64": ({"latitude": 50}, "latitude", "WRONG_TYPE", "expected float64, found an integer"),
    "a float for an int64": ({"orders": 3.0}, "orders", "WRONG_TYPE", "expected int64, found a float"),
    "a bool for an int64": ({"orders": True}, "orders", "WRONG_TYPE", "found a bool"),
    "an integer id": ({"customer_id": 596}, "customer_id", "WRONG_TYPE", "expected a string, found an integer"),
    "an empty id": ({"customer_id": ""}, "customer_id", "MISSING_ENTITY", "1 to 128"),
    "a long id": ({"customer_id": "x" * 129}, "customer_id", "TOO_LONG", "1 to 128"),
    "no time": ({"updated_at": None}, "updated_at", "MISSING_FIELD", "expected a time"),
    "a number as a time": ({"updated_at": 1_522_540_800}, "updated_at", "WRONG_TYPE", "found an integer"),
    "a time without zone": ({"opened_at": "2018-04-01T00:00:00"}, "opened_at", "BAD_TIMESTAMP", "with a zone"),
    "an unknown attribute": ({"teir": "gold"}, "teir", "UNKNOWN_FEATURE", "no such attribute"),
    "an integer past int64": ({"orders": 1 << 63}, "orders", "INTEGER_OVERFLOW", "64 bits"),
    "a long text": ({"tier": "x" * 257}, "tier", "TOO_LONG", "256"),
    "NaN": ({"latitude": math.nan}, "", "NOT_FINITE", "write null"),
}


@pytest.mark.parametrize(("change", "field", "reason", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_rejected_by_name(
    tmp_path: Path, url: str, profile: Path, change: dict[str, Any], field: str, reason: str, message: str
) -> None:
    rejects = tmp_path / "rejects.jsonl"
    data = "\n".join(json.dumps(row) for row in (GOOD | change, GOOD | {"customer_id": "ok"})).encode()
    result = run(
        "--view", "home", "--attributes", "-", "--store", url, "--feature-set", profile, "--rejects", rejects, stdin=data
    )  # fmt: skip
    assert result.exit_code == 4, result.output
    (reject,) = [json.loads(line) for line in rejects.read_text().splitlines()]
    (violation,) = reject["violations"]
    assert (violation["field"], violation["reason"]) == (field, reason)
    assert message in violation["description"]
    assert reject["original"] == json.dumps(GOOD | change)
    assert attributes_of(url, profile, "ok")["orders"] == 3


@pytest.mark.parametrize("name", ["4111111111111111", "card 4111 1111-1111 1111", "pan_4111111111111111"])
def test_a_card_number_as_a_name_is_masked(name: str, url: str, profile: Path) -> None:
    """Names had a mask of their own, which knew bare digits alone; the second and third reached the error in full."""
    line = json.dumps({**GOOD, name: 1}).encode()
    result = run("--view", "home", "--attributes", "-", "--store", url, "--feature-set", profile, stdin=line)
    assert result.exit_code == 4, result.output
    assert "4111" not in result.output
    assert "4111" not in printable(name)


def test_bad_lines_of_attributes(tmp_path: Path, url: str, profile: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    missing = {key: value for key, value in GOOD.items() if key not in ("vip", "orders")}
    lines = [
        json.dumps(missing).encode(), b'{"customer_id":"1","customer_id":"2"}', b"[1]", b"{", b"\xff", b'{"orders":1e400}',
        b"[" * 50_000, b'{"orders":' + b"9" * 5_000 + b"}", b'{"customer_id":"\\ud800"}', b" ",
    ]  # fmt: skip
    result = run(
        "--view",
        "home",
        "--attributes",
        "-",
        "--store",
        url,
        "--feature-set",
        profile,
        "--rejects",
        rejects,
        stdin=b"\n".join(lines),
    )
    assert result.exit_code == 4, result.output
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [reject["line"] for reject in kept] == list(range(1, 10))
    assert [v["field"] for v in kept[0]["violations"]] == ["orders", "vip"]
    assert [reject["reason"] for reject in kept[1:5]] == ["DUPLICATE_KEY", "WRONG_TYPE", "MALFORMED_JSON", "MALFORMED_JSON"]


def parquet(path: Path, **columns: pa.Array) -> Path:
    base: dict[str, pa.Array] = {
        "customer_id": pa.array(["1", "2"]),
        "updated_at": pa.array([1_522_540_800_000, 1_522_540_800_000], pa.timestamp("ms", tz="UTC")),
        "tier": pa.array(["gold", None]).dictionary_encode(),
        "latitude": pa.array([1.5, None], pa.float32()),
        "opened_at": pa.array([-1, None], pa.timestamp("ns", tz="Europe/Brussels")),
        "vip": pa.array([True, None]),
        "orders": pa.array([3, None], pa.int32()),
    }
    pq.write_table(pa.table({**base, **columns}), path)
    return path


def test_attributes_from_parquet(tmp_path: Path, url: str, profile: Path) -> None:
    path = parquet(tmp_path / "customers.parquet")
    result = run("--view", "home", "--attributes", path, "--store", url, "--feature-set", profile, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["recorded_count"] == 2
    assert attributes_of(url, profile, "1") == {
        "tier": "(text)",
        "latitude": 1.5,
        "opened_at": "1969-12-31T23:59:59.999999Z",
        "vip": True,
        "orders": 3,
    }
    assert set(attributes_of(url, profile, "2").values()) == {None}


WRONG_COLUMNS = {
    "an int64 for a float64": ({"latitude": pa.array([1, 2])}, "latitude: expected float64, found int64"),
    "a float for an int64": ({"orders": pa.array([1.0, 2.0])}, "orders: expected int64, found double"),
    "an integer id": ({"customer_id": pa.array([1, 2])}, "customer_id: expected string, found int64"),
    "a time without zone": (
        {"updated_at": pa.array([1, 2], pa.timestamp("us"))},
        "expected time with a zone, found timestamp[us] without one",
    ),
    "an unknown column": ({"teir": pa.array([1, 2])}, "teir: unknown column"),
}


@pytest.mark.parametrize(("columns", "message"), WRONG_COLUMNS.values(), ids=WRONG_COLUMNS.keys())
def test_columns_that_do_not_fit_refuse_the_file(
    tmp_path: Path, url: str, profile: Path, columns: dict[str, pa.Array], message: str
) -> None:
    path = parquet(tmp_path / "customers.parquet", **columns)
    result = run("--view", "home", "--attributes", path, "--store", url, "--feature-set", profile)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "store.snapshot").exists()


def test_a_bad_row_of_parquet_is_kept_as_json(tmp_path: Path, url: str, profile: Path) -> None:
    path, rejects = parquet(tmp_path / "customers.parquet", latitude=pa.array([math.nan, 1.0])), tmp_path / "rejects.jsonl"
    result = run("--view", "home", "--attributes", path, "--store", url, "--feature-set", profile, "--rejects", rejects)
    assert result.exit_code == 4
    (reject,) = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert (reject["line"], reject["reason"]) == (1, "NOT_FINITE")
    assert json.loads(reject["original"])["latitude"] == "nan"
    assert json.loads(reject["original"])["updated_at"] == "2018-04-01T00:00:00Z"


def test_a_damaged_parquet_file_is_named(tmp_path: Path, url: str, profile: Path) -> None:
    path = parquet(tmp_path / "customers.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    result = run("--view", "home", "--attributes", path, "--store", url, "--feature-set", profile)
    assert result.exit_code == 1
    assert "not a readable Parquet file" in " ".join(result.stderr.split())


def test_events_do_not_go_into_an_attribute_view(url: str, profile: Path) -> None:
    result = run("--view", "house", "--attributes", "-", "--store", url, "--feature-set", profile)
    assert result.exit_code == 1
    assert "attribute views are: home" in " ".join(result.stderr.split())
