"""A slice of the store mutants: `python -m tests.faults.store_mutants` makes 2,000."""

import json

import pytest

from tests.faults.store_mutants import HELD
from tests.support.processes import run_python


@pytest.mark.slow
def test_no_damaged_store_is_used_silently():
    """In a process of its own: a fork of this one, whose threads have computed, would wait for them forever."""
    result = json.loads(run_python("-m", "tests.faults.store_mutants", "--count", 57, "--seed", 11))
    assert set(result["outcomes"]) <= set(HELD), result["wrong"]
    assert result["outcomes"]["refused"] > 30
    assert result["audit"]["refused_but_not_found"] == 0, result["wrong"]
