#!/usr/bin/env bash
# Packages that must travel to a device machine without a network, and the size of everything that travels.
#
#   tests/device/wheels.sh [FOLDER]     downloads wheels for its Python into FOLDER, default build/device_wheels
#
# The machine has torch, numpy, pyarrow, rich, safetensors, pytest, pybind11, cmake and ninja; what the parts of check.sh
# import beside these is listed here. PYTHON_VERSION: the machine's, default 3.12. Fails above 60 MiB. How they are used
# there: check.sh. usvs/libusvs_ops.so serves its Python, too; build.sh makes usvs._C for it.
set -eu
cd "$(dirname "$0")/../.."
FOLDER=${1:-build/device_wheels}
PYTHON=${PYTHON:-python3}
rm -rf "$FOLDER"
mkdir -p "$FOLDER"
# pydantic names the one version of pydantic-core that it works with.
platforms=(--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
download=("$PYTHON" -m pip download --quiet --only-binary=:all: --implementation cp
  --python-version "${PYTHON_VERSION:-3.12}" "${platforms[@]}" -d "$FOLDER")
"${download[@]}" --no-deps pydantic annotated-types typing-inspection simplejpeg
core=$(unzip -p "$FOLDER"/pydantic-[0-9]*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([0-9.]*\).*/\1/p')
"${download[@]}" --no-deps "pydantic-core==$core"
du -ch --apparent-size "$FOLDER"/*.whl usvs/libusvs_ops.so
tree=$(git ls-files -z | xargs -0 -r du -cb 2>/dev/null | tail -n 1 | cut -f 1)
carried=$(du -cb "$FOLDER"/*.whl usvs/libusvs_ops.so | tail -n 1 | cut -f 1)
echo "travels: $((carried / 1048576)) MiB of wheels and libraries, $((tree / 1048576)) MiB of sources; limit 60 MiB"
[ $((carried + tree)) -le $((60 * 1048576)) ]
