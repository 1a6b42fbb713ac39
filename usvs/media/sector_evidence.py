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
    raw: Mask
    activity: NDArray[np.float32]
    clutter: Mask
    masks: Mask


def reduce_frames(frames):
    factor = -(-max(frames.shape[1:]) // ANALYSIS_SIDE_PX)
    if factor == 1:
        return frames, 1
    height, width = (side // factor for side in frames.shape[1:])
    size = (width, height)
    return np.stack([cv2.resize(f[: height * factor, : width * factor], size, interpolation=cv2.INTER_AREA) for f in frames]), factor


def gather_evidence(frames):
    """One evidence per plausible background."""
    reduced, factor = reduce_frames(frames)
    brightest, darkest = (one.astype(np.float32) for one in (reduced.max(axis=0), reduced.min(axis=0)))
    mean = reduced.mean(axis=0, dtype=np.float32)
    strokes = find_strokes(frames.max(axis=0), factor, mean.shape)
    menu = find_menu_bars(frames, factor, mean.shape)
    for background, noise in estimate_backgrounds(brightest, darkest, mean):
        contrast = np.maximum(brightest - background, background - darkest) - noise
        bars = menu & (np.abs(mean - background) > 4)
        solid = keep_dense((contrast > LEVELS[-1]) & ~bars)
        clutter = (strokes & ~solid) | bars
        faint = np.abs(cv2.blur(mean, (5, 5)) - background) > FAINT_LEVELS
        masks = [keep_dense(faint & ~clutter)] + [keep_dense((contrast > level) & ~clutter) for level in LEVELS[:-1]]
        yield Evidence(factor, contrast > 6, np.clip(contrast / 6, 0, 1), clutter, np.stack([*masks, solid]))


FAINT_LEVELS = 0.75


def estimate_backgrounds(brightest, darkest, mean):
    local_mean, local_square = cv2.blur(mean, (3, 3)), cv2.blur(mean * mean, (3, 3))
    flat = (local_square - local_mean * local_mean < FLAT_STD_LEVELS**2) & (brightest - darkest <= 6)
    if flat.mean() < FLAT_MIN_FRACTION:
        return [(0.0, 0.0)]
    values = mean[flat]
    counts = np.bincount(np.rint(values).astype(np.int64), minlength=260)
    found = []
    first = counts.max()
    for _ in range(2):
        mode = int(counts.argmax())
        if counts[mode] < max(0.15 * first, FLAT_MIN_FRACTION * mean.size):
            break
        near = flat & (np.abs(mean - mode) < 1.5)
        level = float(mean[flat & (np.abs(mean - mode) <= 0.5)].mean())
        contrast = np.maximum(brightest[near] - level, level - darkest[near])
        found.append((level, float(np.quantile(contrast, 0.9))))
        counts[max(0, mode - 5) : mode + 6] = 0
    return found or [(0.0, 0.0)]


def find_menu_bars(frames, factor, shape):
    side = odd(0.006 * min(frames.shape[1:]) - 1)
    square = np.ones((side, side), np.uint8)
    highest = cv2.morphologyEx(frames.max(axis=0), cv2.MORPH_OPEN, square)
    lowest = cv2.morphologyEx(frames.min(axis=0), cv2.MORPH_OPEN, square)
    run = np.ones((1, max(17, odd(0.015 * frames.shape[2]))), np.uint8)
    even = cv2.subtract(cv2.dilate(highest, run), cv2.erode(lowest, run)) <= 2
    menu = cv2.dilate((even & (lowest > 20)).astype(np.uint8), run)[: shape[0] * factor, : shape[1] * factor]
    return cv2.resize(menu * 255, shape[::-1], interpolation=cv2.INTER_AREA) > 127


def find_strokes(brightest, factor, shape):
    side = odd(0.015 * min(brightest.shape))
    side = max(3, side)
    thin = brightest - cv2.morphologyEx(brightest, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    strokes = (thin > 40).astype(np.uint8)[: shape[0] * factor, : shape[1] * factor]
    reduced = cv2.resize(strokes * 255, shape[::-1], interpolation=cv2.INTER_AREA) > 0
    return cv2.dilate(reduced.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0


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
