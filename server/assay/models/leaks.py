"""A look for labels that leaked into the features: an input that alone tells fraud from genuine, a test set of the same days.

The post-mortem's model had a beautiful ROC curve because a feature was computed with the label. What is found is written into the
manifest when the bundle is packed, with the labels at hand; `assay model check` reads it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from assay.errors import InputError
from assay.models.manifest import MANIFEST_FILE, Training
from assay.models.quality import auc
from assay.models.refusal import BundleRefusedError

AUC_MAX: Final = 0.95
RANDOM_SPLIT: Final = "random-split"


def look_for_leaks(
    columns: Mapping[str, NDArray[np.float64]],
    labels: Any,
    split: Literal["time", "random", "unknown"],
    accept: Sequence[str] = (),
) -> Training | None:
    """What the manifest will say of the training. None: no labels, and nothing was said of the split. `columns`: the inputs.

    Raises InputError: labels that are none. BundleRefusedError: a leak that `accept` does not name.
    """
    unknown = sorted(set(accept) - {*columns, RANDOM_SPLIT})
    if unknown:
        raise InputError(f"accept: {', '.join(unknown[:5])}: expected names of inputs, or {RANDOM_SPLIT}")
    if labels is None and split == "unknown":
        return None
    is_fraud = np.zeros(0, np.bool_) if labels is None else _labels(labels, len(next(iter(columns.values()))))
    aucs = {} if labels is None else {name: round(single_auc(values, is_fraud), 6) for name, values in columns.items()}
    training = Training(
        labelled_rows=len(is_fraud), frauds=int(is_fraud.sum()), split=split, auc=aucs, accepted=sorted(set(accept))
    )
    check_leaks(training)
    return training


def check_leaks(training: Training | None) -> str:
    """What was found. Raises BundleRefusedError where something tells the label that nobody accepted by name."""
    if training is None:
        return "not looked for: packed without labels"
    leaking = sorted((name for name, auc in training.auc.items() if auc > AUC_MAX), key=lambda name: -training.auc[name])
    refused = [name for name in leaking if name not in training.accepted]
    if refused:
        found = ", ".join(f"{name} (AUC {training.auc[name]:.3f})" for name in refused[:5])
        raise BundleRefusedError(
            MANIFEST_FILE,
            f"{found} alone tells fraud from genuine (above {AUC_MAX}): it was most likely computed with the label",
            "mend the feature (a view that uses labels needs their delay) and train again; if it is honest, "
            + _accepting(refused[:5]),
        )
    if training.split == "random" and RANDOM_SPLIT not in training.accepted:
        raise BundleRefusedError(
            MANIFEST_FILE,
            "training and test rows were parted at random: the test knows the future, and the same cards are on both sides",
            f"test on later days than those trained on and say split='time' (--split time), or {_accepting([RANDOM_SPLIT])}",
        )
    best = max(training.auc.items(), key=lambda item: item[1], default=None)
    found = f"highest AUC of one input {best[1]:.3f} ({best[0]}), {training.frauds} frauds" if best else "no labels"
    accepted = f", accepted: {', '.join(training.accepted)}" if training.accepted else ""
    return f"{found}; split: {training.split}{accepted}"


def single_auc(values: NDArray[np.float64], is_fraud: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of one input as the score, in whichever direction is better; null sorts below all numbers."""
    area = auc(is_fraud, np.where(np.isnan(values), -np.inf, values))
    return max(area, 1 - area)


# --- implementation ---


def _accepting(names: Sequence[str]) -> str:
    """How somebody says that these may be."""
    return f"pack with {' '.join(f'--accept {name}' for name in names)} (assay.pack: accept={list(names)})"


def _labels(labels: Any, count: int) -> NDArray[np.bool_]:
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise InputError(f"labels: expected {count} values, each 0 or 1 (or true or false), not {values.dtype} {values.shape}")
    is_fraud = values.astype(np.bool_)
    if is_fraud.all() or not is_fraud.any():
        raise InputError("labels: expected frauds and genuine transactions, there is only one of both")
    return is_fraud
