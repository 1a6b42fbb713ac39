"""Scores of saliency maps against gaze, batched; each says which of the field's conventions it follows.

Letters: B maps, H and W their height and width, P = H W pixels, N fixated pixels of a map. "MIT" is the code of the MIT
saliency benchmark (github.com/cvzoya/saliency; Bylinskii et al., TPAMI 2019, doi:10.1109/TPAMI.2018.2815601);
"pysaliency" is github.com/matthias-k/pysaliency.

Maps are tensors [B, H, W] on any device; half precision is computed in float32, float64 in float64. Every result is
float64 [B]. Maps need no normalisation: where a score is about densities a map with negative values is first lifted to
a minimum of 0 and then divided by its sum, and a map of zeros counts as uniform (pysaliency). NaN stands where a score
is not defined and in nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from usvs.errors import DataError

Negatives = Literal["unfixated", "all"]
EPSILON = 2.2204e-16  # MIT's and pysaliency's, whatever the precision
BLOCK_PIXELS = 1 << 17  # a CPU computes in blocks that stay in its cache; fresh pages cost more than the arithmetic
COUNTED_FIXATIONS = 24  # up to so many a map, counting pixels above each is faster than sorting all of them


def kl_divergence(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return KL(truth || prediction) in nats: sum of q ln(eps + q / (p + eps)) over densities, eps = 2.2204e-16.

    MIT's convention and pysaliency's `MIT_KLDiv`. Lower is better.

    Args:
        prediction: [B, H, W].
        truth: [B, H, W], for example `gaze_density`.

    Raises:
        DataError: for shapes that differ.
    """
    _check(prediction, truth)
    parts = []
    for p, q in _blocks(prediction, truth):
        p, q = _density(p), _density(q)
        ratio = torch.div(q, p.add_(EPSILON)).add_(EPSILON).log_()
        parts.append(_dot(q, ratio))
    return torch.cat(parts)


def similarity(prediction: Tensor, truth: Tensor, min_max: bool = True) -> Tensor:
    """Return SIM, the sum over pixels of the smaller of two densities, 0 .. 1.

    Args:
        prediction: [B, H, W].
        truth: [B, H, W].
        min_max: stretch both maps to 0 .. 1 first, as MIT does; pysaliency does not. It takes off a map's pedestal.

    Raises:
        DataError: for shapes that differ.
    """
    _check(prediction, truth)
    parts = []
    for p, q in _blocks(prediction, truth):
        if min_max:  # the division by the sum undoes the stretch's factor, so lifting the minimum to 0 is all of it
            p, q = p - p.amin(dim=1, keepdim=True), q - q.amin(dim=1, keepdim=True)
        parts.append(torch.minimum(_density(p), _density(q)).sum(dim=1).double())
    return torch.cat(parts)


def correlation(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return CC, Pearson's correlation over pixels, -1 .. 1; 0 where either map is constant (pysaliency; MIT: NaN).

    Args:
        prediction: [B, H, W].
        truth: [B, H, W].

    Raises:
        DataError: for shapes that differ.
    """
    _check(prediction, truth)
    parts = []
    for p, q in _blocks(prediction, truth):
        p, q = p - p.mean(dim=1, keepdim=True), q - q.mean(dim=1, keepdim=True)
        scale = (_dot(p, p) * _dot(q, q)).sqrt()
        constant = _is_constant(p) | _is_constant(q)
        parts.append(torch.where(constant, 0.0, _dot(p, q) / scale))
    return torch.cat(parts)


def nss(prediction: Tensor, fixations: Tensor, ddof: Literal[0, 1] = 1) -> Tensor:
    """Return NSS, the mean over fixated pixels of the map in standard deviations from its mean.

    A constant map scores 0 (pysaliency; MIT: NaN), a map without fixations NaN.

    Args:
        prediction: [B, H, W].
        fixations: bool [B, H, W]; a pixel counts once, however often it was looked at (MIT).
        ddof: 1 divides the variance by P - 1 (MIT), 0 by P (pysaliency); at 224 x 288 they differ by 8 in a million.

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    _check(prediction, fixations, fixated=True)
    parts = []
    for p, looked in _blocks(prediction, fixations):
        mean = p.mean(dim=1, keepdim=True)
        at_fixations = _at_fixations(p - mean, looked)
        centred = p - mean
        deviation = (_dot(centred, centred) / (p.size(1) - ddof)).sqrt()
        parts.append(at_fixations / torch.where(_is_constant(p), torch.inf, deviation))
    return torch.cat(parts)


def auc(prediction: Tensor, fixations: Tensor, negatives: Negatives = "unfixated") -> Tensor:
    """Return the exact area under the ROC curve: how often a fixated pixel outranks another one, a tie counting half.

    All values are thresholds. Chance is 1/2 for any number of fixations. NaN without fixations (or, for ``unfixated``,
    without any other pixel).

    Args:
        prediction: [B, H, W].
        fixations: bool [B, H, W].
        negatives: ``unfixated``: the pixels that were not looked at; ``all``: every pixel, pysaliency's `uniform`.

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    _check(prediction, fixations, fixated=True)
    return _each_map(prediction, fixations, lambda values, looked: _exact_auc(*_ranks(values, looked, negatives)))


def auc_judd(prediction: Tensor, fixations: Tensor) -> Tensor:
    """Return MIT's AUC-Judd: only fixated values are thresholds, other pixels are negatives, trapezoids between.

    It is AUC + f / (2 N) with f the false-positive rate at the lowest fixated value. So its chance is not 1/2 but
    1/2 + 1 / (2 (N + 1)): 0.75 for one fixation, 0.67 for two, 0.505 for a hundred; say N beside it. MIT breaks ties by
    random jitter; here is the mean over all jitters in closed form, so the result is not random. NaN as `auc`.

    Args:
        prediction: [B, H, W].
        fixations: bool [B, H, W].

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    _check(prediction, fixations, fixated=True)
    return _each_map(prediction, fixations, lambda values, looked: _judd_auc(values[looked], *_ranks(values, looked)))


def _exact_auc(above: Tensor, equal: Tensor, negatives: int) -> Tensor:
    return 1.0 - ((above + 0.5 * equal) / negatives).mean()


def _judd_auc(fixated: Tensor, above: Tensor, equal: Tensor, negatives: int) -> Tensor:
    lowest = fixated.argmin()
    tied = (fixated == fixated[lowest]).sum()
    # of k tied ones jitter makes one the lowest, and on average k / (k + 1) of the equals end up above it
    rate = (above[lowest] + equal[lowest] * tied / (tied + 1)) / negatives
    return _exact_auc(above, equal, negatives) + rate / (2 * len(fixated))


def _ranks(values: Tensor, looked: Tensor, negatives: Negatives = "unfixated") -> tuple[Tensor, Tensor, int]:
    """Return for each fixated pixel how many negatives lie above it and how many equal it [N], and their number."""
    fixated = values[looked]
    if len(fixated) <= COUNTED_FIXATIONS:
        above, not_below = _counted(values, fixated)
    else:
        ranked = values.sort().values
        above = len(values) - torch.searchsorted(ranked, fixated, right=True).double()
        not_below = len(values) - torch.searchsorted(ranked, fixated).double()
    if negatives == "all":
        return above, not_below - above, len(values)
    own = fixated[None, :], fixated[:, None]
    above = above - (own[0] > own[1]).sum(dim=1)
    not_below = not_below - (own[0] >= own[1]).sum(dim=1)
    return above, not_below - above, len(values) - len(fixated)


def _counted(values: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    marks = torch.empty_like(values, dtype=torch.float32)  # float32 counts exactly up to 2 ** 24 pixels
    counts = [
        (torch.gt(values, value, out=marks).sum(), torch.ge(values, value, out=marks).sum()) for value in thresholds
    ]
    above, not_below = torch.stack([torch.stack(pair) for pair in counts]).double().unbind(dim=1)
    return above, not_below


def _each_map(prediction: Tensor, fixations: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    scores = []
    for values, looked in zip(_plain(prediction), fixations.flatten(1), strict=True):
        defined = bool(looked.any()) and not bool(looked.all())
        scores.append(score(values, looked).double() if defined else values.new_full((), torch.nan).double())
    return torch.stack(scores)


def _at_fixations(values: Tensor, looked: Tensor) -> Tensor:
    """Mean of values [b, P] where `looked` [b, P]; NaN where nowhere."""
    row, pixel = looked.nonzero().unbind(dim=1)
    total = values.new_zeros(len(values), dtype=torch.float64)
    total.index_add_(0, row, values[row, pixel].double())
    return total / torch.bincount(row, minlength=len(values))


def _is_constant(maps: Tensor) -> Tensor:
    return maps.amax(dim=1) == maps.amin(dim=1)


def _density(maps: Tensor) -> Tensor:
    """Maps [b, P] lifted to a minimum of 0 where it is negative, divided by their sums; zeros become uniform."""
    lowest = maps.amin(dim=1, keepdim=True)
    if bool((lowest < 0).any()):
        maps = maps - lowest.clamp(max=0)
    total = maps.sum(dim=1, keepdim=True)
    if bool((total == 0).any()):
        maps, total = torch.where(total == 0, 1.0, maps), torch.where(total == 0, float(maps.size(1)), total)
    return maps / total


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Row by row, float64 [b]; summed pairwise, as a running sum in float32 would lose the sixth digit."""
    return (one * other).sum(dim=1).double()


def _plain(maps: Tensor) -> Tensor:
    """Maps [B, P], float32 or float64."""
    return maps.flatten(1).to(torch.float64 if maps.dtype == torch.float64 else torch.float32)


def _blocks(maps: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    maps = _plain(maps)
    other = other.flatten(1) if other.dtype == torch.bool else _plain(other)
    size = len(maps) if maps.device.type != "cpu" else max(1, BLOCK_PIXELS // maps.size(1))
    yield from zip(torch.split(maps, size), torch.split(other, size), strict=True)


def _check(prediction: Tensor, other: Tensor, fixated: bool = False) -> None:
    what = "fixations" if fixated else "truth"
    if prediction.ndim != 3 or prediction.shape != other.shape or not prediction.numel():
        shapes = f"{list(prediction.shape)} and {list(other.shape)}"
        raise DataError(f"saliency score: wanted a prediction and {what} of one shape [B, H, W], got {shapes}")
    if fixated and other.dtype != torch.bool:
        raise DataError(f"saliency score: wanted fixations as bool [B, H, W], got {other.dtype}")
