#!/usr/bin/env bash
# Everything that only a CUDA device can show, in at most eight minutes, most important first.
#
#   tests/device/check.sh               on a machine with a device: torch, numpy, pyarrow, pytest, pybind11, cmake, ninja,
#                                       nvcc, compute-sanitizer, ncu, the wheels of tests/device/wheels.sh, no network
#   tests/device/check.sh --rehearse    the same parts here, on CPU tensors and in the emulator
#
# On a machine that a tool lends for one command, with a copy of this tree: after tests/device/wheels.sh, carry
# build/device_wheels and usvs/libusvs_ops.so, with a limit of 560 s, and run
#
#   python3 -m pip install -q --no-index --no-deps --target /tmp/site build/device_wheels/*.whl &&
#     PYTHONPATH=/tmp/site bash tests/device/check.sh
#
# OUT: folder of results, default build/device. It gets three files, which are written again at the beginning of every
# part, so that a report remains if this script is killed: results.json and results.md (what passed, in how many seconds,
# what was measured) and logs.tgz (each part's log and JSON). WORK: folder of the parts, default build/device_parts.
# PYTHON: interpreter, default python3. SECONDS_LEFT: of the whole, default 480. Each part has a time limit of its own, cut
# to what is left of the whole. The exit status is the number of parts that did not pass.
set -u
cd "$(dirname "$0")/../.."
OUT=$(realpath -m "${OUT:-build/device}")
WORK=$(realpath -m "${WORK:-build/device_parts}")
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 USVS_REQUIRE_GPU=1
export PATH=$PATH:/usr/local/cuda/bin
for folder in /opt/nvidia/nsight-compute/*/ /usr/local/cuda/compute-sanitizer/; do PATH=$PATH:${folder%/}; done
mkdir -p "$OUT" "$WORK"
rm -f "$WORK"/*.log "$WORK"/*.json "$WORK"/parts.tsv "$OUT"/results.json "$OUT"/results.md "$OUT"/logs.tgz
mode=device
[ "${1:-}" = --rehearse ] && mode=rehearsal
end=$((SECONDS + ${SECONDS_LEFT:-$([ $mode = device ] && echo 480 || echo 3000)}))

report() {
  "$PYTHON" -m tests.device.report "$WORK" "$OUT"
}
part() { # NAME SECONDS COMMAND ...
  local name=$1 limit=$2 begin=$SECONDS status left=$((end - SECONDS))
  shift 2
  if [ $left -lt 5 ]; then
    printf '%s\tskipped\t0\t%s\n' "$name" "$limit" >>"$WORK/parts.tsv"
    return
  fi
  [ "$limit" -gt $left ] && limit=$left
  echo "device check: $name (at most $limit s)"
  printf '%s\trunning\t0\t%s\n' "$name" "$limit" >>"$WORK/parts.tsv"
  report >/dev/null
  timeout --kill-after=5 "$limit" "$@" >"$WORK/$name.log" 2>&1
  status=$?
  [ $status -ne 0 ] && tail -n 4 "$WORK/$name.log"
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - begin))" "$limit" >>"$WORK/parts.tsv"
}
small() { # NAME SECONDS DEVICE
  part "$1" "$2" "$PYTHON" -m tests.device.small "$1" --device "$3" --out "$WORK/$1.json"
}
training() { # COMPILER SECONDS DEVICE
  part "training-$1" "$2" "$PYTHON" -m tests.device.training "$1" --device "$3" --out "$WORK/training-$1.json"
}

# --confcutdir: tests/conftest.py imports what reads videos, which these tests do not need and the machine has not.
if [ $mode = rehearsal ]; then
  emulated=("$PYTHON" -m pytest -q -p no:cacheprovider --confcutdir=tests/simt tests/simt)
  part build 60 "$PYTHON" -c "from usvs.ops import build_info; print(build_info())"
  small ops 120 cpu
  part tests 300 "${emulated[@]}" -k "test_equals_the_equation and (64 or 130)"
  part memcheck 300 "${emulated[@]}" -k "test_sanitizers_find_nothing and MEMORY and (33 or 40)"
  part racecheck 300 "${emulated[@]}" -k "test_sanitizers_find_nothing and RACE and 33"
  small join 60 cpu
  part peers 120 "$PYTHON" -m benchmarks.device --device cpu --check --out "$WORK/peers.json"
  part benchmarks 120 "$PYTHON" -m benchmarks.device --device cpu --out "$WORK/benchmarks.json" --until 100
  training torchscript 120 cpu
  training eager 120 cpu
  small million 60 cpu
  small profiled 60 cpu
  # Minutes, and so in no CI: the C++ compiler reads torch's headers for every kernel, without optimisation, too.
  training inductor 600 cpu
else
  part build 120 bash tests/device/build.sh "$PYTHON"
  small ops 60 cuda
  part tests 100 "$PYTHON" -m pytest -q -p no:cacheprovider --confcutdir=tests/ops -m gpu -k "not million" \
    tests/ops/test_cuda.py tests/ops/test_log_spectrogram_gpu.py
  small graph 30 cuda
  small join 25 cuda
  part benchmarks 100 "$PYTHON" -m benchmarks.device --device cuda --out "$WORK/benchmarks.json" --until 85
  training torchscript 45 cuda
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1 # so that the tools see the ends of tensors
  # Only this project's kernels, and no errors that torch provokes when it asks what the driver can do.
  sanitizer=(compute-sanitizer --report-api-errors no --kernel-name kns=usvs --error-exitcode 9)
  part memcheck 60 "${sanitizer[@]}" --tool memcheck "$PYTHON" -m tests.device.small tiny
  part racecheck 60 "${sanitizer[@]}" --tool racecheck "$PYTHON" -m tests.device.small tiny
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
  # ncu prints at its end, and nothing if it is stopped: only the sections that tests/device/report.py reads.
  sections=(--section SpeedOfLight --section ComputeWorkloadAnalysis --section MemoryWorkloadAnalysis
    --section LaunchStats --section Occupancy)
  part ncu 75 ncu --clock-control none --apply-rules no "${sections[@]}" --csv --page details \
    -k "regex:contrastive|spectrogram" "$PYTHON" -m tests.device.small profiled
  small million 50 cuda
  training eager 45 cuda
  part peers 90 "$PYTHON" -m benchmarks.device --device cuda --check --out "$WORK/peers.json"
  training inductor 150 cuda
fi
report
