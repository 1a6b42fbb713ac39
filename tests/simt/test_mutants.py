"""Some of the mutants of `make mutants`: a test of the kernel must detect each of them."""

import subprocess
import sys

import pytest

from tests.simt.emulate import ROOT, available
from tests.simt.mutants import entries_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.compile,
    pytest.mark.skipif(not available(), reason="no C++ compiler here: kernels are not emulated"),
]


@pytest.mark.parametrize("entry", sorted(entries_of(ROOT / "csrc")))
def test_mutants_of_a_kernel_are_detected(entry: str):
    command = [sys.executable, "-m", "tests.simt.mutants", "--every", "20", "--entry", entry]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "no barrier" in done.stdout, "no barrier was found"
