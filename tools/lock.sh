#!/bin/sh
# Pins every dependency with hashes, in server/assay/lock: cpu.txt, gpu.txt (CUDA 13) and gpu-cu12.txt (CUDA 12) are what runs, dev.txt
# is what tests and trains beside it.
# Run by `make lock`. Needs uv.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
compile() { uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" "$@"; }

# The CPU lock takes the 28 MB wheel instead of the 256 MB one; both hold the same library.
echo "onnxruntime-gpu; sys_platform == 'never'" > "$work/override.txt"
echo "onnxruntime" > "$work/cpu.in"
compile pyproject.toml "$work/cpu.in" --group build --override "$work/override.txt" -o server/assay/lock/cpu.txt
# Versions that several have are those of the CPU lock; ONNX Runtime is each runtime lock's own business.
grep -E '^[a-zA-Z0-9_.-]+==' server/assay/lock/cpu.txt | sed 's/ \\$//' > "$work/constraints.txt"
grep -v '^onnxruntime' "$work/constraints.txt" > "$work/others.txt"
compile pyproject.toml --extra gpu --group build -c "$work/others.txt" -o server/assay/lock/gpu.txt
compile pyproject.toml --extra gpu-cu12 --group build -c "$work/others.txt" -o server/assay/lock/gpu-cu12.txt
compile pyproject.toml --extra train --extra mlflow --group build --group dev --override "$work/override.txt" -c "$work/constraints.txt" \
  --no-emit-package onnxruntime -o server/assay/lock/dev.txt
