"""Generated from proto/assay/v1 by tools/generate_protos.py. Do not edit."""
