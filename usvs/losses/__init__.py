"""Losses of pretraining: correspondence (Eq. 1), contrastive (Eq. 2), frame order (section 2.3), their sum (Eq. 3).

`JointObjective` is the default; `PretrainingLoss` is what a module of one's own needs to take its place.
"""

from usvs.losses.joint import GlobalBatch, JointLoss, JointObjective
from usvs.losses.protocol import LossRequirements, LossResult, PretrainingLoss, loss_requirements
from usvs.losses.settings import ObjectiveSettings

__all__ = [
    "GlobalBatch",
    "JointLoss",
    "JointObjective",
    "LossRequirements",
    "LossResult",
    "ObjectiveSettings",
    "PretrainingLoss",
    "loss_requirements",
]
