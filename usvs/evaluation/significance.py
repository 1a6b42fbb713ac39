"""Significance of a paired difference: the sign-flip permutation test."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.errors import DataError

EXACT_UP_TO = 16  # pairs; all 2 ** 16 sign patterns are tried
SAMPLED_PATTERNS = 100_000
SEED = 0  # of the sampled patterns, so that the same values always give the same p


@dataclass(frozen=True)
class PairedDifference:
    """One init against another on the same measurements (seed and fold).

    Attributes:
        mean: of the differences, first minus second.
        values: the differences, in the order of the measurements.
        wins: in how many measurements the first is ahead.
        p_value: two-sided, of the sign-flip permutation test.
    """

    mean: float
    values: tuple[float, ...]
    wins: int
    p_value: float


def paired_difference(first: ArrayLike, second: ArrayLike) -> PairedDifference:
    """Compare two inits that were measured on the same seeds and folds.

    If there were no difference, each measured difference could as well have had the other sign. The p-value is the
    fraction of sign patterns whose mean is at least as far from zero as the measured one: over all 2^n patterns up to
    n = 16, over 100,000 sampled ones beyond (`scipy.stats.permutation_test`; R. A. Fisher, The Design of Experiments,
    1935, section 21). With n pairs it cannot be below 2 / 2^n. Folds of one seed share a pretraining, so measurements
    are not fully independent and p is somewhat too small: read it beside the differences themselves.

    Args:
        first: [n] values of one init.
        second: [n] values of the other.

    Raises:
        DataError: for no pairs or unequal lengths.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise DataError(
            f"paired test: expected two lists of the same length, at least 1; got {one.size} and {other.size}"
        )
    values = one - other
    wins = int((values > 0).sum())
    return PairedDifference(float(values.mean()), tuple(values.tolist()), wins, _sign_flip_p(values))


def _sign_flip_p(values: NDArray[np.float64]) -> float:
    exact = len(values) <= EXACT_UP_TO
    if len(values) == 1:  # scipy asks for two observations; both sign patterns are as far from zero
        return 1.0
    from scipy.stats import permutation_test  # slow to import

    result: Any = permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2 ** len(values) if exact else SAMPLED_PATTERNS,
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)
