"""Sums over the pixels of saliency maps, in one pass over memory; `usvs.evaluation.metrics` makes the scores of them.

Letters: B maps, P pixels, N fixated pixels of a map.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

PairScore = Literal["kl", "similarity", "similarity_min_max", "correlation"]
PAIR_SCORES: tuple[PairScore, ...] = ("kl", "similarity", "similarity_min_max", "correlation")  # the op's numbers
# What `fixation_statistics` returns of a map, in this order.
FIXATION_COLUMNS = (
    "fixated",  # N
    "value_sum",  # of the map over the fixated pixels
    "mean",  # of the map
    "squares",  # sum of squared distances from the mean
    "constant",  # 1 where all pixels are alike
    "above",  # pixels above a fixated one, summed over the fixated
    "equal",  # pixels equal to it, itself among them, summed
    "own_above",  # the same, of fixated pixels alone
    "own_equal",
    "lowest_above",  # pixels not fixated above the lowest fixated value
    "lowest_equal",  # and equal to it
    "lowest_tied",  # fixated pixels of that value
)


def pair_score(
    prediction: Tensor,  # [B, P] float32 or float64
    truth: Tensor,  # [B, P]
    kind: PairScore,
    epsilon: float,
) -> Tensor:
    """Return a score of each pair of maps: float64 [B]. On the CPU float32 is one compiled pass; else the reference.

    Args:
        prediction: any scale and offset; as a density it is lifted to 0 where negative and divided by its sum.
        truth: likewise.
        kind: ``kl``, KL(truth || prediction) with `epsilon` as MIT's; ``similarity``, the smaller density's sum, after
            lifting the minimum to 0 for ``similarity_min_max``; ``correlation``, Pearson's, 0 for a constant map.
        epsilon: of the KL divergence.
    """
    if prediction.device.type != "cpu" or prediction.dtype != torch.float32:
        return pair_score_reference(prediction, truth, kind, epsilon)
    score: Tensor = torch.ops.usvs.pair_score(prediction, truth, PAIR_SCORES.index(kind), epsilon)
    return score


def pair_score_reference(prediction: Tensor, truth: Tensor, kind: PairScore, epsilon: float) -> Tensor:
    """Say in plain torch what `pair_score` computes; arguments and result are the same."""
    if kind == "correlation":
        p, q = (maps - maps.mean(dim=1, keepdim=True) for maps in (prediction, truth))
        constant = (prediction.amax(1) == prediction.amin(1)) | (truth.amax(1) == truth.amin(1))
        return torch.where(constant, 0.0, _dot(p, q) / (_dot(p, p) * _dot(q, q)).sqrt())
    p, q = (_density(maps, kind == "similarity_min_max") for maps in (prediction, truth))
    if kind == "kl":
        return _dot(q, (q / (p + epsilon) + epsilon).log())
    return torch.minimum(p, q).sum(dim=1).double()


def fixation_statistics(
    values: Tensor,  # [B, P] float32 or float64
    fixated: Tensor,  # [B, P] bool
    ranks: bool,
) -> Tensor:
    """Return float64 [B, 12], the `FIXATION_COLUMNS` of each map. On the CPU float32 is compiled; else the reference.

    Args:
        values: the map.
        fixated: its pixels that were looked at.
        ranks: True for the columns from ``above`` on, False for those from ``mean`` to ``constant``; others are 0.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return fixation_statistics_reference(values, fixated, ranks)
    statistics: Tensor = torch.ops.usvs.fixation_statistics(values, fixated, ranks)
    return statistics


def fixation_statistics_reference(values: Tensor, fixated: Tensor, ranks: bool) -> Tensor:
    """Say in plain torch what `fixation_statistics` computes; arguments and result are the same."""
    return _all_statistics(values, fixated, not ranks, ranks)


def saliency_scores(
    prediction: Tensor,  # [B, P] float32 or float64
    truth: Tensor,  # [B, P]
    fixated: Tensor,  # [B, P] bool
    kinds: Sequence[PairScore],
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """Return `pair_score` of some kinds and all `FIXATION_COLUMNS` of the prediction; a map is read from memory once.

    Returns:
        Scores, float64 [B, 4] in the order of `PAIR_SCORES`, 0 where a kind was not asked for; and statistics,
        float64 [B, 12].
    """
    if prediction.device.type != "cpu" or prediction.dtype != torch.float32:
        return saliency_scores_reference(prediction, truth, fixated, kinds, epsilon)
    chosen = sum(1 << PAIR_SCORES.index(kind) for kind in set(kinds))
    scores, statistics = torch.ops.usvs.saliency_scores(prediction, truth, fixated, chosen, epsilon)
    return scores, statistics


def saliency_scores_reference(
    prediction: Tensor, truth: Tensor, fixated: Tensor, kinds: Sequence[PairScore], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Say in plain torch what `saliency_scores` computes; arguments and result are the same."""
    none = prediction.new_zeros(prediction.size(0), dtype=torch.float64)
    scores = [pair_score_reference(prediction, truth, kind, epsilon) if kind in kinds else none for kind in PAIR_SCORES]
    return torch.stack(scores, dim=1), _all_statistics(prediction, fixated, True, True)


def _all_statistics(values: Tensor, fixated: Tensor, moments: bool, ranks: bool) -> Tensor:
    rows = [_statistics(map_, looked, moments, ranks) for map_, looked in zip(values, fixated, strict=True)]
    return torch.stack(rows)


def _statistics(values: Tensor, fixated: Tensor, moments: bool, ranks: bool) -> Tensor:
    found = values[fixated]
    row = dict.fromkeys(FIXATION_COLUMNS, values.new_zeros((), dtype=torch.float64))
    row["fixated"], row["value_sum"] = fixated.sum(), found.double().sum()
    if moments:
        mean = values.double().mean()
        row["mean"], row["squares"] = mean, (values.double() - mean).square().sum()
        row["constant"] = values.amax() == values.amin()
    if ranks and len(found):
        above, equal = _ranked(values, found)
        own_above, own_equal = _ranked(found, found)
        lowest = found.argmin()
        row |= {"above": above.sum(), "equal": equal.sum(), "own_above": own_above.sum(), "own_equal": own_equal.sum()}
        row["lowest_above"], row["lowest_equal"] = (above - own_above)[lowest], (equal - own_equal)[lowest]
        row["lowest_tied"] = own_equal[lowest]
    return torch.stack([row[name].double() for name in FIXATION_COLUMNS])


def _ranked(values: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """How many values lie above each threshold, and how many equal it."""
    ordered = values.sort().values
    not_above = torch.searchsorted(ordered, thresholds, right=True)
    return len(values) - not_above, not_above - torch.searchsorted(ordered, thresholds)


def _density(maps: Tensor, always_lift: bool) -> Tensor:
    """Maps [B, P] lifted to a minimum of 0 where it is negative (or always), over their sums; zeros become uniform."""
    lowest = maps.amin(dim=1, keepdim=True)
    maps = maps - (lowest if always_lift else lowest.clamp(max=0))
    total = maps.sum(dim=1, keepdim=True)
    return torch.where(total > 0, maps / total, 1.0 / maps.size(1))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Row by row, float64 [B]; summed pairwise, as a running sum in float32 would lose the sixth digit."""
    return (one * other).sum(dim=1).double()


def _fake_pair_score(prediction: Tensor, truth: Tensor, kind: int, epsilon: float) -> Tensor:
    return prediction.new_empty(prediction.size(0), dtype=torch.float64)


def _fake_fixation_statistics(values: Tensor, fixated: Tensor, ranks: bool) -> Tensor:
    return values.new_empty(values.size(0), len(FIXATION_COLUMNS), dtype=torch.float64)


def _fake_saliency_scores(
    prediction: Tensor, truth: Tensor, fixated: Tensor, kinds: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    widths = (len(PAIR_SCORES), len(FIXATION_COLUMNS))
    scores, statistics = (prediction.new_empty(prediction.size(0), width, dtype=torch.float64) for width in widths)
    return scores, statistics


torch.library.register_fake("usvs::pair_score", _fake_pair_score)
torch.library.register_fake("usvs::saliency_scores", _fake_saliency_scores)
torch.library.register_fake("usvs::fixation_statistics", _fake_fixation_statistics)
