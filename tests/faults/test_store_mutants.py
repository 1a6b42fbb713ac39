"""A slice of the store mutants: `python -m tests.faults.store_mutants` makes 2,000."""

import json
from typing import Any

import pytest

from tests.faults.store_mutants import CODECS, HELD
from tests.support.processes import run_python


def run_mutants(count: int, *options: str) -> dict[str, Any]:
    """In a process of its own: a fork of this one, whose threads have computed, would wait for them forever."""
    output = run_python("-m", "tests.faults.store_mutants", "--count", count, "--seed", 11, *options)
    result: dict[str, Any] = json.loads(output)
    assert set(result["outcomes"]) <= set(HELD), result["wrong"]
    assert result["audit"]["refused_but_not_found"] == 0, result["wrong"]
    return result


@pytest.mark.slow
def test_no_damaged_store_is_used_silently():
    assert run_mutants(38)["outcomes"]["refused"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_a_flipped_bit_of_a_frame_is_seen_by_its_checksum(codec: str):
    """A decoder reads most of them without an error, as other pixels; frames that nothing reads may be damaged."""
    found = run_mutants(12, "--kind", "flip_bit", "--codec", codec, "--file", "frames.bin")
    assert found["outcomes"]["refused"] >= 6
