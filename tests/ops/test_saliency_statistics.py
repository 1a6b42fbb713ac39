import math

import pytest
import torch

from usvs import ops
from usvs.evaluation import saliency_metrics
from usvs.evaluation.saliency_metrics import saliency_scores
from usvs.ops.saliency_statistics import FIXATION_COLUMNS, PAIR_SCORES

pytestmark = pytest.mark.usefixtures("simd")

EPSILON = 2.2204e-16


SIZES = [1, 3, 15, 16, 17, 511, 512, 513, 600, pytest.param(64_512, marks=pytest.mark.slow)]


def some_maps(pixels, coarse=False):
    """Ordinary, sharply peaked, negative, constant and zero maps, and fixations from none to all pixels."""
    draw = torch.Generator().manual_seed(pixels)
    maps = torch.rand(7, pixels, generator=draw)
    maps[1] **= 40
    maps[2] -= 0.5
    maps[3], maps[4] = 0.3, 0.0
    if coarse:
        maps = (8 * maps).round() / 8
    fixated = torch.zeros(7, pixels, dtype=torch.bool)
    for row, count in enumerate((1, 3, 30, 2, 0, pixels, 5)):
        fixated[row, torch.randperm(pixels, generator=draw)[:count]] = True
    return maps, fixated


@pytest.mark.parametrize("kind", PAIR_SCORES)
@pytest.mark.parametrize("pixels", SIZES)
def test_pair_scores_equal_the_reference_in_float64(pixels, kind):
    maps, _ = some_maps(pixels)
    for shift in range(len(maps)):
        other = maps.roll(shift, dims=0).contiguous()
        expected = ops.pair_score_reference(maps.double(), other.double(), kind, EPSILON)
        torch.testing.assert_close(ops.pair_score(maps, other, kind, EPSILON), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("pixels", SIZES)
def test_statistics_equal_the_reference_in_float64(pixels, coarse):
    maps, fixated = some_maps(pixels, coarse)
    for ranks in (False, True):
        found = ops.fixation_statistics(maps, fixated, ranks)
        expected = ops.fixation_statistics_reference(maps.double(), fixated, ranks)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        integers = [FIXATION_COLUMNS.index(name) for name in ("fixated", "above", "equal", "lowest_tied")]
        assert torch.equal(found[:, integers], expected[:, integers])


@pytest.mark.parametrize("pixels", SIZES)
def test_saliency_statistics_equal_the_separate_ops(pixels):
    maps, fixated = some_maps(pixels)
    truth = maps.roll(2, dims=0).contiguous()
    scores, statistics = ops.saliency_statistics(maps, truth, fixated, ("correlation", "kl"), EPSILON)
    for kind, found in zip(PAIR_SCORES, scores.unbind(dim=1), strict=True):
        expected = (
            ops.pair_score(maps, truth, kind, EPSILON) if kind in ("correlation", "kl") else torch.zeros(7).double()
        )
        assert torch.equal(found, expected)
    separate = [ops.fixation_statistics(maps, fixated, ranks) for ranks in (False, True)]
    assert torch.equal(statistics, torch.where(separate[0] == 0, separate[1], separate[0]))
    reference = ops.saliency_statistics_reference(
        maps.double(), truth.double(), fixated, ("correlation", "kl"), EPSILON
    )
    torch.testing.assert_close(scores, reference[0], rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(statistics, reference[1], rtol=1e-6, atol=1e-6)


def test_strides_and_threads_change_nothing():
    maps, fixated = some_maps(600)
    strided = maps.t().contiguous().t()
    expected = ops.pair_score(maps, maps.flip(0), "kl", EPSILON)
    assert torch.equal(ops.pair_score(strided, strided.flip(0), "kl", EPSILON), expected)
    before = torch.get_num_threads()
    one = ops.fixation_statistics(maps, fixated, True)
    torch.set_num_threads(3)
    try:
        assert torch.equal(ops.fixation_statistics(maps, fixated, True), one)
    finally:
        torch.set_num_threads(before)


def test_invalid_arguments_raise():
    maps, _ = some_maps(16)
    with pytest.raises(RuntimeError, match="truth"):
        torch.ops.usvs.pair_score(maps, maps[:, :5], 0, EPSILON)
    with pytest.raises(RuntimeError, match="kind"):
        torch.ops.usvs.pair_score(maps, maps, 4, EPSILON)
    with pytest.raises(RuntimeError, match="fixated"):
        torch.ops.usvs.fixation_statistics(maps, maps, True)
    with pytest.raises(RuntimeError, match="kinds"):
        torch.ops.usvs.saliency_statistics(maps, maps, maps > 0, 16, EPSILON)


@pytest.mark.slow
def test_registration_is_right():
    maps, fixated = some_maps(40)
    for op, arguments in (
        ("pair_score", (maps, maps, 0, EPSILON)),
        ("fixation_statistics", (maps, fixated, True)),
        ("saliency_statistics", (maps, maps, fixated, 5, EPSILON)),
    ):
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(getattr(torch.ops.usvs, op).default, arguments, test_utils=checks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["one column", "all pixels", "the ground truth"])
def test_a_map_that_is_not_finite_has_no_score(dtype, bad, where):
    """A network that has diverged must not be the best of all: AUC and SIM of NaN were 1."""
    random = torch.Generator().manual_seed(0)
    prediction, truth = torch.rand(2, 2, 9, 11, generator=random, dtype=dtype)
    fixated = torch.rand(2, 9, 11, generator=random) > 0.9
    finite = saliency_scores(prediction, truth, fixated)
    (truth if where == "the ground truth" else prediction)[0, :, : 1 if where == "one column" else None] = bad
    scores = saliency_scores(prediction, truth, fixated)
    for name, score in scores._asdict().items():
        is_of_fixations = name in ("nss", "auc", "auc_judd")
        assert score[0].isnan() or (where == "the ground truth" and is_of_fixations), name
        assert score[1] == getattr(finite, name)[1], name
    for name in ("auc", "auc_judd", "nss"):
        alone = getattr(saliency_metrics, name)(prediction, fixated)
        assert bool(alone[0].isnan()) == (where != "the ground truth") and alone[1] == getattr(finite, name)[1]
    for name in ("kl_divergence", "similarity", "correlation"):
        assert getattr(saliency_metrics, name)(prediction, truth)[0].isnan()


def test_no_maps():
    empty = torch.zeros(0, 5)
    for compute in (ops.saliency_statistics, ops.saliency_statistics_reference):
        scores, statistics = compute(empty, empty, empty > 0, PAIR_SCORES, 1e-7)
        assert scores.shape == (0, 4) and statistics.shape == (0, 12)
