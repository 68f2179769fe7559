#!/bin/sh
# Prints which wheel of ONNX Runtime this machine can use, for the Makefile's ORT: gpu (CUDA 13) where NVIDIA's driver is R580 or
# newer, gpu-cu12 from R525 on, else cpu. The numbers are those of server/assay/models/cuda_build.py.
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n '1s/^\([0-9]\{3,\}\)\..*/\1/p')
if [ "${driver:-0}" -ge 580 ]; then
  echo gpu
elif [ "${driver:-0}" -ge 525 ]; then
  echo gpu-cu12
else
  echo cpu
fi
