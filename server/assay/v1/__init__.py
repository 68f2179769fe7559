"""Generated from proto/assay/v1 by tools/generate_protos.py (`make proto`). Do not edit."""
