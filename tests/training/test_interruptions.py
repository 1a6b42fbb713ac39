import pytest

from tests.support.processes import run_python


@pytest.mark.slow
def test_random_interruptions_change_nothing():
    output = run_python("-m", "tests.training.interruptions", "--count", 6, "--seed", 1)
    assert "6 interruptions (3 SIGTERM, 3 SIGKILL)" in output


@pytest.mark.slow
def test_a_kill_between_the_first_file_operations_can_be_resumed():
    output = run_python("-m", "tests.training.kills_at_start", "--count", 10, "--every", 4)
    assert output.count("resumed each time with equal results") == 3
