"""Every setting: frozen typed records with units in their names, checked when they are made.

The defaults are the paper's (Jiao et al., MICCAI 2020); where it is silent the reading is ours and the comment says so.
`paper()` and `quick()` are the two profiles; `load_settings` reads a TOML or JSON file and dotted overrides.
"""

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from usvs.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Form = Literal["eq2", "ntxent"]
Profile = Literal["paper", "quick"]


class Settings(BaseModel):
    """A frozen record that refuses unknown names and values out of range."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class SpectrogramSettings(Settings):
    """The log-spectrogram of a speech piece (section 3.1)."""

    rate_hz: int = Field(24_000, gt=0)
    n_fft: int = Field(512, ge=64, le=4096)
    win_length: int = Field(240, gt=0)  # 10 ms
    hop_length: int = Field(120, gt=0)  # 5 ms
    frames: int = Field(256, gt=0)
    eps: float = Field(1e-6, gt=0)

    @property
    def bands(self) -> int:
        """Frequency bands of the result, the constant one dropped."""
        return self.n_fft // 2


class ClipSettings(Settings):
    """What is drawn from the archive (section 2.1, Fig. 2 left)."""

    clip_seconds: float = Field(2.0, gt=0)  # 60 frames at 30 fps
    groups_per_clip: int = Field(2, ge=1)  # K
    shift_range_clips: int = Field(5, ge=2)  # D: the negative's clip lies 1 .. D - 1 clips away
    speech_seconds: float = Field(0.6, gt=0)
    speech_fraction_high: float = Field(0.5, ge=0, le=1)  # ours: "mostly noise" is less speech than this
    order_spacing_seconds: float = Field(0.5, gt=0)  # ours: evenly spaced frames of the clip ...
    order_jitter_seconds: float = Field(0.1, ge=0)  # ... each moved by up to this much

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.speech_seconds > self.clip_seconds:
            raise ValueError(f"speech_seconds {self.speech_seconds} is longer than clip_seconds {self.clip_seconds}")
        if 3 * self.order_spacing_seconds + 2 * self.order_jitter_seconds > self.clip_seconds:
            raise ValueError("four order frames (3 spacings + 2 jitters) do not fit into clip_seconds")
        if 2 * self.order_jitter_seconds >= self.order_spacing_seconds:
            raise ValueError("order_jitter_seconds must be below half of order_spacing_seconds")
        return self


class AugmentSettings(Settings):
    """How a frame is varied in training; ours, the paper names none. The four order frames are varied as one."""

    crop_fraction: float = Field(0.9, gt=0, le=1)  # side of the random square crop
    flip: bool = True
    gain_db: float = Field(2.0, ge=0)  # uniform in plus or minus this much, on the displayed gray level
    order_jitter_pixels: int = Field(0, ge=0)  # OPN's spatial jitter per frame


class EncoderSettings(Settings):
    """A dilated SE-ResNeXt; the defaults are SE-ResNeXt-50 32x4d (section 2.4)."""

    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    cardinality: int = Field(32, ge=1)
    base_width: int = Field(4, ge=1)
    stem_width: int = Field(64, ge=1)
    output_stride: Literal[8, 16, 32] = 16
    se_ratio: float = Field(1 / 16, gt=0)


class ModelSettings(Settings):
    """The two streams and their heads (Fig. 2 right)."""

    video: EncoderSettings = EncoderSettings()
    speech: EncoderSettings = EncoderSettings()
    frame_pixels: int = Field(224, ge=32)
    projection_hidden: int = Field(512, ge=1)
    projection_width: int = Field(128, ge=1)
    projection_batch_norm: bool = False  # ours: without it the embeddings of untrained streams all point one way
    shared_projection: bool = True  # the paper writes one h(.) for both modalities
    correspondence_hidden: int = Field(512, ge=0)  # ours: a linear decision on a concatenation cannot learn who belongs
    correspondence_batch_norm: bool = False  # ours: before that layer; helped a toy, untried on the phantom
    order_hidden: int = Field(1024, ge=1)  # OPN's fc6
    order_pair_hidden: int = Field(512, ge=1)  # OPN's fc7
    order_grid: int = Field(4, ge=1)  # ours: fc6 sees a grid of this side, since order is about where things are
    order_dropout: float = Field(0.5, ge=0, lt=1)


class ObjectiveSettings(Settings):
    """Eq. 3 and its terms; a weight of zero leaves the term out."""

    correspondence_weight: float = Field(1.0, ge=0)  # alpha
    contrastive_weight: float = Field(1.0, ge=0)  # beta
    order_weight: float = Field(1.0, ge=0)  # gamma
    order_share: float = Field(1.0, gt=0, le=1)  # ours: of a batch's clips, how many show the order task
    form: Form = "eq2"
    candidates: Literal["all", "speech"] = "all"  # what the sum of Eq. 2 runs over
    temperature: float = Field(1.0, gt=0)
    normalise: bool = False
    margin_floor: float = Field(1.0, gt=0)  # where Eq. 2 is continued by its tangent
    affinity: bool = True  # pairs from high-affinity clips only (section 2.3)
    refill_pairs: bool = False  # ours: in the place of a clip that makes no pair one that does, so batches stay full
    speech: Literal["own", "shuffled"] = "own"  # shuffled: the control, speech from other scans


class OptimiserSettings(Settings):
    """The optimiser and its schedule (section 2.4)."""

    kind: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    clip_norm: float = Field(2.0, gt=0)  # ours: the paper clips but gives no value
    schedule: Literal["step", "one_cycle"] = "step"
    step_epochs: int = Field(20, ge=1)  # divided by ten this often
    epochs: int = Field(80, ge=1)
    batch_clips: int = Field(32, ge=1)  # over all processes
    # Whose statistics in training: the whole batch's, each process's own, or the running ones, left as they are.
    batch_norm: Literal["sync", "per_rank", "frozen"] = "sync"


class RunSettings(Settings):
    """How a run is carried out; nothing here changes what is learnt but `seed` and `precision`."""

    seed: int = Field(0, ge=0)
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["torchscript", "inductor", "eager"] = "torchscript"
    loader: Literal["torch", "dali"] = "torch"
    activation_checkpointing: bool = False  # blocks are run again in backward: a third more time, far less memory
    micro_batch_clips: int | None = Field(None, ge=1)  # at most so many at once; None: all that a process has
    loader_workers: int = Field(1, ge=0)
    log_every_steps: int = Field(10, ge=1)
    validate_every_steps: int = Field(200, ge=1)
    checkpoint_every_steps: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)


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
    held_out_patients: float = Field(0.1, ge=0, lt=1)  # share whose losses are watched, never trained on


class DownstreamSettings(Settings):
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


class PlanesSettings(DownstreamSettings):
    """Fine-tuning to standard-plane detection (section 3.2)."""

    class_weights: Literal["none", "inverse", "inverse_sqrt"] = "inverse_sqrt"  # ours: background dominates


class SaliencySettings(DownstreamSettings):
    """Fine-tuning to gaze-saliency prediction (section 3.3); what is ours here the paper leaves open."""

    # ours: of the Gaussian around each look, in degrees of visual angle; about the tracker's own median error
    # (Chatelain et al., IEEE T-Cyb 2018, doi:10.1109/TCYB.2018.2866274)
    sigma_degrees: float = Field(1.0, gt=0)
    window_seconds: float = Field(0.1, ge=0)  # ours: looks so long before and after a frame count for it
    output_stride: Literal[8, 16, 32] = 8  # ours: of the same network, more finely dilated; weights load at any
    head_width: int = Field(128, ge=1)  # ours: channels between the feature map and the saliency map
    nss_weight: float = Field(0.0, ge=0)  # ours, as UNISAL's: the loss is KL - nss_weight NSS - correlation_weight CC
    correlation_weight: float = Field(0.0, ge=0)


class PrepareSettings(Settings):
    """What `usvs prepare` writes."""

    frame_pixels: int = Field(256, ge=32)  # 224 and a margin for random crops
    codec: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: int = Field(95, ge=1, le=100)
    rate_hz: int = Field(24_000, gt=0)


class VoiceActivitySettings(Settings):
    """The energy detector of the paper's reference [14]; its sources differ in what is an option here."""

    frame_seconds: float = Field(0.01, gt=0)
    floor_growth: float = Field(1.0001, ge=1)  # the tracked minimum is raised by this factor a frame ...
    growth_compounds: bool = False  # ... and the factor itself grows, until a new minimum resets it
    hangover_seconds: float = Field(0.08, ge=0)
    minimum_run_seconds: float = Field(0.05, ge=0)  # shorter bursts are clicks
    threshold_ratio: float = Field(2.0, gt=1)  # the closed form of [14]: 6 dB above the floor
    # Ours; 0: only the constant part is taken off. With it 97 % of the clips of phantom narration are placed rightly,
    # without it 90: the RMS of their rooms' rumble swings by more than those 6 dB (docs/archive.md).
    high_pass_hz: float = Field(150.0, ge=0)
    scaling_factor: float | None = Field(None, ge=0, le=1)  # weight of the floor in the threshold; None: adaptive
    silence_rms: float = Field(1e-4, gt=0)  # ours: -80 dB; digital zero would pin the floor and make any noise speech


class GazeSettings(Settings):
    """Where gaze was recorded, for what neither the manifest nor the recording says; ours, the paper gives neither."""

    viewing_distance_mm: float = Field(600.0, gt=0)  # arm's length, as eye trackers below a screen are built for
    screen_width_mm: float = Field(509.0, gt=0)  # a 23-inch widescreen
    screen_height_mm: float = Field(286.0, gt=0)


QUICK_ENCODER = EncoderSettings(
    layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, output_stride=16, se_ratio=1 / 8
)
QUICK_MODEL = ModelSettings(
    video=QUICK_ENCODER,
    speech=QUICK_ENCODER.model_copy(update={"output_stride": 32}),  # its features are means: no need of a fine map
    frame_pixels=64,
    projection_hidden=256,
    projection_width=64,
    projection_batch_norm=True,
    shared_projection=False,
    correspondence_hidden=128,
    order_hidden=128,
    order_pair_hidden=128,
    order_dropout=0.0,
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
            order_share=0.25,  # frames of the order task are two thirds of a step's work else
            refill_pairs=True,  # where half of the clips are silent, a probe of 68 rather than 48 after as many steps
            form="ntxent",
            candidates="speech",
            normalise=True,  # and the paper's temperature of 1: below it, chance is reached by making all alike
        ),
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=3e-3, weight_decay=0.01, schedule="one_cycle", epochs=48
        ),
        held_out_patients=0.4,  # enough people for folds that no pretraining has seen
    )


# The rows of the paper's Tables 1 and 3 that are pretrainings, and our control, as settings over the profile.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "ours": (),
    "contrastive": ("objective.affinity=false",),
    "baseline": ("objective.affinity=false", "objective.contrastive_weight=0"),
    "video": ("objective.correspondence_weight=0", "objective.contrastive_weight=0"),
    "shuffled": ("objective.speech=shuffled",),
}


def planes_profile(profile: Profile) -> PlanesSettings:
    """The settings of a plane-detection profile."""
    if profile == "paper":
        return PlanesSettings()
    return PlanesSettings(
        profile="quick",
        model=QUICK_MODEL,
        optimiser=OptimiserSettings(
            kind="adamw", learning_rate=3e-3, weight_decay=0.01, schedule="one_cycle", epochs=20, batch_clips=64
        ),
        sononet_pixels=(80, 96),  # a fine-tuning update takes a third of the time of 112 x 144
    )


def gaze_profile(profile: Profile) -> SaliencySettings:
    """The settings of a gaze-saliency profile."""
    if profile == "paper":
        return SaliencySettings()
    planes = planes_profile("quick")
    shared = {name: getattr(planes, name) for name in DownstreamSettings.model_fields}
    return SaliencySettings(**shared, head_width=32)


def prepare_profile(profile: Profile) -> PrepareSettings:
    """The settings of a store made for a profile: frames with a margin around what its network sees."""
    return PrepareSettings() if profile == "paper" else PrepareSettings(frame_pixels=72)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(base: SettingsT, file: Path | None = None, overrides: Sequence[str] = ()) -> SettingsT:
    """Return `base` with a file's values and then dotted overrides laid over it.

    Args:
        base: the profile to start from.
        file: a TOML or JSON file of the same shape; what it leaves out keeps its value.
        overrides: texts such as ``optimiser.learning_rate=0.01``; the value is read as JSON where it can be.

    Raises:
        ConfigError: for an unknown name (the nearest one is offered) or a value out of range.
    """
    values = base.model_dump(mode="json")
    if file is not None:
        _lay_over(values, _read_table(file), prefix="")
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"setting '{text}': wanted NAME=VALUE")
        nested: Any = _json_or_text(value)
        for part in reversed(name.strip().split(".")):
            nested = {part: nested}
        _lay_over(values, nested, prefix="")
    return check_settings(type(base), values)


def check_settings(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Make a record from plain values, or say in one line which setting is wrong.

    Raises:
        ConfigError: naming the setting, the rule it breaks and what came.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.__name__
        came = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
        raise ConfigError(f"setting '{name}': {first['msg']}{came}") from None


def _read_table(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"settings file '{file}': {error}") from None


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _lay_over(values: dict[str, Any], over: Any, prefix: str) -> None:
    if not isinstance(over, Mapping):
        raise ConfigError(f"setting '{prefix.rstrip('.')}': wanted a table of settings, got {over!r}")
    for name, value in over.items():
        if name not in values:
            near = difflib.get_close_matches(str(name), values, n=1)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known here: {', '.join(values)}"
            raise ConfigError(f"unknown setting '{prefix}{name}': {hint}")
        if isinstance(values[name], dict):
            _lay_over(values[name], value, prefix=f"{prefix}{name}.")
        else:
            values[name] = value


class PhantomSettings(Settings):
    """The synthetic archive; sizes and shares are chosen so that it can be learnt in minutes, yet not at a glance."""

    scan_seconds: float = Field(90.0, ge=2)  # every plane comes up about once
    scans_per_patient: int = Field(1, ge=1)
    sonographers: int = Field(2, ge=1)  # whose voices are heard in every scan, by turns
    frame_rate_hz: int = Field(8, ge=5, le=120)
    frame_width: int = Field(400, ge=160)  # a patient's scanner differs from it by up to a tenth
    frame_height: int = Field(320, ge=128)
    sound_rate_hz: Literal[44_100, 48_000] = 48_000
    gaze_rate_hz: float = Field(90.0, gt=0)
    dwell_seconds: tuple[float, float] = (4.5, 7.0)
    transition_seconds: tuple[float, float] = (0.7, 1.3)
    search_seconds: tuple[float, float] = (2.5, 4.0)
    search_share: float = Field(0.15, ge=0, le=1)  # of the ways from plane to plane that are a longer search
    drift_share: tuple[float, float] = (0.10, 0.22)  # of the inner box's width that the probe travels in two seconds
    rotation_degrees: float = Field(8.0, ge=0, le=180)  # a visit's rotation lies within plus or minus this
    scale: tuple[float, float] = (0.9, 1.12)
    shift: float = Field(0.15, ge=0)  # of a visit's anatomy sideways, in tissue units; 0.8 of it in depth
    spoken_share: float = Field(0.95, ge=0, le=1)  # of the visits that are commented at all
    chatter_share: float = Field(0.05, ge=0, le=1)  # of the utterances that are about something else
    idle_share: float = Field(0.15, ge=0, le=1)  # of the ways between planes that are talked over
    delay_seconds: tuple[float, float] = (-0.2, 0.4)  # of the comment's begin and end, against the visit's
    video_crf: int = Field(24, ge=0, le=51)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name in ("dwell_seconds", "transition_seconds", "search_seconds", "drift_share", "scale", "delay_seconds"):
            low, high = getattr(self, name)
            if low > high or (low <= 0 and name not in ("drift_share", "delay_seconds")):
                raise ValueError(f"{name} {low}, {high}: wanted a lower and an upper bound, positive and in this order")
        return self
