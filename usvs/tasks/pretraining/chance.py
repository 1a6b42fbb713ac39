"""Each loss and accuracy beside what knowing nothing gives, so that no curve can be read without its line."""

import math
from collections.abc import Mapping

from usvs.losses.settings import ObjectiveSettings

CORRESPONDENCE = ("correspondence", "correspondence_accuracy")
CONTRASTIVE = (
    "contrastive",
    "contrastive_margin_term",
    "margin_mean",
    "margin_negative_fraction",
    "retrieval_top1",
    "retrieval_top1_speech_to_video",
)
ORDER = ("order", "order_accuracy")
CHANCE = {
    "correspondence": math.log(2.0),
    "correspondence_accuracy": 1 / 2,
    "order": math.log(12.0),
    "order_accuracy": 1 / 12,
}


def uses_pairs(objective: ObjectiveSettings) -> bool:
    """Whether any term needs speech; without, a run is the paper's baseline 'Video'."""
    return objective.correspondence_weight > 0 or objective.contrastive_weight > 0


def beside_chance(values: Mapping[str, float], objective: ObjectiveSettings) -> dict[str, float]:
    """Return what a joint loss measured, each beside ``<name>_chance`` where that is known.

    Left out is what was not measured: terms without weight, and everything on pairs where no pair counted.

    Args:
        values: the fields of a `JointLoss` as plain numbers, and others, which are kept.
        objective: whose weights say which terms are there.
    """
    pairs = values["valid_pairs"] > 0
    measured = {
        CORRESPONDENCE: pairs and objective.correspondence_weight > 0,
        CONTRASTIVE: pairs and objective.contrastive_weight > 0,
        ORDER: objective.order_weight > 0,
    }
    left_out = {name for names, there in measured.items() if not there for name in names}
    chances = CHANCE | {
        "contrastive": values["chance_contrastive"],
        "retrieval_top1": values["retrieval_chance"],
        "retrieval_top1_speech_to_video": values["retrieval_chance"],
    }
    result = {}
    for name, value in values.items():
        if name not in left_out and name not in ("chance_contrastive", "retrieval_chance"):
            result[name] = value
            if name in chances:
                result[f"{name}_chance"] = chances[name]
    return result
