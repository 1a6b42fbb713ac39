"""`usvs::kernels`, the library for C++ programs, without torch: its example and its ctest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ["usvs_kernels.h", "log_spectrogram.h", "contrastive_loss.h", "threads.h", "bfloat16.h"]


@pytest.fixture(scope="module")
def build_folder() -> Path:
    """The folder that libusvs_ops.so was built in."""
    named = os.environ.get("USVS_BUILD_DIR")
    folders = (
        [Path(named)] if named else sorted((ROOT / "build").glob("cmake*"), key=lambda folder: folder.stat().st_mtime)
    )
    folders = [folder for folder in folders if (folder / "CTestTestfile.cmake").exists()]
    if not folders:
        pytest.skip("usvs was not built in this checkout")
    return folders[-1]


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.compile
def test_the_example_and_the_tests_of_cpp(build_folder: Path):
    tools = Path(sys.executable).parent
    if not (tools / "cmake").exists():
        pytest.skip("CMake is not installed beside this Python")
    run(str(tools / "cmake"), "--build", str(build_folder), "--target", "usvs_example", "usvs_kernels_test")
    tests = run(
        str(tools / "ctest"), "--test-dir", str(build_folder), "-R", "^(kernels|example)$", "--output-on-failure"
    )
    assert "100% tests passed" in tests and "out of 2" in tests
    output = run(str(build_folder / "usvs_example"))
    assert "3000 Hz is loudest in the band of 3000 Hz" in output
    # By hand: logits 0, 2, 0 without the anchor itself, a = 2, b = 0, m = 2.
    assert "losses 0.3850 0.3850" in output


@pytest.mark.parametrize("name", HEADERS)
def test_public_headers_include_no_torch(name: str):
    text = (ROOT / "csrc" / name).read_text()
    assert "#include <torch" not in text and "ATen" not in text and '#include "bindings' not in text
