"""`assay features describe`: a feature set in words, from its file or from the server that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.feature_sources import (
    SOURCE,
    FeatureSetOption,
    Model,
    Target,
    Version,
    find_feature_set,
    load_feature_set,
    served_feature_set,
)
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_USAGE, answers, fail, plain_lines, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet


def describe(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help=f"{SOURCE} Default: the demo's.")] = None,
    feature_set: FeatureSetOption = None,
    target: Target = None,
    model: Model = "",
    version: Version = "",
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a feature set: what a request carries, what is stored, what the model gets, and both hashes.

    Examples:

        assay features describe features.yaml

        assay features describe --target 127.0.0.1:50051 --json
    """
    if [source, target, feature_set].count(None) < 2:
        fail("SOURCE, --target (a server) and --feature-set (a file) say where it is; give one of them", EXIT_USAGE)
    try:
        trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
        if source is not None:
            loaded = find_feature_set(source, trust, as_json=as_json)
        elif target is not None:
            loaded = served_feature_set(target, trust, model, version, as_json=as_json)
        else:
            loaded = load_feature_set(feature_set)
    except AssayError as error:
        fail(str(error))
    if as_json:
        print_json(_document(loaded))
    else:
        _print(loaded)


# --- implementation ---


def _document(feature_set: FeatureSet) -> dict[str, Any]:
    """DescribeFeatureSetResponse in JSON, without the file itself."""
    from google.protobuf import json_format

    from assay.transport.feature_messages import feature_set_message

    message = feature_set_message(feature_set)
    message.ClearField("yaml")
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def _print(feature_set: FeatureSet) -> None:
    from assay.features import words

    answers.print(plain_text(f"{feature_set.name} {feature_set.version}, schema hash {feature_set.schema_hash}"))
    if feature_set.description:
        answers.print(Text(plain_lines(feature_set.description)))
    answers.print(plain_text(f"entities: {', '.join(feature_set.entities)}"))
    _print_table(
        "request features",
        {name: words.describe_request_feature(feature) for name, feature in feature_set.request_features.items()},
    )
    for name, view in feature_set.views.items():
        settings = ", ".join(f"{key} {value}" for key, value in words.describe_view_settings(view).items())
        title = f"view {name}: {settings}, view hash {feature_set.view_hash(name).hex()}"
        _print_table(title, words.describe_values(view))
    _print_table("derived", {name: words.describe_derived(feature) for name, feature in feature_set.derived.items()})
    inputs = feature_set.model_inputs
    _print_table("inputs, in this order", {model_input.name: words.describe_input(model_input) for model_input in inputs})


def _print_table(title: str, rows: dict[str, str]) -> None:
    if not rows:
        return
    answers.print()
    answers.print(plain_text(title))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, how in rows.items():
        table.add_row(plain_text(f"  {name}"), plain_text(how))
    answers.print(table)
