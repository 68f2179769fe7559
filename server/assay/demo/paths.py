"""Where the demo's files are: inside the installed package."""

from __future__ import annotations

from pathlib import Path

_DEMO = Path(__file__).resolve().parent


def bundle_path() -> Path:
    """The demo bundle, a directory NAME/VERSION (made by examples/card_fraud/train.py)."""
    return _DEMO / "bundle" / "card_fraud" / "1"


def feature_set_path() -> Path:
    """The demo's feature set: the bundle's own copy, byte for byte examples/card_fraud/feature_set.yaml."""
    return bundle_path() / "feature_set.yaml"


if __name__ == "__main__":  # python -m assay.demo.paths
    print(bundle_path())
