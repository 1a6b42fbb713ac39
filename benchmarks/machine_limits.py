"""Peak arithmetic and write bandwidth of one core, measured: `python -m benchmarks.machine_limits`."""

import functools
import json
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def machine_limits() -> dict[str, float]:
    """Measure one core; empty without a compiler or on a machine other than x86-64 with AVX2.

    Returns:
        ``fma_flops`` (float32), ``bfloat16_flops`` (where there are dot products of it), ``lane_operations``
        (additions and multiplications, half each) and ``write_bytes`` (non-temporal), all per second.
    """
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or platform.machine() not in {"x86_64", "AMD64"}:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "machine_limits"
        source = Path(__file__).with_suffix(".cpp")
        command = [compiler, "-O2", "-march=native", "-std=c++20", str(source), "-o", str(program)]
        built = subprocess.run(command, capture_output=True, check=False)
        if built.returncode != 0:
            return {}
        output = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    limits: dict[str, float] = json.loads(output)
    return limits


if __name__ == "__main__":
    print(json.dumps(machine_limits()))
