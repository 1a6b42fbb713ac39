"""SonoNet's published network on complete screens: image and video files, DICOM included."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.archive.class_list import ClassList
from usvs.archive.labels import standard_planes
from usvs.errors import DataError
from usvs.inference.frames import iter_gray, sample_sector
from usvs.media.box import Box
from usvs.media.images import crop_to, read_gray_image
from usvs.media.sector import Sector, detect_sector
from usvs.media.stills import is_still
from usvs.media.video import read_video_info
from usvs.models.sononet import SONONET_CLASSES, SONONET_HEIGHT, SONONET_WIDTH, SonoNet, sononet_images
from usvs.tasks.features import BATCH_FRAMES

logger: logging.Logger = logging.getLogger(__name__)

# The authors' crop of their screens is rows 115 .. 734 and columns 81 .. 874: it ends at the bottom of the sector,
# leaves out 6 % of its visible depth at the transducer, and is as wide as the aspect ratio asks, about the axis.
NEAR_FIELD_FRACTION = 0.06


class SonoNetClassifier:
    """The published network; without a box its input is the part of the sector that its authors show it."""

    def __init__(self, network: SonoNet) -> None:
        self.class_list: ClassList = standard_planes()
        self.classes: tuple[str, ...] = self.class_list.names
        if network.adaption[-1].num_features != len(self.classes):
            raise DataError(
                f"SonoNet weights: expected {len(self.classes)} classes, got {network.adaption[-1].num_features}"
            )
        self.network = network
        self.order: Tensor = torch.tensor([SONONET_CLASSES.index(plane) for plane in self.classes])

    def predict_file(self, file: Path, box: Box | None, stride: int) -> Iterator[tuple[list[float | None], Tensor]]:
        """Yield the probabilities of an image, or of every `stride`-th frame of a video.

        Raises:
            DataError: for a file that cannot be read; what was yielded before stays valid.
        """
        if is_still(file):
            image = read_gray_image(file)
            sector = None if box else detect_sector(np.rint(image).astype(np.uint8)[None])
            yield [None], self._predict([crop_screen(image, sector, box, file)])
            return
        info = read_video_info(file)
        sector = None if box else sample_sector(file, info)
        seconds: list[float | None] = []
        crops: list[NDArray[np.float64]] = []
        for moment, gray in iter_gray(file, info, stride):
            seconds.append(moment)
            crops.append(crop_screen(gray.astype(np.float64), sector, box, file))
            if len(crops) == BATCH_FRAMES:
                yield seconds, self._predict(crops)
                seconds, crops = [], []
        if crops:
            yield seconds, self._predict(crops)

    def _predict(self, crops: list[NDArray[np.float64]]) -> Tensor:
        images = torch.from_numpy(np.stack(crops))[:, None]
        with torch.inference_mode():
            logits: Tensor = self.network(sononet_images(images))
        return logits.index_select(1, self.order).double().softmax(dim=1)


def crop_screen(image: NDArray[np.float64], sector: Sector | None, box: Box | None, file: Path) -> NDArray[np.float64]:
    """Return the part of a screen that SonoNet is shown, black where it is beyond the screen.

    Args:
        image: gray levels [H, W].
        sector: as detected; not used where there is a box.
        box: the region to use instead, in pixels.
        file: for messages.

    Raises:
        DataError: where the box reaches outside of the image.
    """
    if box is not None or sector is None:
        return crop_to(image, box or Box(0, 0, image.shape[1], image.shape[0]), file)
    if sector.note is not None:
        logger.info(f"'{file}': {sector.note}")
    expected = sononet_box(sector)
    height, width = image.shape
    inside = Box(max(expected.left, 0), max(expected.top, 0), min(expected.right, width), min(expected.bottom, height))
    crop = np.zeros((expected.height, expected.width))
    inside.translate(-expected.left, -expected.top).crop(crop)[:] = inside.crop(image)
    return crop


def sononet_box(sector: Sector) -> Box:
    """Return the box of a sector that corresponds to the authors' crop; it may reach beyond the screen.

    The near field is left out only where it is seen: where the top of the image cuts the sector, it is missing already.
    """
    bounds = sector.bounds or sector.crop_box
    is_near_field_seen = bounds.top > 0
    top = bounds.top + (round(NEAR_FIELD_FRACTION * bounds.height) if is_near_field_seen else 0)
    width = round((bounds.bottom - top) * SONONET_WIDTH / SONONET_HEIGHT)
    centre = (bounds.left + bounds.right) / 2 if sector.geometry is None else sector.geometry.axis
    left = round(min(max(centre, bounds.left), bounds.right) - width / 2)
    return Box(left, top, left + width, bounds.bottom)
