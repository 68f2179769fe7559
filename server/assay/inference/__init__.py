"""Generated from proto/inference by tools/generate_protos.py. Do not edit."""
