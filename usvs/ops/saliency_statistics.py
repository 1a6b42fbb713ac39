"""Sums over the pixels of saliency maps, in one pass over memory.

They are what the metrics of `usvs.evaluation.saliency_metrics` (KL divergence, SIM, CC, NSS, AUC) are computed from.
Notation: B maps of P pixels each, N fixated pixels of a map.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

PairScore = Literal["kl", "similarity", "similarity_min_max", "correlation"]
PAIR_SCORES: tuple[PairScore, ...] = ("kl", "similarity", "similarity_min_max", "correlation")  # index: the op's code
# Columns of the result of `fixation_statistics`.
FIXATION_COLUMNS = (
    "fixated",  # N
    "value_sum",  # sum of the map over the fixated pixels
    "mean",  # mean of the map
    "squares",  # sum of squared deviations from the mean
    "constant",  # 1 where all pixels are equal
    "above",  # number of pixels above a fixated pixel, summed over fixated pixels
    "equal",  # number of pixels equal to it, itself included, summed over fixated pixels
    "own_above",  # as "above", counting fixated pixels only
    "own_equal",  # as "equal", counting fixated pixels only
    "lowest_above",  # number of pixels, not fixated, above the lowest fixated value
    "lowest_equal",  # number of pixels, not fixated, equal to it
    "lowest_tied",  # number of fixated pixels equal to it
)


def pair_score(
    prediction: Tensor,  # [B, P] float32 or float64
    truth: Tensor,  # [B, P]
    kind: PairScore,
    epsilon: float,
) -> Tensor:
    """Return a score of each pair of maps; one compiled pass for float32 on a CPU, the reference otherwise.

    Maps are converted to densities first: the minimum is subtracted where it is negative, then each map is divided by
    its sum; a map of zeros becomes uniform. A map with a NaN or an infinity, or whose sum overflows, has the score NaN.

    Args:
        prediction: [B, P] float32 or float64.
        truth: [B, P] ground truth, shape and dtype of `prediction`.
        kind: ``kl``: sum of q log(q / (p + epsilon) + epsilon) for densities p of the prediction and q of the ground
            truth, as the MIT saliency benchmark; ``similarity``: sum of min(p, q); ``similarity_min_max``: the same
            after every map's minimum is subtracted; ``correlation``: Pearson's, 0 for a constant map.
        epsilon: of ``kl``.

    Returns:
        float64 [B].

    Raises:
        RuntimeError: for another shape or dtype.
    """
    if prediction.device.type != "cpu" or prediction.dtype != torch.float32:
        return pair_score_reference(prediction, truth, kind, epsilon)
    score: Tensor = torch.ops.usvs.pair_score(prediction, truth, PAIR_SCORES.index(kind), epsilon)
    return score + _poison(prediction, truth)


def pair_score_reference(prediction: Tensor, truth: Tensor, kind: PairScore, epsilon: float) -> Tensor:
    """Compute `pair_score` in plain torch; same arguments and result."""
    poison = _poison(prediction, truth)
    if kind == "correlation":
        p, q = (maps - maps.mean(dim=1, keepdim=True) for maps in (prediction, truth))
        constant = (prediction.amax(1) == prediction.amin(1)) | (truth.amax(1) == truth.amin(1))
        return torch.where(constant, 0.0, _dot(p, q) / (_dot(p, p) * _dot(q, q)).sqrt()) + poison
    p, q = (_density(maps, kind == "similarity_min_max") for maps in (prediction, truth))
    if kind == "kl":
        return _dot(q, (q / (p + epsilon) + epsilon).log()) + poison
    return torch.minimum(p, q).sum(dim=1).double() + poison


def fixation_statistics(
    values: Tensor,  # [B, P] float32 or float64
    fixated: Tensor,  # [B, P] bool
    ranks: bool,
) -> Tensor:
    """Return statistics of each map at its fixations; compiled for float32 on a CPU, the reference otherwise.

    Args:
        values: [B, P] float32 or float64 maps.
        fixated: [B, P] bool, the pixels that were fixated.
        ranks: True: compute the columns from ``above`` on; False: ``mean`` to ``constant``. The others are 0.

    Returns:
        float64 [B, 12], columns as `FIXATION_COLUMNS`; all NaN for a map with a NaN or an infinity.

    Raises:
        RuntimeError: for another shape or dtype.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return fixation_statistics_reference(values, fixated, ranks)
    statistics: Tensor = torch.ops.usvs.fixation_statistics(values, fixated, ranks)
    return statistics + _poison(values)[:, None]


def fixation_statistics_reference(values: Tensor, fixated: Tensor, ranks: bool) -> Tensor:
    """Compute `fixation_statistics` in plain torch; same arguments and result."""
    return _all_statistics(values, fixated, not ranks, ranks)


def saliency_statistics(
    prediction: Tensor,  # [B, P] float32 or float64
    truth: Tensor,  # [B, P]
    fixated: Tensor,  # [B, P] bool
    kinds: Sequence[PairScore],
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """Return `pair_score` of several kinds and all `FIXATION_COLUMNS` of the prediction, reading each map once.

    Args:
        prediction: [B, P] float32 or float64.
        truth: [B, P] ground truth, shape and dtype of `prediction`.
        fixated: [B, P] bool, the pixels that were fixated.
        kinds: scores to compute.
        epsilon: of ``kl``.

    Returns:
        Scores, float64 [B, 4] in the order of `PAIR_SCORES`, 0 for a kind that is not in `kinds`; and statistics,
        float64 [B, 12], columns as `FIXATION_COLUMNS`.

    Raises:
        RuntimeError: for another shape or dtype.
    """
    if prediction.device.type != "cpu" or prediction.dtype != torch.float32:
        return saliency_statistics_reference(prediction, truth, fixated, kinds, epsilon)
    chosen = sum(1 << PAIR_SCORES.index(kind) for kind in set(kinds))
    scores, statistics = torch.ops.usvs.saliency_statistics(prediction, truth, fixated, chosen, epsilon)
    poison = _poison(prediction)
    return scores + (poison + _poison(truth))[:, None], statistics + poison[:, None]


def saliency_statistics_reference(
    prediction: Tensor, truth: Tensor, fixated: Tensor, kinds: Sequence[PairScore], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Compute `saliency_statistics` in plain torch; same arguments and result."""
    none = prediction.new_zeros(prediction.size(0), dtype=torch.float64)
    scores = [pair_score_reference(prediction, truth, kind, epsilon) if kind in kinds else none for kind in PAIR_SCORES]
    poison = _poison(prediction, truth)[:, None]  # also of the kinds that are not computed
    return torch.stack(scores, dim=1) + poison, _all_statistics(prediction, fixated, True, True)


def _all_statistics(values: Tensor, fixated: Tensor, moments: bool, ranks: bool) -> Tensor:
    rows = [_statistics(row, mask, moments, ranks) for row, mask in zip(values, fixated, strict=True)]
    if not rows:
        return values.new_zeros(0, len(FIXATION_COLUMNS), dtype=torch.float64)
    return torch.stack(rows) + _poison(values)[:, None]


def _poison(*maps: Tensor) -> Tensor:
    """Return 0 for each row whose maps [B, P] are finite, with a finite sum, and NaN for the others; float64 [B].

    Comparisons with a NaN are false: without this a map of NaN has the best ranks and the best similarity.
    """
    poison = torch.zeros((), dtype=torch.float64)
    for each in maps:
        poison = poison.to(each.device) + (each.sum(dim=1) * 0).double()
    return poison


def _statistics(values: Tensor, fixated: Tensor, moments: bool, ranks: bool) -> Tensor:
    at_fixations = values[fixated]
    row = dict.fromkeys(FIXATION_COLUMNS, values.new_zeros((), dtype=torch.float64))
    row["fixated"], row["value_sum"] = fixated.sum(), at_fixations.double().sum()
    if moments:
        mean = values.double().mean()
        row["mean"], row["squares"] = mean, (values.double() - mean).square().sum()
        row["constant"] = values.amax() == values.amin()
    if ranks and len(at_fixations):
        above, equal = _ranks(values, at_fixations)
        own_above, own_equal = _ranks(at_fixations, at_fixations)
        lowest = at_fixations.argmin()
        row |= {"above": above.sum(), "equal": equal.sum(), "own_above": own_above.sum(), "own_equal": own_equal.sum()}
        row["lowest_above"], row["lowest_equal"] = (above - own_above)[lowest], (equal - own_equal)[lowest]
        row["lowest_tied"] = own_equal[lowest]
    return torch.stack([row[name].double() for name in FIXATION_COLUMNS])


def _ranks(values: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each threshold the number of values above it and the number equal to it."""
    ordered = values.sort().values
    not_above = torch.searchsorted(ordered, thresholds, right=True)
    return len(values) - not_above, not_above - torch.searchsorted(ordered, thresholds)


def _density(maps: Tensor, always_lift: bool) -> Tensor:
    """Return maps [B, P] as densities; `always_lift` subtracts the minimum even where it is positive."""
    lowest = maps.amin(dim=1, keepdim=True)
    maps = maps - (lowest if always_lift else lowest.clamp(max=0))
    total = maps.sum(dim=1, keepdim=True)
    return torch.where(total == 0, 1.0 / maps.size(1), maps / total)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Return the dot product of each row, float64 [B]; torch sums pairwise, which keeps float32's precision."""
    return (one * other).sum(dim=1).double()


def _fake_pair_score(prediction: Tensor, truth: Tensor, kind: int, epsilon: float) -> Tensor:
    return prediction.new_empty(prediction.size(0), dtype=torch.float64)


def _fake_fixation_statistics(values: Tensor, fixated: Tensor, ranks: bool) -> Tensor:
    return values.new_empty(values.size(0), len(FIXATION_COLUMNS), dtype=torch.float64)


def _fake_saliency_statistics(
    prediction: Tensor, truth: Tensor, fixated: Tensor, kinds: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    widths = (len(PAIR_SCORES), len(FIXATION_COLUMNS))
    scores, statistics = (prediction.new_empty(prediction.size(0), width, dtype=torch.float64) for width in widths)
    return scores, statistics


torch.library.register_fake("usvs::pair_score", _fake_pair_score)
torch.library.register_fake("usvs::saliency_statistics", _fake_saliency_statistics)
torch.library.register_fake("usvs::fixation_statistics", _fake_fixation_statistics)
