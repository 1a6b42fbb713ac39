#!/usr/bin/env bash
# Builds from the tree what is not there or does not load.
#
#   tests/device/build.sh PYTHON
#
# usvs/libusvs_ops.so serves every Python and may come with the tree; usvs._C is for one version of Python, and most
# likely another than this one. If it alone is missing, one call of the C++ compiler makes it, in seconds. If the library
# does not load, everything is built by setup.py, with nvcc, in minutes.
#
# USVS_CUDA_ARCHITECTURES: default 90-real, the machine code of an H100 or H200 alone, which takes a third of the time.
set -eu
PYTHON=$1
ready() {
  "$PYTHON" - <<'END'
import torch
from usvs.ops import build_info

info = build_info()
print(info, torch.cuda.get_device_name() if torch.cuda.is_available() else "no device")
assert info["cuda_architectures"], "built without CUDA kernels"
END
}
make_module() {
  suffix=$("$PYTHON" -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
  includes=$("$PYTHON" -m pybind11 --includes)
  # shellcheck disable=SC2086  # several options
  "${CXX:-c++}" -std=c++20 -O1 -shared -fPIC -fvisibility=hidden $includes -Icsrc csrc/python/module.cpp \
    -o "usvs/_C$suffix" -Lusvs -l:libusvs_ops.so -Wl,-rpath,'$ORIGIN'
}
if ready; then exit; fi
if [ -e usvs/libusvs_ops.so ] && make_module && ready; then exit; fi
export USVS_CUDA=ON USVS_CUDA_ARCHITECTURES=${USVS_CUDA_ARCHITECTURES:-90-real}
"$PYTHON" setup.py build_ext --inplace
ready
