"""Log lines: `log_event` says what happened, one of two formatters writes it.

text    2026-03-01T12:00:00.123Z INFO assay serving listen=127.0.0.1:50051 models=1
json    {"timestamp":"2026-03-01T12:00:00.123Z","severity_text":"INFO","severity_number":9,"message":"serving",...}

A line is one line whatever is in it: control characters are escaped, so nobody writes lines of ours by sending us text.

A server logs to stdout, a command to stderr: what it prints goes to stdout. Where lines cannot be written (a full disk, a reader
that is gone or hangs) they are lost and counted, and nobody waits for long; when there is room again, a line says how many.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

# How long a line waits for a reader that hangs. Once; until there is room again, further ones do not wait.
WRITE_TIMEOUT_S = 0.1

# A field that a line has anyway: an event may not bring another.
RESERVED = frozenset({"timestamp", "severity_text", "severity_number", "logger", "message", "exception"})


def log_event(logger: logging.Logger, level: int, event: str, **fields: Any) -> None:
    """One line: what happened, in one or a few words, and what is known about it. None is left out."""
    if logger.isEnabledFor(level):
        assert not RESERVED & fields.keys(), f"{event}: {sorted(RESERVED & fields.keys())} are taken"
        known = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, event, extra={_FIELDS: known})


def is_text(log_format: LogFormat, stream: TextIO | None = None) -> bool:
    """Whether lines are for people. auto: where people look; programs get JSON."""
    return log_format == "text" or (log_format == "auto" and (stream or sys.stderr).isatty())


def set_up(level: str, log_format: LogFormat, stream: TextIO | None = None) -> LineHandler:
    """Sends all log lines of the process to `stream` (stderr)."""
    stream = stream or sys.stderr
    handler = LineHandler(stream)
    handler.setFormatter(TextFormatter() if is_text(log_format, stream) else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return handler


def log_level() -> Level:
    """The least severe level that is logged now."""
    effective = logging.getLogger().getEffectiveLevel()
    return next((level for level in reversed(LEVELS) if logging.getLevelNamesMapping()[level.upper()] <= effective), "debug")


def set_log_level(level: Level) -> None:
    """From now on, for the whole process."""
    logging.getLogger().setLevel(level.upper())


def lost_line_count() -> int:
    """Lines that could not be written since set_up()."""
    return sum(handler.lost_count for handler in logging.getLogger().handlers if isinstance(handler, LineHandler))


class LineHandler(logging.Handler):
    """Writes each line whole, past Python's buffers, or not at all. Never raises."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.lost_count = 0
        self._untold_count = 0  # of the lost ones, those since the last line that was written
        self._is_torn = False  # a line was begun and not finished
        self._stream = stream  # kept open: the writer has its descriptor
        self._write = _writer_of(stream)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # of a record that its arguments do not fit
            self._lose()
            return
        if self._untold_count:
            told = logging.LogRecord(__name__, logging.WARNING, "", 0, "log lines lost", None, None)
            setattr(told, _FIELDS, {"count": self._untold_count})
            line = f"{self.format(told)}\n{line}"
        start = "\n" if self._is_torn else ""
        data = f"{start}{line}\n".encode(errors="backslashreplace")
        written = self._write(data)
        if written == len(data):
            self._untold_count, self._is_torn = 0, False
        else:
            self._is_torn = self._is_torn or written > 0
            self._lose()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Its own would print what is in the record."""

    def _lose(self) -> None:
        self.lost_count += 1
        self._untold_count += 1


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_timestamp(record), record.levelname, record.name, _printable(record.getMessage())]
        parts += [f"{name}={_text(value)}" for name, value in _fields(record).items()]
        lines = [" ".join(parts)]
        if record.exc_info:
            lines += [f"  {_printable(line)}" for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """For programs: one object a line. Severities are OpenTelemetry's, and so are trace_id, span_id and trace_flags."""

    def format(self, record: logging.LogRecord) -> str:
        text, number = _SEVERITIES[max(level for level in _SEVERITIES if level <= max(record.levelno, logging.DEBUG))]
        line = {
            "timestamp": _timestamp(record),
            "severity_text": text,
            "severity_number": number,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"), default=str).replace("\x7f", "\\u007f")


# --- implementation ---

_FIELDS = "assay_fields"  # the attribute of a LogRecord
_PIPE_BUFFER = select.PIPE_BUF  # a pipe that is writable takes as much without waiting


def _writer_of(stream: TextIO) -> Callable[[bytes], int]:
    """Writes bytes, and says how many it could."""
    try:
        descriptor = stream.fileno()
    except (OSError, io.UnsupportedOperation):  # a stream in memory

        def write_text(data: bytes) -> int:
            try:
                stream.write(data.decode())
            except (OSError, ValueError):  # it was closed
                return 0
            return len(data)

        return write_text

    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)
    timeout_ms = [int(WRITE_TIMEOUT_S * 1000)]

    def write(data: bytes) -> int:
        written = 0
        try:
            while written < len(data):
                if not waiting.poll(timeout_ms[0]):
                    timeout_ms[0] = 0
                    return written
                written += os.write(descriptor, data[written : written + _PIPE_BUFFER])
        except OSError:
            return written
        timeout_ms[0] = int(WRITE_TIMEOUT_S * 1000)
        return written

    return write


_SEVERITIES = {
    logging.DEBUG: ("DEBUG", 5),
    logging.INFO: ("INFO", 9),
    logging.WARNING: ("WARN", 13),
    logging.ERROR: ("ERROR", 17),
    logging.CRITICAL: ("FATAL", 21),
}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    return fields


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(record.msecs):03d}Z"


def _text(value: Any) -> str:
    """A value as it stands behind its key: as it is where that can be read back, else quoted."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    is_plain = text.isprintable() and text and not any(c in ' "=' for c in text)
    return text if is_plain else json.dumps(text).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
