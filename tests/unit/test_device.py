"""Where a model runs: the choice, what speaks against a card, and what ONNX Runtime's words mean."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay import app
from assay.config_loading import load_config
from assay.errors import BundleError, ConfigError, CoreError
from assay.models import cuda_libraries, cuda_machine, device
from assay.models.cuda_build import CUDA_12, CUDA_13
from assay.models.cuda_errors import CPU_MEND, Obstacle, explain
from assay.models.device import CPU, Device, DeviceWish, Placement, choose_device, find_cuda_obstacle
from assay.models.refusal import BundleRefusedError
from assay.observe.logs import TextFormatter
from tests.support.cuda_messages import ERROR_STRINGS, MESSAGES, Message

OBSTACLE = Obstacle("no card", "buy one")
AUTO, CUDA_2 = DeviceWish("auto"), DeviceWish("cuda", 2)


def refused(file: str, reason: str, cause: Exception | None = None) -> BundleRefusedError:
    error = BundleRefusedError(file, reason, "the mend of the CPU")
    error.__cause__ = cause
    return error


class Trial:
    """Stands in for a session: counts what is asked, fails as told."""

    def __init__(self, *, obstacle: Obstacle | None = None, failure: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._obstacle, self._failure = obstacle, failure

    def find_obstacle(self) -> Obstacle | None:
        self.asked.append("obstacle")
        return self._obstacle

    def prove(self, device: Device) -> str:
        self.asked.append(str(device))
        if self._failure is not None:
            raise self._failure
        return "proof"

    def choose(self, wish: DeviceWish) -> tuple[Placement, str | None]:
        return choose_device(wish, self.find_obstacle, self.prove)


# --- the choice


def test_cpu_looks_at_nothing() -> None:
    trial = Trial(obstacle=OBSTACLE)
    assert trial.choose(DeviceWish("cpu")) == (Placement(CPU), None)
    assert trial.asked == []


@pytest.mark.parametrize(("wish", "index"), [(AUTO, 0), (CUDA_2, 2)])
def test_a_model_that_proves_itself_on_the_card_runs_there(wish: DeviceWish, index: int) -> None:
    trial = Trial()
    assert trial.choose(wish) == (Placement(Device(index)), "proof")
    assert trial.asked == ["obstacle", f"cuda:{index}"]


def test_with_an_obstacle_in_sight_nothing_is_tried() -> None:
    trial = Trial(obstacle=OBSTACLE)
    assert trial.choose(AUTO) == (Placement(CPU, OBSTACLE), None)
    assert trial.asked == ["obstacle"]


def test_auto_takes_the_cpu_when_scores_differ_on_the_card() -> None:
    placement, proof = Trial(failure=refused("golden.npz", "3 of 9 golden rows score differently")).choose(AUTO)
    assert (placement.device, proof) == (CPU, None)
    assert placement.obstacle is not None
    assert placement.obstacle.reason == "golden.npz: 3 of 9 golden rows score differently"
    assert "golden_tolerance" in placement.obstacle.mend
    assert not placement.obstacle.is_expected
    assert str(placement) == "cpu (golden.npz: 3 of 9 golden rows score differently)"


def test_auto_explains_what_onnx_runtime_said() -> None:
    cause = CoreError(1, "RUNTIME_UNAVAILABLE", 9, "cannot be used. (CUDA: CUDA failure 100: no CUDA-capable device is detected)")
    placement, _ = Trial(failure=refused("model.onnx", "session: ...", cause)).choose(AUTO)
    assert placement.obstacle is not None
    assert placement.obstacle.reason == "CUDA sees no card"


@pytest.mark.parametrize("trial", [Trial(obstacle=OBSTACLE), Trial(failure=refused("golden.npz", "they differ"))])
def test_cuda_refuses_with_what_to_do(trial: Trial) -> None:
    with pytest.raises(BundleError, match=r"^device cuda:2: (no card; buy one|golden.npz: they differ; set device: cpu)"):
        trial.choose(CUDA_2)


def test_only_a_refusal_is_an_obstacle() -> None:
    """A mistake of ours must not look like a card that is not there."""
    with pytest.raises(ZeroDivisionError):
        Trial(failure=ZeroDivisionError()).choose(AUTO)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("auto", DeviceWish("auto")),
        ("cpu", DeviceWish("cpu")),
        ("cuda", DeviceWish("cuda", 0)),
        ("cuda:0", DeviceWish("cuda", 0)),
        ("cuda:15", DeviceWish("cuda", 15)),
    ],
)
def test_wishes(text: str, wish: DeviceWish) -> None:
    assert DeviceWish.parse(text) == wish


@pytest.mark.parametrize("text", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:100", "cpu:0", "auto:1", "cuda:0 "])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        DeviceWish.parse(text)


def test_the_configuration_refuses_what_is_no_device() -> None:
    assert load_config({"device": "cuda:1"}).config.device == "cuda:1"
    with pytest.raises(ConfigError, match=r"device: expected auto, cpu, cuda or cuda:N.*found str.*command line"):
        load_config({"device": "gpu"})
    with pytest.raises(ConfigError, match=r"cuda\.memory_bytes_max"):
        load_config({"cuda": {"memory_bytes_max": -1}})


# --- obstacles in sight


@pytest.fixture
def wheel(tmp_path: Path) -> Any:
    """A runtime of the wheel for CUDA 13."""
    (tmp_path / "build_and_package_info.py").write_text("cuda_version = '13.0'\n")
    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    return SimpleNamespace(providers=providers, library_path=str(tmp_path / "libonnxruntime.so.1.31.1"))


def test_the_cpu_wheel_is_expected_to_have_no_card() -> None:
    obstacle = find_cuda_obstacle(SimpleNamespace(providers=("CPUExecutionProvider",)), is_tree_ensemble=False)  # type: ignore[arg-type]
    assert obstacle is not None
    assert obstacle.is_expected


def test_trees_are_expected_to_stay_on_the_cpu(wheel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_machine, "find_driver", lambda: pytest.fail("trees need no driver"))
    obstacle = find_cuda_obstacle(wheel, is_tree_ensemble=True)
    assert obstacle is not None
    assert obstacle.is_expected
    assert "trees" in obstacle.reason


@pytest.mark.parametrize("has_libraries", [False, True])
def test_no_driver_is_a_mistake_where_cudas_libraries_were_installed(
    wheel: Any, monkeypatch: pytest.MonkeyPatch, has_libraries: bool
) -> None:
    monkeypatch.setattr(cuda_machine, "find_driver", lambda: None)
    monkeypatch.setattr(cuda_libraries, "wheel_paths", lambda name: [Path(name)] if has_libraries else [])
    obstacle = find_cuda_obstacle(wheel, is_tree_ensemble=False)
    assert obstacle is not None
    assert obstacle.is_expected != has_libraries
    assert "R580" in obstacle.mend


@pytest.mark.parametrize(
    ("serves", "major", "refused"),
    [
        (12_080, 13, "NVIDIA's driver serves CUDA 12.8, the wheel is for CUDA 13"),
        (11_040, 12, "NVIDIA's driver serves CUDA 11.4, the wheel is for CUDA 12"),
        (13_000, 13, None),
        (13_010, 12, None),
        (None, 13, None),  # nobody can tell: a try will
    ],
)
def test_a_driver_that_is_too_old_for_the_wheel_is_said_before_the_try(
    wheel: Any, monkeypatch: pytest.MonkeyPatch, serves: int | None, major: int, refused: str | None
) -> None:
    monkeypatch.setattr(cuda_machine, "find_driver", lambda: cuda_machine.Driver(None, True))
    monkeypatch.setattr(cuda_machine, "driver_cuda_version", lambda: serves)
    monkeypatch.setattr(device, "build_of", lambda path: CUDA_13 if major == 13 else CUDA_12)
    obstacle = find_cuda_obstacle(wheel, is_tree_ensemble=False)
    assert (obstacle and obstacle.reason) == refused
    if obstacle is not None:
        assert not obstacle.is_expected
        assert ("R580" if major == 13 else "R525") in obstacle.mend


@pytest.mark.parametrize(("result", "serves"), [(0, 13_000), (3, None)])
def test_the_drivers_library_is_asked_what_it_serves(monkeypatch: pytest.MonkeyPatch, result: int, serves: int | None) -> None:
    def answer(version: Any) -> int:
        version._obj.value = 13_000
        return result

    monkeypatch.setattr(cuda_machine.ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=answer))
    assert cuda_machine.driver_cuda_version() == serves
    monkeypatch.setattr(cuda_machine.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert cuda_machine.driver_cuda_version() is None


def test_with_a_driver_there_is_nothing_in_sight(wheel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_machine, "find_driver", lambda: cuda_machine.Driver("580.65.06", True))
    assert find_cuda_obstacle(wheel, is_tree_ensemble=False) is None


# --- ONNX Runtime's words


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_every_text_of_the_wheels_is_explained(message: Message) -> None:
    found = explain(message.text)
    assert message.says in found.reason
    assert message.advises in found.mend
    assert "scorer-7" not in found.reason + found.mend
    assert "/onnxruntime_src" not in found.reason


@pytest.mark.parametrize("code", ERROR_STRINGS)
def test_every_failure_of_cuda_has_advice_of_its_own(code: int) -> None:
    found = explain(f"CUDA failure {code}: {ERROR_STRINGS[code]}")
    assert found.mend != CPU_MEND
    assert ERROR_STRINGS[code] in found.reason or not found.reason.startswith("CUDA failure")


def test_an_unknown_text_stands_for_itself() -> None:
    assert explain("something else\n") == Obstacle("something else", CPU_MEND)
    assert explain("RUNTIME. (ONNX Runtime refused the model: something (else))") == Obstacle("something (else)", CPU_MEND)


def test_no_text_breaks_the_explanation() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    pieces = [word for message in MESSAGES.values() for word in message.text.split(" ")] + [
        "{",
        "}",
        "{0}",
        "(",
        ")",
        "CUDA failure ",
    ]
    for _ in range(300):
        found = explain(" ".join(source.choices(pieces, k=source.randrange(12))))
        assert found.mend


# --- the loud line


def placed(name: str, obstacle: Obstacle | None) -> Any:
    return SimpleNamespace(name=name, version="1", placement=Placement(CPU, obstacle))


def test_one_line_for_all_models_that_missed_the_card(caplog: pytest.LogCaptureFixture) -> None:
    expected = Obstacle("no driver", "", is_expected=True)
    with caplog.at_level(logging.DEBUG):
        app._say_fallbacks([placed("a", OBSTACLE), placed("b", expected), placed("c", None), placed("d", OBSTACLE)])
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    said = TextFormatter().format(line)
    assert said.endswith('on the CPU instead of CUDA device=auto models="a 1, d 1" why="no card: buy one"')


def test_where_nothing_is_wrong_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        app._say_fallbacks([placed("a", Obstacle("no driver", "", is_expected=True)), placed("b", None)])
    assert caplog.records == []


def test_a_session_for_the_cpu_opens_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "OrtModel", lambda *arguments, **options: options)
    monkeypatch.setattr(cuda_libraries, "open_libraries", lambda build: pytest.fail("not for the CPU"))
    assert device.make_session(SimpleNamespace(library_path="/x/libonnxruntime.so"), b"", CPU) == {}  # type: ignore[arg-type]
