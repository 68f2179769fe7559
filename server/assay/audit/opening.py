"""Opens the log that a server writes to, as its configuration says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay import _core
from assay.audit.labels import LabelRecords
from assay.audit.place import ClaimedWriter, claim_writer, default_directory
from assay.audit.shipped import read_shipped
from assay.audit.shipper_process import ShipperProcess
from assay.audit.sinks import open_sink
from assay.config import AuditConfig
from assay.errors import ConfigError, CoreError
from assay.observe.logs import log_event

NO_SINK = "none"

log = logging.getLogger("assay.audit")


@dataclass
class OpenAudit:
    """The log of one server."""

    log: _core.AuditLog
    writer: ClaimedWriter
    level: str
    bytes_max: int  # of its segments
    sink: str  # none: nowhere. May hold a password
    _shipper: ShipperProcess | None = None
    _stale_shipped: int = -1  # what the file said of a log whose end was lost: not of the one that stands there now

    @property
    def has_sink(self) -> bool:
        return self.sink != NO_SINK

    @property
    def unshipped(self) -> int:
        """Records that the sink does not have yet."""
        stats = self.log.stats()
        return stats.next_sequence - 1 - stats.shipped_sequence

    def describe(self) -> str:
        """For people."""
        size = f"{self.bytes_max >> 20:,} MiB at most"
        where = f"{self.sink.partition(':')[0]} sink" if self.has_sink else "no sink: the oldest records make way"
        return f"{self.writer.path}, level {self.level}, {size}, {where}"

    def label_records(self) -> LabelRecords:
        """Who writes labels into it."""
        return LabelRecords(self.log, self.writer.key)

    def start_shipping(self, environment: Mapping[str, str]) -> None:
        """Starts who carries records to the sink. Once; where there is a sink. `environment`: for its process."""
        if self.has_sink:
            self._shipper = ShipperProcess(self.writer.path.parent, self.sink, self.take_shipped, environment)

    def take_shipped(self) -> None:
        """Tells the log how far the sink has come. From time to time."""
        shipped = read_shipped(self.writer.path)
        if shipped != self._stale_shipped:
            self._stale_shipped = -1
            self.log.set_shipped(shipped)

    def close(self) -> None:
        """Writes what is left. After the engine has stopped. Idempotent."""
        self.log.close()
        if self._shipper is not None:
            self._shipper.close()
            self._shipper = None
        self.writer.release()


def spool_directory(config: AuditConfig) -> Path:
    return default_directory() if config.spool == "auto" else Path(config.spool)


def sink_of(config: AuditConfig, *, is_demo: bool) -> str:
    """Where records go. Raises ConfigError where a server of somebody's own models was not told."""
    sink = config.sink.get_secret_value()
    if sink != "auto":
        return sink
    if is_demo:
        return NO_SINK
    raise ConfigError(
        "audit.sink: say where the records of scores go (jsonl:DIRECTORY, redis://HOST:PORT/DB?stream=NAME, "
        f"kafka://HOST:PORT/TOPIC), or {NO_SINK}: the newest {config.spool_bytes_max >> 20} MiB stay in the spool alone"
    )


def check_sink(config: AuditConfig, *, is_demo: bool) -> None:
    """Before anything that takes long. Raises ConfigError."""
    if config.level != "off" and (sink := sink_of(config, is_demo=is_demo)) != NO_SINK:
        open_sink(sink).close()  # connects to nothing yet


def open_audit(config: AuditConfig, *, is_demo: bool, software: str) -> OpenAudit | None:
    """None: audit.level is off, which is said. Raises ConfigError."""
    if config.level == "off":
        log_event(log, logging.WARNING, "scores are not recorded: audit.level is off")
        return None
    sink = sink_of(config, is_demo=is_demo)
    writer = claim_writer(spool_directory(config))
    try:
        core = _core.AuditLog(
            directory=str(writer.path),
            key=writer.key,
            level=_core.AUDIT_LEVELS[config.level],
            bytes_max=config.spool_bytes_max,
            has_sink=sink != NO_SINK,
            age_s_max=config.keep_h_max * 3600,
            inputs=_core.AUDIT_INPUTS[config.inputs],
            sample_one_in=config.sample_one_in,
            refuses=config.when_full == "refuse",
            full_one_in=config.full_one_in,
            software=software,
        )
    except CoreError as error:
        writer.release()
        raise ConfigError(f"audit.spool: {writer.path}: {error.reason}: {error.message}") from error
    opened = OpenAudit(core, writer, config.level, config.spool_bytes_max, sink)
    # A log whose newest records a power cut took goes on with sequences that the sink has of others; the shipper will notice.
    stats = core.stats()
    if (shipped := read_shipped(writer.path)) >= stats.next_sequence - stats.recorded:
        opened._stale_shipped = shipped
    opened.take_shipped()
    _say_found(opened)
    return opened


# --- implementation ---


def _say_found(audit: OpenAudit) -> None:
    stats = audit.log.stats()
    if stats.lost_records:
        log_event(
            log,
            logging.ERROR,
            "records of the audit log cannot be read: the log goes on behind the last that can; `assay audit verify` has them",
            directory=audit.writer.path,
            records=stats.lost_records,
        )
    if torn := stats.torn_bytes:
        log_event(
            log,
            logging.WARNING,
            "the end of the audit log was torn when the last server ended",
            directory=audit.writer.path,
            bytes=torn,
        )
