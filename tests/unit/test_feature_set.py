"""Feature sets: what is refused, and how it is said. Every error names the line, the path, what was expected; never a value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.errors import FeatureSetError
from assay.features.checks import derived_order
from assay.features.compile import TensorMapping, compile_plan, default_tensors
from assay.features.durations import DURATION_US_MAX, format_duration, parse_duration_us
from assay.features.feature_set import FeatureSet, feature_set_json_schema
from assay.features.yaml_document import BYTES_MAX

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "card_fraud" / "feature_set.yaml"

PUBLISHED_ORDER = [
    "amount",
    "is_weekend",
    "is_night",
    "customer_tx_count_1d",
    "customer_amount_avg_1d",
    "customer_tx_count_7d",
    "customer_amount_avg_7d",
    "customer_tx_count_30d",
    "customer_amount_avg_30d",
    "terminal_tx_count_1d",
    "terminal_fraud_rate_1d",
    "terminal_tx_count_7d",
    "terminal_fraud_rate_7d",
    "terminal_tx_count_30d",
    "terminal_fraud_rate_30d",
]

BASE = """\
name: cards
version: "1"
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0, maximum: 1000000}
  rate: {dtype: float64, required: false}
  channel: {dtype: string, required: false}
  chip: {dtype: bool, default: false}
views:
  customer:
    entity: customer_id
    aggregates:
      count_1h: {op: count, window: 1h}
      avg_1d: {op: avg, of: amount_minor, window: 1d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates:
      risk_1d: {op: rate_true, of: is_fraud, window: 1d}
  profile:
    kind: attributes
    entity: customer_id
    attributes: {opened_at: time, tier: string, score: float64}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
inputs:
  - amount
  - {name: risk, from: risk_1d, when_null: {default: 0.0}}
"""


def parse(*changes: tuple[str, str]) -> FeatureSet:
    text = BASE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must stand once"
        text = text.replace(old, new)
    return FeatureSet.parse(text, "cards.yaml")


def error_of(*changes: tuple[str, str]) -> str:
    with pytest.raises(FeatureSetError) as caught:
        parse(*changes)
    return str(caught.value)


def test_the_demo_has_the_published_inputs_in_order() -> None:
    demo = FeatureSet.load(DEMO)
    assert list(demo.input_names) == PUBLISHED_ORDER
    plan = compile_plan(demo)
    assert list(plan.input_names) == PUBLISHED_ORDER
    assert plan.segments == (("input", 1, 0, 15),)
    assert plan.schema_hash == demo.schema_hash
    assert set(plan.view_names) == {"customer", "terminal"}


REFUSED = {
    "unknown key": (
        ("{op: count, window: 1h}", "{op: count, widnow: 1h}"),
        13,
        "views.customer.aggregates.count_1h.widnow",
        "did you mean window?",
    ),
    "unknown top key": (("derived:", "dervied:"), 26, "dervied", "did you mean derived?"),
    "unknown key of an operation": (
        ("divide_by: 100", "divided_by: 100"),
        26,
        "derived.amount.divided_by",
        "did you mean divide_by?",
    ),
    "unknown key of an input": (("from: risk_1d", "form: risk_1d"), 29, "inputs[1].form", "did you mean from?"),
    "python's name of a key": (("from: risk_1d", "source: risk_1d"), 29, "inputs[1].source", "unknown key"),
    "unknown operation": (("op: scale", "op: scael"), 26, "derived.amount.op", "did you mean scale?"),
    "no operation": (("op: scale, ", ""), 26, "derived.amount.op", "missing"),
    "unknown aggregate": (("op: avg", "op: mean"), 14, "views.customer.aggregates.avg_1d.op", "expected 'count', 'sum', 'avg'"),
    "unknown kind of view": (("kind: attributes", "kind: attribute"), 22, "views.profile.kind", "did you mean attributes?"),
    "missing name": (("name: cards\n", ""), 1, "name", "missing"),
    "type of version": (('version: "1"', "version: 1"), 2, "version", "expected a string, found an integer; quote it"),
    "YAML's no": (('version: "1"', "version: no"), 2, "version", "expected a string, found a boolean; quote it"),
    "YAML's date": (('version: "1"', "version: 2018-04-01"), 2, "version", "reads this as a date; quote it"),
    "duration without unit": (
        ("window: 1h", "window: 3600"),
        13,
        "count_1h.window",
        "such as 30s, 15m, 1h or 7d, found an integer",
    ),
    "duration of no unit": (("window: 1h", "window: 1y"), 13, "count_1h.window", "expected a duration"),
    "duration too long": (("window: 1h", "window: 3661d"), 13, "count_1h.window", "ten years"),
    "window of nothing": (("window: 1h", "window: 0s"), 13, "count_1h.window", "above 0"),
    "twice": (("version:", "name: again\nversion:"), 2, "name", "stands twice, first in line 1"),
    "alias": (("[customer_id, terminal_id]", "[&a customer_id, *a]"), 3, "entities[1]", "aliases"),
    "tag": (("name: cards", "name: !!python/name:os.system x"), 1, "name", "tags are not supported"),
    "label without delay": (("    delay: 7d\n", ""), 16, "views.terminal.delay", "leakage"),
    "label with a delay of nothing": (("delay: 7d", "delay: 0s"), 18, "views.terminal.delay", "leakage"),
    "label in secret": (("    labels: true\n", ""), 16, "views.terminal", "labels: true"),
    "label declared for nothing": (("op: rate_true, of: is_fraud", "op: count"), 17, "views.terminal.labels", "remove labels"),
    "label as an input": (("  - amount\n", "  - is_fraud\n"), 28, "inputs[0]", "leakage"),
    "label as a request feature": (("  channel:", "  is_fraud:"), 7, "request_features.is_fraud", "is the label"),
    "label in a derived feature": (
        ("of: amount_minor, divide_by", "of: is_fraud, divide_by"),
        26,
        "derived.amount",
        "is_fraud is the label",
    ),
    "sum of labels": (("op: rate_true", "op: sum"), 20, "risk_1d.of", "rate_true only"),
    "current with a delay": (
        ("    labels: true\n", "    labels: true\n    current: include\n"),
        18,
        "views.terminal.current",
        "outside every window",
    ),
    "unknown entity": (
        ("    entity: terminal_id", "    entity: terminl_id"),
        16,
        "views.terminal.entity",
        "did you mean terminal_id?",
    ),
    "unknown column": (("op: avg, of: amount_minor", "op: avg, of: amount_mnor"), 14, "avg_1d.of", "did you mean amount_minor?"),
    "no column": (("op: avg, of: amount_minor", "op: avg"), 14, "avg_1d.of", "missing"),
    "column of a count": (("op: count", "op: count, of: amount_minor"), 13, "count_1h.of", "reads no value"),
    "sum of an entity": (("op: avg, of: amount_minor", "op: avg, of: terminal_id"), 14, "avg_1d.of", "distinct only"),
    "unknown value": (
        ("of: amount_minor, divide_by", "of: amount_mnor, divide_by"),
        26,
        "derived.amount",
        "did you mean amount_minor?",
    ),
    "unknown input": (("  - amount\n", "  - amonut\n"), 28, "inputs[0]", "did you mean amount?"),
    "input twice": (("  - amount\n", "  - amount\n  - amount\n"), 29, "inputs[1]", "two inputs"),
    "added input twice": (
        ("  - amount\n", "  - {name: amount, add_is_missing: true}\n  - {name: amount_is_missing, from: amount}\n"),
        29,
        "inputs[1]",
        "two inputs",
    ),
    "cycle": (
        ("  amount: {op: scale, of: amount_minor", "  other: {op: log1p, of: amount}\n  amount: {op: scale, of: other"),
        27,
        "derived.amount",
        "other -> amount -> other",
    ),
    "name twice": (("      count_1h:", "      amount_minor:"), 13, "amount_minor", "taken by request_features.amount_minor"),
    "name of an entity": (("  channel:", "  customer_id:"), 7, "customer_id", "name of an entity"),
    "reserved name": (("  channel:", "  event_time:"), 7, "event_time", "the event's own time"),
    "not a name": (("  channel:", "  Channel:"), 7, "request_features.Channel", "a letter a-z"),
    "reserved attribute": (
        ("opened_at: time", "updated_at: time"),
        24,
        "views.profile.attributes.updated_at",
        "choose another name",
    ),
    "unknown type": (("tier: string", "tier: text"), 24, "views.profile.attributes.tier", "'string'"),
    "bound of another type": (("minimum: 0", "minimum: 0.5"), 5, "amount_minor.minimum", "declared type int64, found a float"),
    "bound that is a boolean": (
        ("minimum: 0", "minimum: false"),
        5,
        "amount_minor.minimum",
        "expected a number, found a boolean",
    ),
    "bound of a text": (("channel: {dtype: string", "channel: {dtype: string, minimum: 1"), 7, "channel.minimum", "no bounds"),
    "bounds crossed": (("minimum: 0", "minimum: 1000001"), 5, "amount_minor.minimum", "above maximum"),
    "bound past int64": (("maximum: 1000000", "maximum: 9223372036854775808"), 5, "amount_minor.maximum", "64 bits"),
    "bound of NaN": (("rate: {dtype: float64", "rate: {dtype: float64, maximum: .nan"), 6, "rate.maximum", "finite"),
    "default of another type": (("default: false", "default: 0"), 8, "chip.default", "declared type bool, found an integer"),
    "required with a default": (("default: false", "default: false, required: true"), 8, "chip.default", "remove one of the two"),
    "integers for an int64": (
        ("amount_minor: {dtype: int64", "amount_minor: {accept_int: true, dtype: int64"),
        5,
        "amount_minor.accept_int",
        "takes integers anyway; remove it",
    ),
    "integers for a bool": (("default: false", "default: false, accept_int: true"), 8, "chip.accept_int", "none is a bool"),
    "integers for a text": (
        ("channel: {dtype: string", "channel: {accept_int: true, dtype: string"),
        7,
        "channel.accept_int",
        "none is a string",
    ),
    "integers, perhaps": (
        ("rate: {dtype: float64", "rate: {dtype: float64, accept_int: 1"),
        6,
        "rate.accept_int",
        "true or false",
    ),
    "divide by nothing": (("divide_by: 100", "divide_by: 0"), 26, "derived.amount.divide_by", "other than 0"),
    "null that means nothing": (("when_null: {default: 0.0}", "when_null: zero"), 29, "inputs[1].when_null", "{default: NUMBER}"),
    "default that is a text": (
        ("default: 0.0}", "default: zero}"),
        29,
        "inputs[1].when_null.default",
        "expected a number, found a string",
    ),
    "NaN in an integer": (
        ("when_null: {default: 0.0}", "when_null: nan, dtype: int64"),
        29,
        "inputs[1].when_null",
        "int64 has no NaN",
    ),
    "a number for a view": (
        ("  customer:\n    entity: customer_id\n", "  customer: 5\n  kunde:\n    entity: customer_id\n"),
        10,
        "views.customer",
        "expected a mapping, found an integer",
    ),
    "place of one coordinate": (
        ("{op: scale, of: amount_minor, divide_by: 100}", "{op: haversine_km, from: [rate, rate], to: [rate]}"),
        26,
        "derived.amount.to",
        "missing",
    ),
    "equals nothing": (
        ("{op: scale, of: amount_minor, divide_by: 100}", "{op: equals, of: channel}"),
        26,
        "derived.amount",
        "exactly one of to",
    ),
    "word twice": (
        ("{op: scale, of: amount_minor, divide_by: 100}", "{op: vocabulary, of: channel, words: [a, a], unknown: -1}"),
        26,
        "words",
        "twice",
    ),
    "boolean word": (
        ("{op: scale, of: amount_minor, divide_by: 100}", "{op: vocabulary, of: channel, words: [no], unknown: -1}"),
        26,
        "words[0]",
        "found a boolean; quote it",
    ),
    "no inputs": (
        ("inputs:\n  - amount\n  - {name: risk, from: risk_1d, when_null: {default: 0.0}}\n", "inputs: []\n"),
        27,
        "inputs",
        "at least 1",
    ),
}


@pytest.mark.parametrize(("change", "line", "path", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_mistake_is_refused_with_its_place(change: tuple[str, str], line: int, path: str, message: str) -> None:
    error = error_of(change)
    assert f"cards.yaml:{line}: " in error
    assert path in error
    assert message in error


def test_all_mistakes_are_listed_in_the_order_of_the_file() -> None:
    error = error_of(('version: "1"', "version: 1"), ("op: scale", "op: scael"), ("window: 1h", "window: 5"))
    assert [line.split(":")[1] for line in error.splitlines()] == ["2", "13", "26"]


def test_an_error_never_shows_a_value() -> None:
    secret = "4111111111111111"
    for change in (
        ("window: 1h", f"window: '{secret}'"),
        ("op: avg", f"op: '{secret}'"),
        ("minimum: 0", f"minimum: '{secret}'"),
        ("kind: attributes", f"kind: '{secret}'"),
        ("default: 0.0}", f"default: '{secret}'}}"),
        ("op: scale", f"op: '{secret}'"),
    ):
        assert secret not in error_of(change)


NOT_A_DOCUMENT = {
    "empty": ("", "the file is empty"),
    "a list": ("- 1\n", "expected a mapping"),
    "broken": ("name: [1\n", "not valid YAML"),
    "two documents": ("name: a\n---\nname: b\n", "not valid YAML"),
    "control characters": ("name: \x00\n", "not valid YAML"),
    "deep": ("a: " + "[" * 5_000 + "]" * 5_000, "nested deeper"),
    "a key that is a list": ("[a, b]: 1\n", "a key must be a string"),
    "a key that is a number": ("1: 1\n", "a key must be a string"),
    "merge key": ("<<: {name: a}\n", "a key must be a string"),
    "too large": ("#" * (BYTES_MAX + 1), "larger than 4 MiB"),
}


@pytest.mark.parametrize(("text", "message"), NOT_A_DOCUMENT.values(), ids=NOT_A_DOCUMENT.keys())
def test_what_is_no_document_is_refused(text: str, message: str) -> None:
    with pytest.raises(FeatureSetError, match=message):
        FeatureSet.parse(text, "cards.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureSetError, match=r"absent\.yaml: cannot be read: No such file"):
        FeatureSet.load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(FeatureSetError, match="not UTF-8 text at byte 6"):
        FeatureSet.load(tmp_path / "binary.yaml")


def test_derived_features_may_stand_in_any_order() -> None:
    feature_set = parse(
        ("derived:\n", "derived:\n  log_amount: {op: log1p, of: amount}\n  half: {op: scale, of: log_amount, divide_by: 2}\n")
    )
    assert derived_order(feature_set) == ["amount", "log_amount", "half"]
    compile_plan(feature_set)


def test_a_long_chain_of_derived_features_needs_no_deep_stack() -> None:
    chain = "".join(f"  step_{i}: {{op: log1p, of: {f'step_{i + 1}' if i < 899 else 'amount'}}}\n" for i in range(900))
    feature_set = parse(("derived:\n", f"derived:\n{chain}"), ("  - amount\n", "  - step_0\n"))
    assert derived_order(feature_set)[-1] == "step_0"
    assert compile_plan(feature_set).input_names == ("step_0", "risk")


def test_an_added_missing_input_follows_its_own() -> None:
    feature_set = parse(("  - amount\n", "  - {name: score, when_null: nan, add_is_missing: true}\n  - amount\n"))
    assert feature_set.input_names == ("score", "score_is_missing", "amount", "risk")
    assert compile_plan(feature_set).input_names == feature_set.input_names


EVERY_OPERATION = """\
  d_scale: {op: scale, of: amount_minor, divide_by: 100}
  d_ratio: {op: ratio, of: amount_minor, over: avg_1d}
  d_difference: {op: difference, of: amount, minus: avg_1d}
  d_log1p: {op: log1p, of: amount}
  d_hour: {op: hour}
  d_weekday: {op: weekday, of: event_time}
  d_is_night: {op: is_night, first_hour: 22, last_hour: 5}
  d_is_weekend: {op: is_weekend, of: opened_at}
  d_days_since: {op: days_since, since: opened_at}
  d_haversine_km: {op: haversine_km, from: [rate, rate], to: [score, score]}
  d_speed_kmh: {op: speed_kmh, from: [rate, rate, opened_at], to: [score, score, event_time], seconds_min: 60}
  d_equals: {op: equals, of: channel, to: tier}
  d_equals_word: {op: equals, of: channel, value: web}
  d_equals_number: {op: equals, of: rate, value: 1}
  d_vocabulary: {op: vocabulary, of: channel, words: [web, pos], unknown: -1}
  d_hash_bucket: {op: hash_bucket, of: tier, buckets: 64}
  d_is_missing: {op: is_missing, of: score}
"""


def test_every_operation_compiles() -> None:
    names = [line.split(":")[0].strip() for line in EVERY_OPERATION.splitlines()]
    inputs = "".join(f"  - {{name: {name}, when_null: {{default: 0}}}}\n" for name in names)
    feature_set = parse(("derived:\n", f"derived:\n{EVERY_OPERATION}"), ("  - amount\n", inputs))
    assert compile_plan(feature_set).input_names == (*names, "risk")
    assert {feature.op for feature in feature_set.derived.values()} == set(_operations())


def _operations() -> list[str]:
    from assay import _core

    return [name for name in _core.OPERATIONS if name != "constant"]


WRONG_TYPES = {
    "sum of a float": (("op: avg, of: amount_minor", "op: sum, of: rate"), "minor units"),
    "scale of a text": (("of: amount_minor, divide_by", "of: channel, divide_by"), "amount"),
    "int64 of unknown range": (("  - amount\n", "  - {name: opened, from: opened_at, when_null: nan}\n"), "24"),
    "text as an input": (("  - amount\n", "  - {name: tier, when_null: nan}\n"), "string"),
    "ring too small": (("    labels: true\n", "    labels: true\n    exact_events_max: 255\n"), "256"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_the_core_refuses_types_that_do_not_fit(change: tuple[str, str], message: str) -> None:
    feature_set = parse(change)
    with pytest.raises(FeatureSetError, match=message) as caught:
        compile_plan(feature_set)
    assert "feature set cards" in str(caught.value)


def test_tensors_hold_every_input_once() -> None:
    feature_set = parse()
    assert default_tensors(feature_set) == (TensorMapping("input", "float32", ("amount", "risk")),)
    plan = compile_plan(feature_set, [TensorMapping("b", "float64", ("risk",)), TensorMapping("a", "float32", ("amount",))])
    assert plan.input_elements == ((1, 0), (0, 0))
    for tensors, message in (
        ([TensorMapping("a", "float32", ("amount",))], "no tensor holds risk"),
        ([TensorMapping("a", "float32", ("amount", "risk", "risk"))], "risk stands twice"),
        ([TensorMapping("a", "float32", ("amount", "rsik"))], r"rsik is no input .*did you mean risk\?"),
        ([TensorMapping("a", "float16", ("amount", "risk"))], "unsupported type float16"),
    ):
        with pytest.raises(FeatureSetError, match=message):
            compile_plan(feature_set, tensors)


def test_inputs_of_several_types_get_a_tensor_each() -> None:
    feature_set = parse(("  - amount\n", "  - amount\n  - {name: hour_of_day, from: amount_minor, dtype: int64}\n"))
    assert [tensor.name for tensor in default_tensors(feature_set)] == ["input_float32", "input_int64"]
    assert compile_plan(feature_set).input_names == feature_set.input_names


def test_an_attribute_view_is_found_by_name() -> None:
    feature_set = parse()
    assert list(feature_set.attribute_view("profile").attributes) == ["opened_at", "tier", "score"]
    with pytest.raises(FeatureSetError, match=r"customer is a window view.*attribute views are: profile"):
        feature_set.attribute_view("customer")
    with pytest.raises(FeatureSetError, match="absent is not a view"):
        feature_set.attribute_view("absent")


@pytest.mark.parametrize(
    ("text", "duration_us"),
    [
        ("0s", 0),
        ("1us", 1),
        ("5ms", 5_000),
        ("30s", 30_000_000),
        ("15m", 900_000_000),
        ("1h", 3_600_000_000),
        ("7d", 604_800_000_000),
    ],
)
def test_durations(text: str, duration_us: int) -> None:
    assert parse_duration_us(text) == duration_us
    assert format_duration(duration_us) == text


def test_durations_have_limits() -> None:
    assert parse_duration_us("3660d") == DURATION_US_MAX
    for text in ("3661d", "1", "d", "-1d", "1.5h", "01h", "1 h", "1D", "", "9999999999s", "1h\n"):
        with pytest.raises(ValueError, match="expected a duration"):
            parse_duration_us(text)


def test_the_json_schema_is_closed_and_speaks_the_file_s_words() -> None:
    schema = feature_set_json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "version", "entities", "inputs"}
    for name, definition in schema["$defs"].items():
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False, name
    assert "from" in schema["$defs"]["ModelInput"]["properties"]
    assert schema["$defs"]["Aggregate"]["properties"]["window"]["type"] == "string"
    derived = schema["properties"]["derived"]
    assert derived["additionalProperties"] is False
    (by_name,) = derived["patternProperties"].values()
    assert {"$ref": "#/$defs/Scale"} in by_name["oneOf"]


def test_the_example_of_the_documentation_compiles() -> None:
    text = (ROOT / "docs" / "features.md").read_text()
    example = FeatureSet.parse(text.split("```yaml\n")[1].split("```")[0], "docs/features.md")
    assert compile_plan(example).input_names == example.input_names
    assert "km_from_home_is_missing" in example.input_names


def test_the_documentation_names_every_operation() -> None:
    from assay import _core

    text = (ROOT / "docs" / "features.md").read_text()
    missing = [name for name in [*_operations(), *_core.AGGREGATES] if f"`{name}`" not in text]
    assert not missing
