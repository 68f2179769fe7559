"""`assay status`: how a running server is, asked from outside. `assay log-level`: how much it says, changed while it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.admin_target import AdminTarget, admin_target
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_REFUSED, EXIT_UNHEALTHY, EXIT_USAGE, answers, fail, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.cli.unary_call import unary_call

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from assay.v1.operations_pb2 import GetStatusResponse, Logging, ModelStatus

LEVELS = ("debug", "info", "warning", "error")


def status(
    target: AdminTarget = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Say how a running server is: models, versions, latency, load, and what is not as it should be.

    Exit code 0: it serves, and all is well. 4: it serves, and a check says no (a store that is away, a model on the CPU that was
    meant for a card). 3: it does not serve, drains, or cannot be reached.

    Examples:

        assay status

        assay status unix:/run/assay/admin-50051.sock --json
    """
    from assay.v1 import operations_pb2

    found = unary_call(
        admin_target(target),
        make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name),
        "assay.v1.OperationsService/GetStatus",
        operations_pb2.GetStatusRequest(),
        operations_pb2.GetStatusResponse,
        as_json=as_json,
    )
    if as_json:
        print_json(_document(found))
    else:
        for line in _lines(found):
            answers.print(plain_text(line), soft_wrap=True)
    if found.state != operations_pb2.SERVER_STATE_SERVING:
        raise typer.Exit(EXIT_UNHEALTHY)
    if not found.is_healthy:
        raise typer.Exit(EXIT_REFUSED)


def log_level(
    level: Annotated[
        str | None, typer.Argument(metavar="[LEVEL]", help="debug, info, warning or error. Default: as it is.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="unix:PATH|HOST:PORT",
            help="The admin listener. Default: that of the one server on this machine.",
            show_default=False,
        ),
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Then as configured again, for example 10m. At most 1d.")
    ] = None,
    traces: Annotated[
        float | None, typer.Option(help="Part of the calls to trace where the caller did not decide, 0 to 1.")
    ] = None,
    requests: Annotated[float | None, typer.Option(help="Part of the calls that gets a line of its own, 0 to 1.")] = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Change how much a running server says: the level of its log, and the part of the calls that is traced or gets a line.

    It holds until the server ends, or for a while with --for. The server's log says that it was changed.

    Examples:

        assay log-level debug --for 10m

        assay log-level --requests 1 --traces 0.1 --for 5m
    """
    from assay.v1 import operations_pb2

    if level is not None and level not in LEVELS:
        fail(f"LEVEL: expected {', '.join(LEVELS)}", EXIT_USAGE)
    if (level, traces, requests) == (None, None, None):
        fail("expected LEVEL, --traces or --requests; `assay status` says how it is", EXIT_USAGE)
    request = operations_pb2.SetLoggingRequest(level=level or "", trace_sample_ratio=traces, request_log_ratio=requests)
    if for_ is not None:
        request.revert_after.FromMicroseconds(_duration_us(for_))
    changed = unary_call(
        admin_target(target),
        make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name),
        "assay.v1.OperationsService/SetLogging",
        request,
        operations_pb2.SetLoggingResponse,
        as_json=as_json,
    )
    if as_json:
        print_json({"before": _logging(changed.before), "now": _logging(changed.now)})
        return
    answers.print(plain_text(f"was  {_logging_line(changed.before)}"))
    answers.print(plain_text(f"now  {_logging_line(changed.now)}"))


# --- implementation ---


def _duration_us(text: str) -> int:
    from assay.features.durations import parse_duration_us

    try:
        return parse_duration_us(text)
    except ValueError as error:
        fail(f"--for: {error}", EXIT_USAGE)


def _state(found: GetStatusResponse) -> str:
    from assay.v1 import operations_pb2

    name = operations_pb2.ServerState.Name(found.state).removeprefix("SERVER_STATE_")
    return "DEGRADED" if name == "SERVING" and not found.is_healthy else name


def _lines(found: GetStatusResponse) -> list[str]:
    runtime = f"ONNX Runtime {found.onnxruntime_version}"
    runtime += f" for CUDA {found.cuda_build}" if found.cuda_build else " for the CPU"
    runtime += f", driver {found.driver_version}" if found.driver_version else ""
    window = f"last {found.window.ToTimedelta().total_seconds():.0f} s"
    return [
        f"{_state(found)}  assay {found.assay_version}, pid {found.pid}, since {_time(found.start_time)}",
        f"  runs on   Python {found.python_version}, {runtime}",
        f"  {window:<8}  {found.rows_per_second:,.1f} rows/s, p50 {_ms(found, 'p50')}, p99 {_ms(found, 'p99')}",
        f"  load      {found.queued_rows:,} rows queued, {found.slots_used:,} of {found.slots:,} slots used",
        *(_model_line(model) for model in found.models),
        *(f"  {'check' if check.is_ok else 'FAILS':<8}  {check.name}: {check.value}" for check in found.checks),
        f"  logging   {_logging_line(found.logging)}",
    ]


def _model_line(model: ModelStatus) -> str:
    device = f", on {model.device}" if model.device else ""
    return (
        f"  model     {model.model} {model.version} ({model.sha256[:12]}){device}: {model.scores:,} scores, "
        f"{model.rows_per_second:,.1f} rows/s, p50 {_ms(model, 'p50')}, p99 {_ms(model, 'p99')}"
    )


def _logging_line(logging: Logging) -> str:
    until = f", until {_time(logging.revert_time)}" if logging.HasField("revert_time") else ""
    return f"level {logging.level}, traces {logging.trace_sample_ratio:g}, requests {logging.request_log_ratio:g}{until}"


def _time(moment: Any) -> str:
    return re.sub(r"\.\d+Z", "Z", str(moment.ToJsonString()))


def _ms(message: GetStatusResponse | ModelStatus, name: str) -> str:
    length: Duration = getattr(message, name)
    return f"{length.ToNanoseconds() / 1e6:.3g} ms" if message.HasField(name) else "-"


def _logging(logging: Logging) -> dict[str, Any]:
    return {
        "level": logging.level,
        "trace_sample_ratio": logging.trace_sample_ratio,
        "request_log_ratio": logging.request_log_ratio,
        "revert_time": logging.revert_time.ToJsonString() if logging.HasField("revert_time") else None,
    }


def _document(found: GetStatusResponse) -> dict[str, Any]:
    return {
        "state": _state(found),
        "is_healthy": found.is_healthy,
        "start_time": found.start_time.ToJsonString(),
        "pid": found.pid,
        "assay": found.assay_version,
        "python": found.python_version,
        "onnxruntime": found.onnxruntime_version,
        "cuda": found.cuda_build or None,
        "driver": found.driver_version or None,
        "window_s": found.window.ToNanoseconds() / 1e9,
        "rows_per_s": found.rows_per_second,
        **_latencies(found),
        "queued_rows": found.queued_rows,
        "slots_used": found.slots_used,
        "slots": found.slots,
        "models": [
            {
                "model": model.model,
                "version": model.version,
                "sha256": model.sha256,
                "device": model.device,
                "scores": model.scores,
                "rows_per_s": model.rows_per_second,
                **_latencies(model),
            }
            for model in found.models
        ],
        "checks": [{"name": check.name, "value": check.value, "is_ok": check.is_ok} for check in found.checks],
        "logging": _logging(found.logging),
    }


def _latencies(message: GetStatusResponse | ModelStatus) -> dict[str, float | None]:
    return {
        "p50_s": message.p50.ToNanoseconds() / 1e9 if message.HasField("p50") else None,
        "p99_s": message.p99.ToNanoseconds() / 1e9 if message.HasField("p99") else None,
    }
