"""Settings that the fine-tuning tasks share."""

from typing import Annotated

from pydantic import Field

from usvs.config import Profile, Settings
from usvs.data.settings import TEMPORAL_STRIDE, AugmentSettings
from usvs.models.settings import EncoderSettings, ModelSettings
from usvs.training.settings import OptimiserSettings, RunSettings

Pixels = Annotated[int, Field(ge=32, le=4096)]


class FinetuneSettings(Settings):
    """Settings of fine-tuning to any task (section 3.1)."""

    profile: Profile = "paper"
    """Profile that these settings started from."""
    model: ModelSettings = ModelSettings()
    """The network."""
    augment: AugmentSettings = AugmentSettings()
    """Random augmentation of frames."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """The optimiser and its schedule."""
    run: RunSettings = RunSettings()
    """How a run is carried out."""
    folds: int = Field(3, ge=2)
    """Number of patient folds."""
    stratify_folds: bool = False
    """Ours: deal patients so that every fold tests about the same fraction of each class."""
    temporal_stride: int = Field(TEMPORAL_STRIDE, ge=1)
    """Every n-th frame of a scan is used."""
    labelled_patients: int | None = Field(None, ge=1)
    """Number of each fold's training patients whose labels are used; none: all."""
    sononet_pixels: tuple[Pixels, Pixels] = (224, 288)
    """Height and width of the input of the SonoNet init, in pixels."""

    @property
    def video_encoder(self) -> EncoderSettings:
        """The video encoder of this task; a task may use another output stride than pretraining."""
        return self.model.video
