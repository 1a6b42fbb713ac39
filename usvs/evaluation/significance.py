"""Is a paired difference more than luck: the sign-flip permutation test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.utils.permutation import counter_bits, derive_key

EXACT_UP_TO = 16  # pairs; 2 ** 16 sign patterns are all tried
SAMPLED_PATTERNS = 100_000


@dataclass(frozen=True)
class PairedDifference:
    """One init against another on the same cells.

    Attributes:
        mean: of the differences, first minus second.
        values: the differences, in the order of the cells.
        wins: in how many cells the first is ahead.
        p_value: two-sided, of the sign-flip permutation test.
    """

    mean: float
    values: tuple[float, ...]
    wins: int
    p_value: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two inits measured on the same cells (seed and fold), cell by cell.

    If the two were alike, each difference could as well have had the other sign. The p-value is the share of sign
    patterns whose mean is at least as far from zero as the one seen: over all 2^n patterns up to n = 16, over 100,000
    drawn ones (and the seen one) beyond (R. A. Fisher, The Design of Experiments, 1935, section 21). With n pairs it
    cannot fall below 2 / 2^n. Folds of one seed share a pretraining, so cells are not fully independent and p is
    somewhat too small: read it beside the differences themselves.

    Raises:
        DataError: for no pairs or unequal lengths.
    """
    if len(first) != len(second) or not len(first):
        raise DataError(f"a paired test needs as many values on both sides, got {len(first)} and {len(second)}")
    values = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    seen = abs(values.mean())
    # Patterns that only rounding sets apart from the seen one count as equal to it.
    as_far = np.abs(_signs(len(values)) @ values) / len(values) >= seen - 1e-12
    extra = 0 if len(values) <= EXACT_UP_TO else 1
    p_value = (int(as_far.sum()) + extra) / (len(as_far) + extra)
    return PairedDifference(float(values.mean()), tuple(values.tolist()), int((values > 0).sum()), p_value)


def _signs(pairs: int) -> NDArray[np.float64]:
    """Return sign patterns [patterns, pairs] of +1 and -1."""
    if pairs <= EXACT_UP_TO:
        bits = np.arange(2**pairs)[:, None] >> np.arange(pairs)
    else:
        counters = np.arange(SAMPLED_PATTERNS * pairs).reshape(-1, pairs)
        bits = (counter_bits(derive_key(pairs), counters, 0) >> np.uint64(40)).astype(np.int64)
    return 1.0 - 2.0 * (bits & 1).astype(np.float64)
