"""assay scores bank transactions for fraud in real time over gRPC."""

__version__ = "0.1.0"
