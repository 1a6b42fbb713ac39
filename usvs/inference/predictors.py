"""Detectors of standard planes as they are used: SonoNet, or one that usvs fine-tuned, on single pictures."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from usvs.archive.labels import STANDARD_PLANES
from usvs.config import check_settings
from usvs.data.transforms import evaluation_frames
from usvs.errors import ConfigError, DataError
from usvs.media.box import Box
from usvs.media.images import crop_to, padded_to_aspect, read_gray_image
from usvs.media.sector import detect_sector
from usvs.models.registry import build_encoder
from usvs.models.sononet import (
    SONONET_CLASSES,
    SONONET_HEIGHT,
    SONONET_WIDTH,
    SonoNet,
    make_sononet,
    sononet_images,
)
from usvs.models.weight_files import read_weights
from usvs.tasks.classification.module import PlaneTask
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.comparison import DETECTOR, DETECTORS, MODEL
from usvs.utils.progress import track

logger = logging.getLogger(__name__)

SONONET = "sononet:"
BATCH_IMAGES = 16


class PlanePrediction(NamedTuple):
    """What a detector says of one picture.

    Attributes:
        file: as it was given.
        plane: the most probable one, by the paper's name.
        confidence: its probability, 0 .. 1, as the network puts it; it is not calibrated.
        probabilities: of all planes, in the order of `usvs.archive.labels.STANDARD_PLANES`.
    """

    file: Path
    plane: str
    confidence: float
    probabilities: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.file}\t{self.plane}\t{self.confidence:.3f}"


class Detector(Protocol):
    """Prepares single pictures and names their planes."""

    def prepare(self, picture: NDArray[np.float64], file: Path, box: Box | None) -> Tensor:
        """Return the network's input [1, 1, H, W] for gray levels [H, W]; without a box the fan is looked for."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """Map inputs [n, 1, H, W] to scores [n, 14] in the paper's order of planes."""
        ...


class SonoNetDetector:
    """The published network. Without a box, what it sees is the box around the fan, with black to its own aspect."""

    def __init__(self, network: SonoNet) -> None:
        if network.adaption[-1].num_features != len(STANDARD_PLANES):
            raise DataError(
                f"SonoNet weights: expected {len(STANDARD_PLANES)} classes, got {network.adaption[-1].num_features}"
            )
        self.network = network
        self.order = torch.tensor([SONONET_CLASSES.index(plane) for plane in STANDARD_PLANES])

    def prepare(self, picture: NDArray[np.float64], file: Path, box: Box | None) -> Tensor:
        """Crop to the box as it is, or to the fan, and make the network's own input of it."""
        if box is None:
            found = detect_sector(np.rint(picture).astype(np.uint8)[None])
            _note(file, found.note)
            fan = crop_to(picture, found.bounds or found.crop_box, file)
            picture = padded_to_aspect(fan, SONONET_WIDTH / SONONET_HEIGHT)
        else:
            picture = crop_to(picture, box, file)
        return sononet_images(torch.from_numpy(np.ascontiguousarray(picture))[None, None])

    def logits(self, images: Tensor) -> Tensor:
        """Map inputs [n, 1, 224, 288] to scores [n, 14] in the paper's order of planes."""
        logits: Tensor = self.network(images)
        return logits.index_select(1, self.order)


class FinetunedDetector:
    """The detectors of one init that `usvs finetune planes` kept; where several folds are given, their mean."""

    def __init__(self, folders: Sequence[Path]) -> None:
        loaded = [_load_detector(folder) for folder in folders]
        self.tasks = [task for task, _, _ in loaded]
        _, self.settings, self.prepared_pixels = loaded[0]

    def prepare(self, picture: NDArray[np.float64], file: Path, box: Box | None) -> Tensor:
        """Do what `usvs prepare` and evaluation do to a frame: the inner box of the fan, its centre."""
        if box is None:
            found = detect_sector(np.rint(picture).astype(np.uint8)[None])
            _note(file, found.note)
            box = found.crop_box
        side = self.prepared_pixels
        inner = np.rint(crop_to(picture, box, file)).astype(np.uint8)
        frame = np.asarray(cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return evaluation_frames(frame[None], self.settings.model.frame_pixels, self.settings.augment)

    def logits(self, images: Tensor) -> Tensor:
        """Map inputs [n, 1, P, P] to log-probabilities [n, 14], of the folds' mean probability."""
        return torch.stack([task.logits(images).softmax(dim=1) for task in self.tasks]).mean(dim=0).log()


def load_detector(model: str | Path) -> Detector:
    """Return the detector that a `--model` means.

    Args:
        model: ``sononet:FILE`` with the weights of any public layout; a run of `usvs finetune planes`; or, in one,
            ``RUN/detectors/INIT`` or one of its folds.

    Raises:
        DataError: for weights that are missing, damaged or of another network.
        ConfigError: for a run that holds detectors of several inits.
    """
    if isinstance(model, str) and model.startswith(SONONET):
        return SonoNetDetector(make_sononet(read_weights(Path(model.removeprefix(SONONET)))))
    folder = Path(model)
    if (folder / DETECTOR).is_file():
        return FinetunedDetector([folder])
    inside = folder / DETECTORS if (folder / DETECTORS).is_dir() else folder
    found: dict[Path, list[Path]] = {}
    for file in sorted(inside.glob(f"**/{DETECTOR}")):
        found.setdefault(file.parent.parent, []).append(file.parent)
    if not found:
        raise DataError(f"'{model}': expected sononet:FILE or a run of 'usvs finetune planes' with its detectors")
    if len(found) > 1:
        names = ", ".join(str(one) for one in found)
        raise ConfigError(f"'{model}' holds detectors of {len(found)} inits, name one of them: {names}")
    return FinetunedDetector(next(iter(found.values())))


def predict_planes(images: Sequence[str | Path], model: str | Path, box: Box | None = None) -> list[PlanePrediction]:
    """Name the standard plane on each of some pictures of any size.

    Args:
        images: PNG, JPEG, BMP or TIFF files: whole screens or fans.
        model: as of `load_detector`, for example ``sononet:SonoNet16.npz``.
        box: the part to look at, in pixels; without one, the fan is looked for in each picture. SonoNet's authors used
            ``Box(81, 115, 874, 734)`` on their 975 x 735 screens.

    Raises:
        DataError: for weights or pictures that cannot be read; nothing is predicted then.
        ConfigError: as of `load_detector`.
    """
    detector = load_detector(model)
    files = [Path(image) for image in images]
    predictions: list[PlanePrediction] = []
    starts = range(0, len(files), BATCH_IMAGES)
    for start in track(starts, "naming planes"):
        batch = files[start : start + BATCH_IMAGES]
        inputs = torch.cat([detector.prepare(read_gray_image(file), file, box) for file in batch])
        with torch.inference_mode():
            probabilities = detector.logits(inputs).double().softmax(dim=1)
        for file, row in zip(batch, probabilities.tolist(), strict=True):
            best = int(np.argmax(row))
            predictions.append(PlanePrediction(file, STANDARD_PLANES[best], row[best], tuple(row)))
    return predictions


def _load_detector(folder: Path) -> tuple[PlaneTask, ClassificationSettings, int]:
    try:
        described: dict[str, Any] = json.loads((folder / DETECTOR).read_text(encoding="utf-8"))
        if described["task"] != "planes":
            raise DataError(f"'{folder}': expected a detector of planes, got one of task '{described['task']}'")
        settings = check_settings(ClassificationSettings, described["settings"])
        task = PlaneTask(build_encoder(described["encoder"]), len(STANDARD_PLANES), torch.ones(len(STANDARD_PLANES)))
        task.load_state_dict(load_file(folder / MODEL))
        return task.eval(), settings, int(described["prepared_pixels"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ConfigError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"detector '{folder}' cannot be read: {first}") from None


def _note(file: Path, note: str | None) -> None:
    if note is not None:
        logger.info(f"{file}: {note}")
