"""The rows of the paper's Tables 1, 2 and 3 and our control: names, colours, and the values as printed.

A new row is added here; a pretrained one also to `usvs.tasks.pretraining.settings.OBJECTIVES`: its settings over those
of the joint objective. Source: Jiao et al., MICCAI 2020; mean and standard deviation over three folds.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Printed = Mapping[str, tuple[float, float]]
NOT_PRINTED: Printed = MappingProxyType({})


class Row(NamedTuple):
    """A row of the paper's tables: an initial encoder.

    Attributes:
        title: as the paper prints it.
        source: ``pretrained`` here, ``external``: its weights are given, or ``untrained``.
        planes: printed scores of standard-plane detection, in %.
        gaze: printed scores of gaze prediction.
        short_title: in narrow tables; empty: `title`.
        colour: in figures; None: one that no row has.
    """

    title: str
    source: Literal["pretrained", "external", "untrained"]
    planes: Printed = NOT_PRINTED
    gaze: Printed = NOT_PRINTED
    short_title: str = ""
    colour: str | None = None


# By key; pretrained rows have the key of their `OBJECTIVES` and are pretrained in this order.
ROWS: dict[str, Row] = {
    "random": Row(
        "Rand.Init.",
        "untrained",
        planes={"precision": (70.4, 2.3), "recall": (64.9, 1.6), "f1": (67.0, 1.3)},
        gaze={"kl": (3.94, 0.18), "nss": (1.47, 0.24), "auc": (0.9, 0.01), "cc": (0.12, 0.02), "sim": (0.05, 0.01)},
        short_title="Rand",
        colour="#8a8a8a",
    ),
    "video": Row(
        "Video",
        "pretrained",
        planes={"precision": (71.9, 2.0), "recall": (71.7, 3.5), "f1": (71.5, 2.4)},
        gaze={"kl": (3.57, 0.1), "nss": (1.86, 0.12), "auc": (0.91, 0.01), "cc": (0.15, 0.01), "sim": (0.08, 0.01)},
    ),
    "baseline": Row(
        "Baseline",
        "pretrained",
        planes={"precision": (70.7, 3.6), "recall": (70.2, 2.4), "f1": (69.8, 2.9)},
        gaze={"kl": (3.96, 0.69), "nss": (1.76, 0.42), "auc": (0.9, 0.03), "cc": (0.15, 0.03), "sim": (0.08, 0.01)},
    ),
    "contrastive": Row(
        "+ CM.Contra.",
        "pretrained",
        planes={"precision": (71.8, 2.3), "recall": (71.1, 2.3), "f1": (70.9, 1.9)},
        gaze={"kl": (3.43, 0.01), "nss": (2.23, 0.02), "auc": (0.93, 0.0), "cc": (0.19, 0.0), "sim": (0.08, 0.0)},
    ),
    "joint": Row(
        "Ours",
        "pretrained",
        planes={"precision": (72.7, 1.8), "recall": (73.3, 2.4), "f1": (72.6, 1.7)},
        gaze={"kl": (3.05, 0.04), "nss": (2.68, 0.05), "auc": (0.95, 0.0), "cc": (0.22, 0.0), "sim": (0.11, 0.0)},
        short_title="Ours",
        colour="#2a6fa8",
    ),
    "baseline_with_order": Row("Baseline, L_ord", "pretrained"),
    "contrastive_with_order": Row("+ CM.C., L_ord", "pretrained"),
    "shuffled": Row(
        "Shuffled",
        "pretrained",
        short_title="Shuffled",
        colour="#d08a2c",
    ),
    "imagenet": Row(
        "ImageNet Init.",
        "external",
        planes={"precision": (74.6, 1.8), "recall": (71.2, 1.9), "f1": (72.5, 1.8)},
        gaze={"kl": (3.95, 0.28), "nss": (1.72, 0.25), "auc": (0.89, 0.02), "cc": (0.14, 0.02), "sim": (0.08, 0.01)},
    ),
    "sononet": Row(
        "SonoNet",
        "external",
        planes={"precision": (82.3, 1.3), "recall": (87.3, 1.1), "f1": (84.5, 0.9)},
        gaze={"kl": (3.14, 0.02), "nss": (2.62, 0.03), "auc": (0.94, 0.0), "cc": (0.21, 0.0), "sim": (0.12, 0.0)},
    ),
}
PRETRAINED = tuple(key for key, row in ROWS.items() if row.source == "pretrained")
EXTERNAL = tuple(key for key, row in ROWS.items() if row.source == "external")
