"""Reads the black box's file (ext/core/base/black_box_format.h). Strict: a file that is not whole is refused, whatever is in it.

Every number is read from a fixed place, and every list has the layout's own length: a hostile file cannot make this slow or
large.
"""

from __future__ import annotations

import enum
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from assay._core import BLACK_BOX, CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, crc32c
from assay.errors import InputError

MAGIC = b"ASSAYBOX"
HEADER_BYTES = 4096
FILE_BYTES = BLACK_BOX["file_bytes"]
STAMP_NAMES = ("decoded", "queued", "batched", "run_started", "scored", "committed", "done")


class End(enum.Enum):
    """How a process ended."""

    RUNNING = 1  # it runs, or was ended by what it could not hear of: SIGKILL, the power
    CLEAN = 2
    CRASHED = 3


@dataclass(frozen=True)
class Module:
    start: int
    end: int
    file_offset: int
    path: str


@dataclass(frozen=True)
class Frame:
    """A place in the program. `offset` is in the file of its module."""

    address: int
    module: str | None
    offset: int


@dataclass(frozen=True)
class SlotRecord:
    """One row, when it ended. Times are microseconds after its receipt; None: it did not come so far."""

    sequence: int
    ended_before_s: float | None  # before the end of the process; None: its end is not known
    slot: int
    generation: int
    model: str
    outcome: str
    kind: str
    decision: str
    priority: str
    batch_rows: int
    is_degraded: bool
    stamps_us: tuple[float | None, ...]  # as STAMP_NAMES


@dataclass(frozen=True)
class ErrorRecord:
    sequence: int
    before_s: float  # before the end of the process
    reason: str
    rows: int
    model: str


@dataclass(frozen=True)
class CrashReport:
    """All that the file says. `end` RUNNING: nothing but who wrote it."""

    end: End
    pid: int
    started_at_s: float  # wall clock
    assay: str
    build: str
    python: str
    onnxruntime: str
    ended_at_s: float
    uptime_s: float
    signal: str
    how: str  # where the signal came from
    fault_address: int | None
    thread: int
    thread_name: str
    reason: str
    models: tuple[tuple[str, str, str], ...]  # name, version, SHA-256
    counters: dict[str, int]
    frames: tuple[Frame, ...]  # innermost first
    errors: tuple[ErrorRecord, ...]  # oldest first
    slots: tuple[SlotRecord, ...]  # oldest first
    slot_count: int  # that ended since the start
    error_count: int


def read_crash(data: bytes) -> CrashReport:
    """Raises InputError for anything but a whole file of this format."""
    _check_header(data)
    end = _end(data)
    _, pid, _, started_wall_ns, started_ns = _HEADER.unpack_from(data, len(MAGIC))
    (assay, build, python) = _HEADER_TEXTS.unpack_from(data, 40)
    crash = dict(zip(_CRASH_FIELDS, _CRASH.unpack_from(data, _CRASH_AT), strict=True))
    if end is End.CRASHED and crc32c(data[_MODELS_AT:]) != crash["rest_crc"]:
        raise InputError("the black box is damaged: its records do not fit their checksum")
    is_crash = end is End.CRASHED
    modules = tuple(_modules(data)) if is_crash else ()
    models = tuple(_models(data)) if is_crash else ()
    names = [f"{model} {version}".strip() for model, version, _ in models]
    ended_ns = crash["ended_ns"]
    frames = struct.unpack_from(f"<{min(crash['frame_count'], _FRAMES)}Q", data, _CRASH_AT + _FRAMES_AT)
    return CrashReport(
        end,
        pid,
        started_wall_ns / 1e9,
        _text(assay),
        _text(build),
        _text(python),
        _text(crash["runtime"]),
        crash["ended_wall_ns"] / 1e9,
        max(0, ended_ns - started_ns) / 1e9 if end is not End.RUNNING else 0.0,
        _signal_name(crash["signal"]) if is_crash else "",
        _how(crash["signal_code"], crash["sender_pid"], pid) if is_crash else "",
        crash["fault_address"] if is_crash and crash["signal_code"] > 0 else None,
        crash["thread"],
        _text(crash["thread_name"]),
        _text(crash["reason"]),
        tuple(model for model in models if model[0]),
        dict(_counters(data, min(crash["counter_count"], _COUNTERS))),
        tuple(_frames(frames, crash["instruction"], modules)) if is_crash else (),
        tuple(_errors(data, ended_ns, names)) if is_crash else (),
        tuple(_slots(data, ended_ns, names)) if is_crash else (),
        crash["slots"],
        crash["errors"],
    )


# --- implementation ---

_HEADER = struct.Struct("<IIQqq")
_HEADER_TEXTS = struct.Struct("<64s128s64s")
_CRASH_AT, _MODELS_AT, _MODULES_AT, _ERRORS_AT, _SLOTS_AT = 4096, 8192, 20_480, 61_440, 65_536
_CRASH = struct.Struct("<IIqqiiQQII16s256s64sQQII")
# fmt: off
_CRASH_FIELDS = (
    "end", "rest_crc", "ended_wall_ns", "ended_ns", "signal", "signal_code", "fault_address", "instruction", "thread",
    "sender_pid", "thread_name", "reason", "runtime", "slots", "errors", "frame_count", "counter_count",
)
# fmt: on
_FRAMES_AT, _FRAMES, _COUNTERS_AT, _COUNTERS = 416, 64, 928, 24
_COUNTER = struct.Struct("<24sQ")
_MODEL = struct.Struct("<64s64s64s")
_MODULE = struct.Struct("<QQQ136s")
_SLOT = struct.Struct("<Qq7IIIHHBBBBBxH")
_ERROR = struct.Struct("<Qq40sIHH")
_NOT_REACHED, _STAMP_NS, _NO_MODEL = 0xFFFFFFFF, 100, 0xFFFF
_DECISIONS = {number: name for name, number in DECISIONS.items()}
_PRIORITIES = {number: name for name, number in PRIORITIES.items()}
_KINDS = {number: name for name, number in CALL_KINDS.items()}
_REASONS = {row.number: row.reason for row in CODE_TABLE}


def _check_header(data: bytes) -> None:
    if len(data) != FILE_BYTES or not data.startswith(MAGIC):
        raise InputError(f"not a black box: expected {FILE_BYTES:,} bytes that begin with {MAGIC.decode()}")
    (found,) = struct.unpack_from("<I", data, len(MAGIC))
    if found != BLACK_BOX["format"]:
        raise InputError(f"a black box of format {found}; this assay reads {BLACK_BOX['format']}")
    for name, start, size in (("header", 0, HEADER_BYTES), ("end", _CRASH_AT, 4096)):
        (crc,) = struct.unpack_from("<I", data, start + size - 4)
        if crc32c(data[start : start + size - 4]) != crc:
            raise InputError(f"the black box is damaged: its {name} does not fit its checksum")


def _end(data: bytes) -> End:
    (number,) = struct.unpack_from("<I", data, _CRASH_AT)
    try:
        return End(number)
    except ValueError:
        raise InputError(f"the black box is damaged: no end {number}") from None


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _how(code: int, sender: int, pid: int) -> str:
    if code > 0:
        return "a fault of the program"
    return "raised by the process itself" if sender == pid else f"sent by process {sender}"


def _models(data: bytes) -> Iterator[tuple[str, str, str]]:
    for model, version, sha256 in _MODEL.iter_unpack(data[_MODELS_AT:_MODULES_AT]):
        yield _text(model), _text(version), _text(sha256)


def _modules(data: bytes) -> Iterator[Module]:
    for start, end, offset, path in _MODULE.iter_unpack(data[_MODULES_AT:_ERRORS_AT]):
        if end > start:
            yield Module(start, end, offset, _text(path))


def _counters(data: bytes, count: int) -> Iterator[tuple[str, int]]:
    for index in range(count):
        name, value = _COUNTER.unpack_from(data, _CRASH_AT + _COUNTERS_AT + index * _COUNTER.size)
        yield _text(name), value


def _frames(addresses: tuple[int, ...], instruction: int, modules: tuple[Module, ...]) -> Iterator[Frame]:
    """From where the signal struck; what is before that is the handler."""
    start = addresses.index(instruction) if instruction in addresses else 0
    for address in addresses[start:] or (instruction,):
        module = next((module for module in modules if module.start <= address < module.end), None)
        offset = address - module.start + module.file_offset if module else 0
        yield Frame(address, module.path if module else None, offset)


def _model_name(index: int, names: list[str]) -> str:
    return names[index] if index < len(names) else ""


def _errors(data: bytes, ended_ns: int, names: list[str]) -> Iterator[ErrorRecord]:
    found = []
    for sequence, now_ns, reason, rows, model, low in _ERROR.iter_unpack(data[_ERRORS_AT:_SLOTS_AT]):
        if sequence and sequence & 0xFFFF == low:
            found.append(ErrorRecord(sequence, (ended_ns - now_ns) / 1e9, _text(reason), rows, _model_name(model, names)))
    yield from sorted(found, key=lambda record: record.sequence)


def _slots(data: bytes, ended_ns: int, names: list[str]) -> Iterator[SlotRecord]:
    found = []
    for record in _SLOT.iter_unpack(data[_SLOTS_AT:]):
        sequence, received_ns, *rest, low = record
        if not sequence or sequence & 0xFFFF != low:
            continue
        stamps, (generation, slot, batch_rows, model, outcome, kind, decision, priority, is_degraded) = rest[:7], rest[7:]
        reached = [None if stamp == _NOT_REACHED else stamp * _STAMP_NS / 1000 for stamp in stamps]
        last_us = max((stamp for stamp in reached if stamp is not None), default=None)
        found.append(
            SlotRecord(
                sequence,
                None if last_us is None else (ended_ns - received_ns) / 1e9 - last_us / 1e6,
                slot,
                generation,
                _model_name(model, names),
                _REASONS.get(outcome, f"code {outcome}"),
                _KINDS.get(kind, ""),
                _DECISIONS.get(decision, ""),
                _PRIORITIES.get(priority, ""),
                batch_rows,
                bool(is_degraded),
                tuple(reached),
            )
        )
    yield from sorted(found, key=lambda record: record.sequence)
