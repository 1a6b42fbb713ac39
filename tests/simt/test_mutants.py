"""Some of the mutants of `make mutants`: a test of the kernel must detect each of them."""

import pytest

from tests.simt.emulate import ROOT, available
from tests.simt.mutants import entries_of
from tests.support.processes import run_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.compile,
    pytest.mark.skipif(not available(), reason="no C++ compiler here: kernels are not emulated"),
]


@pytest.mark.parametrize("entry", sorted(entries_of(ROOT / "csrc")))
def test_mutants_of_a_kernel_are_detected(entry: str):
    output = run_python("-m", "tests.simt.mutants", "--every", 160, "--entry", entry)
    assert "no barrier" in output, "no barrier was found"
