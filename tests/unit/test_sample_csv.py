"""Samples are read strictly: what is wrong is named by row and column, and no value is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import InputError
from assay.models import sample_csv
from assay.models.sample_csv import parse_column, read_sample


def read(tmp_path: Path, text: str | bytes) -> sample_csv.SampleFile:
    path = tmp_path / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sample(path)


def test_columns_have_the_types_of_the_models_inputs(tmp_path: Path) -> None:
    sample = read(tmp_path, '\ufeffamount,hour,vpn,"a, quoted"\r\n-0.0,7,true,1e3\r\n.5,-3,False,2\r\n')
    assert sample.header == ("amount", "hour", "vpn", "a, quoted")
    assert parse_column(sample, "amount", "float32") == (0.0, 0.5)
    assert str(parse_column(sample, "amount", "float32")[0]) == "0.0"
    assert parse_column(sample, "hour", "int64") == (7, -3)
    assert parse_column(sample, "hour", "float64") == (7.0, -3.0)
    assert parse_column(sample, "vpn", "bool") == (True, False)
    assert parse_column(sample, "vpn", "float32") == (True, False)  # truth values, whatever the tensor
    assert parse_column(sample, "a, quoted", "float32") == (1000.0, 2.0)


def test_an_empty_cell_is_null_where_there_is_nan(tmp_path: Path) -> None:
    sample = read(tmp_path, "a,b\n1.5,1\n,2\n")
    assert parse_column(sample, "a", "float32") == (1.5, None)
    with pytest.raises(InputError, match=r"row 2, column a: the cell is empty, but the model's input is bool"):
        parse_column(read(tmp_path, 'a\ntrue\n""\n'), "a", "bool")


@pytest.mark.parametrize(
    ("cells", "dtype", "says"),
    [
        ("1\nnan", "float32", "row 2, column a: expected a number, found a word for a missing value; leave the cell empty"),
        ("NULL", "float64", "found a word for a missing value"),
        ("1\n2\nSECRET", "float32", r"row 3, column a: expected a number, found text \(6 characters\)"),
        ("inf", "float32", "expected a number, found text"),
        ("1_0", "float32", "expected a number, found text"),
        ("1.0", "int64", "expected an integer, found a number with a fraction"),
        ("1e400", "float64", "past float64"),
        ("1e39", "float32", "past float32"),
        ("2147483648", "int32", "past int32"),
        ("9223372036854775808", "int64", "past int64"),
        ("99999999999999999999", "int64", "a number with a fraction, or too long"),
        ("1\ntrue", "float32", "row 2, column a: expected a number, found true or false among numbers"),
        ("0\n1", "bool", "row 1, column a: expected true or false, found a number that is none"),
        ('1\n""', "int32", "row 2, column a: the cell is empty, but the model's input is int32"),
        ('""\n""', "float32", "column a: every cell is empty"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path: Path, cells: str, dtype: str, says: str) -> None:
    sample = read(tmp_path, f"a\n{cells}\n")
    with pytest.raises(InputError, match=says) as error:
        parse_column(sample, "a", dtype)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "empty; give a CSV file with a header"),
        (b"a,b\n", "a header without rows"),
        (b"a,b\n1,2\n3\n", "row 2: 1 cells, the header has 2"),
        (b"a,b\n1,2,3\n", "row 1: 3 cells, the header has 2"),
        (b",a\n0,1\n", r"column 1 has no name; .*index=False"),
        (b"a,a\n1,2\n", "column a stands twice"),
        (b"1.5,2\n3,4\n", "the first line holds numbers"),
        (b"a\n\xff\n", "not UTF-8 text at byte 2"),
        (b'a,b\n1,"2\n', "line 2: not CSV"),
        (b",".join(b"c%d" % number for number in range(513)) + b"\n", "513 columns, the limit is 512"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tmp_path, text)


def test_the_columns_of_an_array_are_names(tmp_path: Path) -> None:
    assert read(tmp_path, "0,1\n5,6\n").header == ("0", "1")


def test_rows_and_bytes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "a\n" + "1\n" * sample_csv.ROWS_MAX
    at_limit = read(tmp_path, lines)
    assert (len(at_limit.rows), at_limit.is_cut) == (sample_csv.ROWS_MAX, False)
    beyond = read(tmp_path, lines + "2\n")
    assert (len(beyond.rows), beyond.is_cut) == (sample_csv.ROWS_MAX, True)
    monkeypatch.setattr(sample_csv, "BYTES_MAX", 8)
    assert read(tmp_path, "a\n1\n2\n3\n").rows == (("1",), ("2",), ("3",))
    with pytest.raises(InputError, match="larger than"):
        read(tmp_path, "a\n1\n2\n3\n\n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.csv: cannot be read: No such file"):
        read_sample(tmp_path / "gone.csv")
