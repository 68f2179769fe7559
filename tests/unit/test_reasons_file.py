"""The file in which people say what their model's reasons are called: what it accepts, and what it says of what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.errors import InputError
from assay.models.reasons import REASONS_BYTES_MAX, ReasonsFile, load_reasons

INPUTS = ("amount", "is_night", "count_1d", "count_7d")
TEXT = """\
groups:
  activity: [count_1d, count_7d]
reasons:
  table: "1"
  codes:
  - code: AMOUNT_UNUSUAL
    for: amount
    analyst: The amount is far from what this customer spends.
    customer: The amount is unusual.
  - {code: ACTIVITY_UNUSUAL, for: activity, analyst: Many payments in short time.}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "reasons.yaml"
    path.write_text(text)
    return path


def refusal(source: Path | Mapping[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        load_reasons(source, INPUTS)
    assert "4111" not in str(caught.value)
    return str(caught.value)


def test_a_file_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    found = load_reasons(written(tmp_path, TEXT), INPUTS)
    assert found.groups == {"activity": ["count_1d", "count_7d"]}
    assert found.reasons is not None
    assert [(reason.code, reason.player) for reason in found.reasons.codes] == [
        ("AMOUNT_UNUSUAL", "amount"),
        ("ACTIVITY_UNUSUAL", "activity"),
    ]
    assert load_reasons(found.model_dump(by_alias=True, exclude_none=True), INPUTS) == found


@pytest.mark.parametrize("key", ["groups", "reasons"])
def test_one_of_both_is_enough(tmp_path: Path, key: str) -> None:
    alone = {"groups": {"a": ["amount"]}, "reasons": {"table": "1", "codes": [{"code": "A", "for": "amount", "analyst": "x"}]}}
    assert load_reasons({key: alone[key]}, INPUTS) != ReasonsFile()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[count_1d,", "[count_2d,", 2, "groups.activity[0]: expected an input of the model"),
        ("for: activity", "for: count_1d", 10, "reasons.codes[1].for: expected a group, or an input that is in no group"),
        ("ACTIVITY_UNUSUAL", "AMOUNT_UNUSUAL", 10, "reasons.codes[1].code: expected each code once"),
        ("for: amount", "for: SECRET-4111", 7, "reasons.codes[0].for: expected a group"),
        ("code: AMOUNT", "code: amount", 6, "reasons.codes[0].code: String should match pattern"),
        ('table: "1"', "table: 1", 4, "reasons.table: Input should be a valid string"),
        ("    customer:", "    costumer:", 9, "reasons.codes[0].costumer: Extra inputs are not permitted"),
        ("    for: amount\n", "", 6, "reasons.codes[0].for: Field required"),
        ("  activity:", "  Activity:", 2, "groups.Activity: String should match pattern"),
        ("groups:", "group:", 2, "group: Extra inputs are not permitted"),
        ("The amount is unusual.", '"a\\tb"', 9, "reasons.codes[0].customer: Value error, expected one line"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert TEXT.count(old) == 1
    path = written(tmp_path, TEXT.replace(old, new))
    assert f"{path}:{line}: {said}" in refusal(path)


@pytest.mark.parametrize("text", ["Opération\u00a0: inhabituelle", "पैसा\u200d", "x"])
def test_texts_of_any_language(text: str) -> None:
    table = load_reasons({"reasons": {"table": "1", "codes": [{"code": "A", "for": "amount", "analyst": text}]}}, INPUTS).reasons
    assert table is not None
    assert table.codes[0].analyst == text


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT.replace("count_7d", "count_8d").replace("for: amount", "for: nobody"))
    lines = refusal(path).splitlines()
    assert [text.removeprefix(f"{path}:").partition(":")[0] for text in lines] == ["2", "7"]


def test_a_long_list_of_what_is_wrong_ends() -> None:
    lines = refusal({"groups": {f"g{index}": ["nothing"] for index in range(30)}}).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more"


def test_a_mapping_has_keys_and_no_lines() -> None:
    said = refusal({"groups": {"a": ["nothing"]}, "reasons": {"table": "1", "codes": []}})
    assert said.startswith("reasons: reasons.codes: List should have at least 1 item")
    assert refusal({"groups": {"a": ["nothing"]}}) == "reasons: groups.a[0]: expected an input of the model"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty; expected a mapping with groups and reasons"),
        ("[]", ":1: expected a mapping with groups and reasons, found a list"),
        ("{}", "expected groups, reasons or both"),
        ("groups: &a {}\nreasons: *a\n", ":1: "),
        ("groups: {a: [amount]}\ngroups: {}\n", ":2: groups: the key stands twice"),
        ("groups: {", "not valid YAML"),
    ],
)
def test_what_is_no_file_of_reasons(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    assert refusal(path).startswith(str(path))
    assert said in refusal(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "nowhere.yaml")
    path = tmp_path / "reasons.yaml"
    path.write_bytes(b"groups: \xff")
    assert "not UTF-8 text at byte 8" in refusal(path)


def test_size_limit(tmp_path: Path) -> None:
    padding = "#" * (REASONS_BYTES_MAX - len(TEXT) - 1) + "\n"
    assert load_reasons(written(tmp_path, padding + TEXT), INPUTS).groups is not None
    assert "larger than 1 MiB" in refusal(written(tmp_path, "#" + padding + TEXT))
