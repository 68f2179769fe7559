"""The real wheel of ONNX Runtime for CUDA, where it is installed (`make test ORT=gpu`): what it says without a driver, and that a
real card proves a bundle. Skipped with the CPU wheel: then tests/integration/test_cuda.py plays both.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import CoreError
from assay.models.cuda_build import build_of
from assay.models.cuda_errors import CPU_MEND, explain
from assay.models.cuda_machine import find_driver
from assay.models.device import Device, DeviceWish, make_session
from assay.models.device_trial import try_device
from assay.models.ort_library import find_library
from assay.models.verify import verify_bundle
from tests.support.bundles import pack, runtime
from tests.support.onnx_models import linear_model

pytestmark = pytest.mark.skipif(build_of(find_library()) is None, reason="the installed ONNX Runtime is for the CPU")
has_driver = find_driver() is not None


@pytest.mark.skipif(has_driver, reason="this machine has an NVIDIA driver")
def test_without_a_driver_the_wheels_words_are_explained() -> None:
    with pytest.raises(CoreError) as refused:
        make_session(runtime(), linear_model().SerializeToString(), Device(0))
    assert refused.value.reason == "RUNTIME_UNAVAILABLE"
    assert explain(refused.value.message).mend != CPU_MEND, refused.value.message


@pytest.mark.skipif(not has_driver, reason="no NVIDIA driver")
def test_a_card_computes() -> None:
    assert try_device(runtime(), Device(0)) <= 1e-5


@pytest.mark.skipif(not has_driver, reason="no NVIDIA driver")
def test_a_bundle_proves_itself_on_a_card(tmp_path: Path) -> None:
    verified = verify_bundle(pack(linear_model(), tmp_path), runtime(), wish=DeviceWish("cuda", 0, 1 << 30))
    assert str(verified.placement) == "cuda:0"
