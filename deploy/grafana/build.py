"""Writes the dashboards that Grafana loads: python deploy/grafana/build.py [FOLDER]

Change the modules beside this one, run it, and commit both: a test compares them, and holds every metric that a panel names
against a live page. Without a folder they go into dashboards/.
"""

from __future__ import annotations

import sys
from pathlib import Path

from audit import AUDIT
from gpu import GPU
from layout import render
from models import MODELS
from overview import OVERVIEW
from store import STORE

DASHBOARDS = (OVERVIEW, MODELS, STORE, AUDIT, GPU)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        (folder / f"{dashboard.name}.json").write_text(render(dashboard))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "dashboards")
