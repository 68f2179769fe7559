"""What all tests share: the torture switch, the scale of random tests, where published data may lie."""

from __future__ import annotations

import atexit
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from assay._core import HAS_NATIVE_TRANSPORT
from tests.support import server

ROOT = Path(__file__).resolve().parent.parent
SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))

# Tools of this environment (grpcurl, assay) are found whether or not it is active.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Audit logs of servers that tests start: not among the user's own.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="assay-test-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # of the ONNX Runtime that tests compare with

# Hypothesis prints the blob that reproduces a failure; the deadline is off because timing has no place in tests.
settings.register_profile(
    "assay",
    deadline=None,
    max_examples=100 * SCALE,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("assay")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="also run tests marked torture, at full counts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--torture"):
        return
    skip = pytest.mark.skip(reason="full counts: make torture")
    for item in items:
        if item.get_closest_marker("torture"):
            item.add_marker(skip)


@pytest.fixture(scope="module", params=["grpcio", "native"])
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a module's tests with each transport: pytestmark = pytest.mark.usefixtures("transport")."""
    if request.param == "native" and not HAS_NATIVE_TRANSPORT:
        pytest.skip("this build has no native transport (libnghttp2-dev, libssl-dev, zlib1g-dev)")
    before, server.default_transport = server.default_transport, request.param
    yield request.param
    server.default_transport = before


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Commands that tests run in this process set logging up for themselves, and a server's level can be changed from outside."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def rng() -> random.Random:
    """Of a random test: it prints its seed, and ASSAY_TEST_SEED repeats it."""
    seed = int(os.environ.get("ASSAY_TEST_SEED", random.randrange(1 << 32)))
    print(f"ASSAY_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The folder with the Handbook's published transactions; see docs/features.md. Skips where it is absent."""
    folder = Path(os.environ.get("ASSAY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "handbook_raw.parquet").is_file():
        pytest.skip(f"published data not found ({folder}); set ASSAY_TEST_DATA to the folder with handbook_raw.parquet")
    return folder
