"""What is exported: the encoder of a pretraining run, or the trained models of a fine-tuning."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import nn

from usvs.errors import DataError
from usvs.inference.models import load_models
from usvs.models.encoder import Encoder, PretrainedCfg, make_pretrained_cfg
from usvs.tasks.comparison import MODELS
from usvs.tasks.model_files import TrainedModel
from usvs.tasks.model_folder import DESCRIPTION
from usvs.tasks.pretraining.load import load_encoder
from usvs.tasks.provenance import RESULTS_FILE
from usvs.tasks.registry import KINDS
from usvs.training.run_folder import CONFIG
from usvs.utils.regular_files import read_regular_text

Kind: TypeAlias = Literal["encoder", "classification", "saliency"]
LEVELS_ABOVE = 3  # of a run: RUN/checkpoints/step_00001200, RUN/models/INIT/fold_0


@dataclass(frozen=True)
class ExportSource:
    """A trained network and where it came from.

    Attributes:
        kind: what it computes.
        path: as given.
        models: the fine-tuned models, whose predictions are averaged; empty for an encoder.
        encoder: the encoder, of the first model where there are several.
        run: folder of the run that it is of; None where there is none above it.
        classes: names of the classes in the order of the output; empty for other kinds.
    """

    kind: Kind
    path: Path
    models: tuple[TrainedModel, ...]
    encoder: Encoder
    run: Path | None
    classes: tuple[str, ...] = ()

    @property
    def input(self) -> PretrainedCfg:
        """How images become the network's input."""
        if not self.models:
            return self.encoder.pretrained_cfg
        settings = self.models[0].settings  # fine-tuned models repeat gray frames over the channels themselves
        return make_pretrained_cfg(1, settings.model.frame_pixels, settings.augment.crop_fraction)

    @property
    def output(self) -> dict[str, Any]:
        """Name, shape and meaning of the network's output."""
        side = self.input["input_size"][1]
        outputs: dict[Kind, dict[str, Any]] = {
            "encoder": {
                "name": "features",
                "shape": ["n", self.encoder.num_features],
                "meaning": "means of the feature maps",
            },
            "classification": {
                "name": "probabilities",
                "shape": ["n", len(self.classes)],
                "meaning": "probability of each class",
            },
            "saliency": {
                "name": "density",
                "shape": ["n", side, side],
                "meaning": "density of gaze, which sums to 1 over the pixels of a frame",
            },
        }
        return outputs[self.kind]


def read_source(path: str | Path, encoder: nn.Module | None = None) -> ExportSource:
    """Read what is to be exported.

    Args:
        path: a pretraining run, one of its checkpoints or a saved encoder; or a run of `usvs.finetune` (its best init),
            one init of it, one fold of that, or a folder of `usvs.save_model`.
        encoder: a module of the trained class, for networks with an own encoder that is not registered.

    Raises:
        DataError: where there is no network, or one that is damaged.
        ConfigError: for an own encoder where `encoder` is not given.
    """
    folder = Path(path)
    if not folder.is_dir() and not folder.is_file():
        raise DataError(f"export: '{folder}': there is no such run or model")
    if not _is_finetuned(folder):
        network = load_encoder(folder, encoder)
        return ExportSource("encoder", folder, (), network, _run_of(folder, CONFIG))
    models = load_models(folder, encoder)
    task = models[0].task
    kind: Kind = "saliency" if task.kind == "saliency" else "classification"
    classes = tuple(getattr(task, "classes", ()))
    return ExportSource(kind, folder, models, models[0].module.encoder, _run_of(folder, RESULTS_FILE), classes)


def _is_finetuned(folder: Path) -> bool:
    if (folder / MODELS).is_dir() or any(folder.glob(f"fold_*/{DESCRIPTION}")):
        return True
    try:
        described = json.loads(read_regular_text(folder / DESCRIPTION))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("kind") in KINDS


def _run_of(path: Path, file: str) -> Path | None:
    """Return the folder of the run: `path` or one above it that has the file."""
    start = path.resolve()
    return next((one for one in (start, *list(start.parents)[:LEVELS_ABOVE]) if (one / file).is_file()), None)
