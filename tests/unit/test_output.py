"""What somebody else sent does nothing to the terminal that shows it."""

from __future__ import annotations

import json

import pytest

from assay.cli.output import plain, print_error, safe_json, shown

UNSAFE = "\x00\x1b\x7f\x85\x9b\u061c\u200b\u200e\u2028\u202e\u2066\ufeff"


def test_a_text_is_one_line_and_moves_no_cursor() -> None:
    text = "boom\nSIGKILL, forged line\r\x1b[2J\x9b31m\u202e"
    assert plain(text).isprintable()
    assert plain(text) == "boom\\nSIGKILL, forged line\\r\\x1b[2J\\x9b31m\\u202e"
    assert plain("Zo\u00eb \U0001f600") == "Zo\u00eb \U0001f600"
    assert shown("[red]\n") == "\\[red]\\n"
    assert plain("two\nlines\r", keeps_lines=True) == "two\nlines\\r"


def test_an_error_may_have_several_lines(capfd: pytest.CaptureFixture[str]) -> None:
    print_error("one: wrong\ntwo: wrong\x1b[1m")
    assert capfd.readouterr().err.splitlines() == ["error: one: wrong", "two: wrong\\x1b[1m"]


def test_json_has_the_same_value_in_characters_that_do_nothing() -> None:
    value = {"id": f"c1{UNSAFE}31mX", UNSAFE: ["Zo\u00eb", 1.5, None]}
    text = safe_json(value)
    assert json.loads(text) == value
    assert all(character.isprintable() for character in text.decode().rstrip("\n"))
    assert "Zo\u00eb" in text.decode()
    assert safe_json({"a": "b"}) == b'{"a":"b"}\n'
