"""Settings and profiles of gaze-saliency prediction."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Profile
from usvs.models.settings import EncoderSettings
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.settings import FinetuneSettings


class SaliencySettings(FinetuneSettings):
    """Settings of gaze-saliency prediction (section 3.3); where a comment says "ours" the paper gives no value."""

    sigma_degrees: float = Field(1.0, gt=0)
    """Ours: deviation of the Gaussian around each fixation, in degrees of visual angle; about the tracker's own median
    error (Chatelain et al., IEEE T-Cyb 2018, doi:10.1109/TCYB.2018.2866274)."""
    window_seconds: float = Field(0.1, ge=0)
    """Ours: fixations so long before and after a frame belong to it, in seconds."""
    output_stride: Literal[8, 16, 32] = 8
    """Ours: of the same network, more finely dilated; weights load at any."""
    head_width: int = Field(128, ge=1)
    """Ours: channels between the feature map and the saliency map."""
    nss_weight: float = Field(0.0, ge=0)
    """Ours, as UNISAL's: the loss is KL - nss_weight NSS - correlation_weight CC."""
    correlation_weight: float = Field(0.0, ge=0)
    """Ours: weight of the correlation coefficient CC in the loss."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.stratify_folds:
            raise ValueError("expected stratify_folds=false, got true: gaze has no classes")
        return self

    @property
    def video_encoder(self) -> EncoderSettings:
        """The video encoder with `output_stride`."""
        return self.model.video.model_copy(update={"output_stride": self.output_stride})


def saliency_profile(profile: Profile) -> SaliencySettings:
    """Return the settings of a gaze-saliency profile."""
    if profile == "paper":
        return SaliencySettings()
    planes = classification_profile(profile)
    shared = {name: getattr(planes, name) for name in FinetuneSettings.model_fields}
    return SaliencySettings(**shared, head_width=32)
