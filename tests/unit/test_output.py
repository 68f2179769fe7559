"""What commands print of somebody else's text."""

from __future__ import annotations

import json

import pytest

from assay.cli.output import json_text, plain, plain_lines

# CSI of xterm in one character, DEL, marks that turn text around, that have no width, ends of lines, one past 16 bits.
HIDDEN = ("\x9b", "\x85", "\x7f", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\xa0", "\U000e0041")


@pytest.mark.parametrize("control", [*HIDDEN, "\n", "\r", "\t", "\x1b", "\0"])
def test_a_plain_text_is_one_line_of_what_can_be_seen(control: str) -> None:
    shown = plain(f"a{control}b é 数")
    assert shown.isprintable()
    assert (shown[:2], shown[-5:]) == ("a\\", "b é 数")


def test_lines_stay_lines() -> None:
    assert plain_lines("one\ntwo\x1b[2J\r\n") == "one\ntwo\\x1b[2J\\r\n"


@pytest.mark.parametrize("control", HIDDEN)
@pytest.mark.parametrize("is_indented", [False, True])
def test_json_hides_nothing_and_has_the_same_value(control: str, is_indented: bool) -> None:
    value = {f"key{control}": [f"a{control}b", "\x1b[2J\n", "é 数 😀", 1.5, None]}
    text = json_text(value, is_indented=is_indented)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert json.loads(text) == value
    assert "é 数 😀" in text
    assert text.endswith("}\n")
    assert is_indented or text.count("\n") == 1
