import math

import numpy as np
import pytest
import torch

from usvs.errors import DataError
from usvs.evaluation import auc, auc_judd, correlation, kl_divergence, nss, similarity
from usvs.evaluation import saliency_metrics as metrics

H, W = 224, 288


def gaussian(sigma, row=H / 2, column=W / 2, shape=(H, W)):
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))


def some_maps(seed=0, dtype=torch.float64):
    """Three smooth-ish predictions, truths, and 1, 3 and 40 fixations."""
    random = torch.Generator().manual_seed(seed)
    prediction = torch.rand(3, H, W, generator=random, dtype=torch.float64) ** 3
    truth = torch.stack([gaussian(8.5, 60, 70), gaussian(14.5, 100, 200), gaussian(30)])
    fixations = torch.zeros(3, H, W, dtype=torch.bool)
    for row, count in enumerate((1, 3, 40)):
        fixations[row].view(-1)[torch.randperm(H * W, generator=random)[:count]] = True
    return prediction.to(dtype), truth.to(dtype), fixations


def mit_auc_judd(saliency, fixations):
    """The benchmark's own steps, in numpy, without jitter."""
    values, looked = saliency.ravel(), fixations.ravel()
    thresholds = np.sort(values[looked])[::-1]
    count, others = len(thresholds), len(values) - len(thresholds)
    hits, alarms = np.zeros(count + 2), np.zeros(count + 2)
    hits[-1] = alarms[-1] = 1
    for i, threshold in enumerate(thresholds, 1):
        hits[i], alarms[i] = i / count, ((values >= threshold).sum() - i) / others
    return np.trapezoid(hits, alarms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_score_is_the_definition_written_out_in_numpy(dtype):
    prediction, truth, fixations = some_maps(dtype=dtype)
    found = {
        "kl": kl_divergence(prediction, truth),
        "sim": similarity(prediction, truth),
        "sim_plain": similarity(prediction, truth, min_max=False),
        "cc": correlation(prediction, truth),
        "nss": nss(prediction, fixations),
        "nss_0": nss(prediction, fixations, ddof=0),
        "judd": auc_judd(prediction, fixations),
        "all": auc(prediction, fixations, negatives="all"),
    }
    for row in range(3):
        p, q = prediction[row].double().numpy(), truth[row].double().numpy()
        f = fixations[row].numpy()
        density_p, density_q = p / p.sum(), q / q.sum()
        eps = 2.2204e-16
        stretched = [(m - m.min()) / (m.max() - m.min()) for m in (p, q)]
        expected = {
            "kl": (density_q * np.log(eps + density_q / (density_p + eps))).sum(),
            "sim": np.minimum(*(m / m.sum() for m in stretched)).sum(),
            "sim_plain": np.minimum(density_p, density_q).sum(),
            "cc": np.corrcoef(p.ravel(), q.ravel())[0, 1],
            "nss": ((p - p.mean()) / p.std(ddof=1))[f].mean(),
            "nss_0": ((p - p.mean()) / p.std())[f].mean(),
            "judd": mit_auc_judd(p, f),
            "all": np.mean([(p < v).mean() + (p == v).mean() / 2 for v in p[f]]),
        }
        for name, value in expected.items():
            assert found[name][row].item() == pytest.approx(value, abs=1e-6), (name, row)
            assert found[name].dtype == torch.float64 and found[name].shape == (3,)


@pytest.mark.parametrize(("sigma", "expected"), [(8.5, 3.96), (14.5, 2.89)])
def test_kl_of_a_uniform_map_from_a_gaussian_has_a_closed_form(sigma, expected):
    found = kl_divergence(torch.ones(1, H, W), gaussian(sigma)[None].float()).item()
    assert found == pytest.approx(math.log(H * W) - 1 - math.log(2 * math.pi * sigma**2), abs=1e-4)
    assert round(found, 2) == expected


def test_two_gaussians_have_closed_forms():
    sigma, apart = 10.0, 12.0
    p, q = gaussian(sigma)[None], gaussian(sigma, column=W / 2 + apart)[None]
    assert kl_divergence(p, q).item() == pytest.approx(apart**2 / (2 * sigma**2), abs=1e-4)
    # the smaller of two equal Gaussians splits where they cross: 2 Phi(-d / 2 sigma)
    assert similarity(p, q).item() == pytest.approx(math.erfc(apart / (2 * sigma) / math.sqrt(2)), abs=2e-3)


@pytest.mark.parametrize(("count", "chance"), [(1, 0.75), (2, 0.6667), (3, 0.625), (10, 0.5455), (100, 0.505)])
def test_chance_of_auc_judd_depends_on_the_number_of_fixations(count, chance):
    random = torch.Generator().manual_seed(100 + count)
    maps = torch.rand(1000, 20, 30, generator=random)
    fixations = torch.zeros(1000, 600, dtype=torch.bool)
    fixations[:, :count] = True
    fixations = fixations.view(1000, 20, 30)
    spread = 4 * auc_judd(maps, fixations).std().item() / math.sqrt(1000)
    assert auc_judd(maps, fixations).mean().item() == pytest.approx(chance, abs=spread + 2e-4)
    assert auc(maps, fixations).mean().item() == pytest.approx(0.5, abs=spread)
    # a constant map is chance itself, without any drawing
    constant = torch.full((1, 20, 30), 0.3)
    assert auc_judd(constant, fixations[:1]).item() == pytest.approx(0.5 + 1 / (2 * (count + 1)), abs=1e-12)
    assert auc(constant, fixations[:1]).item() == 0.5


def test_auc_judd_exceeds_the_exact_one_by_half_the_lowest_alarm_rate_a_fixation():
    prediction, _, fixations = some_maps(seed=3)
    for row in range(3):
        looked = fixations[row]
        lowest, count = prediction[row][looked].min(), int(looked.sum())
        alarms = (prediction[row][~looked] > lowest).double().mean().item()
        difference = (auc_judd(prediction, fixations) - auc(prediction, fixations))[row].item()
        assert difference == pytest.approx(alarms / (2 * count), abs=1e-12)


def test_ties_are_the_mean_over_jitters():
    random = np.random.default_rng(5)
    coarse = random.integers(0, 4, (12, 15)).astype(np.float64)
    looked = np.zeros((12, 15), bool)
    looked.ravel()[random.choice(180, 5, replace=False)] = True
    jittered = [mit_auc_judd(coarse + random.random(coarse.shape) / 1e7, looked) for _ in range(4000)]
    found = auc_judd(torch.from_numpy(coarse)[None], torch.from_numpy(looked)[None]).item()
    assert found == pytest.approx(np.mean(jittered), abs=4 * np.std(jittered) / math.sqrt(4000))


def test_single_and_double_precision_agree_on_ties():
    prediction, _, fixations = some_maps(seed=9)
    coarse = (prediction * 16).round()
    for score in (auc, auc_judd, lambda maps, looked: auc(maps, looked, "all")):
        torch.testing.assert_close(score(coarse.float(), fixations), score(coarse, fixations), rtol=0, atol=1e-12)


def test_a_perfect_map_and_its_negative():
    truth = gaussian(8.5, 60, 70)[None]
    looked = torch.zeros(1, H, W, dtype=torch.bool)
    looked[0, 60, 70] = True
    assert kl_divergence(truth, truth).item() == pytest.approx(0, abs=1e-9)
    assert correlation(truth, truth).item() == pytest.approx(1) and correlation(-truth, truth).item() == pytest.approx(
        -1
    )
    assert similarity(truth, truth).item() == pytest.approx(1)
    assert auc(truth, looked).item() == 1 and auc(-truth, looked).item() == 0
    # the right map is above the mean by (1 - m) / s at its own peak
    assert nss(truth, looked).item() == pytest.approx(((1 - truth.mean()) / truth.std()).item())


def test_scores_do_not_change_with_scale_and_where_due_not_with_offset():
    prediction, truth, fixations = some_maps(seed=1)
    for score, other in ((kl_divergence, truth), (similarity, truth), (correlation, truth), (nss, fixations)):
        torch.testing.assert_close(score(prediction, other), score(7 * prediction, other))
    for score, other in ((similarity, truth), (correlation, truth), (nss, fixations), (auc, fixations)):
        torch.testing.assert_close(score(prediction, other), score(prediction + 3, other))


def test_the_edges_are_defined():
    flat, zero = torch.full((1, H, W), 0.3), torch.zeros(1, H, W)
    truth = gaussian(8.5)[None].float()
    nowhere, everywhere = torch.zeros(1, H, W, dtype=torch.bool), torch.ones(1, H, W, dtype=torch.bool)
    somewhere = nowhere.clone()
    somewhere[0, 3, 4] = True
    assert nss(flat, somewhere).item() == 0 and correlation(flat, truth).item() == 0
    assert correlation(truth, flat).item() == 0 and correlation(flat, flat).item() == 0
    assert kl_divergence(zero, truth).item() == pytest.approx(kl_divergence(flat, truth).item(), abs=1e-5)
    assert similarity(flat, flat).item() == pytest.approx(1, abs=1e-5)
    for score in (nss, auc, auc_judd):
        assert math.isnan(score(truth, nowhere).item())
    assert math.isnan(auc(truth, everywhere).item())
    assert nss(truth, everywhere).item() == pytest.approx(0, abs=1e-6)
    # a prediction that excludes what was looked at is finite, and bad
    assert 25 < kl_divergence(1.0 * (truth < 1e-3), truth * (truth >= 1e-3)).item() < 40


def test_what_does_not_fit_is_refused():
    maps = torch.rand(2, 4, 5)
    with pytest.raises(DataError, match=r"one shape \[B, H, W\], got \[2, 4, 5\] and \[4, 5\]"):
        kl_divergence(maps, maps[0])
    with pytest.raises(DataError, match="expected fixations as bool"):
        auc(maps, maps)


def test_half_precision_is_computed_in_single():
    prediction, truth, fixations = some_maps(dtype=torch.bfloat16)
    torch.testing.assert_close(kl_divergence(prediction, truth), kl_divergence(prediction.float(), truth.float()))
    torch.testing.assert_close(nss(prediction, fixations), nss(prediction.float(), fixations))


def test_all_six_at_once_are_the_six():
    draw = torch.Generator().manual_seed(4)
    prediction, truth = torch.rand(3, 9, 11, generator=draw), torch.rand(3, 9, 11, generator=draw)
    fixations = torch.rand(3, 9, 11, generator=draw) > 0.9
    fixations[2] = False
    found = metrics.saliency_scores(prediction, truth, fixations)
    for name in ("kl_divergence", "correlation", "similarity"):
        assert torch.equal(getattr(found, name), getattr(metrics, name)(prediction, truth))
    for name in ("nss", "auc_judd", "auc"):
        torch.testing.assert_close(
            getattr(found, name), getattr(metrics, name)(prediction, fixations), rtol=0, atol=0, equal_nan=True
        )
    others = metrics.saliency_scores(prediction, truth, fixations, min_max=False, ddof=0, negatives="all")
    assert torch.equal(others.similarity, metrics.similarity(prediction, truth, min_max=False))
    torch.testing.assert_close(others.nss, metrics.nss(prediction, fixations, ddof=0), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(others.auc, metrics.auc(prediction, fixations, "all"), equal_nan=True, rtol=0, atol=0)
