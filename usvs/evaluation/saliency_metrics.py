"""Scores of saliency maps against gaze, batched; each docstring names the convention that it follows.

Letters: B maps, H and W their height and width, P = H W pixels, N fixated pixels of a map. "MIT" is the code of the MIT
saliency benchmark (github.com/cvzoya/saliency; Bylinskii et al., TPAMI 2019, doi:10.1109/TPAMI.2018.2815601);
"pysaliency" is github.com/matthias-k/pysaliency.

Maps are arrays [B, H, W], or tensors on any device; half precision is computed in float32, float64 in float64. Every
result is float64 [B]. Maps need no normalisation: where a score is about densities, the minimum of a map with negative
values is subtracted, the map is divided by its sum, and a map of zeros counts as uniform (pysaliency). NaN means that a
score is not defined, and nothing else gives NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from usvs.errors import DataError
from usvs.ops.saliency_statistics import (
    FIXATION_COLUMNS,
    PAIR_SCORES,
    PairScore,
    fixation_statistics,
    pair_score,
    saliency_statistics,
)

Maps: TypeAlias = Tensor | ArrayLike  # [B, H, W]
Negatives = Literal["unfixated", "all"]
EPSILON = 2.2204e-16  # MIT's and pysaliency's, whatever the precision


def kl_divergence(prediction: Maps, ground_truth: Maps) -> Tensor:
    """Return KL(ground truth || prediction) in nats: sum of q ln(eps + q / (p + eps)) over densities, eps = 2.2204e-16.

    MIT's convention and pysaliency's `MIT_KLDiv`. Lower is better.

    Args:
        prediction: [B, H, W].
        ground_truth: [B, H, W], for example `gaze_density`.

    Raises:
        DataError: for shapes that differ.
    """
    return pair_score(*_pair(prediction, ground_truth), "kl", EPSILON)


def similarity(prediction: Maps, ground_truth: Maps, min_max: bool = True) -> Tensor:
    """Return SIM, the sum over pixels of the smaller of two densities, 0 .. 1.

    Args:
        prediction: [B, H, W].
        ground_truth: [B, H, W].
        min_max: stretch both maps to 0 .. 1 first, as MIT does; pysaliency does not. It only subtracts
            the minimum: dividing by the sum undoes the factor.

    Raises:
        DataError: for shapes that differ.
    """
    return pair_score(*_pair(prediction, ground_truth), "similarity_min_max" if min_max else "similarity", EPSILON)


def correlation(prediction: Maps, ground_truth: Maps) -> Tensor:
    """Return CC, Pearson's correlation over pixels, -1 .. 1; 0 where either map is constant (pysaliency; MIT: NaN).

    Args:
        prediction: [B, H, W].
        ground_truth: [B, H, W].

    Raises:
        DataError: for shapes that differ.
    """
    return pair_score(*_pair(prediction, ground_truth), "correlation", EPSILON)


def nss(prediction: Maps, fixations: Maps, ddof: Literal[0, 1] = 1) -> Tensor:
    """Return NSS, the mean over fixated pixels of the map in standard deviations from its mean.

    A constant map scores 0 (pysaliency; MIT: NaN), a map without fixations NaN.

    Args:
        prediction: [B, H, W].
        fixations: bool [B, H, W]; a pixel counts once, however many fixations it has (MIT).
        ddof: 1 divides the variance by P - 1 (MIT), 0 by P (pysaliency); at 224 x 288 they differ by 8 in a million.

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    maps = _tensor(prediction)
    return _nss(_statistics(maps, _tensor(fixations), ranks=False), maps[0].numel(), ddof)


def auc(prediction: Maps, fixations: Maps, negatives: Negatives = "unfixated") -> Tensor:
    """Return the exact area under the ROC curve: how often a fixated pixel outranks another one, a tie counting half.

    All values are thresholds. Chance is 1/2 for any number of fixations. NaN without fixations (or, for ``unfixated``,
    without any other pixel).

    Args:
        prediction: [B, H, W].
        fixations: bool [B, H, W].
        negatives: ``unfixated``: the pixels without a fixation; ``all``: every pixel, pysaliency's `uniform`.

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    maps = _tensor(prediction)
    return _auc(_statistics(maps, _tensor(fixations), ranks=True), maps[0].numel(), negatives)


def auc_judd(prediction: Maps, fixations: Maps) -> Tensor:
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
    maps = _tensor(prediction)
    return _auc_judd(_statistics(maps, _tensor(fixations), ranks=True), maps[0].numel())


@dataclass(frozen=True)
class SaliencyMetrics:
    """Means over frames of the saliency scores; `auc` is MIT's AUC-Judd, whose chance depends on `fixations`.

    Attributes:
        kl: KL(ground truth || prediction) in nats; lower is better.
        nss: normalised scanpath saliency (MIT, N - 1).
        auc: AUC-Judd.
        cc: correlation coefficient.
        sim: similarity (MIT, after min-max).
        auc_exact: exact AUC, ties counting half; chance 1/2.
        fixations: mean number of fixated pixels of a frame.
    """

    kl: float
    nss: float
    auc: float
    cc: float
    sim: float
    auc_exact: float
    fixations: float

    @property
    def scores(self) -> Mapping[str, float]:
        """The six scores."""
        return {name: value for name, value in vars(self).items() if name != "fixations"}

    def __str__(self) -> str:
        """Three of the scores."""
        return f"KL {self.kl:.2f}, NSS {self.nss:.2f}, CC {self.cc:.2f}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


class SaliencyScores(NamedTuple):
    """All six scores of each map, float64 [B] each."""

    kl_divergence: Tensor
    nss: Tensor
    auc_judd: Tensor
    auc: Tensor
    correlation: Tensor
    similarity: Tensor


def saliency_scores(
    prediction: Maps,
    ground_truth: Maps,
    fixations: Maps,
    min_max: bool = True,
    ddof: Literal[0, 1] = 1,
    negatives: Negatives = "unfixated",
) -> SaliencyScores:
    """Return all six scores; the same as one by one, but every map is read from memory once.

    Args:
        prediction: [B, H, W].
        ground_truth: [B, H, W].
        fixations: bool [B, H, W].
        min_max: as of `similarity`.
        ddof: as of `nss`.
        negatives: as of `auc`.

    Raises:
        DataError: for shapes that differ or fixations that are not bool.
    """
    maps, fixated = _tensor(prediction), _tensor(fixations)
    _check_fixations(maps, fixated)
    sim: PairScore = "similarity_min_max" if min_max else "similarity"
    pair, pixels = _pair(maps, ground_truth), maps[0].numel()
    scores, columns = saliency_statistics(*pair, fixated.flatten(1), ("kl", sim, "correlation"), EPSILON)
    of_pair = dict(zip(PAIR_SCORES, scores.unbind(dim=1), strict=True))
    found = dict(zip(FIXATION_COLUMNS, columns.unbind(dim=1), strict=True))
    return SaliencyScores(
        of_pair["kl"],
        _nss(found, pixels, ddof),
        _auc_judd(found, pixels),
        _auc(found, pixels, negatives),
        of_pair["correlation"],
        of_pair[sim],
    )


def _nss(found: dict[str, Tensor], pixels: int, ddof: int) -> Tensor:
    at_fixations = found["value_sum"] / found["fixated"] - found["mean"]  # 0 / 0 is the NaN of no fixation
    deviation = (found["squares"] / (pixels - ddof)).sqrt()
    return at_fixations / torch.where(found["constant"] > 0, torch.inf, deviation)


def _auc(found: dict[str, Tensor], pixels: int, negatives: Negatives) -> Tensor:
    if negatives == "all":
        return _exact_auc(found, found["above"], found["equal"], torch.full_like(found["fixated"], pixels))
    above, equal = found["above"] - found["own_above"], found["equal"] - found["own_equal"]
    return _exact_auc(found, above, equal, pixels - found["fixated"])


def _auc_judd(found: dict[str, Tensor], pixels: int) -> Tensor:
    others = pixels - found["fixated"]
    # Of k tied lowest fixations jitter makes one the lowest, and on average k / (k + 1) of its equals lie above it.
    tied = found["lowest_tied"]
    alarms = (found["lowest_above"] + found["lowest_equal"] * tied / (tied + 1)) / others
    return _auc(found, pixels, "unfixated") + alarms / (2 * found["fixated"])


def _exact_auc(found: dict[str, Tensor], above: Tensor, equal: Tensor, negatives: Tensor) -> Tensor:
    return 1.0 - (above + 0.5 * equal) / (negatives * found["fixated"])  # 0 / 0 is the NaN of nothing to rank


def _statistics(prediction: Tensor, fixations: Tensor, ranks: bool) -> dict[str, Tensor]:
    _check_fixations(prediction, fixations)
    columns = fixation_statistics(_plain(prediction, prediction.dtype), fixations.flatten(1), ranks)
    return dict(zip(FIXATION_COLUMNS, columns.unbind(dim=1), strict=True))


def _tensor(maps: Maps) -> Tensor:
    return maps if isinstance(maps, Tensor) else torch.from_numpy(np.asarray(maps))


def _pair(prediction: Maps, ground_truth: Maps) -> tuple[Tensor, Tensor]:
    predicted, truth = _tensor(prediction), _tensor(ground_truth)
    _check(predicted, truth, "a ground truth")
    dtype = torch.promote_types(predicted.dtype, truth.dtype)
    return _plain(predicted, dtype), _plain(truth, dtype)


def _plain(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Maps [B, P], float32 or float64."""
    return maps.flatten(1).to(torch.float64 if dtype == torch.float64 else torch.float32)


def _check_fixations(prediction: Tensor, fixations: Tensor) -> None:
    _check(prediction, fixations, "fixations")
    if fixations.dtype != torch.bool:
        raise DataError(f"saliency score: expected fixations as bool [B, H, W], got {fixations.dtype}")


def _check(prediction: Tensor, other: Tensor, what: str) -> None:
    if prediction.ndim != 3 or prediction.shape != other.shape or not prediction.numel():
        shapes = f"{list(prediction.shape)} and {list(other.shape)}"
        raise DataError(f"saliency score: expected a prediction and {what} of one shape [B, H, W], got {shapes}")
