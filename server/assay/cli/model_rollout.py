"""The commands of `assay model` that speak to a running server: which versions it has loaded, and which of them answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from assay.cli.admin_target import admin_target
from assay.cli.options import JsonOption
from assay.cli.output import answers, console, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.cli.unary_call import TIMEOUT_S, unary_call

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.v1.model_pb2 import ModelRollout, ModelVersion, ShadowComparison

LOAD_TIMEOUT_S = 600.0

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its version.")]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="unix:PATH|HOST:PORT",
        help="The admin listener. Default: that of the one server on this machine.",
        show_default=False,
    ),
]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="Part of the entities, 0 to 1; 0 ends it.")]


@dataclass(frozen=True)
class Server:
    """The server that a command asks."""

    target: str | None
    tls: Tls | None
    as_json: bool

    def ask(self, method: str, **fields: str | float) -> Any:
        """The answer of a method of ModelService. Ends the command where the server says no, or none answers."""
        from assay.v1 import model_pb2

        return unary_call(
            admin_target(self.target),
            self.tls,
            f"assay.v1.ModelService/{method}",
            getattr(model_pb2, f"{method}Request")(**fields),
            getattr(model_pb2, f"{method}Response"),
            as_json=self.as_json,
            timeout_s=LOAD_TIMEOUT_S if method in ("LoadModel", "UnloadModel") else TIMEOUT_S,
        )


def find_server(
    target: Target = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> Server:
    """Its parameters are options of every command here."""
    return Server(target, make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name), as_json)


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: with the options of find_server() after its own, in place of its first parameter."""
    own = list(signature(command, eval_str=True).parameters.values())[1:]
    shared = list(signature(find_server, eval_str=True).parameters.values())

    @wraps(command)
    def run(**given: Any) -> None:
        server = find_server(**{one.name: given.pop(one.name) for one in shared})
        command(server, **given)

    run.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]
    return run


def list_models(server: Server) -> None:
    """Show every version that the server knows, what it is for, and how a shadow compares with its champion.

    Examples:

        assay model list

        assay model list --target unix:/run/assay/admin-50051.sock --json
    """
    found = server.ask("ListModels")
    if server.as_json:
        print_json({"models": [_document(model) for model in found.models]})
        return
    for model in found.models:
        _print(model)


def load(server: Server, model: Name, version: Version) -> None:
    """Load a version of the server's repository: prove and warm it beside those that serve. It answers nobody yet.

    Examples:

        assay model load card_fraud 2
    """
    with console.status("proving the bundle", spinner="line"):
        answer = server.ask("LoadModel", model=model, version=version)
    _say(server, answer)


def unload(server: Server, model: Name, version: Version) -> None:
    """Take a version out of the server's memory, once its last calls have ended.

    Examples:

        assay model unload card_fraud 1
    """
    _say(server, server.ask("UnloadModel", model=model, version=version))


def promote(server: Server, model: Name, version: Version) -> None:
    """Make a loaded version the champion: it answers whoever names no version. A guard watches it for a while.

    Examples:

        assay model promote card_fraud 2
    """
    _say(server, server.ask("PromoteModel", model=model, version=version))


def rollback(server: Server, model: Name) -> None:
    """End the canary; where none runs, have the champion before the present one answer again. At once.

    Examples:

        assay model rollback card_fraud
    """
    _say(server, server.ask("RollbackModel", model=model))


def canary(server: Server, model: Name, version: Version, share: Share) -> None:
    """Make a loaded version the challenger, and have it answer a share of the entities, always the same ones.

    Examples:

        assay model canary card_fraud 2 --share 0.05

        assay model canary card_fraud 2 --share 0
    """
    _say(server, server.ask("SetCanary", model=model, version=version, share=share))


def shadow(server: Server, model: Name, version: Version, share: Share = 1.0) -> None:
    """Have a loaded version score once more what the champion has answered, and compare. Nobody sees its scores.

    Examples:

        assay model shadow card_fraud 2

        assay model shadow card_fraud 2 --share 0
    """
    _say(server, server.ask("SetShadow", model=model, version=version, share=share))


COMMANDS: Final[tuple[tuple[Callable[..., None], str], ...]] = (
    (with_server(list_models), "list"),
    (with_server(load), "load"),
    (with_server(unload), "unload"),
    (with_server(promote), "promote"),
    (with_server(rollback), "rollback"),
    (with_server(canary), "canary"),
    (with_server(shadow), "shadow"),
)


# --- implementation ---


def _say(server: Server, answer: Any) -> None:
    """The model that an answer has."""
    if server.as_json:
        print_json(_document(answer.model))
    else:
        _print(answer.model)


def _print(model: ModelRollout) -> None:
    answers.print(plain_text(_headline(model)), soft_wrap=True)
    table = Table("version", "state", "labels", "device", "", box=None, padding=(0, 2, 0, 0))
    for version in model.versions:
        labels = ", ".join(_label_text(model, label) for label in version.labels)
        table.add_row(*map(plain_text, (version.version, _state(version), labels, version.device, version.reason)))
    answers.print(table)
    if model.HasField("shadow"):
        answers.print(plain_text(_shadow_line(model.shadow)), soft_wrap=True)


def _headline(model: ModelRollout) -> str:
    text = f"model {model.model}"
    text += f": {model.champion} answers" if model.champion else ": nothing is loaded"
    text += f", a guard watches {' and '.join(model.guarded)}" if model.guarded else ""
    text += f"; taken back by its guard: {model.last_breach}" if model.last_breach else ""
    return text + ("" if model.is_kept or not model.champion else "; a restart does not keep this")


def _label_text(model: ModelRollout, label: str) -> str:
    if label == "challenger" and model.canary_share > 0.0:
        return f"challenger ({model.canary_share:.4g} of the entities)"
    return f"shadow ({model.shadow.share:.4g} of the entities)" if label == "shadow" and model.shadow.share < 1.0 else label


def _shadow_line(shadow: ShadowComparison) -> str:
    counts = f"{shadow.compared_rows:,} rows compared, {shadow.failed_rows:,} failed, {shadow.shed_rows:,} shed"
    if not shadow.compared_rows:
        return f"shadow {shadow.version}: {counts}"
    flipped = sum(flip.rows for flip in shadow.flips)
    flips = ", ".join(f"{flip.champion} to {flip.shadow} {flip.rows:,}" for flip in shadow.flips)
    return (
        f"shadow {shadow.version}: {counts}; score {shadow.score_bias:+.6f} on average, "
        f"{flipped / shadow.compared_rows:.3%} decided differently" + (f" ({flips})" if flips else "")
    )


def _state(version: ModelVersion) -> str:
    from assay.v1 import model_pb2

    return model_pb2.ModelState.Name(version.state).removeprefix("MODEL_STATE_").lower()


def _document(model: ModelRollout) -> dict[str, Any]:
    return {
        "model": model.model,
        "champion": model.champion or None,
        "previous": model.previous or None,
        "challenger": model.challenger or None,
        "canary_share": model.canary_share,
        "guarded": list(model.guarded),
        "last_breach": model.last_breach or None,
        "is_kept": model.is_kept,
        "versions": [
            {
                "version": version.version,
                "state": _state(version),
                "labels": list(version.labels),
                "device": version.device or None,
                "reason": version.reason or None,
            }
            for version in model.versions
        ],
        "shadow": _shadow_document(model.shadow) if model.HasField("shadow") else None,
    }


def _shadow_document(shadow: ShadowComparison) -> dict[str, Any]:
    return {
        "version": shadow.version,
        "share": shadow.share,
        "compared_rows": shadow.compared_rows,
        "failed_rows": shadow.failed_rows,
        "shed_rows": shadow.shed_rows,
        "score_bias": shadow.score_bias if shadow.HasField("score_bias") else None,
        "difference_bounds": list(shadow.difference_bounds),
        "difference_rows": list(shadow.difference_rows),
        "flips": [{"champion": flip.champion, "shadow": flip.shadow, "rows": flip.rows} for flip in shadow.flips],
    }
