"""assay doctor: what each check finds on machines and installations that are not as they should be, and how it exits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from packaging.version import Version
from pydantic import SecretStr
from typer.testing import CliRunner

from assay import _core
from assay.cli import doctor
from assay.cli.output import EXIT_UNHEALTHY
from assay.config import Config, StoreConfig
from assay.config_loading import load_config
from assay.errors import ConfigError, StoreError
from tests.support.certificates import TlsFolder

ROOT = Path(__file__).resolve().parents[2]

CHECKS = [
    "python",
    "locked versions",
    "native core",
    "transports",
    "onnxruntime wheel",
    "onnxruntime",
    "cuda",
    "demo bundle",
    "store",
    "tls",
    "disk",
    "open files",
    "processors",
]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Makes exactly these packages (name to version) look installed."""

    def install(packages: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in packages:
                raise metadata.PackageNotFoundError(name)
            return packages[name]

        monkeypatch.setattr(doctor.metadata, "version", version)

    return install


Install = Callable[[dict[str, str]], None]


@pytest.fixture(autouse=True)
def _same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which checks of CUDA there are depends on the wheel that is installed: tests/unit/test_doctor_cuda.py."""
    monkeypatch.setattr(doctor, "_cuda_checks", lambda device: [("cuda", lambda: doctor.Finding("cuda", "ok", device))])


# --- versions


@pytest.mark.parametrize("flavour", ["cpu", "gpu"])
def test_each_lock_pins_one_onnxruntime_and_every_package_once(flavour: str) -> None:
    locked = doctor.locked_versions(flavour)
    wheels = {name for name in locked if name.startswith("onnxruntime")}
    is_gpu_platform = sys.platform == "linux" and os.uname().machine == "x86_64"
    assert wheels == ({"onnxruntime-gpu"} if flavour == "gpu" and is_gpu_platform else {"onnxruntime"})
    assert locked["grpcio"] == locked["grpcio-reflection"] == locked["grpcio-health-checking"]
    assert "numpy" in locked  # pinned twice in the file, with markers for two ranges of Python
    assert all(Version(version) for version in locked.values())


def test_markers_of_the_lock_hold_for_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "cpu.txt"
    lock.write_text(
        "# made by a tool\n"
        "old==1 ; python_full_version < '3.0' \\\n    --hash=sha256:aa\n"
        "numpy==1.0 ; python_full_version < '3.0' \\\n    --hash=sha256:bb\n"
        "numpy==2.0 ; python_full_version >= '3.0' \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
        "plain-name==3.1.post1 \\\n    --hash=sha256:ee\n"
    )
    monkeypatch.setattr(doctor, "_lock_path", lambda flavour: lock)
    assert doctor.locked_versions("cpu") == {"numpy": "2.0", "plain-name": "3.1.post1"}


def test_versions_as_locked_are_ok(install: Install) -> None:
    locked = doctor.locked_versions("cpu")
    install(locked)
    finding = doctor.check_versions()
    assert (finding.status, finding.mend) == ("ok", "")
    assert finding.found == f"{len(locked)} packages as in lock/cpu.txt"


def test_what_only_builds_may_be_absent(install: Install) -> None:
    locked = doctor.locked_versions("cpu")
    assert set(locked) >= doctor.BUILD_PACKAGES
    install({name: version for name, version in locked.items() if name not in doctor.BUILD_PACKAGES})
    finding = doctor.check_versions()
    assert finding.status == "ok"
    assert finding.found == f"{len(locked) - len(doctor.BUILD_PACKAGES)} packages as in lock/cpu.txt"


def test_another_version_is_a_warning_that_names_both(install: Install) -> None:
    locked = doctor.locked_versions("cpu")
    install({**locked, "grpcio": "1.2.3"})
    finding = doctor.check_versions()
    assert finding.status == "warning"
    assert finding.found == f"grpcio 1.2.3 (locked {locked['grpcio']})"
    assert finding.mend.endswith("cpu.txt")


def test_an_absent_package_is_a_failure_that_names_it(install: Install) -> None:
    locked = doctor.locked_versions("cpu")
    install({name: version for name, version in {**locked, "grpcio": "1.2.3"}.items() if name not in ("orjson", "rich")})
    finding = doctor.check_versions()
    assert finding.status == "failed"
    assert finding.found == "not installed: orjson, rich"
    assert "--require-hashes" in finding.mend


def test_the_lock_follows_the_installed_wheel(install: Install) -> None:
    locked = doctor.locked_versions("gpu")
    install({**locked, "onnxruntime-gpu": locked.get("onnxruntime-gpu", "1.31.1")})
    finding = doctor.check_versions()
    assert finding.status == "ok"
    assert finding.found.endswith("lock/gpu.txt")


@pytest.mark.parametrize(
    ("packages", "status", "found"),
    [
        ({"onnxruntime": "1.32.0"}, "ok", "onnxruntime 1.32.0"),
        ({"onnxruntime-gpu": "1.31.1"}, "ok", "onnxruntime-gpu 1.31.1"),
        ({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}, "failed", "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1"),
        ({}, "failed", "none"),
    ],
)
def test_exactly_one_onnxruntime_wheel(install: Install, packages: dict[str, str], status: str, found: str) -> None:
    install(packages)
    finding = doctor.check_wheel()
    assert (finding.status, finding.found) == (status, found)
    assert bool(finding.mend) == (status != "ok")
    if len(packages) == 2:
        assert "uninstall -y onnxruntime onnxruntime-gpu" in finding.mend
        assert "rm -rf .venv && make dev" in finding.mend


def test_two_onnxruntime_wheels_are_nowhere_ok(install: Install) -> None:
    locked = doctor.locked_versions("cpu") | doctor.locked_versions("gpu")
    install(locked)
    versions, runtime = doctor.check_versions(), doctor.check_runtime()
    assert (versions.status, versions.found) == ("failed", "both wheels of ONNX Runtime, and no lock has both")
    assert (runtime.status, runtime.mend) == ("warning", versions.mend)
    assert runtime.found.startswith("of the wheel that came last: ")


def test_too_old_a_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().status == "ok"
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert requires == f">={'.'.join(map(str, doctor.PYTHON_MIN))}"
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 14))
    assert doctor.check_python().status == "failed"


@pytest.mark.parametrize(
    ("flags", "status"), [("", "ok"), ("debug", "warning"), ("sanitize", "warning"), ("debug,sanitize", "warning")]
)
def test_a_slow_build_of_the_core_is_a_warning(monkeypatch: pytest.MonkeyPatch, flags: str, status: str) -> None:
    monkeypatch.setattr(_core, "BUILD", {**_core.BUILD, "flags": flags})
    finding = doctor.check_core()
    assert finding.status == status
    assert flags in finding.found


# --- the machine


@pytest.mark.parametrize(("free", "status"), [(doctor.DISK_FREE_BYTES_MIN, "ok"), (doctor.DISK_FREE_BYTES_MIN - 1, "failed")])
def test_a_full_disk_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    asked = []

    def disk_usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(doctor.shutil, "disk_usage", disk_usage)
    # The folder need not be there yet: the disk is that of the nearest one that is.
    finding = doctor.check_disk(f"embedded:{tmp_path}/not/yet/store.snapshot")
    assert finding.status == status
    assert asked == [tmp_path.resolve()]
    assert str(tmp_path) in finding.found


def test_the_disk_is_the_real_one_where_nothing_is_pretended(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert doctor.check_disk(f"embedded:{tmp_path}/store.snapshot").status == (
        "ok" if free >= doctor.DISK_FREE_BYTES_MIN else "failed"
    )


@pytest.mark.parametrize(
    ("soft", "status"), [(doctor.OPEN_FILES_MIN, "ok"), (doctor.OPEN_FILES_MIN - 1, "warning"), (256, "warning")]
)
def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch, soft: int, status: str) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (soft, 1 << 20) if which == resource.RLIMIT_NOFILE else None)
    finding = doctor.check_open_files()
    assert (finding.status, finding.found) == (status, f"limit {soft}")
    assert (f"ulimit -n {doctor.OPEN_FILES_MIN}" in finding.mend) == (status == "warning")


def test_no_limit_of_open_files_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    finding = doctor.check_open_files()
    assert (finding.status, finding.found) == ("ok", "no limit")


@pytest.mark.parametrize(("processors", "status"), [({0}, "warning"), ({0, 1}, "ok")])
def test_one_processor_is_a_warning(monkeypatch: pytest.MonkeyPatch, processors: set[int], status: str) -> None:
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: processors, raising=False)
    finding = doctor.check_processors()
    assert (finding.status, finding.found) == (status, str(len(processors)))


# --- the store


def test_a_store_without_a_snapshot_is_ok(tmp_path: Path) -> None:
    assert doctor.check_store("embedded:").status == "ok"
    finding = doctor.check_store(f"embedded:{tmp_path}/store.snapshot")
    assert finding.status == "ok"
    assert "no snapshot yet" in finding.found


def test_a_damaged_snapshot_and_an_unknown_store_are_failures(tmp_path: Path) -> None:
    path = tmp_path / "store.snapshot"
    path.write_bytes(b"not a snapshot")
    with pytest.raises(StoreError, match="damaged or not a snapshot"):
        doctor.check_store(f"embedded:{path}")
    assert path.read_bytes() == b"not a snapshot"
    findings = {
        finding.name: finding
        for finding in doctor.examine(Config(store=StoreConfig(url=SecretStr("redis://user:s3cret@127.0.0.1:1/0"))))
    }
    assert findings["store"].status == "failed"
    assert "redis" in findings["store"].found
    assert not any("s3cret" in finding.found + finding.mend for finding in findings.values())


def test_a_snapshot_is_counted_and_left_unlocked(tmp_path: Path) -> None:
    path = tmp_path / "store.snapshot"
    _core.EmbeddedStore(1 << 20).save(str(path))
    finding = doctor.check_store(f"embedded:{path}")
    assert finding.status == "ok"
    assert "0 records" in finding.found
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.snapshot"]


def test_certificates_are_looked_at_before_they_expire(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path)
    config = tmp_path / "assay.yaml"
    tls = "".join(f"  {key}: {path}\n" for key, path in folder.config()["tls"].items())
    config.write_text(f"roles: {folder.roles}\ntls:\n{tls}")
    loaded = load_config(file=config).config
    finding = doctor.check_tls(loaded)
    assert (finding.status, finding.mend) == ("ok", "")
    assert "6 principals" in finding.found
    folder.key.chmod(0o644)
    assert "chmod 600" in doctor.check_tls(loaded).mend
    folder.put(folder.authority.issue("localhost", days=(-1, 13)))
    assert doctor.check_tls(loaded).status == "warning"
    folder.put(folder.authority.issue("localhost", days=(-2, -1)))
    with pytest.raises(ConfigError, match="expired"):
        doctor.check_tls(loaded)
    assert doctor.check_tls(Config()).found == "off: plaintext"


def test_the_doctor_looks_at_what_the_configuration_names(tmp_path: Path) -> None:
    absent = tmp_path / "models" / "absent" / "1"
    config = load_config({"models": [str(absent)], "device": "cpu", "store": {"url": "redis://127.0.0.1:1"}}).config
    findings = {finding.name: finding for finding in doctor.examine(config)}
    assert findings[f"model {absent}"].status == "failed"
    assert findings["store"].status == "failed"
    assert "demo bundle" not in findings
    folder = TlsFolder(tmp_path)
    named = [finding.name for finding in doctor.examine(load_config(folder.config()).config)]
    assert "tls" in named


@pytest.mark.parametrize(
    "arguments",
    [["--server", "127.0.0.1:1", "--store", "embedded:"], ["--server", "127.0.0.1:1", "--device", "cpu"], ["--tls"]],
)
def test_options_that_would_do_nothing_are_refused(arguments: list[str]) -> None:
    app = typer.Typer()
    app.command()(doctor.doctor)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--server" in result.stderr


# --- the command


def finding_of(status: str) -> Callable[[], doctor.Finding]:
    return lambda: doctor.Finding("python", status, "[/]3.11[bold]", "mend it" if status != "ok" else "")


def test_every_check_is_reported_once_and_in_order() -> None:
    findings = list(doctor.examine(Config()))
    assert [finding.name for finding in findings] == CHECKS
    assert all(finding.status in ("ok", "warning", "failed") for finding in findings)
    assert all(bool(finding.mend) == (finding.status != "ok") for finding in findings)


def test_a_check_that_breaks_is_a_finding_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Finding:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(doctor, "check_core", broken)
    findings = {finding.name: finding for finding in doctor.examine(Config())}
    assert list(findings) == CHECKS
    assert findings["native core"].status == "failed"
    assert findings["native core"].found == "ZeroDivisionError: by design"
    assert findings["native core"].mend


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("status", "exit_code"), [("ok", 0), ("warning", 0), ("failed", EXIT_UNHEALTHY)])
def test_exit_code_and_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], status: str, exit_code: int, as_json: bool
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda config: iter([finding_of("ok")(), finding_of(status)()]))
    if exit_code:
        with pytest.raises(typer.Exit) as caught:
            doctor.doctor(as_json=as_json)
        assert caught.value.exit_code == exit_code
    else:
        doctor.doctor(as_json=as_json)
    out, err = capfdbinary.readouterr()
    if as_json:
        assert [finding["status"] for finding in json.loads(out)] == ["ok", status]
        assert set(json.loads(out)[0]) == {"name", "status", "found", "mend"}
    else:
        assert err == b""
        # What was found is shown as it is, brackets and all.
        assert b"[/]3.11[bold]" in out
        assert status.encode() in out
