"""Where records go from the spool: the one place that knows the sinks' URLs.

jsonl:DIRECTORY                                a file an hour
redis://HOST:PORT/DB?stream=NAME               a stream; also Unix sockets, Sentinels, clusters, TLS: as for stores
kafka://HOST:PORT[,HOST:PORT]/TOPIC[?config=FILE]   a topic; FILE has further options of librdkafka, secrets too
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

from assay.errors import AssayError, ConfigError
from assay.store_url import REMOTE_SCHEMES, parse_store_url

FORMS: Final = "jsonl:DIRECTORY, redis://HOST:PORT/DB?stream=NAME or kafka://HOST:PORT,HOST:PORT/TOPIC"


class SinkAwayError(AssayError, RuntimeError):
    """The sink did not take records, or did not say so: try the same ones again later. Some of them may have arrived."""


class ShippedRecord(NamedTuple):
    """A record as a sink gets it."""

    id: str  # WRITER-LOG-SEQUENCE
    key: str  # the transaction's id; empty: it is about none
    written_us: int
    json: bytes  # one line, without its end


class Sink(Protocol):
    """One thread. Records of one log come in order; after an error the same ones come again."""

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        """Comes back once they are safe there; what that means, each sink says. Raises SinkAwayError."""

    def close(self) -> None: ...


def open_sink(url: str) -> Sink:
    """Connects at the first delivery. Raises ConfigError where the URL, or what it names, is wrong; the error shows no secret."""
    scheme = url.partition(":")[0]
    if scheme == "jsonl":
        from assay.audit.jsonl_sink import JsonlSink

        return JsonlSink(_directory_of(url))
    if scheme in REMOTE_SCHEMES:
        from assay.audit.redis_sink import redis_sink

        return redis_sink(url)
    if scheme == "kafka":
        from assay.audit.kafka_sink import kafka_sink

        brokers, topic, config = kafka_parts(url)
        return kafka_sink(brokers, topic, config)
    raise ConfigError(f"audit.sink: expected {FORMS}")  # not the URL: what stands there may be a password


def sink_location(url: str) -> str:
    """What may be shown of a sink's URL that open_sink() took."""
    parsed = parse_store_url(url)
    if parsed is None:
        return url.partition("?")[0] if url.startswith("kafka:") else url
    return f"{parsed.location}?stream={parsed.options.get('stream', '')}"


def kafka_parts(url: str) -> tuple[str, str, Path | None]:
    """(brokers, topic, file of options) of a kafka: URL. Raises ConfigError."""
    parts = urlsplit(url)
    topic, options = parts.path.removeprefix("/"), dict(parse_qsl(parts.query, keep_blank_values=True))
    is_right = parts.netloc and topic and "/" not in topic and "@" not in url and not parts.fragment
    if not is_right or options.keys() - {"config"} or options.get("config") == "":
        raise ConfigError("audit.sink: expected kafka://HOST:PORT,HOST:PORT/TOPIC; users and passwords go into ?config=FILE")
    return parts.netloc, topic, Path(options["config"]) if "config" in options else None


# --- implementation ---


def _directory_of(url: str) -> Path:
    directory = url.removeprefix("jsonl:")
    if not directory or "\0" in directory:
        raise ConfigError("audit.sink: expected jsonl:DIRECTORY")
    return Path(directory)
