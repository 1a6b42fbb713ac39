"""Some of the plants of `make plants`: each mistake that is put into a kernel must turn a test of it red."""

import subprocess
import sys

import pytest

from tests.simt.emulate import ROOT, available
from tests.simt.mutants import entries_of

pytestmark = pytest.mark.skipif(not available(), reason="no C++ compiler here: kernels are not emulated")


@pytest.mark.parametrize("entry", sorted(entries_of(ROOT / "csrc")))
def test_a_mistake_in_a_kernel_turns_a_test_red(entry: str):
    command = [sys.executable, "-m", "tests.simt.mutants", "--every", "20", "--entry", entry]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "no barrier" in done.stdout, "the places where barriers stand were not found"
