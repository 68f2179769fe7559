"""Log lines: `log_event` says what happened, one of two formatters writes it.

text    2026-03-01T12:00:00.123Z INFO assay serving listen=127.0.0.1:50051 models=1
json    {"timestamp":"2026-03-01T12:00:00.123Z","severity_text":"INFO","severity_number":9,"message":"serving",...}

A line is one line whatever is in it: control characters are escaped, so nobody writes lines of ours by sending us text.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "text", "json"]

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


def set_up(level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Sends all log lines of the process to `stream` (stderr)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if is_text(log_format, stream) else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


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
