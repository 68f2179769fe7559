"""assay scores bank transactions for fraud in real time over gRPC.

`assay.pack` makes a bundle in the process that trained the model, `assay.Scorer` scores with one (docs/training.md). Both are
imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.models.scorer import Scorer
    from assay.models.training import pack

__all__ = ["Scorer", "__version__", "pack"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Scorer":
        from assay.models.scorer import Scorer

        return Scorer
    if name == "pack":
        from assay.models.training import pack

        return pack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
