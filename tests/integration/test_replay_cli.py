"""`assay features replay` and `assay features show`, as a user calls them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from assay import _core
from assay.cli.features import app
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns
from assay.features.store import open_store

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "card_fraud" / "feature_set.yaml"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def event(number: int, time: str, amount: Any = 1_000, customer: str = "596", terminal: str = "3156", **more: Any) -> str:
    return json.dumps(
        {
            "transaction_id": str(number),
            "event_time": time,
            "entities": {"customer_id": customer, "terminal_id": terminal},
            "features": {"amount_minor": amount},
            **more,
        }
    )


# Out of order, one line blank, the last without a newline.
EVENTS = [
    event(10, "2018-04-09T12:00:00Z", 3_000),
    event(1, "2018-04-01T06:59:59Z", 1_000, is_fraud=True),
    "",
    event(9, "2018-04-09T12:00:00Z", 2_000),
    event(2, "2018-04-02T12:00:00+02:00", 500, customer="7"),
]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(EVENTS))
    return path


def test_replay_writes_the_training_set(tmp_path: Path, events: Path) -> None:
    out = tmp_path / "features.parquet"
    result = run("replay", "--feature-set", DEMO, "--events", events, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    feature_set = FeatureSet.load(DEMO)
    assert {key: document[key] for key in ("event_count", "row_count", "invalid_count", "rejected_count")} == {
        "event_count": 4,
        "row_count": 4,
        "invalid_count": 0,
        "rejected_count": 0,
    }
    assert document["schema_hash"] == feature_set.schema_hash

    table = pq.read_table(out)
    assert table.column_names == ["transaction_id", "event_time", *feature_set.input_names]
    assert [str(field.type) for field in table.schema][:3] == ["string", "timestamp[us, tz=UTC]", "float"]
    assert table.schema.metadata[b"assay.schema_hash"].decode() == feature_set.schema_hash
    assert table.schema.metadata[b"assay.feature_set"] == b"card_fraud"
    rows = table.to_pylist()
    # Same second: 9 before 10, as numbers.
    assert [row["transaction_id"] for row in rows] == ["1", "2", "9", "10"]
    assert rows[0]["event_time"] == datetime(2018, 4, 1, 6, 59, 59, tzinfo=UTC)
    assert (rows[0]["amount"], rows[0]["is_weekend"], rows[0]["is_night"]) == (10.0, 1.0, 1.0)
    assert (rows[1]["is_weekend"], rows[1]["is_night"]) == (0.0, 0.0)
    assert [row["customer_tx_count_30d"] for row in rows] == [1, 1, 2, 3]
    assert rows[3]["customer_amount_avg_30d"] == 20.0
    # A week before: transactions 1 (fraud) and 2 are old enough; the fraud rate of an empty window is 0.
    assert [row["terminal_tx_count_7d"] for row in rows] == [0, 0, 2, 2]
    assert [row["terminal_fraud_rate_7d"] for row in rows] == [0.0, 0.0, 0.5, 0.5]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_replay_equals_scoring_then_recording(tmp_path: Path, events: Path) -> None:
    """The training set has the bits that a server would have made: read, then write, in order."""
    out = tmp_path / "features.parquet"
    assert run("replay", "--feature-set", DEMO, "--events", events, "--out", out).exit_code == 0
    feature_set = FeatureSet.load(DEMO)
    plan = compile_plan(feature_set)
    store = _core.EmbeddedStore()
    reader, writer = _core.FeatureReader(plan, store), _core.EventWriter(plan, store)
    lines = {json.loads(line)["transaction_id"]: line.encode() for line in EVENTS if line}
    for row in pq.read_table(out).to_pylist():
        decoded = plan.decode_event_json(lines[row["transaction_id"]])
        assert isinstance(decoded, _core.DecodedTransaction)
        read = reader.read(decoded.transaction_id, decoded.event_time_us, decoded.entities, decoded.features)
        assert isinstance(read, _core.ReadRow)
        columns = input_columns(plan, np.frombuffer(read.row, np.uint8).reshape(1, -1))
        assert {name: column[0].item() for name, column in columns.items()} == {name: row[name] for name in columns}
        writer.write_json(lines[row["transaction_id"]])


BAD_LINES = {
    "a float for an int64": (event(5, "2018-04-09T12:00:00Z", 5716.0), 'features["amount_minor"]', "int64"),
    "NaN": (event(5, "2018-04-09T12:00:00Z", float("nan")), "line 2", ""),
    "a string for an int64": (event(5, "2018-04-09T12:00:00Z", "5716"), 'features["amount_minor"]', "int64"),
    "no zone": (event(5, "2018-04-09T12:00:00"), "event_time", "zone"),
    "an unknown feature": (
        event(5, "2018-04-09T12:00:00Z").replace("amount_minor", "amount"),
        'features["amount_minor"]',
        "features",
    ),
    "garbage": ("\x00\x01garbage", "line 2", "MALFORMED_JSON"),
    "out of range": (event(5, "2018-04-09T12:00:00Z", -1), 'features["amount_minor"]', "OUT_OF_RANGE"),
}


@pytest.mark.parametrize(("line", "field", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_fails_the_replay_by_name(tmp_path: Path, line: str, field: str, message: str) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "features.parquet"
    events.write_text(f"{EVENTS[0]}\n{line}\n{EVENTS[1]}\n")
    out.write_bytes(b"the old one")
    result = run("replay", "--feature-set", DEMO, "--events", events, "--out", out)
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "1 lines are no events" in text
    assert "line 2" in text
    assert field in text
    assert message in text
    assert "5716" not in text
    assert out.read_bytes() == b"the old one"


def test_rejects_are_kept_and_the_rest_is_replayed(tmp_path: Path) -> None:
    events, out, rejects = tmp_path / "events.jsonl", tmp_path / "features.parquet", tmp_path / "rejects.jsonl"
    bad = event(5, "2018-04-09T12:00:00Z", 5716.0)
    long = b'{"transaction_id":"' + b"9" * 200_000 + b'"}'
    events.write_bytes(b"\n".join([EVENTS[0].encode(), bad.encode(), long, b"\xff", EVENTS[1].encode()]))
    for taken in (events, out):
        result = run("replay", "--feature-set", DEMO, "--events", events, "--out", out, "--rejects", taken)
        assert (result.exit_code, "would be spoilt" in result.stderr) == (2, True)
    result = run("replay", "--feature-set", DEMO, "--events", events, "--out", out, "--rejects", rejects, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["rejected_count"] == 3
    assert pq.read_table(out)["transaction_id"].to_pylist() == ["1", "10"]
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(reject["line"], reject["reason"]) for reject in kept] == [(2, "WRONG_TYPE"), (3, "TOO_LONG"), (4, "MALFORMED_JSON")]
    offsets = [0, len(EVENTS[0]) + 1, len(EVENTS[0]) + len(bad) + 2, len(EVENTS[0]) + len(bad) + len(long) + 3]
    assert [reject["source_offset_bytes"] for reject in kept] == offsets[1:]
    assert kept[0]["original"] == bad
    assert kept[0]["violations"][0]["field"] == 'features["amount_minor"]'
    assert kept[2]["original_base64"] == "/w=="


def test_a_row_that_a_score_would_refuse_is_left_out_and_said(tmp_path: Path, events: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(
        DEMO.read_text().replace("{name: terminal_fraud_rate_7d, when_null: {default: 0.0}}", "terminal_fraud_rate_7d")
    )
    out = tmp_path / "features.parquet"
    result = run("replay", "--feature-set", strict, "--events", events, "--out", out)
    assert result.exit_code == 4
    assert "2 events have no row" in " ".join(result.output.split())
    assert pq.read_table(out)["transaction_id"].to_pylist() == ["9", "10"]


def test_labels_without_a_delay_are_refused(tmp_path: Path, events: Path) -> None:
    leaking = tmp_path / "leaking.yaml"
    leaking.write_text(DEMO.read_text().replace("    delay: 7d # ", "    # "))
    result = run("replay", "--feature-set", leaking, "--events", events, "--out", tmp_path / "features.parquet")
    assert result.exit_code == 1
    assert "leakage" in result.output
    assert not (tmp_path / "features.parquet").exists()


@pytest.fixture
def with_tier(tmp_path: Path) -> Path:
    """The demo's feature set, and a tier of the customer from an attribute view."""
    view = "views:\n  profile:\n    kind: attributes\n    entity: customer_id\n    attributes: {tier: float64}\n"
    path = tmp_path / "profile.yaml"
    path.write_text(DEMO.read_text().replace("views:\n", view) + "  - {name: tier, when_null: {default: -1.0}}\n")
    return path


def tier_row(time: str, tier: Any, customer: str = "596") -> str:
    return json.dumps({"customer_id": customer, "updated_at": time, "tier": tier})


def test_attributes_are_not_replayed_as_nulls(tmp_path: Path, events: Path, with_tier: Path) -> None:
    result = run("replay", "--feature-set", with_tier, "--events", events, "--out", tmp_path / "features.parquet")
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "views.profile" in text
    assert "--attributes profile=FILE" in text


def test_attributes_count_from_their_time_on(tmp_path: Path, events: Path, with_tier: Path) -> None:
    """In a file of any order; at the very microsecond they count already. Customer 7 has none until after its event."""
    rows, out = tmp_path / "tiers.jsonl", tmp_path / "features.parquet"
    rows.write_text(
        "\n".join(
            [
                tier_row("2018-04-09T12:00:00.000001Z", 9.0),
                tier_row("2018-04-09T12:00:00Z", 3.0),
                tier_row("2018-04-01T06:59:58Z", 1.0),
                tier_row("2018-04-02T10:00:01Z", 7.0, customer="7"),
                tier_row("2018-04-05T00:00:00Z", None),
            ]
        )
    )
    options = ("--events", events, "--attributes", f"profile={rows}", "--out", out)
    result = run("replay", "--feature-set", with_tier, *options)
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    assert dict(zip(table["transaction_id"].to_pylist(), table["tier"].to_pylist(), strict=True)) == {
        "1": 1.0,  # known a second before
        "2": -1.0,  # not known yet: the default
        "9": 3.0,  # known at that moment
        "10": 3.0,  # the change a microsecond later is not seen
    }


def test_a_history_of_attributes_is_replayed_in_any_pieces(
    tmp_path: Path, with_tier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against an independent rule: the newest row at or before the event. Whatever the size of a chunk."""
    seed = 11
    random = np.random.default_rng(seed)
    start = datetime(2018, 4, 1, tzinfo=UTC).timestamp()

    def moment(second: int) -> str:
        return datetime.fromtimestamp(start + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    moments = random.integers(0, 200, 300)
    customers = random.integers(0, 4, 300)
    changes = sorted({(int(customer), int(second)) for customer, second in random.integers(0, [4, 200], (80, 2))})
    events, tiers, out = tmp_path / "many.jsonl", tmp_path / "tiers.jsonl", tmp_path / "features.parquet"
    events.write_text(
        "\n".join(event(n, moment(int(s)), customer=str(c)) for n, (s, c) in enumerate(zip(moments, customers, strict=True)))
    )
    shuffled = random.permutation(len(changes))
    tiers.write_text("\n".join(tier_row(moment(changes[i][1]), float(i), customer=str(changes[i][0])) for i in shuffled))

    def expected(number: int) -> float:
        known = [i for i, (c, s) in enumerate(changes) if c == customers[number] and s <= moments[number]]
        return float(known[-1]) if known else -1.0

    for rows_per_chunk in (1, 7, 1_000):
        monkeypatch.setattr("assay.features.replay.ROWS_PER_CHUNK", rows_per_chunk)
        options = ("--events", events, "--attributes", f"profile={tiers}", "--out", out)
        assert run("replay", "--feature-set", with_tier, *options).exit_code == 0
        table = pq.read_table(out, columns=["transaction_id", "tier"]).to_pydict()
        found = {int(number): tier for number, tier in zip(*table.values(), strict=True)}
        assert found == {number: expected(number) for number in range(300)}, f"seed {seed}"


def test_rows_that_are_no_attributes_fail_the_replay(tmp_path: Path, events: Path, with_tier: Path) -> None:
    rows, out = tmp_path / "tiers.jsonl", tmp_path / "features.parquet"
    rows.write_text(tier_row("2018-04-01T00:00:00Z", 1.0) + "\n" + tier_row("2018-04-01T00:00:00Z", 1))
    base = ("replay", "--feature-set", with_tier, "--events", events, "--out", out)
    result = run(*base, "--attributes", f"profile={rows}")
    text = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "1 rows are no attributes of feature set" in text
    assert "WRONG_TYPE" in text
    assert not out.exists()
    result = run(*base, "--attributes", f"profile={rows}", "--rejects", tmp_path / "rejects.jsonl")
    assert result.exit_code == 4
    assert pq.read_table(out).num_rows == 4
    result = run(*base, "--attributes", f"customer={rows}", "--attributes", f"profile={rows}")
    assert (result.exit_code, "customer is a window view" in " ".join(result.output.split())) == (1, True)
    for wrong in ("profile", "=x", "profile="):
        assert run(*base, "--attributes", wrong).exit_code == 2


def test_files_that_are_not_there(tmp_path: Path, events: Path) -> None:
    result = run("replay", "--feature-set", DEMO, "--events", tmp_path / "absent.jsonl", "--out", tmp_path / "features.parquet")
    assert (result.exit_code, "cannot be read" in " ".join(result.output.split())) == (1, True)
    result = run("replay", "--feature-set", DEMO, "--events", events, "--out", tmp_path / "absent" / "features.parquet")
    assert (result.exit_code, "cannot be written" in " ".join(result.output.split())) == (1, True)


def test_an_empty_file_makes_an_empty_training_set(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "features.parquet"
    events.write_text("\n\n")
    assert run("replay", "--feature-set", DEMO, "--events", events, "--out", out).exit_code == 0
    table = pq.read_table(out)
    assert (table.num_rows, len(table.column_names)) == (0, 17)


# --- show

PROFILE = """
name: profile
version: "1"
entities: [customer_id, terminal_id]
request_features: {amount_minor: {dtype: int64}, chip: {dtype: bool, required: false}}
views:
  spending:
    entity: customer_id
    current: include
    aggregates:
      count_7d: {op: count, window: 7d}
      average_7d: {op: avg, of: amount_minor, window: 7d}
      last_chip: {op: last, of: chip, window: 7d}
      terminals: {op: distinct, of: terminal_id, window: 7d}
      seen_at: {op: last, of: event_time, window: 7d}
  home:
    kind: attributes
    entity: customer_id
    max_age: 1d
    attributes: {tier: string, city: string, latitude: float64, opened_at: time, vip: bool, orders: int64}
inputs: [count_7d]
"""


@pytest.fixture
def profile(tmp_path: Path) -> tuple[Path, str]:
    path, url = tmp_path / "profile.yaml", f"embedded:{tmp_path / 'store.snapshot'}"
    path.write_text(PROFILE)
    plan = compile_plan(FeatureSet.load(path))
    with open_store(url) as store:
        writer = _core.EventWriter(plan, store.core)
        for number, amount in ((1, 100), (2, 250)):
            code, refusal = writer.write_json(
                event(number, f"2018-04-0{number}T00:00:00Z", amount, terminal=str(number)).encode()
            )
            assert (code, refusal) == (0, None)
        # In the record's order: city, latitude, opened_at, orders, tier, vip.
        writer.write_attributes("home", "596", 1_522_540_800_000_000, [None, 50.85, 1_500_000_000_000_000, 3, "gold", True])
        store.save()
    return path, url


def test_show_says_what_the_model_would_see(profile: tuple[Path, str]) -> None:
    path, url = profile
    result = run("show", "customer_id", "596", "--store", url, "--feature-set", path, "--at", "2018-04-03T00:00:00Z", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["entity"], document["entity_id"], document["at"]) == ("customer_id", "596", "2018-04-03T00:00:00Z")
    spending, home = document["views"]
    assert spending == {
        "name": "spending",
        "found": True,
        "age_s": 86_400.0,
        "flags": [],
        "values": {"count_7d": 2, "average_7d": 175.0, "last_chip": None, "terminals": 2, "seen_at": "2018-04-02T00:00:00Z"},
    }
    assert (home["name"], home["flags"], home["age_s"]) == ("home", ["stale"], 2 * 86_400.0)
    assert home["values"] == {
        "tier": "(text)",
        "city": None,
        "latitude": 50.85,
        "opened_at": "2017-07-14T02:40:00Z",
        "vip": True,
        "orders": 3,
    }


def test_show_reads_well(profile: tuple[Path, str]) -> None:
    path, url = profile
    result = run("show", "customer_id", "596", "--store", url, "--feature-set", path, "--at", "2018-04-03T00:00:00Z")
    assert result.exit_code == 0
    for text in (
        "spending (newest 1.0 d earlier)",
        "average_7d",
        "175",
        "avg of amount_minor over 7d",
        "home (newest 2.0 d earlier, stale)",
        "gold",
    ):
        assert (text in result.output) == (text != "gold"), text
    result = run("show", "customer_id", "unheard-of", "--store", url, "--feature-set", path, "--at", "2018-04-03T00:00:00Z")
    assert (result.exit_code, "nothing stored" in result.output) == (0, True)
    result = run("show", "terminal_id", "1", "--store", url, "--feature-set", path)
    assert (result.exit_code, "no view of the feature set is of terminal_id" in result.output) == (0, True)


def test_show_refuses_with_a_hint(profile: tuple[Path, str]) -> None:
    path, url = profile
    for arguments, exit_code, message in (
        (("customer", "596", "--store", url), 1, "did you mean customer_id?"),
        (("customer_id", "596", "--store", url, "--at", "yesterday"), 2, "expected a time such as"),
        (("customer_id", "596", "--store", "embedded:/absent/store"), 1, "does not exist"),
        (("customer_id", "596", "--store", "mysql://h"), 1, "not supported"),
    ):
        result = run("show", *arguments, "--feature-set", path)
        assert (result.exit_code, message in " ".join(result.output.split())) == (exit_code, True), result.output


def test_show_looks_at_the_demo_without_being_told_where(tmp_path: Path, profile: tuple[Path, str]) -> None:
    result = CliRunner().invoke(app, ["show", "customer_id", "596", "--json"], env={"ASSAY_CACHE_DIR": str(tmp_path)})
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["feature_set"], document["at"]) == ("card_fraud", "2018-05-09T10:30:00Z")
    assert document["views"][0]["values"]["customer_tx_count_30d"] > 0
    result = run("show", "customer_id", "596", "--feature-set", profile[0])
    assert (result.exit_code, "--store embedded:PATH" in result.output) == (2, True)


@pytest.mark.parametrize("command", ["replay", "show"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"assay features {command}" in " ".join(result.output.split())
