"""Settings that the fine-tuning tasks share."""

from pydantic import Field

from usvs.config import Profile, Settings
from usvs.data.settings import TEMPORAL_STRIDE, AugmentSettings
from usvs.models.settings import EncoderSettings, ModelSettings
from usvs.training.settings import OptimiserSettings, RunSettings


class FinetuneSettings(Settings):
    """Settings of fine-tuning to any task (section 3.1)."""

    profile: Profile = "paper"
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()
    folds: int = Field(3, ge=2)
    stratify_folds: bool = False  # ours: deal patients so that every fold tests about the same fraction of each class
    temporal_stride: int = Field(TEMPORAL_STRIDE, ge=1)  # every n-th frame of a scan is used
    labelled_patients: int | None = Field(None, ge=1)  # of each fold's training patients; None: all
    sononet_pixels: tuple[int, int] = (224, 288)  # height and width of the SonoNet init's input

    @property
    def video_encoder(self) -> EncoderSettings:
        """The video encoder of this task; a task may use another output stride than pretraining."""
        return self.model.video
