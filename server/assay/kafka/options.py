"""Options of librdkafka as people give them: KEY=VALUE, on the command line or, secrets, in a file of their own.

Some are assay's to set, because what it promises rests on them. Values never appear in an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from assay.errors import ConfigError
from assay.private_file import exposure

FILE_BYTES_MAX: Final = 1 << 20

# Option -> why it cannot be given, and what to give instead.
OURS: Final = {
    "bootstrap.servers": "name the brokers with --kafka",
    "metadata.broker.list": "name the brokers with --kafka",
    "group.id": "name the group with --group",
    "group.instance.id": "name the instance with --instance-id",
    "group.protocol": "members of the classic protocol are what is tested",
    "enable.auto.commit": "an offset is committed once its events are in the store, never before",
    "auto.commit.enable": "an offset is committed once its events are in the store, never before",
    "enable.auto.offset.store": "an offset is committed once its events are in the store, never before",
    "enable.partition.eof": "the end of a partition tells assay that it has caught up",
    "partition.assignment.strategy": "a rebalance must take away only the partitions that move (cooperative-sticky)",
    "enable.idempotence": "dead letters are written in order and once for each try",
    "acks": "an offset is committed once all replicas have the dead letters before it",
    "request.required.acks": "an offset is committed once all replicas have the dead letters before it",
    "plugin.library.paths": "it would run code of a file that an option names",
}

# A rule, because librdkafka has aliases and gets new options.
_SECRET_ENDS: Final = ("secret", "password", "passphrase", ".pem")
_PUBLIC: Final = frozenset({"ssl.certificate.pem", "ssl.ca.pem", "https.ca.pem"})


def parse_options(assignments: Sequence[str]) -> dict[str, str]:
    """--kafka-option. Raises ConfigError, for a secret too: `ps` shows command lines."""
    options: dict[str, str] = {}
    for number, assignment in enumerate(assignments, 1):
        key = _add(options, assignment, f"--kafka-option, number {number}")
        if key.endswith(_SECRET_ENDS) and key not in _PUBLIC:
            raise ConfigError(f"--kafka-option {key}: other users see command lines; put it into a file, --kafka-config FILE")
    return options


def read_options(path: Path) -> dict[str, str]:
    """--kafka-config: KEY=VALUE lines; empty ones and those that begin with # mean nothing. Raises ConfigError."""
    try:
        if found := exposure(path):
            raise ConfigError(f"--kafka-config: {found}")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"--kafka-config: {path} is longer than {FILE_BYTES_MAX >> 20} MiB; is it the right file?")
        lines = data.decode().splitlines()
    except OSError as error:
        raise ConfigError(f"--kafka-config: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--kafka-config: {path}: not UTF-8 text (byte {error.start})") from None
    options: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            _add(options, line, f"--kafka-config: {path}, line {number}")
    return options


def merge_options(assignments: Sequence[str], path: Path | None) -> dict[str, str]:
    """Both. Raises ConfigError for an option that stands in both."""
    given = parse_options(assignments)
    read = read_options(path) if path is not None else {}
    for key in given.keys() & read.keys():
        raise ConfigError(f"--kafka-option {key}: stands in the file of --kafka-config too; give it once")
    return given | read


# --- implementation ---


def _add(options: dict[str, str], assignment: str, where: str) -> str:
    key, equals, value = assignment.partition("=")
    key = key.strip()
    # Not the text: it may be a password without its key.
    if not equals or not key or not value.strip():
        raise ConfigError(f"{where}: expected KEY=VALUE with an option of librdkafka, such as security.protocol=SASL_SSL")
    if key in OURS:
        raise ConfigError(f"{where}: {key} is set by assay: {OURS[key]}")
    if key in options:
        raise ConfigError(f"{where}: {key} stands twice; give it once")
    options[key] = value.strip()
    return key
