"""The `assay` command in this process: a test runs many, and each would load for a second."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from unittest import mock

import pytest

from assay.cli.main import main


def run_command(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    """As the shell calls it, without the caller's settings of assay."""
    command = ["assay", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    streams = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (
        mock.patch.dict(os.environ, {**clean, **environment}, clear=True),
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        mock.patch.object(sys, "stdout", streams[0]),
        mock.patch.object(sys, "stderr", streams[1]),
        pytest.raises(SystemExit) as end,
    ):
        main()
    for stream in streams:
        stream.seek(0)
    return subprocess.CompletedProcess(command, int(end.value.code or 0), streams[0].read(), streams[1].read())
