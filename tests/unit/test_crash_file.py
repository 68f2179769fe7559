"""The black box's reader: strict, bounded, and right about what the core wrote."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from assay._core import BLACK_BOX, crc32c
from assay.cli.main import app
from assay.errors import InputError
from assay.observe.black_box import read_file
from assay.observe.crash_file import End, Frame, read_crash
from assay.observe.symbols import NAME_BYTES_MAX, SYMBOLS_MAX, symbol_of

CRASH_AT = 4096
PROGRAM = """
import ctypes, os, sys
from assay import _core
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.posix_fallocate(file, 0, _core.BLACK_BOX["file_bytes"])
_core.open_black_box(file, assay="1.2.3", build="a build", python="3.11.7")
_core.complete_black_box("1.31.1")
engine = _core.Engine(slots=4, batch_call_rows_max=1)
if sys.argv[2] == "fault":
    ctypes.string_at(0x18)
elif sys.argv[2] == "clean":
    _core.close_black_box()
    _core.close_black_box()
elif sys.argv[2] == "kill":
    os.kill(os.getpid(), 9)
"""


def make(path: Path, how: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), how], check=False, timeout=60, capture_output=True
    ).returncode


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("crash") / "box"
    assert make(path, "fault") == -signal.SIGSEGV
    return path.read_bytes()


def test_a_fault_is_told(crash: bytes) -> None:
    report = read_crash(crash)
    assert (report.end, report.signal, report.how) == (End.CRASHED, "SIGSEGV", "a fault of the program")
    assert report.fault_address == 0x18
    assert (report.assay, report.build, report.python, report.onnxruntime) == ("1.2.3", "a build", "3.11.7", "1.31.1")
    assert report.counters["answered_rows"] == 0
    assert 0 <= report.uptime_s < 60
    assert report.frames[0].module is not None
    assert any(frame.module and "python" in frame.module for frame in report.frames)
    assert (report.slots, report.errors, report.slot_count) == ((), (), 0)


def test_the_other_ends(tmp_path: Path) -> None:
    assert make(tmp_path / "clean", "clean") == 0
    report = read_file(tmp_path / "clean")
    assert (report.end, report.frames, report.signal) == (End.CLEAN, (), "")
    assert make(tmp_path / "kill", "kill") == -signal.SIGKILL
    assert read_file(tmp_path / "kill").end is End.RUNNING


def test_a_function_has_its_name(crash: bytes) -> None:
    """Of a library with a symbol table; the place is counted in its file."""
    named = [symbol_of(frame) for frame in read_crash(crash).frames]
    assert any(name and name.partition("+")[0].lstrip("_").startswith("Py") for name in named), named


@pytest.mark.parametrize("path", ["/dev/zero", "/etc/passwd", "/none", "/"])
def test_what_is_no_program_has_no_names(path: str) -> None:
    assert symbol_of(Frame(1, path, 1)) is None


def make_elf(path: Path, texts: bytes, names: Sequence[int]) -> Path:
    """A program with a function of 16 bytes for each of `names` (places in `texts`), the first at 0x1000."""
    symbols = b"".join(struct.pack("<IBBHQQ", name, 2, 0, 1, 0x1000 + 16 * index, 16) for index, name in enumerate(names))
    symbols_at = 64 + 56 + 2 * 64
    texts_at = symbols_at + len(symbols)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01", 3, 62, 1, 0, 64, 120, 0, 64, 56, 1, 64, 2, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x1000, 0, 1 << 40, 1 << 40, 1)
    symbol_table = struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, symbols_at, len(symbols), 1, 0, 8, 24)
    text_table = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, texts_at, len(texts), 0, 0, 1, 0)
    path.write_bytes(header + segment + symbol_table + text_table + symbols + texts)
    return path


def name_at(path: Path, index: int) -> str | None:
    return symbol_of(Frame(1, str(path), 0x1000 + 16 * index + 4))


def test_a_name_is_read_to_its_end(tmp_path: Path) -> None:
    program = make_elf(tmp_path / "program", b"\0first\0last", [1, 7, 0, 100])
    assert [name_at(program, index) for index in range(5)] == ["first+0x4", "last+0x4", "+0x4", "+0x4", None]


def test_names_without_an_end_and_more_of_them_than_programs_have_are_cut(tmp_path: Path) -> None:
    """Read to its end, each name would be megabytes, and the whole hours."""
    program = make_elf(tmp_path / "program", b"A" * (8 << 20), range(SYMBOLS_MAX + 10))
    assert name_at(program, 0) == name_at(program, SYMBOLS_MAX - 1) == "A" * NAME_BYTES_MAX + "+0x4"
    assert name_at(program, SYMBOLS_MAX) is None


def test_places_past_every_file_are_none(tmp_path: Path) -> None:
    program = make_elf(tmp_path / "program", b"\0first", [1])
    with program.open("r+b") as file:
        file.seek(40)  # where its sections are
        file.write(b"\xff" * 8)
    assert name_at(program, 0) is None


def sealed(data: bytearray) -> bytes:
    """With checksums that fit whatever was changed: what is checked behind them must hold, too."""
    struct.pack_into("<I", data, CRASH_AT + 4, crc32c(bytes(data[8192:])))
    for start in (0, CRASH_AT):
        struct.pack_into("<I", data, start + 4092, crc32c(bytes(data[start : start + 4092])))
    return bytes(data)


@given(st.data())
def test_whatever_is_in_it_the_answer_is_a_report_or_a_refusal(crash: bytes, data: st.DataObject) -> None:
    changed = bytearray(crash)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 1700), st.integers(CRASH_AT, CRASH_AT + 1700), st.integers(0, len(crash) - 9)))
        changed[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    try:
        report = read_crash(sealed(changed))
    except InputError:
        return
    assert len(report.frames) <= 64
    assert len(report.slots) <= BLACK_BOX["slots"]
    assert len(report.errors) <= BLACK_BOX["errors"]


@given(st.binary(max_size=200))
def test_other_bytes_are_no_black_box(data: bytes) -> None:
    for found in (data, b"ASSAYBOX" + data, (b"ASSAYBOX" + data).ljust(BLACK_BOX["file_bytes"], b"\0")):
        with pytest.raises(InputError):
            read_crash(found)


def test_its_texts_forge_no_line(crash: bytes, tmp_path: Path) -> None:
    changed = bytearray(crash)
    for at in (40, 104, 232, CRASH_AT + 56, CRASH_AT + 72, CRASH_AT + 328, 8192, 8256, 8320):  # each text's place
        changed[at : at + 10] = b"x\r\nFORGED\0"
    file = tmp_path / "box"
    file.write_bytes(sealed(changed))
    shown = CliRunner().invoke(app, ["crash", "show", str(file)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("x\\r\\nFORGED") == 9
    assert not [line for line in shown.output.splitlines() if line.startswith("FORGED")]


def test_a_flipped_bit_is_seen(crash: bytes) -> None:
    for at in (20, 300, CRASH_AT + 100, 9000, 30_000, 62_000, 100_000, len(crash) - 1):
        changed = bytearray(crash)
        changed[at] ^= 1
        with pytest.raises(InputError, match="damaged"):
            read_crash(bytes(changed))


def test_a_later_format_says_so(crash: bytes) -> None:
    changed = bytearray(crash)
    struct.pack_into("<I", changed, 8, 2)
    with pytest.raises(InputError, match="format 2; this assay reads 1"):
        read_crash(bytes(changed))


def test_no_more_than_a_box_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        os.ftruncate(opened.fileno(), 1 << 40)
    with pytest.raises(InputError):
        read_file(file)
