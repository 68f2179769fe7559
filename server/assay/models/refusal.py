"""How a bundle or a model is refused: which file, why, and what to do."""

from __future__ import annotations

from assay.errors import BundleError


class BundleRefusedError(BundleError):
    """A BundleError with its parts apart. `file` is relative to the bundle, or the path as it was given."""

    def __init__(self, file: str, reason: str, mend: str) -> None:
        super().__init__(f"{file}: {reason}; {mend}" if mend else f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.mend = mend
