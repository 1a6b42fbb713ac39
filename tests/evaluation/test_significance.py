import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from usvs.errors import DataError
from usvs.evaluation.significance import paired_difference


def test_the_exact_test_counts_sign_patterns():
    differences = [0.3, 0.1, -0.05]
    found = paired_difference([0.8, 0.6, 0.5], [0.5, 0.5, 0.55])
    patterns = [abs(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=3)]
    assert found.p_value == pytest.approx(np.mean([p >= abs(sum(differences)) - 1e-9 for p in patterns]))
    assert found.mean == pytest.approx(sum(differences) / 3)
    assert found.wins == 2


def test_always_ahead_gives_the_smallest_p_there_is():
    assert paired_difference(np.linspace(0.6, 0.9, 9), np.linspace(0.5, 0.6, 9)).p_value == 2 / 2**9
    assert paired_difference([0.5] * 9, [0.5] * 9).p_value == 1.0


def test_it_agrees_with_scipy():
    random = np.random.default_rng(1)
    first, second = random.normal(0.1, 0.2, 10), random.normal(0, 0.2, 10)
    theirs = permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert paired_difference(first, second).p_value == pytest.approx(theirs.pvalue)


def test_many_pairs_are_sampled_and_keep_their_level():
    random = np.random.default_rng(2)
    values = random.normal(0.12, 0.3, 20)
    found = paired_difference(values, np.zeros(20))
    theirs = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=50_000, rng=np.random.default_rng(0)
    )
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert paired_difference(values, np.zeros(20)) == found


def test_pairs_must_match():
    with pytest.raises(DataError, match="got 2 and 1"):
        paired_difference([1, 2], [1])
    with pytest.raises(DataError, match="got 0 and 0"):
        paired_difference([], [])
