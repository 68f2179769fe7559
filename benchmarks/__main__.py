"""python -m benchmarks: runs the budgets, prints a table, writes build/bench/results.json and results.png.

python -m benchmarks                     all but soak, quantize and before, 15 pairs each (about 40 minutes)
python -m benchmarks unary --pairs 5     one of them, quicker and coarser
python -m benchmarks soak                half an hour at half load
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rich.table import Table

from assay.cli.output import answers as console
from benchmarks.benches import BENCHES, BY_NAME_ONLY
from benchmarks.material import prepare
from benchmarks.measure import machine
from benchmarks.plot import plot
from benchmarks.run import Run

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs of each ratio (default: 15)")
    parser.add_argument("--soak-minutes", type=float, default=30.0, help="how long soak lasts (default: 30)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder for material and results")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}")

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the baselines' ONNX Runtime must not work for Microsoft meanwhile
    with console.status("preparing", spinner="line") as status:
        run = Run(prepare(arguments.out, status.update), arguments.pairs, status.update, console.print, arguments.soak_minutes)
        names = arguments.names or [name for name in BENCHES if name not in BY_NAME_ONLY]
        results = [ratio.as_dict() for name in names for ratio in BENCHES[name](run)]

    table = Table(title="assay over its baseline", box=None, pad_edge=False)
    for column in ("what", "budget", "ratio", "95 % interval", "assay", "baseline", "unit", "void"):
        table.add_column(column)
    for row in results:
        low, high = row["interval_95"]
        figures = (f"{row['ratio']:.3f}", f"{low:.3f} .. {high:.3f}", f"{row['median_a']:,}", f"{row['median_b']:,}")
        table.add_row(
            row["name"], row["budget"], *figures, row["unit"], f"{row['void_runs']} of {row['pairs'] + row['void_runs']}"
        )
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
    out = arguments.out / "results.json"
    out.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    plot(results, arguments.out / "results.png")
    console.print(f"written: {out} and {out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
