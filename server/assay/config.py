"""What can be configured: every key with its type, bounds, default and meaning. Frozen once built.

config_loading.py reads and merges the sources.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

ENV_PREFIX = "ASSAY_"
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un
NEAR_CACHE_BYTES_MIN = 1 << 20
DEVICE_PATTERN = r"(auto|cpu|cuda)(?:(?<=cuda):([0-9]{1,2}))?"


class Section(BaseModel):
    """A group of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StoreConfig(Section):
    """The feature store."""

    url: SecretStr = Field(
        default=SecretStr("embedded:"),
        description="Where row records live: embedded: (this process), embedded:PATH (the same, with its snapshot at PATH), "
        "redis://[USER:PASSWORD@]HOST:PORT/DB, redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE or "
        "redis+cluster://HOST,HOST; with rediss over TLS (docs/stores.md).",
    )
    bytes_max: int = Field(
        default=1 << 30,
        ge=1 << 20,
        description="Most memory that records take in this process, in bytes: the embedded store's, or those of a remote "
        "store while events are written to it.",
    )
    lookup_timeout_ms_max: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Longest that a row waits for a remote store, in milliseconds; two fifths of what is left of its deadline if "
        "that is less. Then what the near-cache has stands in for the record, else declared defaults, and the answer says so.",
    )
    lookup_threads: int = Field(
        default=2,
        ge=1,
        le=32,
        description="Threads that ask a remote store; each has one batch of rows on its way. While one has, rows wait for it a "
        "millisecond, or a quarter of their time; then a second asks for them, so that a slow answer does not keep them waiting.",
    )
    near_cache_bytes_max: int = Field(
        default=64 << 20,
        ge=0,
        le=1 << 40,
        description="Most memory of the near-cache, in bytes: records of a remote store that this server has just fetched and "
        "need not fetch again. At least 1 MiB. 0: off.",
    )
    near_cache_max_age_ms: dict[str, Annotated[int, Field(ge=0, le=3_600_000)]] = Field(
        default={},
        description="How old a record of the near-cache may be, in milliseconds, by the name of its view. 0: the view is not "
        "kept. Views that are not named: attribute views 10000, window views 0, for they change with every event.",
    )
    near_cache_stale_s_max: int = Field(
        default=600,
        ge=0,
        le=86_400,
        description="Where a remote store gives nothing, a record of the near-cache is used up to this age, in seconds, and the "
        "answer says so (CACHE_STALE). 0: not past its view's max age.",
    )

    @field_validator("near_cache_bytes_max")
    @classmethod
    def _near_cache_holds_something(cls, value: int) -> int:
        if 0 < value < NEAR_CACHE_BYTES_MIN:
            raise ValueError(f"expected 0 (off) or at least {NEAR_CACHE_BYTES_MIN} (1 MiB)")
        return value


class EngineConfig(Section):
    """The slab of slots that all lanes share."""

    slots: int = Field(
        default=8192, ge=4, le=1 << 20, description="Rows in flight, all lanes together; more are refused (SLOTS_EXHAUSTED)."
    )
    batch_call_rows_max: int = Field(
        default=1024, ge=1, le=4096, description="Most rows of one ScoreBatch call; at most a quarter of the slots."
    )

    @model_validator(mode="after")
    def _batch_fits(self) -> EngineConfig:
        if self.batch_call_rows_max * 4 > self.slots:
            raise ValueError(
                f"batch_call_rows_max ({self.batch_call_rows_max}) must be at most a quarter of slots ({self.slots})"
            )
        return self


class LaneConfig(Section):
    """Each model's queue and runners."""

    runners: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads that run batches of one model on the CPU. 0: one fewer than the cores, at least 1. A card has one.",
    )
    batch_rows_max: int = Field(default=256, ge=1, le=4096, description="Most rows of one run of the model.")
    queue_rows_max: int = Field(
        default=4096, ge=1, le=1 << 20, description="Most rows that wait for a runner; more are refused (QUEUE_FULL)."
    )
    queue_delay_us_max: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="How long an idle runner may wait for more rows, in microseconds. 0: not at all.",
    )
    inline_run_us_max: int = Field(
        default=50,
        ge=0,
        le=1_000,
        description="A model that scores a row within this many microseconds (measured at load) is run by the thread that took "
        "the request, while no row waits before it: quicker than waking a runner. If a run takes a millisecond longer, runners "
        "take over for a while. 0: runners run everything.",
    )
    timeout_ms_max: int = Field(
        default=60_000,
        ge=1,
        le=60_000,
        description="Longest that any call may take, in milliseconds: a cap on the timeout that the bundle declares.",
    )


class ExplainConfig(Section):
    """Explanations: why scores are what they are. No score is late for its explanation."""

    threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Threads that explain scores, at the lowest priority, all models together. Of models that must be asked as "
        "many scores are explained at a time.",
    )
    queue_rows_max: int = Field(
        default=1024, ge=1, le=1 << 16, description="Most rows that wait for an explanation; others get their score without."
    )
    inline_ms_max: int = Field(
        default=5,
        ge=0,
        le=1_000,
        description="How long an interactive score waits for its explanation, in milliseconds, if its deadline allows; then it "
        "is given without. A bulk one waits as long as its call may take.",
    )


class CudaConfig(Section):
    """What models may take of a CUDA device."""

    memory_bytes_max: int = Field(
        default=2 << 30,
        ge=0,
        le=1 << 40,
        description="Most memory of each model's arena on the device, in bytes. CUDA itself takes some hundred MB beside it. "
        "0: no limit.",
    )
    memory_reserve_bytes: int = Field(
        default=512 << 20,
        ge=0,
        le=1 << 40,
        description="What must be free on the device when a model has run every batch size at load, in bytes. A batch size that "
        "leaves less is not used there.",
    )
    hang_ms_max: int = Field(
        default=5000,
        ge=10,
        le=600_000,
        description="A run on a card that takes longer has hung: the card is given up "
        "until the process ends, and the CPU scores.",
    )
    exit_when_dead: bool = Field(
        default=True,
        description="Drain and exit with code 75 when a card is lost for this process, so that a supervisor starts a new one. "
        "Off: go on with the CPU.",
    )
    hot_celsius: int = Field(
        default=80,
        ge=40,
        le=120,
        description="A card this warm is given no batches, and health says NOT_SERVING, until it is cool_celsius again.",
    )
    cool_celsius: int = Field(default=70, ge=30, le=119, description="See hot_celsius; lower than that.")

    @model_validator(mode="after")
    def _is_cooler(self) -> CudaConfig:
        if self.cool_celsius >= self.hot_celsius:
            raise ValueError(f"cool_celsius: expected less than hot_celsius ({self.hot_celsius}), not {self.cool_celsius}")
        return self


class LimitsConfig(Section):
    """What one client may ask of the server."""

    receive_message_bytes_max: int = Field(
        default=4 << 20, ge=1024, le=1 << 30, description="Largest message that is read, in bytes."
    )
    send_message_bytes_max: int = Field(
        default=16 << 20, ge=1024, le=1 << 30, description="Largest message that is sent, in bytes."
    )
    metadata_bytes_max: int = Field(default=16 << 10, ge=1024, le=1 << 20, description="Largest metadata of a call, in bytes.")
    connection_streams_max: int = Field(
        default=1000, ge=1, le=1 << 20, description="Concurrent calls of one connection; more wait at the client."
    )
    stream_messages_max: int = Field(
        default=64, ge=1, le=65_536, description="Messages in flight of one ScoreStream; then reading stops."
    )
    streams_max: int = Field(default=256, ge=1, le=65_536, description="Open ScoreStream calls; more are refused (STREAM_LIMIT).")


class ConnectionConfig(Section):
    """Keepalive and age of connections. 0 turns a limit off where it says so."""

    ping_interval_s_min: int = Field(
        default=10, ge=1, description="Clients that ping more often than this, in seconds, are sent away."
    )
    keepalive_s: int = Field(default=60, ge=1, description="The server pings a silent connection after this many seconds.")
    keepalive_timeout_s: int = Field(default=20, ge=1, description="And closes it when no answer comes within this many seconds.")
    idle_s_max: int = Field(
        default=300, ge=0, description="A connection without calls is closed after this many seconds. 0: never."
    )
    age_s_max: int = Field(
        default=600,
        ge=0,
        description="A connection is asked to reconnect after this many seconds (10 % jitter), so that load spreads and a new "
        "certificate reaches everybody. 0: never.",
    )
    age_grace_s: int = Field(
        default=600,
        ge=1,
        description="How long calls of such a connection may still run, in seconds. The server ends a ScoreStream after nine "
        "tenths of it (STREAM_TOO_OLD), with all that was read of it answered, so that none is cut.",
    )

    @property
    def stream_age_s_max(self) -> float:
        """How long a ScoreStream may be open; 0: for ever. One that starts as its connection is sent away has the grace alone."""
        return 0.9 * self.age_grace_s if self.age_s_max else 0.0


class NativeTransportConfig(Section):
    """What the native transport takes beside `limits` and `connection`, which hold on both. grpcio has no use for these keys."""

    io_threads: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Threads that read, queue and write, each with connections of its own. 0: one for every four cores, at least "
        "2 (1 where there is one core) and at most 8. Native transport only.",
    )
    connections_max: int = Field(
        default=10_000,
        ge=1,
        le=1 << 20,
        description="Open connections, all threads together; more wait until one closes. Fewer where the process may not open "
        "three files for each. Native transport only.",
    )
    held_bytes_max: int = Field(
        default=256 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Most memory of requests that are not whole and answers that are not read, of each thread, in bytes; at "
        "least twice the largest message. Native transport only.",
    )
    forwarded_streams_max: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="Concurrent calls of one connection that are not scores and go to the gRPC server behind; more are refused "
        "(STREAM_LIMIT). Native transport only.",
    )


class TlsConfig(Section):
    """Certificates of the listeners: PEM files, looked at anew when a client connects. See docs/security.md."""

    certificate: Path | None = Field(
        default=None, description="The server's certificate and its chain. With tls.key: the public listener speaks TLS."
    )
    key: Path | None = Field(default=None, description="The certificate's private key, not encrypted, mode 0600.")
    client_ca: Path | None = Field(
        default=None,
        description="Certificate authorities of the clients, one or more in one file: clients must then have a certificate "
        "(mTLS), and the file that `roles` names says what each may do.",
    )

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: set both, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key: clients show a certificate only to a server that has one")
        return self


def _collector_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")):
        raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
    if parts.username or parts.password:
        raise ValueError("must not hold a password: put what the collector wants to see into OTEL_EXPORTER_OTLP_HEADERS")
    return value


class TracingConfig(Section):
    """OpenTelemetry traces. Off until an endpoint is named, here or by OpenTelemetry's own variables (docs/observability.md)."""

    endpoint: str = Field(
        default="",
        description="Where spans go, by OTLP over gRPC: http://HOST:PORT (plaintext) or https://HOST:PORT. Empty: as "
        "OTEL_EXPORTER_OTLP_ENDPOINT says.",
    )
    sample_ratio: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Part of the calls that is traced where the caller did not decide. Unset: OTEL_TRACES_SAMPLER's, else 0.01.",
    )
    slow_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="Calls that take this many milliseconds are traced too, as failed and declined ones are. 0: not for that.",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return _collector_url(value)


class MetricsExportConfig(Section):
    """Metrics by OTLP, beside /metrics. Off until an endpoint is named, here or by OpenTelemetry's own variables
    (docs/observability.md)."""

    endpoint: str = Field(
        default="",
        description="Where metrics go, by OTLP over gRPC: http://HOST:PORT (plaintext) or https://HOST:PORT. Empty: as "
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT says.",
    )
    interval_ms: int | None = Field(
        default=None,
        ge=100,
        le=86_400_000,
        description="How often, in milliseconds. Unset: OTEL_METRIC_EXPORT_INTERVAL's, else 60000.",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return _collector_url(value)


class SkewConfig(Section):
    """The sample of rows that is held against a replay (docs/features.md, training equals serving)."""

    sample_one_in: int = Field(
        default=1000,
        ge=0,
        le=1 << 30,
        description="The rows of one entity in so many are kept, chosen by the hash of its id. 1: of all. 0: of none.",
    )
    rows_max: int = Field(
        default=10_000,
        ge=1,
        le=1 << 20,
        description="Most rows that are kept, all models together; then the oldest goes. About 500 bytes each, more with many "
        "inputs.",
    )


class AuditConfig(Section):
    """The audit log: a record of every score (docs/audit.md)."""

    level: Literal["off", "memory", "spool", "fsync"] = Field(
        default="spool",
        description="What a score waits for. spool: the kernel has its record (lost only if the machine dies within seconds); "
        "fsync: the disk has it; memory: nothing (lost if the process dies). off: nothing is recorded.",
    )
    spool: str = Field(
        default="auto",
        description="Directory of the log. auto: $XDG_STATE_HOME/assay/audit, else ~/.local/state/assay/audit. Servers may share "
        "one: each writes to a directory of its own in it.",
    )
    spool_bytes_max: int = Field(
        default=1 << 30,
        ge=4 << 20,
        le=1 << 44,
        description="Most room that this server's log takes on the disk, in bytes. With a sink what has reached it makes way for "
        "new records; without one the oldest records do, whether anybody has read them or not.",
    )
    keep_h_max: int = Field(
        default=0,
        ge=0,
        le=24 * 366 * 10,
        description="Records older than so many hours are removed from the spool, with a sink only once it has them. 0: when "
        "room is needed.",
    )
    sink: SecretStr = Field(
        default=SecretStr("auto"),
        description="Where records go from the spool, at least once each: jsonl:DIRECTORY, "
        "redis://HOST:PORT/DB?stream=NAME, kafka://HOST:PORT,HOST:PORT/TOPIC. none: nowhere, the spool is a ring. auto: none for "
        "the demo; a server of other models wants to be told.",
    )
    inputs: Literal["full", "sample", "digest"] = Field(
        default="full",
        description="What a record keeps of the row that the model was given. full: the row; sample: the row of one transaction "
        "in audit.sample_one_in, of the others as digest does; digest: a keyed digest, by which a row that somebody has can be "
        "recognised.",
    )
    sample_one_in: int = Field(
        default=100, ge=1, le=1 << 30, description="With inputs: sample, transactions of which one's row is kept."
    )
    when_full: Literal["refuse", "sample"] = Field(
        default="refuse",
        description="Where there is no room for records. refuse: no scores are given (AUDIT_UNAVAILABLE) until there is. sample: "
        "they are, and one in audit.full_one_in is recorded while the reserve lasts.",
    )
    full_one_in: int = Field(
        default=100,
        ge=1,
        le=1 << 30,
        description="With when_full: sample, scores of which one is recorded while there is no room.",
    )

    @field_validator("spool")
    @classmethod
    def _spool_is_a_path(cls, value: str) -> str:
        if not value or "\0" in value:
            raise ValueError("expected the path of a directory, or auto")
        return value


class DrainConfig(Section):
    """What happens between SIGTERM and exit."""

    delay_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Lame duck: health says NOT_SERVING, calls are still answered. Skipped after Ctrl-C.",
    )
    grace_s: float = Field(default=30.0, ge=0, le=3600, description="How long calls in flight may take after that.")


class GuardConfig(Section):
    """When a new version is taken back by itself: beside the former one, after a promotion and while a canary runs."""

    window_s: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long a promoted version is watched, in seconds; a canary is for as long as it runs. 0: nobody watches.",
    )
    rows_min: int = Field(
        default=500, ge=1, description="So many rows a version must have had before its failures and p99 say anything."
    )
    failed_ratio_max: float = Field(
        default=0.01, ge=0, le=1, description="Part of the rows that may fail or be late, beyond what the former version had."
    )
    latency_ratio_max: float = Field(default=2.0, ge=1, description="p99 of the new version by that of the former.")
    latency_ms_min: float = Field(
        default=10.0, ge=0, description="A p99 up to this many milliseconds is no reason, whatever the former one was."
    )
    drift_max: float = Field(
        default=0.5,
        ge=0,
        description="Drift of the new version's scores from its own baseline (model_prediction_drift_score), which needs 1,000 "
        "scores in ten minutes.",
    )


class RolloutConfig(Section):
    """Models that come and go while the server runs (docs/rollout.md)."""

    repository: Path | None = Field(
        default=None,
        description="Directory of bundles, NAME/VERSION/. Of each model the version that was chosen last answers, at first the "
        "newest; others are loaded when somebody asks. Takes the place of `models`.",
    )
    default_model: str = Field(
        default="",
        description="Model of the repository that answers requests which name none. Empty: the first by name.",
    )
    watch_s: float = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description="How often the repository is looked at for new versions, in seconds. They are loaded, and answer nothing "
        "until they are promoted. 0: never.",
    )
    loaded_max: int = Field(
        default=8, ge=1, le=16, description="Most model versions in memory at once, all models together; more are refused."
    )
    guard: GuardConfig = GuardConfig()


class Config(BaseSettings):
    """Everything that can be configured. Built by load_config(); Config(...) itself reads nothing but its arguments."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    listen: str = Field(default="127.0.0.1:50051", description="HOST:PORT of the public listener; port 0 takes a free one.")
    transport: Literal["auto", "grpcio", "native"] = Field(
        default="auto",
        description="What answers the public port: grpcio, or the native transport, which scores without Python. auto: native "
        "where this build has it.",
    )
    reuse_port: bool = Field(
        default=False, description="Share the port (SO_REUSEPORT), so that a new process can overlap the old one."
    )
    health_listen: str = Field(
        default="off",
        description="HOST:PORT of a plaintext listener that answers grpc.health.v1 and nothing else, for probes that have no "
        "certificate. off: none.",
    )
    reflection: bool = Field(default=True, description="Answer gRPC reflection.")
    admin_socket: str = Field(
        default="auto",
        description="Path of the admin listener's Unix socket. auto: in the runtime directory, named after the port, with "
        "reuse_port after the process too. off: none.",
    )
    admin_listen: str = Field(
        default="off",
        description="HOST:PORT of a second admin listener, for client certificates with role write or admin. "
        "Needs tls.client_ca. off: none.",
    )
    roles: Path | None = Field(
        default=None,
        description="File that says which client certificate may do what (docs/security.md). Goes with tls.client_ca.",
    )
    models: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Bundles to serve (NAME/VERSION directories) and plain models (PATH.onnx or NAME=PATH.onnx, "
        "docs/open-inference.md), the default model first. Empty: the demo.",
    )
    device: str = Field(
        default="auto",
        description="Where models run: cpu; cuda or cuda:N, which refuses to start without it; auto: cuda:0 for each model that "
        "proves itself there, else the CPU.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line that is logged."
    )
    tls: TlsConfig = TlsConfig()
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="Log lines as text or JSON. auto: text on a terminal, JSON elsewhere."
    )
    log_requests: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Part of the calls that gets a line of the log of its own (message: request). Calls that are traced get one "
        "whatever this says.",
    )
    log_request_lines_per_s_max: int = Field(
        default=10, ge=0, le=1000, description="Most such lines a second; the rest is counted. 0: none at all."
    )
    status_interval_s: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How often the log has a line that says how the server is, in seconds; one comes on SIGUSR1 too. 0: only "
        "then.",
    )
    black_box: str = Field(
        default="auto",
        description="Path of the file that tells of a crash (docs/crash.md), 320 KiB that are taken at the start. auto: in "
        "$STATE_DIRECTORY, else in the runtime directory, named after the port. off: none.",
    )
    metrics_listen: str = Field(
        default="auto",
        description="HOST:PORT of /metrics (Prometheus, HTTP); port 0 takes a free one. auto: 127.0.0.1:9464 if it is free. "
        "off: none.",
    )
    store: StoreConfig = StoreConfig()
    engine: EngineConfig = EngineConfig()
    lane: LaneConfig = LaneConfig()
    explain: ExplainConfig = ExplainConfig()
    cuda: CudaConfig = CudaConfig()
    limits: LimitsConfig = LimitsConfig()
    connection: ConnectionConfig = ConnectionConfig()
    native_transport: NativeTransportConfig = NativeTransportConfig()
    tracing: TracingConfig = TracingConfig()
    metrics_export: MetricsExportConfig = MetricsExportConfig()
    skew: SkewConfig = SkewConfig()
    audit: AuditConfig = AuditConfig()
    rollout: RolloutConfig = RolloutConfig()
    drain: DrainConfig = DrainConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("listen", "health_listen", "admin_listen", "metrics_listen")
    @classmethod
    def _host_and_port(cls, value: str, info: ValidationInfo) -> str:
        if (value == "off" and info.field_name != "listen") or (value == "auto" and info.field_name == "metrics_listen"):
            return value
        host, separator, port = value.rpartition(":")
        if not separator or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ValueError("expected HOST:PORT, for example 127.0.0.1:50051 or [::1]:50051")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_one(cls, value: str) -> str:
        if not re.fullmatch(DEVICE_PATTERN, value):
            raise ValueError("expected auto, cpu, cuda or cuda:N, for example cuda:0")
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        # An environment variable holds a list as PATH does, or as JSON.
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part for part in value.split(os.pathsep) if part]

    @field_validator("admin_socket")
    @classmethod
    def _socket_fits(cls, value: str) -> str:
        if not value or "\0" in value:
            raise ValueError("expected a path, auto or off")
        if len(os.fsencode(value)) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"a Unix socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter one")
        return value

    @model_validator(mode="after")
    def _callers_are_known(self) -> Config:
        has_client_ca = self.tls.client_ca is not None
        if has_client_ca and self.roles is None:
            raise ValueError("tls.client_ca needs roles: without that file every client is refused everything but health")
        if self.roles is not None and not has_client_ca:
            raise ValueError("roles needs tls.client_ca: without client certificates nobody has a role")
        if self.admin_listen != "off" and not has_client_ca:
            raise ValueError("admin_listen needs tls.client_ca, on loopback too: any user of the machine can reach a port")
        return self

    @model_validator(mode="after")
    def _models_are_named_once(self) -> Config:
        if self.models and self.rollout.repository is not None:
            raise ValueError("models and rollout.repository: set one of them; a repository says itself which models there are")
        return self

    @model_validator(mode="after")
    def _largest_message_is_held(self) -> Config:
        # Not for grpcio, which does not hold it: its limits may be what they like.
        largest = max(self.limits.receive_message_bytes_max, self.limits.send_message_bytes_max)
        if self.transport != "grpcio" and self.native_transport.held_bytes_max < 2 * largest:
            raise ValueError(
                f"native_transport.held_bytes_max ({self.native_transport.held_bytes_max}) must be at least twice the largest of "
                f"limits.receive_message_bytes_max and limits.send_message_bytes_max ({largest}), unless transport is grpcio"
            )
        return self

    @property
    def is_demo(self) -> bool:
        """True if no model is named: the demo bundle is served."""
        return not self.models and self.rollout.repository is None

    @property
    def runner_count(self) -> int:
        return self.lane.runners or max(1, (os.cpu_count() or 1) - 1)

    @property
    def io_thread_count(self) -> int:
        # Two where one would do: a burst waits half as long, and while one of them is kept off its core the other goes on.
        cores = os.cpu_count() or 1
        return self.native_transport.io_threads or min(cores, max(2, cores // 4), 8)


def runtime_dir() -> Path:
    """Where sockets go: XDG_RUNTIME_DIR/assay, or a directory of this user alone under /tmp. Not made here."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "assay" if base else Path(f"/tmp/assay-{os.getuid()}")
