"""assay doctor: what is wrong with this machine or this installation, and what to do about it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from assay.cli.config import ConfigFile, DeviceName, load
from assay.cli.finding import Finding
from assay.cli.output import EXIT_UNHEALTHY, EXIT_USAGE, answers, console, fail, print_json, shown, shown_lines
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.config import Config

PYTHON_MIN = (3, 11)
# The lock pins what builds the core too; an installed wheel runs without it.
BUILD_PACKAGES = {"cython", "setuptools"}
DISK_FREE_BYTES_MIN = 1 << 30
OPEN_FILES_MIN = 4096
STORE_BYTES_MAX = 1 << 34
CERTIFICATE_LEFT_MIN = timedelta(days=14)
ONE_WHEEL = (
    "in a checkout: rm -rf .venv && make dev; elsewhere: pip uninstall -y onnxruntime onnxruntime-gpu, "
    "then install the one you want"
)


def doctor(
    store: Annotated[str | None, typer.Option(help="Store to look at, as for `assay serve --store`.")] = None,
    config: ConfigFile = None,
    device: DeviceName | None = None,
    server: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Ask only whether the server at HOST:PORT or unix:PATH serves.")
    ] = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine and this installation, and say what to do.

    So is what `assay serve` would be told with the same options: its store, device, models, certificates and roles. With --server
    nothing is looked at but that server's health; the --tls options are for that.

    Exit code 0: ready (perhaps with warnings); 3: something must be mended.

    Examples:

        assay doctor

        assay doctor --store embedded:/var/lib/assay/store.snapshot --json

        assay doctor --config assay.yaml

        assay doctor --device cuda:0

        assay doctor --server 127.0.0.1:50051
    """
    trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
    if server is not None and (store, config, device) != (None, None, None):
        fail("--server asks a running server; leave --store, --config and --device out", EXIT_USAGE)
    if server is None and trust is not None:
        fail("the --tls options say how to reach a server; give it with --server", EXIT_USAGE)
    with console.status("examining", spinner="line"):
        if server is not None:
            findings = [_check_server(server, trust)]
        else:
            findings = list(examine(load(config, None, {"store.url": store, "device": device}).config))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        answers.print(_table(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(EXIT_UNHEALTHY)


def examine(config: Config) -> Iterator[Finding]:
    """Runs every check; a check that breaks is a finding too."""
    store = config.store.url.get_secret_value()
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", check_python),
        ("locked versions", check_versions),
        ("native core", check_core),
        ("transports", lambda: check_transports(config.transport)),
        ("onnxruntime wheel", check_wheel),
        ("onnxruntime", check_runtime),
        *_cuda_checks(config.device),
        *((f"model {path}", partial(check_model, path)) for path in config.models),
        *([] if config.models else [("demo bundle", check_demo_bundle)]),
        ("store", lambda: check_store(store)),
        ("tls", lambda: check_tls(config)),
        ("disk", lambda: check_disk(store)),
        ("open files", check_open_files),
        ("processors", check_processors),
    ]
    for name, check in checks:
        yield _examined(name, check)


def _examined(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except AssayError as error:
        return Finding(name, "failed", str(error), "as it says; then run doctor again")
    except Exception as error:
        return Finding(name, "failed", f"{type(error).__name__}: {error}", "mend this first, then run doctor again")


# --- the checks


def check_python() -> Finding:
    found = sys.version.split()[0]
    if sys.version_info[:2] < PYTHON_MIN:
        return Finding("python", "failed", found, "assay needs Python 3.11 or newer")
    return Finding("python", "ok", found)


def check_versions() -> Finding:
    """Installed versions against the lock file that belongs to the installed ONNX Runtime wheel."""
    name = "locked versions"
    if len(_wheels()) == 2:
        return Finding(name, "failed", "both wheels of ONNX Runtime, and no lock has both", ONE_WHEEL)
    flavour = lock_flavour(_installed("onnxruntime-gpu"))
    locked = locked_versions(flavour)
    installed = {name: _installed(name) for name in locked}
    # pip's default on Linux is the CUDA wheel without NVIDIA's libraries: it runs models on the CPU.
    has_libraries = any(version for name, version in installed.items() if name.startswith("nvidia-"))
    absent = [
        name
        for name, version in installed.items()
        if version is None and name not in BUILD_PACKAGES and (has_libraries or not name.startswith("nvidia-"))
    ]
    others = [
        f"{name} {version} (locked {locked[name]})" for name, version in installed.items() if version not in (None, locked[name])
    ]
    mend = f"pip install --no-deps --require-hashes -r {_lock_path(flavour)}"
    if absent:
        return Finding(name, "failed", f"not installed: {', '.join(absent)}", mend)
    if others:
        return Finding(name, "warning", "; ".join(others), f"to run what was tested: {mend}")
    count = sum(version is not None for version in installed.values())
    return Finding(name, "ok", f"{count} packages as in lock/{flavour}.txt")


def check_core() -> Finding:
    from assay import _core

    build = ", ".join(f"{key} {value}" for key, value in _core.BUILD.items() if value)
    if any(word in _core.BUILD.get("flags", "") for word in ("debug", "sanitize")):
        return Finding("native core", "warning", build, "this is not the fast build; `make serve` or `pip install .` makes it")
    return Finding("native core", "ok", build)


def check_transports(wish: str) -> Finding:
    """Which transports this build has, and whether the configured one is among them."""
    from assay import _core

    if _core.HAS_NATIVE_TRANSPORT:
        return Finding("transports", "ok", f"grpcio, native; transport: {wish}")
    mend = "sudo apt-get install -y pkg-config libnghttp2-dev libssl-dev zlib1g-dev, then build again"
    status = "failed" if wish == "native" else "warning"
    return Finding("transports", status, f"grpcio alone; transport: {wish}", mend)


def check_wheel() -> Finding:
    """Both wheels write the same folder; whichever came last won, and uninstalling one breaks the other."""
    found = _wheels()
    if len(found) == 2:
        return Finding("onnxruntime wheel", "failed", " and ".join(found), ONE_WHEEL)
    if not found:
        return Finding("onnxruntime wheel", "failed", "none", "pip install onnxruntime (CPU) or onnxruntime-gpu")
    if (_installed("onnxruntime-gpu") or "").startswith("1.27."):
        mend = "pip install '.[gpu]' takes a newer one: the extras of this one name CUDA wheels that are empty"
        return Finding("onnxruntime wheel", "warning", found[0], mend)
    return Finding("onnxruntime wheel", "ok", found[0])


def check_runtime() -> Finding:
    from assay import _core
    from assay.models.ort_library import find_library

    path = find_library()
    runtime = _core.OrtRuntime(str(path))
    found = f"{runtime.version}, self-check passed; {', '.join(runtime.providers)}; {path}"
    if len(_wheels()) == 2:
        return Finding("onnxruntime", "warning", f"of the wheel that came last: {found}", ONE_WHEEL)
    return Finding("onnxruntime", "ok", found)


def check_demo_bundle() -> Finding:
    from assay.demo.paths import bundle_path

    return replace(check_model(bundle_path()), name="demo bundle")


def check_model(path: Path) -> Finding:
    """As `assay model check` does, on the CPU."""
    from assay import _core
    from assay.models.ort_library import find_library
    from assay.models.verify import verify_bundle

    manifest = verify_bundle(path, _core.OrtRuntime(str(find_library()))).bundle.manifest
    return Finding(f"model {path}", "ok", f"{manifest.name} {manifest.version}: hashes, golden rows and batch invariance hold")


def check_store(url: str) -> Finding:
    from assay.features.store import is_remote, open_remote_store, open_store

    if is_remote(url):
        remote = open_remote_store(url)
        remote.check()
        return Finding("store", "ok", f"{remote.url}: {remote.describe()}")
    path = Path(url.removeprefix("embedded:"))
    if url.startswith("embedded:") and not path.is_file():
        return Finding("store", "ok", "embedded, empty" if url == "embedded:" else f"{url}: no snapshot yet; it starts empty")
    opened = open_store(url, bytes_max=STORE_BYTES_MAX, mode="read")
    return Finding("store", "ok", f"{url}: {opened.describe()}")


def check_disk(store: str) -> Finding:
    path = Path(store.removeprefix("embedded:") if store.startswith("embedded:") else ".").resolve()
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    found = f"{free / 1e9:,.1f} GB free at {path}"
    if free < DISK_FREE_BYTES_MIN:
        return Finding("disk", "failed", found, "free at least 1 GB: a snapshot is written whole before it replaces the old one")
    return Finding("disk", "ok", found)


def check_open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:  # a negative number
        return Finding("open files", "ok", "no limit")
    if soft < OPEN_FILES_MIN:
        mend = f"ulimit -n {OPEN_FILES_MIN} (hard limit {hard}); every client connection is an open file"
        return Finding("open files", "warning", f"limit {soft}", mend)
    return Finding("open files", "ok", f"limit {soft}")


def check_processors() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count < 2:
        return Finding("processors", "warning", "1", "the event loop and a runner want a core each; expect a longer tail latency")
    return Finding("processors", "ok", str(count))


def check_tls(config: Config) -> Finding:
    """The certificate and roles files of a configuration, as `assay serve --config` would use them."""
    from assay.transport.certificates import Certificates, key_warning
    from assay.transport.roles import read_roles

    if config.tls.key is None:
        return Finding("tls", "ok", "off: plaintext")
    expires_at = Certificates(config.tls).expires_at
    found = f"certificate good until {expires_at:%Y-%m-%d %H:%M} UTC"
    if config.roles is not None:
        found += f", {len(read_roles(config.roles))} principals with roles"
    if expires_at - datetime.now(UTC) < CERTIFICATE_LEFT_MIN:
        return Finding(
            "tls", "warning", found, "put a new certificate and key into their places; the server takes them as it runs"
        )
    if warning := key_warning(config.tls.key):
        return Finding("tls", "warning", found, warning)
    return Finding("tls", "ok", found)


def _check_server(target: str, tls: Tls | None) -> Finding:
    from assay.cli.server_check import check_server

    return check_server(target, tls)


# --- what the checks share


def lock_flavour(gpu_wheel: str | None) -> str:
    """The lock file that belongs to the installed wheel. `gpu_wheel`: version of onnxruntime-gpu, for CUDA 12 up to 1.26."""
    from packaging.version import Version

    if gpu_wheel is None:
        return "cpu"
    return "gpu-cu12" if Version(gpu_wheel) < Version("1.27") else "gpu"


def locked_versions(flavour: str) -> dict[str, str]:
    """Package to version of lock/{flavour}.txt, as far as its markers hold here."""
    from packaging.markers import Marker

    versions = {}
    for line in _lock_path(flavour).read_text().splitlines():
        match = re.match(r"([A-Za-z0-9_.-]+)==([^ ;\\]+)(?: ; ([^\\]+))?", line)
        if match and (match[3] is None or Marker(match[3].strip()).evaluate()):
            versions[match[1]] = match[2]
    return versions


def _cuda_checks(device: str) -> list[tuple[str, Callable[[], Finding]]]:
    try:
        from assay.cli.doctor_cuda import cuda_checks
        from assay.models.device import DeviceWish
    except ImportError:  # the native core cannot be imported: its own check says so
        return []
    return cuda_checks(DeviceWish.parse(device))


def _lock_path(flavour: str) -> Path:
    return Path(str(files("assay") / "lock" / f"{flavour}.txt"))


def _wheels() -> list[str]:
    """Wheels of ONNX Runtime, with their versions: one, if all is well."""
    return [f"{name} {version}" for name in ("onnxruntime", "onnxruntime-gpu") if (version := _installed(name))]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _table(findings: list[Finding]) -> Table:
    colours = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    table = Table(box=None, pad_edge=False)
    for column in ("check", "status", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        colour = colours[finding.status]
        table.add_row(shown(finding.name), f"[{colour}]{finding.status}[/]", shown_lines(finding.found), shown(finding.mend))
    return table
