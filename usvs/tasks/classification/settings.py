"""Settings and profiles of frame classification."""

from typing import Literal

from usvs.config import Profile
from usvs.models.settings import QUICK_MODEL
from usvs.tasks.settings import FinetuneSettings
from usvs.training.settings import OptimiserSettings


class ClassificationSettings(FinetuneSettings):
    """Settings of frame classification, by default of standard-plane detection (section 3.2)."""

    label_column: str | None = None
    """Label column of the store whose classes are learnt; none: the only one."""
    class_weights: Literal["none", "inverse", "inverse_sqrt"] = "inverse_sqrt"
    """Ours: weight of a class in the loss by its number of frames, against imbalance."""


def classification_profile(profile: Profile) -> ClassificationSettings:
    """Return the settings of a classification profile."""
    if profile == "paper":
        return ClassificationSettings()
    return ClassificationSettings(
        profile=profile,
        model=QUICK_MODEL,
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=3e-3, weight_decay=0.01, schedule="one_cycle", epochs=20, batch_clips=64
        ),
        sononet_pixels=(80, 96),  # a fine-tuning update takes a third of the time of 112 x 144
    )
