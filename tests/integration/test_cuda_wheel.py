"""The real wheel of ONNX Runtime for CUDA, where it is installed (`make test ORT=gpu`): what it says without a driver. Skipped
with the CPU wheel: then tests/integration/test_cuda.py plays it. A real card is test_gpu.py's.
"""

from __future__ import annotations

import pytest

from assay.errors import CoreError
from assay.models.cuda_build import build_of
from assay.models.cuda_errors import CPU_MEND, explain
from assay.models.cuda_machine import find_driver
from assay.models.device import Device, make_session
from assay.models.ort_library import find_library
from tests.support.bundles import runtime
from tests.support.onnx_models import linear_model

pytestmark = pytest.mark.skipif(build_of(find_library()) is None, reason="the installed ONNX Runtime is for the CPU")


@pytest.mark.skipif(find_driver() is not None, reason="this machine has an NVIDIA driver")
def test_without_a_driver_the_wheels_words_are_explained() -> None:
    with pytest.raises(CoreError) as refused:
        make_session(runtime(), linear_model().SerializeToString(), Device(0))
    assert refused.value.reason == "RUNTIME_UNAVAILABLE"
    assert explain(refused.value.message).mend != CPU_MEND, refused.value.message
