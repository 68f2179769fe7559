"""What a server said no to, as every command that calls one prints it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from assay.cli.connection_hints import connection_hint
from assay.cli.output import EXIT_FAILED, EXIT_REFUSED, EXIT_UNHEALTHY, console, plain, print_error, print_json, shown

if TYPE_CHECKING:
    from assay.client import ScoreError

# Nothing failed: there is no explanation, which `assay explain` has a code of its own for.
NO_EXPLANATIONS = ("SCORE_UNKNOWN", "NO_EXPLANATION", "NO_AUDIT_LOG")
MENDS = {"WRONG_LISTENER": "the admin listener answers this: --target unix:PATH; assay serve prints where it is"}


def show_error(error: ScoreError, target: str, as_json: bool) -> int:
    """Prints everything that an error says; returns the exit code."""
    from assay.client import Unavailable

    exit_code = EXIT_UNHEALTHY if isinstance(error, Unavailable) else EXIT_FAILED
    exit_code = EXIT_REFUSED if error.reason in NO_EXPLANATIONS else exit_code
    if as_json:
        print_json({"error": _error_dict(error)})
        return exit_code
    reason = f" {error.reason}" if error.reason not in ("", error.status.name) else ""
    print_error(plain(f"{error.status.name}{reason}: {_without_violations(error)}"))
    for violation in error.violations:
        said = shown(f"{violation.reason}: {violation.description}")
        console.print(f"  [bold]{shown(violation.field)}[/] {said}", soft_wrap=True)
    if error.retry_delay is not None:
        console.print(f"[dim]hint:[/] try again in {error.retry_delay.total_seconds():g} s")
    if exit_code == EXIT_UNHEALTHY and not error.reason:
        console.print(f"[dim]hint:[/] {shown(connection_hint(error.message, target))}", soft_wrap=True)
    if error.reason:
        hint = MENDS.get(error.reason, f"docs/errors.md, {error.reason}")
        console.print(f"[dim]hint:[/] {shown(hint)}", soft_wrap=True)
    return exit_code


# --- implementation ---


def _error_dict(error: ScoreError) -> dict[str, Any]:
    """code and message, and of reason, metadata, violations, retry_after_s what there is."""
    details = {
        "reason": error.reason,
        "metadata": error.metadata,
        "violations": [asdict(violation) for violation in error.violations],
        "retry_after_s": error.retry_delay.total_seconds() if error.retry_delay is not None else None,
    }
    return {"code": error.status.name, "message": error.message, **{name: value for name, value in details.items() if value}}


def _without_violations(error: ScoreError) -> str:
    """The message up to where it repeats the violations, which are listed below it."""
    if not error.violations:
        return error.message
    return error.message.partition(f"{error.violations[0].field} {error.violations[0].description}")[0].rstrip()
