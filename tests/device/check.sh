#!/usr/bin/env bash
# Everything that only a CUDA device can show, in at most eight minutes, most important first.
#
#   tests/device/check.sh               on a machine with a device; needs torch, pytest, compute-sanitizer, ncu, no network
#   tests/device/check.sh --rehearse    the same parts here, on CPU tensors and in the emulator
#
# OUT: folder of results, default build/device. PYTHON: interpreter, default python3. Each part has a time limit of its
# own and a log; results.json and results.md say what passed, in how many seconds, and what was measured.
set -u
cd "$(dirname "$0")/../.."
OUT=$(realpath -m "${OUT:-build/device}")
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD USVS_REQUIRE_GPU=1
mkdir -p "$OUT"
rm -f "$OUT"/*.log "$OUT"/*.json "$OUT"/parts.tsv

part() { # NAME SECONDS COMMAND ...
  local name=$1 limit=$2 begin=$SECONDS status
  shift 2
  echo "device check: $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "$@" >"$OUT/$name.log" 2>&1
  status=$?
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - begin))" "$limit" >>"$OUT/parts.tsv"
}
small() { # NAME SECONDS DEVICE
  part "$1" "$2" "$PYTHON" -m tests.device.small "$1" --device "$3" --out "$OUT/$1.json"
}

if [ "${1:-}" = --rehearse ]; then
  emulated=("$PYTHON" -m pytest -q -p no:cacheprovider tests/simt)
  small ops 120 cpu
  part tests 300 "${emulated[@]}" -k "test_equals_the_equation and (64 or 130)"
  part memcheck 300 "${emulated[@]}" -k "test_sanitizers_find_nothing and MEMORY and (33 or 40)"
  part racecheck 300 "${emulated[@]}" -k "test_sanitizers_find_nothing and RACE and 33"
  small join 60 cpu
  part benchmarks 120 "$PYTHON" -m benchmarks.device --device cpu --out "$OUT/benchmarks.json"
  small million 60 cpu
else
  small ops 60 cuda
  part tests 100 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu -k "not million" tests/ops
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1 # so that the tools see the ends of tensors
  part memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 9 "$PYTHON" -m tests.device.small tiny
  part racecheck 45 compute-sanitizer --tool racecheck --error-exitcode 9 "$PYTHON" -m tests.device.small tiny
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
  small graph 30 cuda
  small join 20 cuda
  part benchmarks 90 "$PYTHON" -m benchmarks.device --device cuda --out "$OUT/benchmarks.json"
  part ncu 30 ncu --set full --launch-count 4 -k "regex:contrastive|spectrogram" "$PYTHON" -m tests.device.small tiny
  small million 45 cuda
fi
"$PYTHON" -m tests.device.small results --out "$OUT"
