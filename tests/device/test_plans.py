"""The sizes that only a device runs are divided among blocks as they are meant to be."""

import subprocess
from pathlib import Path

import pytest

from tests.device.small import CARRIED, JOINED

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.compile
def test_sums_are_carried_and_joined(tmp_path: Path):
    program = tmp_path / "plans"
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'simt' / 'emulator'}"]
    source = ROOT / "tests" / "device" / "plans.cpp"
    subprocess.run(["g++", "-std=c++20", "-O0", *includes, str(source), "-o", str(program)], check=True)

    def plan(shape: tuple[int, int, int]) -> list[str]:
        command = [str(program), *map(str, shape)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]

    assert plan(CARRIED) == ["float32 carried 1", "bfloat16 carried 1"]
    assert plan((700, 2100, 300)) == ["float32 carried 0", "bfloat16 carried 0"]
    assert plan(JOINED) == ["float32 joins 5", "bfloat16 joins 5"]
    assert plan((3, 900, 20)) == ["float32 joins 0", "bfloat16 joins 0"]
