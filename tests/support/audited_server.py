"""A server that records its scores, in a process of its own: python -m tests.support.audited_server SPOOL LEVEL BYTES_MAX.

Prints its address and serves until its stdin closes or it is killed. Used by tests that kill it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.recorded_scores import open_log
from tests.support.server import LocalServer


def main() -> None:
    directory, level, bytes_max = sys.argv[1:]
    audit = open_log(Path(directory), level, bytes_max=int(bytes_max))
    with LocalServer(audit=audit) as server:
        print(server.addresses.public, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
