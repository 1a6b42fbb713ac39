"""`usvs.evaluation.metrics` compared with pysaliency, on maps of 224 x 288 pixels with a few fixations each.

Run: `python -m pytest benchmarks/bench_saliency_metrics.py --benchmark-json FILE`, then
`python -m benchmarks.table FILE`.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.interleaved import Comparison
from usvs.evaluation import metrics

MAPS, HEIGHT, WIDTH = 64, 224, 288
FIXATIONS = 3  # of a 90 Hz tracker per frame at 30 Hz


def pysaliency_module(name: str) -> ModuleType:
    """Load one file of pysaliency 0.2.22: the package as a whole asks for `pkg_resources`, which setuptools dropped."""
    found = importlib.util.find_spec("pysaliency")
    if found is None or not found.submodule_search_locations:
        raise ImportError("pysaliency is not installed")
    file = Path(found.submodule_search_locations[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"pysaliency_{name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(np, "trapz"):  # numpy 2 renamed it, pysaliency still calls it so
        np.trapz = np.trapezoid  # type: ignore[attr-defined]
    return module


def maps(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions and truths, float32 [B, H, W], and fixations, bool [B, H, W]."""
    draw = torch.Generator().manual_seed(0)
    prediction, truth = (torch.rand(MAPS, HEIGHT, WIDTH, generator=draw) ** power for power in (3, 8))
    fixations = torch.zeros(MAPS, HEIGHT * WIDTH, dtype=torch.bool)
    for row in fixations:
        row[torch.randperm(HEIGHT * WIDTH, generator=draw)[:FIXATIONS]] = True
    return prediction.to(device), truth.to(device), fixations.view(MAPS, HEIGHT, WIDTH).to(device)


def peer(score: str, prediction: Tensor, truth: Tensor, fixations: Tensor) -> Callable[[], Any]:
    """Return pysaliency's score, map by map, of arrays that lie ready in its own precision."""
    scores, ranks = pysaliency_module("metrics"), pysaliency_module("numba_utils")
    predicted, true = prediction.double().cpu().numpy(), truth.double().cpu().numpy()
    places = [np.nonzero(one) for one in fixations.cpu().numpy()]

    def roc(number: int, negatives: Any, judd: int) -> float:
        return float(ranks.general_roc_numba(predicted[number][places[number]], negatives, judd=judd)[0])

    def unfixated(number: int) -> Any:
        return predicted[number][~fixations_array[number]]

    fixations_array = fixations.cpu().numpy()
    of_map: dict[str, Callable[[int], float]] = {
        "kl_divergence": lambda n: scores.MIT_KLDiv(predicted[n], true[n]),
        "similarity": lambda n: scores.SIM(predicted[n], true[n]),
        "correlation": lambda n: scores.CC(predicted[n], true[n]),
        "nss": lambda n: scores.NSS(predicted[n], places[n][1], places[n][0]).mean(),
        "auc": lambda n: roc(n, predicted[n].ravel(), judd=0),
        "auc_judd": lambda n: roc(n, unfixated(n), judd=1),
    }
    chosen = list(of_map.values()) if score == "all six" else [of_map[score]]
    return lambda: np.array([[one(number) for number in range(MAPS)] for one in chosen])


def run_usvs(score: str, prediction: Tensor, truth: Tensor, fixations: Tensor) -> Callable[[], Tensor]:
    """Return our score in the convention that pysaliency computes."""
    if score == "all six":
        return lambda: all_six(prediction, truth, fixations)
    of_batch: dict[str, Callable[[], Tensor]] = {
        "kl_divergence": lambda: metrics.kl_divergence(prediction, truth),
        "similarity": lambda: metrics.similarity(prediction, truth, min_max=False),
        "correlation": lambda: metrics.correlation(prediction, truth),
        "nss": lambda: metrics.nss(prediction, fixations, ddof=0),
        "auc": lambda: metrics.auc(prediction, fixations, negatives="all"),
        "auc_judd": lambda: metrics.auc_judd(prediction, fixations),
    }
    return lambda: of_batch[score]().unsqueeze(0)


def all_six(prediction: Tensor, truth: Tensor, fixations: Tensor) -> Tensor:
    """Return all scores [6, B] in the order of the peer's."""
    found = metrics.saliency_scores(prediction, truth, fixations, min_max=False, ddof=0, negatives="all")
    return torch.stack([found.kl_divergence, found.similarity, found.correlation, found.nss, found.auc, found.auc_judd])


@pytest.mark.parametrize("score", ["kl_divergence", "similarity", "correlation", "nss", "auc", "auc_judd", "all six"])
def bench_saliency_metrics(comparison: Comparison, device: str, threads: int, score: str) -> None:
    inputs = maps(device)
    run = run_usvs(score, *inputs)
    found = run().cpu().numpy()

    def check(theirs: Any) -> None:
        np.testing.assert_allclose(found, np.asarray(theirs), rtol=0, atol=1e-6)

    comparison.add("pysaliency", lambda: peer(score, *inputs), check)
    comparison.run(run, 1, MAPS, "map")
