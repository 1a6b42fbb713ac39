"""Settings and profiles of pretraining."""

from pydantic import Field

from usvs.audio.settings import SpectrogramSettings
from usvs.config import Profile, Settings
from usvs.data.settings import AugmentSettings, PairSettings
from usvs.losses.settings import ObjectiveSettings
from usvs.models.settings import QUICK_MODEL, ModelSettings
from usvs.store.settings import ClipSettings
from usvs.training.settings import OptimiserSettings, RunSettings


class PretrainSettings(Settings):
    """One pretraining run."""

    profile: Profile = "paper"
    clips: ClipSettings = ClipSettings()
    spectrogram: SpectrogramSettings = SpectrogramSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()
    validation_fraction: float = Field(0.1, ge=0, lt=1)  # share whose losses are watched, never trained on

    @property
    def pairs(self) -> PairSettings:
        """The part of the settings that the loaders of `usvs.data` use."""
        return PairSettings(
            clips=self.clips,
            augment=self.augment,
            frame_pixels=self.model.frame_pixels,
            rate_hz=self.spectrogram.rate_hz,
            loader=self.run.loader,
            loader_workers=self.run.loader_workers,
        )


def pretrain_profile(profile: Profile) -> PretrainSettings:
    """The settings of a pretraining profile: `paper` to the letter, `quick` for two cores and minutes."""
    if profile == "paper":
        return PretrainSettings()
    return PretrainSettings(
        profile="quick",
        spectrogram=SpectrogramSettings(n_fft=256, frames=64),
        model=QUICK_MODEL,
        objective=ObjectiveSettings(
            correspondence_weight=0.2,  # the two easier losses' noise in the shared layers holds the contrastive up
            order_weight=0.1,
            order_fraction=0.25,  # frames of the order task are two thirds of a step's work else
            resample_invalid_pairs=True,  # where half of the clips are silent, a probe of 68 rather than 48 after as many steps
            form="ntxent",
            candidates="speech",
            normalise=True,  # and the paper's temperature of 1: below it, chance is reached by making all alike
        ),
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=3e-3, weight_decay=0.01, schedule="one_cycle", epochs=48
        ),
        validation_fraction=0.4,  # enough people for folds that no pretraining has seen
    )


# The rows of the paper's Tables 1 and 3 that are pretrainings, and our control, as settings over the profile.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "joint": (),
    "contrastive": ("objective.affinity=false",),
    "baseline": ("objective.affinity=false", "objective.contrastive_weight=0"),
    "video": ("objective.correspondence_weight=0", "objective.contrastive_weight=0"),
    "shuffled": ("objective.speech=shuffled",),
}
