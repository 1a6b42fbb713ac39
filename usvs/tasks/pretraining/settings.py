"""Settings and profiles of pretraining."""

import json
from pathlib import Path

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.audio.settings import SpectrogramSettings
from usvs.config import Profile, Settings, check_settings
from usvs.data.settings import AugmentSettings, PairSettings
from usvs.errors import ConfigError, DataError
from usvs.losses.settings import ObjectiveSettings
from usvs.models.settings import QUICK_MODEL, ModelSettings
from usvs.store.settings import ClipSettings
from usvs.training.settings import OptimiserSettings, RunSettings


class PretrainSettings(Settings):
    """Settings of a pretraining run."""

    profile: Profile = "paper"
    """Profile that these settings started from."""
    clips: ClipSettings = ClipSettings()
    """How scans are cut into clips, and what is sampled from a clip."""
    spectrogram: SpectrogramSettings = SpectrogramSettings()
    """The log-spectrogram of a speech piece."""
    augment: AugmentSettings = AugmentSettings()
    """Random augmentation of frames."""
    model: ModelSettings = ModelSettings()
    """The two streams and their heads."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """The loss."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """The optimiser and its schedule."""
    run: RunSettings = RunSettings()
    """How a run is carried out."""
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """Fraction of the patients that is kept for validation and never trained on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        weights = ("correspondence_weight", "contrastive_weight", "stream_weight", "order_weight")
        if not any(getattr(self.objective, name) > 0 for name in weights):
            raise ValueError(f"expected one of objective.{', '.join(weights)} above 0, got 0 for all")
        if self.objective.stream_weight > 0 and self.clips.groups_per_clip < 2:
            raise ValueError(
                "expected clips.groups_per_clip of at least 2 with objective.stream_weight, got"
                f" {self.clips.groups_per_clip}: two frames of a clip are compared"
            )
        if (samples := round(self.clips.speech_seconds * self.spectrogram.rate_hz)) < self.spectrogram.win_length:
            raise ValueError(
                f"expected clips.speech_seconds of at least one spectrogram.win_length ({self.spectrogram.win_length}"
                f" samples), got {samples} samples"
            )
        return self

    @property
    def pairs(self) -> PairSettings:
        """How pairs are read from the store."""
        return PairSettings(
            clips=self.clips,
            augment=self.augment,
            frame_pixels=self.model.frame_pixels,
            rate_hz=self.spectrogram.rate_hz,
            loader=self.run.loader,
            loader_workers=self.run.loader_workers,
        )


def pretrain_profile(profile: Profile) -> PretrainSettings:
    """Return the settings of a profile.

    ``paper`` follows the paper exactly; ``quick`` needs two cores and minutes; ``small`` is the same recipe with three
    times as many clips a step and more epochs, for archives of few concepts or much noise: two cores and an hour.
    """
    if profile == "paper":
        return PretrainSettings()
    quick = _quick_profile()
    if profile == "quick":
        return quick
    optimiser = quick.optimiser.model_copy(update={"batch_clips": 96, "epochs": 96})
    return quick.model_copy(update={"profile": "small", "optimiser": optimiser, "validation_fraction": 0.2})


def _quick_profile() -> PretrainSettings:
    """The recipe of two cores, searched on the phantom and on half of a real archive (docs/learning.md)."""
    return PretrainSettings(
        profile="quick",
        spectrogram=SpectrogramSettings(n_fft=256, frames=64, standardise="piece", pool=2),
        augment=AugmentSettings(zoom=1.6, gain_db=4.0),  # fewer of the pictures are learnt by heart
        model=QUICK_MODEL,
        objective=ObjectiveSettings(
            correspondence_weight=0.2,  # with more, the two easier losses slow the contrastive one down
            order_weight=0.1,
            order_fraction=0.25,  # at 1, order frames are two thirds of a step's computation
            resample_invalid_pairs=True,  # with half of the clips silent, a probe of 68 instead of 48 in as many steps
            form="ntxent",
            candidates="speech",
            normalise=True,
            temperature=0.2,
            symmetric=True,
            stream_weight=1.0,  # without it real archives stay at chance: embeddings fall to one or two dimensions
            scan_run_clips=8,
        ),
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=3e-3, weight_decay=0.01, schedule="one_cycle", epochs=48
        ),
        validation_fraction=0.4,  # enough patients for folds of the downstream tasks that no pretraining has seen
    )


def read_settings(text: str, source: Path) -> PretrainSettings:
    """Return the settings that a run was stored with.

    Args:
        text: their JSON.
        source: where they were read, for messages.

    Raises:
        DataError: when this version of usvs cannot read them.
    """
    try:
        return check_settings(PretrainSettings, json.loads(text))
    except (ValueError, ConfigError) as error:
        raise DataError(f"'{source}': its settings cannot be read: {error}") from error


_NO_CONTRAST = ("objective.contrastive_weight=0", "objective.stream_weight=0")
# The rows of the paper's Tables 1 and 3 that are pretrainings, and controls, as settings over the profile. Section 3.4:
# the baseline is the approach without the contrastive loss and without the affinity-aware scheme, and section 2.3
# introduces the order task as a part of that scheme. `*_with_order`: the other reading, the order task in every row.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "joint": (),
    "contrastive": ("objective.affinity=false", "objective.order_weight=0"),
    "baseline": ("objective.affinity=false", "objective.order_weight=0", *_NO_CONTRAST),
    "contrastive_with_order": ("objective.affinity=false",),
    "baseline_with_order": ("objective.affinity=false", *_NO_CONTRAST),
    "video": ("objective.correspondence_weight=0", *_NO_CONTRAST),
    "shuffled": ("objective.speech=shuffled",),
}
