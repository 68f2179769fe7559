"""The manifest of a bundle: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from assay.models.manifest import (
    BACKGROUND_FILE,
    BACKGROUND_ROWS_MAX,
    FILE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    Explanation,
    Lineage,
    Manifest,
    Parent,
    Source,
    Training,
    parse_manifest,
)
from assay.models.reasons import CODES_MAX, GROUPS_MAX, TEXT_LENGTH_MAX, Reason, ReasonTable
from assay.models.refusal import BundleRefusedError


def good() -> dict[str, Any]:
    return {
        "format": 1,
        "name": "card_fraud",
        "version": "1.2-rc.1",
        "inputs": [{"tensor": "input", "dtype": "float32", "features": ["amount", "is_night"]}],
        "outputs": ["label", "probabilities"],
        "feature_set": {"name": "card_fraud", "version": "1", "schema_hash": "a" * 64},
        "score": {"output": "probabilities", "column": 1},
        "thresholds": [{"decision": "challenge", "score": 0.3}, {"decision": "decline", "score": 0.9}],
        "batch_tolerance": 0.0,
        "golden_tolerance": 1e-6,
        "timeout_ms": 1000,
        "lineage": {
            "git_commit": "b" * 40,
            "git_is_dirty": False,
            "data_sha256": "c" * 64,
            "created": "2026-11-23T18:00:00Z",
            "libraries": {"numpy": "2.4.6"},
        },
        "explanation": {
            "background_rows": 128,
            "groups": {"when": ["is_night"]},
            "reasons": {
                "table": "1",
                "codes": [
                    {"code": "AMOUNT_UNUSUAL", "for": "amount", "analyst": "The amount is unusual.", "customer": "The amount."},
                    {"code": "TIME_UNUSUAL", "for": "when", "analyst": "The time is unusual."},
                ],
            },
        },
        "files": {name: {"sha256": "d" * 64, "bytes": 10} for name in FILE_BYTES_MAX},
    }


def without_explanation() -> dict[str, Any]:
    """As bundles are that explain nothing, and were before any did."""
    value = good()
    del value["explanation"], value["files"][BACKGROUND_FILE]
    return value


def parse(value: dict[str, Any]) -> Manifest:
    return parse_manifest(yaml.safe_dump(value, sort_keys=False).encode())


def test_good_manifest() -> None:
    manifest = parse(good())
    assert manifest.lineage.created == datetime(2026, 11, 23, 18, tzinfo=UTC)
    assert [threshold.decision for threshold in manifest.thresholds] == ["challenge", "decline"]


@pytest.mark.parametrize("value", [good(), without_explanation()])
def test_written_manifest_reads_back_equal(value: dict[str, Any]) -> None:
    manifest = parse(value)
    again = parse_manifest(manifest.to_yaml())
    assert again == manifest
    assert again.to_yaml() == manifest.to_yaml()


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(value: Any) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change("format", to=2), "format 2, this assay reads format 1"),
        (change("format", to="1"), "reads format 1"),
        (change("surprise", to=1), "surprise"),
        (change("lineage", "surprise", to=1), "lineage.surprise"),
        (change("name", to="../../etc"), "name"),
        (change("name", to="Card"), "name"),
        (change("name", to="a" * 65), "name"),
        (change("name", to="a\n"), "name"),
        (change("version", to=1), "version"),
        (change("version", to=".."), "version"),
        (change("inputs", to=[]), "inputs"),
        (change("inputs", 0, "dtype", to="float16"), "inputs.0.dtype"),
        (change("inputs", 0, "features", to=["amount", "amount"]), "each feature once"),
        (change("inputs", 0, "features", to=[]), "inputs.0.features"),
        (change("score", "output", to="nowhere"), "score.output"),
        (change("score", "column", to=-1), "score.column"),
        (change("score", "column", to=1.0), "score.column"),
        (change("score", "column", to=True), "score.column"),
        (change("thresholds", 1, "score", to=0.3), "ascending"),
        (change("thresholds", 1, "score", to=float("nan")), "thresholds.1.score"),
        (change("thresholds", 1, "decision", to="approve"), "thresholds.1.decision"),
        (change("thresholds", 1, "decision", to="challenge"), "each decision once"),
        (change("batch_tolerance", to=0.01), "batch_tolerance"),
        (change("batch_tolerance", to=-1e-9), "batch_tolerance"),
        (change("golden_tolerance", to=0.01), "golden_tolerance"),
        (change("timeout_ms", to=0), "timeout_ms"),
        (change("timeout_ms", to=60_001), "timeout_ms"),
        (change("feature_set", "schema_hash", to="A" * 64), "feature_set.schema_hash"),
        (change("lineage", "git_commit", to="main"), "lineage.git_commit"),
        (change("lineage", "git_commit", to="unknown"), "must be marked as dirty"),
        (change("lineage", "created", to="2026-11-23T18:00:00"), "lineage.created"),
        (change("files", "extra.bin", to={"sha256": "d" * 64, "bytes": 1}), "files"),
        (lambda value: value["files"].pop("golden.npz"), "files"),
        (lambda value: value["files"].pop("background.npz"), "explanation: expected with background.npz, and only with it"),
        (lambda value: value.pop("explanation"), "explanation: expected with background.npz, and only with it"),
        (lambda value: value.pop("lineage"), "lineage"),
    ],
)
def test_refuses(damage: Callable[[dict[str, Any]], None], reason: str) -> None:
    value = good()
    damage(value)
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    assert caught.value.file == "manifest.yaml"
    assert reason in caught.value.reason
    assert caught.value.mend


def test_lists_all_violations_without_their_values() -> None:
    value = good()
    value["name"], value["timeout_ms"], value["score"]["column"] = "SECRET-4111", "SECRET-4111", -3
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    assert all(place in caught.value.reason for place in ("name", "timeout_ms", "score.column"))
    assert "4111" not in str(caught.value)


# --- explanation


def test_explanation_as_it_is_read() -> None:
    explanation = parse(good()).explanation
    assert explanation is not None
    assert (explanation.background_rows, explanation.groups) == (128, {"when": ["is_night"]})
    assert explanation.reasons is not None
    assert [(reason.player, reason.customer) for reason in explanation.reasons.codes] == [
        ("amount", "The amount."),
        ("when", None),
    ]


def test_a_bundle_that_explains_nothing() -> None:
    assert parse(without_explanation()).explanation is None
    assert b"explanation" not in parse(without_explanation()).to_yaml()


def test_a_background_alone_is_enough() -> None:
    value = good()
    value["explanation"] = {"background_rows": 1}
    assert parse(value).explanation == Explanation(background_rows=1)


CODES = ("explanation", "reasons", "codes")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change("explanation", "background_rows", to=0), "explanation.background_rows"),
        (change("explanation", "background_rows", to=BACKGROUND_ROWS_MAX + 1), "explanation.background_rows"),
        (change("explanation", "background_rows", to=128.0), "explanation.background_rows"),
        (change("explanation", "surprise", to=1), "explanation.surprise"),
        (change("explanation", "groups", to={}), "explanation.groups"),
        (change("explanation", "groups", "when", to=[]), "explanation.groups.when"),
        (change("explanation", "groups", to={"When": ["is_night"]}), "explanation.groups.When"),
        (change("explanation", "groups", to={"a" * 65: ["is_night"]}), "explanation.groups"),
        (change("explanation", "groups", "when", to=["midnight"]), "explanation.groups.when[0]: expected an input of the model"),
        (change("explanation", "groups", "when", to=["is_night", "is_night"]), "groups.when[1]: expected each input once"),
        (change("explanation", "groups", "again", to=["is_night"]), "groups.again[0]: expected each input once, in one group"),
        (change("explanation", "groups", "amount", to=["is_night"]), "groups.amount: expected a name that no input has"),
        (change("explanation", "reasons", "table", to=1), "explanation.reasons.table"),
        (change("explanation", "reasons", "table", to="The first"), "explanation.reasons.table"),
        (change(*CODES, to=[]), "explanation.reasons.codes"),
        (change(*CODES, 0, "code", to="amount"), "codes.0.code"),
        (change(*CODES, 0, "code", to="A" * 65), "codes.0.code"),
        (change(*CODES, 0, "code", to="9A"), "codes.0.code"),
        (change(*CODES, 1, "code", to="AMOUNT_UNUSUAL"), "codes[1].code: expected each code once"),
        (change(*CODES, 1, "for", to="amount"), "codes[1].for: expected one code for each group or input"),
        (change(*CODES, 1, "for", to="is_night"), "codes[1].for: expected a group, or an input that is in no group"),
        (change(*CODES, 1, "for", to="nothing"), "codes[1].for: expected a group, or an input that is in no group"),
        (change(*CODES, 1, "player", to="when"), "codes.1.player"),
        (lambda value: value["explanation"]["reasons"]["codes"][1].pop("analyst"), "codes.1.analyst"),
        (change(*CODES, 0, "analyst", to=""), "codes.0.analyst"),
        (change(*CODES, 0, "analyst", to="x" * (TEXT_LENGTH_MAX + 1)), "codes.0.analyst"),
        (change(*CODES, 0, "customer", to=""), "codes.0.customer"),
        (change(*CODES, 0, "customer", to="x" * (TEXT_LENGTH_MAX + 1)), "codes.0.customer"),
        (change(*CODES, 0, "customer", to="two\nlines"), "codes.0.customer: Value error, expected one line"),
        (change(*CODES, 0, "customer", to="\x1b[2J"), "codes.0.customer: Value error, expected one line"),
    ],
)
def test_refuses_in_an_explanation(damage: Callable[[dict[str, Any]], None], reason: str) -> None:
    value = good()
    damage(value)
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    assert reason in caught.value.reason


def test_all_names_that_do_not_fit_are_told_at_once() -> None:
    value = good()
    value["explanation"]["groups"] = {"amount": ["SECRET-4111"], "when": ["is_night", "is_night"]}
    value["explanation"]["reasons"]["codes"][1].update(code="AMOUNT_UNUSUAL", **{"for": "SECRET-4111"})
    with pytest.raises(BundleRefusedError) as caught:
        parse(value)
    places = ("groups.amount:", "groups.amount[0]:", "groups.when[1]:", "codes[1].code:", "codes[1].for:")
    assert all(f"explanation.{place}" in caught.value.reason.replace("reasons.", "") for place in places), caught.value.reason
    assert "4111" not in str(caught.value)


def many(groups: int, codes: int) -> dict[str, Any]:
    """A manifest of a model whose inputs each have a group and a code, in texts of the greatest length."""
    value = without_explanation()
    count = max(groups, codes)
    value["files"][BACKGROUND_FILE] = {"sha256": "d" * 64, "bytes": 10}
    value["inputs"][0]["features"] = [f"f{index}" for index in range(count)]
    value["explanation"] = {
        "background_rows": BACKGROUND_ROWS_MAX,
        "groups": {f"g{index}": [f"f{index}"] for index in range(groups)},
        "reasons": {
            "table": "a" * 64,
            "codes": [
                {
                    "code": f"A{index:063}",
                    "for": f"g{index}" if index < groups else f"f{index}",
                    "analyst": "x" * TEXT_LENGTH_MAX,
                    "customer": "y" * TEXT_LENGTH_MAX,
                }
                for index in range(codes)
            ],
        },
    }
    return value


def test_as_much_as_an_explanation_may_say() -> None:
    explanation = parse(many(GROUPS_MAX, CODES_MAX)).explanation
    assert explanation is not None
    assert explanation.groups is not None
    assert explanation.reasons is not None
    assert (len(explanation.groups), len(explanation.reasons.codes)) == (GROUPS_MAX, CODES_MAX)


@pytest.mark.parametrize(("more_groups", "more_codes", "place"), [(1, 0, "groups"), (0, 1, "reasons.codes")])
def test_one_more_than_an_explanation_may_say(more_groups: int, more_codes: int, place: str) -> None:
    with pytest.raises(BundleRefusedError, match=rf"explanation\.{place}: .* at most 256 items"):
        parse(many(GROUPS_MAX + more_groups, CODES_MAX + more_codes))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"just words",
        b"format: 1\nformat: 1\n",
        b"a: &x [1]\nb: *x\n",
        b"a: !!python/object/apply:os.system [true]\n",
        b"{{{{",
        b"\xff\xfe\x00",
        b"a: " + b"[" * 5_000,
    ],
)
def test_refuses_what_is_no_strict_yaml(text: bytes) -> None:
    with pytest.raises(BundleRefusedError) as caught:
        parse_manifest(text)
    assert caught.value.file == "manifest.yaml"


def test_size_limit() -> None:
    padding = b"#" * (MANIFEST_BYTES_MAX - len(yaml.safe_dump(good()).encode()) - 1) + b"\n"
    whole = padding + yaml.safe_dump(good()).encode()
    assert len(whole) == MANIFEST_BYTES_MAX
    assert parse_manifest(whole).name == "card_fraud"
    with pytest.raises(BundleRefusedError, match="the limit is"):
        parse_manifest(b"#" + whole)


@pytest.mark.parametrize("number", [2, 3, 10**18])
def test_a_newer_format_is_refused_with_the_advice_to_upgrade(number: int) -> None:
    """Even where every key in it is one that this reader knows: what a key means may be another thing there."""
    with pytest.raises(BundleRefusedError) as refused:
        parse({**good(), "format": number, "key_of_the_future": 1})
    assert "this assay reads format 1" in refused.value.reason
    assert "key_of_the_future" not in str(refused.value), "nothing of another format is read"
    assert "upgrade this one" in refused.value.mend


@pytest.mark.parametrize("number", [0, -1, "2", 1.0, True, None])
def test_what_is_no_format_is_refused_without_that_advice(number: object) -> None:
    with pytest.raises(BundleRefusedError) as refused:
        parse({**good(), "format": number})
    assert "upgrade" not in refused.value.mend


def test_a_key_that_format_1_does_not_have_is_named() -> None:
    with pytest.raises(BundleRefusedError, match=r"lineage\.key_of_the_future: Extra inputs"):
        parse({**good(), "lineage": {**good()["lineage"], "key_of_the_future": 1}})


def test_the_keys_of_format_1() -> None:
    """Whoever adds one after the first release raises the format's number: docs/bundles.md, Format."""

    def keys(model: type[BaseModel]) -> set[str]:
        return set(model.model_fields)

    assert keys(Manifest) == {
        *("format", "name", "version", "inputs", "outputs", "feature_set", "score", "thresholds", "batch_tolerance"),
        *("is_batch_dependent", "golden_tolerance", "timeout_ms", "lineage", "source", "training", "explanation", "files"),
    }
    assert keys(Lineage) == {
        *("git_commit", "git_is_dirty", "data_sha256", "created", "libraries", "mlflow_run", "parameters", "parent"),
    }
    assert keys(Source) == {"library", "estimator", "tolerance"}
    assert keys(Training) == {"labelled_rows", "frauds", "split", "auc", "accepted"}
    assert keys(Explanation) == {"background_rows", "groups", "reasons"}
    assert keys(ReasonTable) == {"table", "codes"}
    assert {field.alias or name for name, field in Reason.model_fields.items()} == {"code", "for", "analyst", "customer"}
    assert keys(Parent) == {"version", "manifest_sha256", "conversion"}
