"""The models that are served, as tensors: what the Open Inference Protocol tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from assay._core import OrtModel, TensorInfo
from assay.features.served_versions import ServedVersions
from assay.models.plain import served_outputs


@dataclass(frozen=True)
class TensorModel:
    """One model version."""

    name: str
    version: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]  # those that ModelInfer gives
    batch_rows_max: int
    queue_delay_us_max: int
    runners: int
    cuda_index: int | None  # None: the CPU

    @classmethod
    def of(
        cls,
        name: str,
        version: str,
        model: OrtModel,
        batch_rows_max: int,
        queue_delay_us_max: int,
        runners: int,
        cuda_index: int | None,
    ) -> TensorModel:
        outputs = tuple(output for _, output in served_outputs(model))
        return cls(name, version, model.inputs, outputs, batch_rows_max, queue_delay_us_max, runners, cuda_index)


class TensorModels(ServedVersions[TensorModel]):
    """By model and version."""
