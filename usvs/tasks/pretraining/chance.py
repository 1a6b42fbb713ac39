"""Chance levels of losses and accuracies, which are logged beside every measured value."""

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
REVERSE = ("reverse",)
STREAMS = ("stream_frames", "stream_speech")
ORDER = ("order", "order_accuracy")
CHANCE = {
    "correspondence": math.log(2.0),
    "correspondence_accuracy": 1 / 2,
    "order": math.log(12.0),
    "order_accuracy": 1 / 12,
}
# Chance levels that depend on the batch: the field that holds them.
MEASURED_CHANCE = {
    "contrastive": "chance_contrastive",
    "retrieval_top1": "retrieval_chance",
    "retrieval_top1_speech_to_video": "retrieval_chance",
    "reverse": "chance_reverse",
    "stream_frames": "chance_stream_frames",
    "stream_speech": "chance_stream_speech",
}


def uses_pairs(objective: ObjectiveSettings) -> bool:
    """Return whether any term needs speech; without one, a run is the paper's row Video."""
    return objective.correspondence_weight > 0 or objective.contrastive_weight > 0 or objective.stream_weight > 0


def with_chance(values: Mapping[str, float], objective: ObjectiveSettings) -> dict[str, float]:
    """Return measured values, each followed by ``NAME_chance`` where its chance level is known.

    Values that were not measured are left out: terms of weight 0, and what is measured on pairs where none was valid.

    Args:
        values: the fields of a `JointLoss`, or of an own loss, as plain numbers; unknown names are kept.
        objective: weights of the terms.
    """
    pairs = values.get("valid_pairs", 1.0) > 0
    is_measured = {
        CORRESPONDENCE: pairs and objective.correspondence_weight > 0,
        CONTRASTIVE: pairs and objective.contrastive_weight > 0,
        REVERSE: pairs and objective.contrastive_weight > 0 and objective.symmetric,
        STREAMS: pairs and objective.stream_weight > 0,
        ORDER: objective.order_weight > 0,
    }
    left_out = {name for names, there in is_measured.items() if not there for name in names}
    chances = CHANCE | {name: values[source] for name, source in MEASURED_CHANCE.items() if source in values}
    result = {}
    for name, value in values.items():
        if name not in left_out and name not in MEASURED_CHANCE.values():
            result[name] = value
            if name in chances:
                result[f"{name}_chance"] = chances[name]
    return result
