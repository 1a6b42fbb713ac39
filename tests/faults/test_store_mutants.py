"""A slice of the store mutants: `python -m tests.faults.store_mutants` makes 2,000."""

from pathlib import Path

import pytest

from tests.faults.store_mutants import HELD, try_mutants


@pytest.mark.slow
def test_no_damaged_store_is_used_silently(tmp_path: Path):
    result = try_mutants(57, 11, tmp_path)
    assert set(result["outcomes"]) <= set(HELD), result["wrong"]
    assert result["outcomes"]["refused"] > 30
    assert result["audit"]["refused_but_not_found"] == 0, result["wrong"]
