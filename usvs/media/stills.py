"""Still pictures as videos of one frame, so that an archive may have them: PNG, JPEG, BMP and TIFF."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.images import IMAGE_SUFFIXES, read_gray_image
from usvs.media.timing import Timing
from usvs.media.video_info import VideoInfo

STILL = "still picture"  # the container of such a file


def is_still(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is named as a still picture."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  an archive may have a million names


def read_still(path: Path) -> NDArray[np.uint8]:
    """Return a still picture as a gray frame [H, W].

    Raises:
        DataError: with what is wrong with the file, without its name, as `read_video_info` does.
    """
    try:
        return np.rint(read_gray_image(path)).astype(np.uint8)
    except DataError as error:
        raise DataError(str(error).removeprefix(f"image '{path}': ")) from None


def read_still_info(path: Path) -> VideoInfo:
    """Return the properties of a still picture: one frame at 0 s, without sound.

    Raises:
        DataError: as `read_still`.
    """
    height, width = read_still(path).shape
    return VideoInfo(
        container=STILL,
        video_codec=path.suffix.lower().removeprefix("."),
        width=width,
        height=height,
        timing=Timing.from_seconds(np.zeros(1), None),
        audio_codec=None,
        audio_rate_hz=None,
        audio_channels=None,
    )
