"""`assay model`: pack, check and quantise bundles; load them into a running server, try them, and take them back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.config import DeviceName
from assay.cli.model_pack import pack
from assay.cli.model_pull import pull
from assay.cli.model_quantize import quantize
from assay.cli.model_rollout import COMMANDS as ROLLOUT_COMMANDS
from assay.cli.output import EXIT_REFUSED, answers, console, fail, plain, plain_text, print_json
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.models.verify import VerifiedModel

app = typer.Typer(help="Pack and check model bundles, and roll them out.", no_args_is_help=True, rich_markup_mode="markdown")
app.command()(pack)
app.command()(pull)
app.command()(quantize)
for _command, _name in ROLLOUT_COMMANDS:
    app.command(_name)(_command)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle: the directory NAME/VERSION.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    batch_rows_max: Annotated[int, typer.Option(min=1, max=4096, help="Largest batch to measure and warm.")] = 256,
    device: DeviceName = "auto",
    latency_us_max: Annotated[
        float | None, typer.Option(min=0, help="Most microseconds that a batch of any size may take. Default: no limit.")
    ] = None,
    memory_mib_max: Annotated[
        float | None, typer.Option(min=0, help="Most MiB of the session with a batch of any size, on the CPU. Default: no limit.")
    ] = None,
) -> None:
    """Load and prove a bundle as a server would, compare it with its trained model, look for leaks. Exit code 4: refused.

    Examples:

        assay model check models/card_fraud/1

        assay model check models/card_fraud/1 --device cuda:0
    """
    from assay._core import OrtRuntime
    from assay.config import CudaConfig
    from assay.models.device import DeviceWish
    from assay.models.gate import GATE_CHECKS, GateLimits, GateReport, gate_bundle
    from assay.models.ort_library import find_library
    from assay.models.refusal import BundleRefusedError
    from assay.models.verify import CHECKS, CheckResult, make_step, verify_bundle

    results: list[CheckResult] = []
    report = GateReport((), None)
    refusal: BundleRefusedError | None = None
    verified: VerifiedModel | None = None
    cuda = CudaConfig()
    wish = DeviceWish.parse(device, cuda.memory_bytes_max, cuda.memory_reserve_bytes)
    try:
        with console.status("checking", spinner="line"):
            runtime = OrtRuntime(str(find_library()))
            verified = verify_bundle(path, runtime, wish=wish, batch_rows_max=batch_rows_max, observe=results.append)
            limits = GateLimits(latency_us_max, memory_mib_max)
            report = gate_bundle(verified, batch_rows_max, limits, make_step(results.append))
    except BundleRefusedError as error:
        refusal = error
    except AssayError as error:
        fail(str(error))

    if json:
        print_json({**_as_json(path, results, refusal), **asdict(report), "explanation": _explanation_json(verified)})
    else:
        _print_table(path, results, (*CHECKS, *GATE_CHECKS)[len(results) :])
    if refusal:
        if not json:
            console.print(Text.assemble(("refused: ", "bold red"), plain(f"{refusal.file}: {refusal.reason}")))
            console.print(Text.assemble(("what to do: ", "bold"), plain(refusal.mend)))
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---


def _as_json(path: Path, results: list[Any], refusal: Any) -> dict[str, Any]:
    checks = [{"check": result.check, "passed": result.refusal is None, "detail": result.detail} for result in results]
    refused = {"file": refusal.file, "reason": refusal.reason, "mend": refusal.mend} if refusal else None
    return {"path": str(path), "passed": refusal is None, "checks": checks, "refusal": refused}


def _explanation_json(verified: VerifiedModel | None) -> dict[str, Any] | None:
    """What its scores are explained by. None: nothing explains them, or the bundle did not get so far."""
    if verified is None or verified.explanation is None or verified.bundle.manifest.explanation is None:
        return None
    explanation = verified.explanation
    return {
        "background_rows": len(explanation.background),
        "background_sha256": explanation.background_sha256,
        "players": explanation.players,
        "groups": verified.bundle.manifest.explanation.groups or {},
        "reason_table": explanation.reason_table,
        "reasons": {reason.player: reason.code for reason in explanation.reasons if reason is not None},
    }


def _print_table(path: Path, results: list[Any], not_run: tuple[str, ...]) -> None:
    table = Table(title=plain_text(f"bundle {path}", "table.title"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("check", "result", "found"):
        table.add_column(column, overflow="fold")
    for result in results:
        verdict = Text("refused", "bold red") if result.refusal else Text("ok", "green")
        table.add_row(result.check, verdict, plain_text(result.detail))
    for name in not_run:
        table.add_row(Text(name, "dim"), Text("not run", "dim"), "")
    answers.print(table)
