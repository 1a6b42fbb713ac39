"""Settings that the fine-tuning tasks share."""

from pydantic import Field

from usvs.config import Profile, Settings
from usvs.data.settings import AugmentSettings
from usvs.models.settings import ModelSettings
from usvs.training.settings import OptimiserSettings, RunSettings


class FinetuneSettings(Settings):
    """What fine-tuning to either task shares (section 3.1)."""

    profile: Profile = "paper"
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()
    folds: int = Field(3, ge=2)
    temporal_stride: int = Field(8, ge=1)  # every eighth frame
    labelled_patients: int | None = Field(None, ge=1)  # of each fold's training patients; None: all
    sononet_pixels: tuple[int, int] = (224, 288)  # height and width of what the SonoNet init sees
