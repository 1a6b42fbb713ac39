"""What of a scan's frames is active: differs from the background at some time, in an area that is not thin like letters."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Mask

ANALYSIS_SIDE_PX = 320
LEVELS = (1.0, 3.0, 8.0, 20.0)  # contrast above the noise of the background, gray levels
FLAT_STD_LEVELS = 0.7
FLAT_MIN_FRACTION = 0.01
NEIGHBOURHOOD_FRACTION = 0.035
DENSITY = 0.5
MIN_WIDTH_FRACTION = 0.05
MIN_PART_FRACTION = 0.02


@dataclass(frozen=True)
class Evidence:
    factor: int
    contrast: NDArray[np.float32]
    masks: Mask


def reduce_frames(frames):
    factor = -(-max(frames.shape[1:]) // ANALYSIS_SIDE_PX)
    if factor == 1:
        return frames, 1
    height, width = (side // factor for side in frames.shape[1:])
    size = (width, height)
    return np.stack([cv2.resize(f[: height * factor, : width * factor], size, interpolation=cv2.INTER_AREA) for f in frames]), factor


def gather_evidence(frames):
    reduced, factor = reduce_frames(frames)
    brightest, darkest = reduced.max(axis=0), reduced.min(axis=0)
    background, noise = estimate_background(brightest, darkest, reduced.mean(axis=0, dtype=np.float32))
    contrast = np.maximum(brightest.astype(np.float32) - background, background - darkest.astype(np.float32))
    masks = np.stack([keep_dense(contrast > noise + level) for level in LEVELS])
    return Evidence(factor, contrast, masks)


def estimate_background(brightest, darkest, mean):
    spread = brightest.astype(np.float32) - darkest
    local_mean, local_square = cv2.blur(mean, (3, 3)), cv2.blur(mean * mean, (3, 3))
    flat = (local_square - local_mean * local_mean < FLAT_STD_LEVELS**2) & (spread <= 6)
    if flat.mean() < FLAT_MIN_FRACTION:
        return 0.0, 0.0
    level = float(np.bincount(np.rint(mean[flat]).astype(np.int64), minlength=256).argmax())
    near = flat & (np.abs(mean - level) < 1.5)
    contrast = np.maximum(brightest[near] - level, level - darkest[near])
    return level, float(np.quantile(contrast, 0.9))


def keep_dense(active):
    side = odd(NEIGHBOURHOOD_FRACTION * min(active.shape))
    closed = cv2.morphologyEx(active.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    density = cv2.boxFilter(closed.astype(np.float32), -1, (side, side), borderType=cv2.BORDER_REPLICATE)
    width = odd(MIN_WIDTH_FRACTION * min(active.shape))
    dense = cv2.morphologyEx((density > DENSITY).astype(np.uint8), cv2.MORPH_OPEN, np.ones((width, width), np.uint8), borderValue=0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dense)
    if count < 2:
        return dense > 0
    areas = stats[:, cv2.CC_STAT_AREA].copy(); areas[0] = 0
    kept = areas >= MIN_PART_FRACTION * areas.max()
    return kept[labels] 


def odd(pixels):
    return 2 * max(0, round((pixels - 1) / 2)) + 1
