"""Which server a command is about, where it names none: the one whose admin listener stands in the runtime directory."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.output import EXIT_UNHEALTHY, EXIT_USAGE, fail

AdminTarget = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="The admin listener: unix:PATH or HOST:PORT. Default: the one server that runs on this machine.",
        show_default=False,
    ),
]


def admin_target(target: str | None) -> str:
    """`target`, else the only socket there is. Ends the command where there is none, or several."""
    if target is not None:
        return target
    from assay.config import runtime_dir

    found = sorted(path for path in runtime_dir().glob("admin-*.sock") if _is_served(path))
    if not found:
        fail(
            f"no server has an admin socket in {runtime_dir()}",
            EXIT_UNHEALTHY,
            "name it: unix:PATH; assay serve prints where it is",
        )
    if len(found) > 1:
        fail("several servers run here", EXIT_USAGE, f"name one: {', '.join(f'unix:{path}' for path in found)}")
    return f"unix:{found[0]}"


def _is_served(path: Path) -> bool:
    """Whether somebody listens there: a server that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # it hangs, which is worth being told
        except OSError:
            return False
    return True
