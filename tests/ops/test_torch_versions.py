"""One libusvs_ops.so under several versions of torch, and a build against the headers of each (slow).

USVS_TORCH_SITES names folders that hold other versions of torch, separated by colons; each is what
`pip install --target FOLDER torch==2.11.0` writes, or that wheel unpacked. Without it, these tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from usvs.ops._library import LIBRARY

ROOT = Path(__file__).resolve().parents[2]
SITES = [Path(folder) for folder in os.environ.get("USVS_TORCH_SITES", "").split(":") if folder]
pytestmark = pytest.mark.slow
if not SITES:
    pytest.skip("USVS_TORCH_SITES names no folder with another torch", allow_module_level=True)


def version(site: Path) -> str:
    """Return the version of the torch in a folder."""
    found = re.search(r"__version__ = '([^']+)'", (site / "torch" / "version.py").read_text())
    assert found
    return found[1]


def run_program(package_root: Path, site: Path | None) -> dict[str, str]:
    """Run torch_version_program.py with the usvs of `package_root` and the torch of `site`; return its hashes."""
    paths = [str(package_root), *([str(site)] if site else [])]
    environment = {**os.environ, "PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}
    program = str(ROOT / "tests" / "ops" / "torch_version_program.py")
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    output = json.loads(done.stdout.splitlines()[-1])
    assert output["torch"] == (version(site) if site else torch.__version__)
    return output["results"]


@pytest.mark.parametrize("site", SITES, ids=version)
def test_this_build_gives_the_same_bits_under(site: Path):
    expected = run_program(ROOT, None)
    assert len(expected) == 10
    assert run_program(ROOT, site) == expected


@pytest.mark.compile
@pytest.mark.parametrize("site", SITES, ids=version)
def test_the_cuda_ops_compile_against_the_headers_of(site: Path):
    """Without nvcc: the file that calls torch includes nothing of CUDA."""
    source = ROOT / "csrc" / "bindings" / "register_cuda.cpp"
    flags = ["-std=c++20", "-fsyntax-only", "-DTORCH_TARGET_VERSION=0x020b000000000000", f"-I{ROOT / 'csrc'}"]
    command = ["g++", *flags, "-isystem", str(site / "torch" / "include"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.compile
@pytest.mark.parametrize("site", SITES, ids=version)
def test_a_build_against_the_headers_of(site: Path, tmp_path: Path):
    cmake = Path(sys.executable).parent / "cmake"
    if not cmake.exists():
        pytest.skip("CMake is not installed beside this Python")
    build, package = tmp_path / "build", tmp_path / "package"
    options = ["-DUSVS_PYTHON=OFF", "-DUSVS_OPS=ON", "-DUSVS_CUDA=OFF", f"-DUSVS_TORCH_DIR={site / 'torch'}"]
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={cmake.parent / 'ninja'}"]
    configured = subprocess.run([cmake, "-S", ROOT, "-B", build, *generator, *options], capture_output=True, text=True)
    assert configured.returncode == 0, configured.stderr
    command = [cmake, "--build", build, "--target", "usvs_ops", "--parallel", os.environ.get("MAX_JOBS", "2")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:]
    shutil.copytree(ROOT / "usvs", package / "usvs", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(build / LIBRARY.name, package / "usvs")
    expected = run_program(ROOT, None)
    for other in (None, *SITES):
        assert run_program(package, other) == expected
