#!/usr/bin/env bash
# Builds the kernels from the tree where they are not there: for another Python only usvs._C is missing.
#
#   tests/device/build.sh PYTHON
#
# USVS_CUDA_ARCHITECTURES: default 90-real, the machine code of an H100 or H200 alone, which takes a third of the time.
set -eu
PYTHON=$1
ready() {
  "$PYTHON" - <<'EOF'
import torch
from usvs.ops import build_info

info = build_info()
print(info, torch.cuda.get_device_name() if torch.cuda.is_available() else "no device")
assert info["cuda_architectures"], "built without CUDA kernels"
EOF
}
if ! ready; then
  export USVS_CUDA=ON USVS_CUDA_ARCHITECTURES=${USVS_CUDA_ARCHITECTURES:-90-real}
  "$PYTHON" setup.py build_ext --inplace
  ready
fi
