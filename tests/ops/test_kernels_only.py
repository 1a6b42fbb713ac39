"""examples/kernels_only.py runs with the core dependencies alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Import names of the packages of all extras.
EXTRAS = [
    "av",
    "cv2",
    "pyarrow",
    "pydicom",
    "sklearn",
    "scipy",
    "simplejpeg",
    "soxr",
    "matplotlib",
    "tensorboard",
    "joblib",
    "timm",
    "torchvision",
    "torchaudio",
    "espeakng_loader",
    "nvidia.dali",
    "distributed",
    "dask",
    "pandas",
    "PIL",
]
BLOCKED = f"""
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if any(name == extra or name.startswith(extra + ".") for extra in {EXTRAS!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def run_with_core_dependencies(program: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BLOCKED, str(program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_example_runs_without_the_extras():
    done = run_with_core_dependencies(ROOT / "examples" / "kernels_only.py")
    assert done.returncode == 0, done.stderr
    assert "(32, 14400) -> (32, 1, 256, 256)" in done.stdout
    assert "contrastive_loss  (64, 128) anchors, 192 candidates -> " in done.stdout
    assert "gradient of the anchors (64, 128), norm " in done.stdout


@pytest.mark.slow
def test_a_program_that_imports_an_extra_is_stopped(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text("import usvs.ops\nimport cv2\n")
    done = run_with_core_dependencies(program)
    assert done.returncode != 0
    assert "No module named 'cv2'" in done.stderr
