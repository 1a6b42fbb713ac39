"""Scores, patient folds, probes and significance: functions of arrays.

Every function takes array-likes: NumPy arrays, lists, or torch tensors where the computation runs on a device.
"""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from usvs.evaluation.folds import Fold as Fold
    from usvs.evaluation.folds import make_folds as make_folds
    from usvs.evaluation.folds import split_groups as split_groups
    from usvs.evaluation.metrics import ClassificationMetrics as ClassificationMetrics
    from usvs.evaluation.metrics import Spread as Spread
    from usvs.evaluation.metrics import chance_f1 as chance_f1
    from usvs.evaluation.metrics import classification_metrics as classification_metrics
    from usvs.evaluation.probe import knn_predict as knn_predict
    from usvs.evaluation.probe import probe_probabilities as probe_probabilities
    from usvs.evaluation.saliency_metrics import SaliencyMetrics as SaliencyMetrics
    from usvs.evaluation.saliency_metrics import SaliencyScores as SaliencyScores
    from usvs.evaluation.saliency_metrics import auc as auc
    from usvs.evaluation.saliency_metrics import auc_judd as auc_judd
    from usvs.evaluation.saliency_metrics import correlation as correlation
    from usvs.evaluation.saliency_metrics import kl_divergence as kl_divergence
    from usvs.evaluation.saliency_metrics import nss as nss
    from usvs.evaluation.saliency_metrics import saliency_scores as saliency_scores
    from usvs.evaluation.saliency_metrics import similarity as similarity
    from usvs.evaluation.significance import PairedDifference as PairedDifference
    from usvs.evaluation.significance import paired_difference as paired_difference

lazy_attributes(
    "usvs.evaluation",
    {
        "folds": ("Fold", "make_folds", "split_groups"),
        "metrics": ("ClassificationMetrics", "Spread", "chance_f1", "classification_metrics"),
        "probe": ("knn_predict", "probe_probabilities"),
        "saliency_metrics": (
            "SaliencyMetrics",
            "SaliencyScores",
            "auc",
            "auc_judd",
            "correlation",
            "kl_divergence",
            "nss",
            "saliency_scores",
            "similarity",
        ),
        "significance": ("PairedDifference", "paired_difference"),
    },
)
