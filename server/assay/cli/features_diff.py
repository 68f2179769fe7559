"""`assay features diff`: what changed between two feature sets, whom it touches, and what must be done."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.feature_sources import SOURCE, find_feature_set
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_REFUSED, answers, fail, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.features.difference import Difference, ViewRows
    from assay.features.feature_set import FeatureSet


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=SOURCE)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same.")],
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two feature sets: what changed, whether stored rows or models are touched, and what must be done.

    Exit code 0: a model could not tell one from the other; 4: it could.

    Examples:

        assay features diff features.yaml features.new.yaml

        assay features diff 127.0.0.1:50051 models/card_fraud/2 --json
    """
    from assay.features.difference import compare

    try:
        trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
        found = compare(find_feature_set(old, trust, as_json=as_json), find_feature_set(new, trust, as_json=as_json))
    except AssayError as error:
        fail(str(error))
    if as_json:
        print_json(_document(found))
    else:
        _print(found)
    if found.touches_models:
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---


def _document(found: Difference) -> dict[str, Any]:
    return {
        "old": _identity(found.old),
        "new": _identity(found.new),
        "changes": [
            {"part": change.part, "name": change.name, "change": change.verb, "how": change.how} for change in found.changes
        ],
        "views": [
            {"name": rows.name, "rows": rows.state, "old_view_hash": rows.old_hash, "new_view_hash": rows.new_hash}
            for rows in found.views
        ],
        "touches_models": found.touches_models,
        "to_do": list(found.to_do),
    }


def _identity(feature_set: FeatureSet) -> dict[str, str]:
    return {"name": feature_set.name, "version": feature_set.version, "schema_hash": feature_set.schema_hash}


def _print(found: Difference) -> None:
    old, new = found.old, found.new
    _say(f"{old.name} {old.version} -> {new.name} {new.version}")
    for part, changes in groupby(found.changes, lambda change: change.part):
        _say(part)
        for change in changes:
            _say(f"  {change.verb:<8} {change.name}{f': {change.how}' if change.how else ''}")
    _say("stored rows" if found.views else "stored rows: no views")
    for rows in found.views:
        _say(f"  {_rows_text(rows)}")
    hash_text = " -> ".join(dict.fromkeys((old.schema_hash[:16], new.schema_hash[:16])))
    _say(f"models: schema hash {hash_text}: {'touched' if found.touches_models else 'not touched'}")
    _say("to do" if found.to_do else "to do: nothing")
    for number, step in enumerate(found.to_do, 1):
        _say(f"  {number}. {step}")


def _rows_text(rows: ViewRows) -> str:
    match rows.state:
        case "kept":
            return f"view {rows.name}: kept (view hash {str(rows.new_hash)[:16]})"
        case "left":
            return f"view {rows.name}: left to expire (view hash {str(rows.old_hash)[:16]})"
        case "new":
            before = f"{rows.old_hash[:16]} -> " if rows.old_hash else ""
            return f"view {rows.name}: new ones beside the old (view hash {before}{str(rows.new_hash)[:16]})"


def _say(text: str) -> None:
    answers.print(plain_text(text), soft_wrap=True)
