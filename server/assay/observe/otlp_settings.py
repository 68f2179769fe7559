"""What OpenTelemetry's standard variables say to every exporter of ours, checked before there is one. Imports no SDK."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from assay.errors import ConfigError


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Whether OTEL_SDK_DISABLED turns everything off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def chosen_exporters(variable: str, known: Collection[str], environ: Mapping[str, str]) -> set[str]:
    """The names in a variable like OTEL_TRACES_EXPORTER. Raises ConfigError for one that is not known."""
    exporters = {name.strip().lower() for name in environ.get(variable, "").split(",")} - {""}
    if unknown := exporters - set(known):
        raise ConfigError(f"{variable}: {sorted(unknown)[0]!r} is not among what we export to; expected {' or '.join(known)}")
    return exporters


def check_exporter_variables(signal: str, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for a protocol that we do not speak, and for headers that the SDK cannot read: it would write them into
    the log, and they may hold a token. `signal`: TRACES or METRICS."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name):
            if environ[name].strip().lower() != "grpc":
                raise ConfigError(
                    f"{name}: expected grpc; OTLP over HTTP is not spoken, and the collector's gRPC port is usually 4317"
                )
            break
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        if not all(_HEADER.fullmatch(part.strip()) for part in environ.get(name, "").split(",") if part.strip()):
            raise ConfigError(f"{name}: expected name=value,name=value (in a value a comma is %2C)")


# --- implementation ---

# As the SDK takes them: W3C Baggage, and spaces in the value. A value is percent-decoded if it has none.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
