"""Settings of a profile with the network and input size of an initial encoder."""

from typing import TypeVar

from torch import nn

from usvs.models.encoder import Encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.encoder_files import is_saved_encoder, load_saved_encoder
from usvs.tasks.initial_encoder import Init, parse_init
from usvs.tasks.pretraining.settings import read_settings
from usvs.tasks.settings import FinetuneSettings
from usvs.training.run_folder import CONFIG
from usvs.utils.regular_files import read_regular_text

SettingsT = TypeVar("SettingsT", bound=FinetuneSettings)


def with_encoder(base: SettingsT, encoder: Init) -> SettingsT:
    """Return settings with the network of a pretraining run, or the input size of an encoder, instead of the profile's.

    `profile` and everything else stay those of `base`.

    Args:
        base: the settings of a profile.
        encoder: as of `usvs.FrameClassifier`.

    Raises:
        DataError: for a run whose settings cannot be read.
    """
    if isinstance(encoder, Encoder):
        pixels = encoder.pretrained_cfg["input_size"][1]
        return base.model_copy(update={"model": base.model.model_copy(update={"frame_pixels": pixels})})
    if isinstance(encoder, nn.Module) or parse_init(encoder).kind != "run":
        return base
    folder = parse_init(encoder).path
    config = folder / CONFIG
    if not config.is_file() and is_saved_encoder(folder):
        saved = load_saved_encoder(folder)
        network = {"video": saved.settings} if isinstance(saved, SEResNeXt) else {}
        model = base.model.model_copy(update={**network, "frame_pixels": saved.pretrained_cfg["input_size"][1]})
        return base.model_copy(update={"model": model})
    if not config.is_file():  # a checkpoint, or no run: loading it says so
        return base
    run = read_settings(read_regular_text(config), config)
    return base.model_copy(update={"model": run.model})
