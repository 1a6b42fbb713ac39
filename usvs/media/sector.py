"""Detection of the ultrasound sector in a video, and of the largest rectangle inside it.

Text, rulers and menus around the sector must never reach a network: the paper crops frames to the inside of the sector.

Method. The frames are reduced to at most `ANALYSIS_SIDE_PX` pixels and evenly painted menu bars are removed. A pixel is
active if it changes over time or differs from the background. Areas that are densely active are kept; letters and
rulers are thin, so their neighbourhood is not dense. The sector is the convex hull of these areas below the line that
the transducer surface draws, and the crop is the largest rectangle inscribed in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.media.box import Box

Mask = NDArray[np.bool_]

# --- Size of the analysed image and limits of the result ---
ANALYSIS_SIDE_PX = 320  # the longer side of the reduced frames
MIN_SECTOR_FRACTION = 0.05  # of the image; a smaller area is not a sector
MIN_CROP_SIDE_PX = 16  # of the crop, in the original image
CROP_MARGIN_FRACTION = 0.01  # of the crop's width and height, removed on each side

# --- Menu bars: runs of a row that keep one gray level in all frames ---
STROKE_FRACTION = 0.006  # of the shorter side: width of the strokes of letters and rulers, which are removed first
MENU_MIN_RUN_PX = 17  # shortest run of a menu bar in pixels ...
MENU_MIN_RUN_FRACTION = 0.015  # ... or as a fraction of the image width, whichever is longer
MENU_MAX_SPREAD_LEVELS = 2  # largest difference of gray levels in a run
MENU_MIN_LEVEL = 20  # codecs also paint runs of one level into shadows, which are darker than this

# --- Background: the most frequent gray level of areas that are constant in time and space ---
BACKGROUND_MAX_STD_LEVELS = 0.7  # standard deviation over time and over 3 x 3 pixels; tissue has more
BACKGROUND_MIN_FRACTION = 0.01  # of the image; with less the sector fills the image and the background is 0

# --- Active pixels ---
MIN_TEMPORAL_STD_LEVELS = 2.5  # above what a codec adds to a still image
MIN_CONTRAST_LEVELS = 10.0  # difference from the background, above what a codec adds to black
MOTION_FRACTION = 0.75  # of the active area; if more of it moves, pixels that do not move are ignored

# --- Dense areas ---
NEIGHBOURHOOD_FRACTION = 0.035  # side of the square neighbourhood, as a fraction of the shorter side
MIN_DENSITY = 0.35  # fraction of the neighbourhood that must be active
MIN_WIDTH_FRACTION = 0.06  # of the shorter side; a narrower area is a menu bar or a line of text
MIN_PART_FRACTION = 0.02  # of the largest part's area; a part separated by a shadow is at least this large

# --- Dim flanks: parts of the sector that flicker below MIN_CONTRAST_LEVELS beside a frozen background ---
FROZEN_MAX_STD_LEVELS = 0.1  # temporal standard deviation of a frozen pixel
FROZEN_MIN_FRACTION = 0.05  # of the image that must be frozen; else flicker and noise of the codec look alike
DIM_MIN_STD_LEVELS = 0.8  # temporal standard deviation of a dim flank
FRINGE_PX = 2  # flicker that a codec adds around moving tissue, eroded again
MIN_AREA_GAIN = 1.2  # the hull's area must grow by this factor
MIN_CONVEXITY = 0.88  # fraction of its hull that a sector fills

# --- Transducer surface ---
SURFACE_DEPTH_FRACTION = 0.25  # of the sector's height; a column that starts deeper starts with a shadow


@dataclass(frozen=True)
class Sector:
    """Where the ultrasound is in the image, and the crop that a network may see.

    Attributes:
        crop_box: inscribed crop: the largest rectangle inside the sector; the whole image or region if none was found.
        note: why no sector was found; None if one was found.
        source: where the crop comes from: ``found`` by `detect_sector`, found inside the ``region`` that the file
            states, the ``manifest``, or ``whole``: nothing was found and the whole image or region is kept.
        bounds: bounding box of the sector: the region that the file states, else as detected; None if unknown.
    """

    crop_box: Box
    note: str | None
    source: Literal["found", "region", "manifest", "whole"] = "found"
    bounds: Box | None = None


def detect_sector(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], region: Box | None = None) -> Sector:
    """Detect the sector and the largest rectangle inside it.

    Args:
        frames: gray frames spread over one scan [n, H, W]; one frame is enough, 24 are better.
        region: where the file itself states the ultrasound image; pixels outside of it are ignored.

    Returns:
        The sector; its `note` is the reason if none was found.
    """
    frames = np.asarray(frames)
    if region is not None:
        return _detect_in_region(frames, region)
    height, width = frames.shape[1:]
    full_image = Box(0, 0, width, height)
    scale = min(1.0, ANALYSIS_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in _remove_menu_bars(frames)]
    mask = compute_sector_mask(np.stack(reduced).astype(np.float32))
    if mask is None:
        return Sector(full_image, "no sector found: the whole image is kept", "whole")
    x_scale, y_scale = width / size[0], height / size[1]
    crop_box = _scale_crop(find_inscribed_box(mask), x_scale, y_scale)
    if min(crop_box.width, crop_box.height) < MIN_CROP_SIDE_PX:
        return Sector(full_image, "the sector found is too narrow for a crop: the whole image is kept", "whole")
    return Sector(crop_box, None, "found", _scale_bounds(mask, x_scale, y_scale))


def _detect_in_region(frames: NDArray[np.uint8], region: Box) -> Sector:
    inner = detect_sector(frames[:, region.top : region.bottom, region.left : region.right])
    # The bounds are as the file states them. A region may hold black corners and letters, so the crop is detected.
    stated = replace(inner, crop_box=inner.crop_box.translate(region.left, region.top), bounds=region)
    if inner.source == "whole":
        return replace(stated, note="no sector found inside the region that the file states: the region is kept")
    return replace(stated, source="region")


def compute_sector_mask(frames: NDArray[np.float32]) -> Mask | None:
    """Return the area of the sector [H, W] with shadows filled, or None if no area is large enough.

    Args:
        frames: reduced gray frames [n, H, W], a few hundred pixels wide.
    """
    parts = _keep_large_parts(_compute_active_area(frames))
    if parts is None or parts.mean() < MIN_SECTOR_FRACTION:
        return None
    parts = _add_dim_flanks(frames.std(axis=0), parts)
    return _fill_convex_hull(parts) & _mask_below_transducer(parts)


def find_inscribed_box(mask: Mask) -> Box:
    """Return the largest rectangle all of whose pixels are in the mask; of equal ones the topmost, then the leftmost.

    For each pixel, take the vertical run of mask pixels that ends there, and widen it as far as its narrowest row
    allows. The largest rectangle is one of these. Running maxima and minima down the columns, restarted below every
    pixel outside of the mask, compute all of them at once in O(H W).
    """
    if not mask.any():
        return Box(0, 0, 0, 0)
    height, width = mask.shape
    rows, columns = np.arange(1, height + 1, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    run_height = rows - np.maximum.accumulate(np.where(mask, 0, rows), axis=0)
    left = np.maximum.accumulate(np.where(mask, 0, columns + 1), axis=1)  # of the horizontal run in this row
    right = np.minimum.accumulate(np.where(mask, width, columns)[:, ::-1], axis=1)[:, ::-1]
    # An offset larger than the width, added at each pixel outside, separates the vertical runs of a column.
    offset = (width + 1) * np.cumsum(~mask, axis=0, dtype=np.int32)
    left = np.maximum.accumulate(np.where(mask, left, 0) + offset, axis=0) - offset
    right = np.minimum.accumulate(np.where(mask, right, width) - offset, axis=0) + offset
    area = run_height * (right - left)
    bottom, column = np.nonzero(area == area.max())
    top = bottom + 1 - run_height[bottom, column]
    candidates = np.stack([left[bottom, column], top, right[bottom, column], bottom + 1])
    return Box(*candidates[:, np.lexsort((candidates[1], candidates[2], candidates[3]))[0]].tolist())


def _compute_active_area(frames: NDArray[np.float32]) -> Mask:
    temporal_std, mean = frames.std(axis=0), frames.mean(axis=0)
    background = _estimate_background(mean, temporal_std)
    contrast = np.maximum(frames.max(axis=0) - background, background - frames.min(axis=0))
    moves = temporal_std > MIN_TEMPORAL_STD_LEVELS
    active, moving = _keep_dense(moves | (contrast > MIN_CONTRAST_LEVELS)), _keep_dense(moves)
    # If nearly all of it moves, what does not move is lettering; else it may be dim tissue that a codec has frozen.
    return moving if moving.sum() > MOTION_FRACTION * active.sum() else active


def _keep_dense(active: Mask) -> Mask:
    side = _round_to_odd(NEIGHBOURHOOD_FRACTION * min(active.shape))
    # Pixels beyond the image edge are not counted as inactive: BORDER_REPLICATE repeats those at the edge.
    density = cv2.boxFilter(active.astype(np.float32), -1, (side, side), borderType=cv2.BORDER_REPLICATE)
    dense = (density > MIN_DENSITY).astype(np.uint8)
    diameter = _round_to_odd(MIN_WIDTH_FRACTION * min(active.shape))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return cv2.morphologyEx(dense, cv2.MORPH_OPEN, disc, borderValue=0) > 0


def _add_dim_flanks(temporal_std: NDArray[np.float32], parts: Mask) -> Mask:
    """Add the connected parts of the sector that are dark but flicker, if the background is frozen."""
    if (temporal_std < FROZEN_MAX_STD_LEVELS).mean() < FROZEN_MIN_FRACTION:
        return parts
    dim = _keep_dense(temporal_std > DIM_MIN_STD_LEVELS)
    _, labels = cv2.connectedComponents((dim | parts).astype(np.uint8))
    connected = np.isin(labels, np.unique(labels[parts]))
    # The fringe that a codec leaves around moving tissue is eroded. The result is used only if the area grows and
    # stays convex, as a sector is.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * FRINGE_PX + 1, 2 * FRINGE_PX + 1))
    grown: Mask = (cv2.erode(connected.astype(np.uint8), disc) > 0) | parts
    area = _fill_convex_hull(grown).sum()
    is_sector = area > MIN_AREA_GAIN * _fill_convex_hull(parts).sum() and grown.sum() > MIN_CONVEXITY * area
    return grown if is_sector else parts


def _remove_menu_bars(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = _round_to_odd(STROKE_FRACTION * min(frames.shape[1:]) - 1)
    # Morphological opening removes bright strokes narrower than its square and keeps speckle, which is wider.
    opened: NDArray[np.uint8]
    opened = np.stack([cv2.morphologyEx(frame, cv2.MORPH_OPEN, np.ones((side, side), np.uint8)) for frame in frames])
    lowest, highest = opened.min(axis=0), opened.max(axis=0)
    run = np.ones((1, max(MENU_MIN_RUN_PX, _round_to_odd(MENU_MIN_RUN_FRACTION * frames.shape[2]))), np.uint8)
    is_even = cv2.dilate(highest, run) - cv2.erode(lowest, run) <= MENU_MAX_SPREAD_LEVELS
    menu = cv2.dilate((is_even & (lowest > MENU_MIN_LEVEL)).astype(np.uint8), run) > 0
    opened[:, menu] = 0
    return opened


def _estimate_background(mean: NDArray[np.float32], temporal_std: NDArray[np.float32]) -> float:
    local_mean, local_square = cv2.blur(mean, (3, 3)), cv2.blur(mean * mean, (3, 3))
    is_even_in_space = local_square - local_mean * local_mean < BACKGROUND_MAX_STD_LEVELS**2
    is_even = (temporal_std < BACKGROUND_MAX_STD_LEVELS) & is_even_in_space
    if is_even.mean() < BACKGROUND_MIN_FRACTION:
        return 0.0
    return float(np.bincount(mean[is_even].astype(np.int64), minlength=256).argmax())


def _keep_large_parts(active: Mask) -> Mask | None:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(active.astype(np.uint8))
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero(areas >= MIN_PART_FRACTION * areas.max())
    return np.isin(labels, kept)


def _fill_convex_hull(parts: Mask) -> Mask:
    rows = np.flatnonzero(parts.any(axis=1))  # every corner of the hull is the first or the last pixel of its row
    first, last = parts[rows].argmax(axis=1), parts.shape[1] - 1 - parts[rows, ::-1].argmax(axis=1)
    points = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1).astype(np.int32)
    filled = np.zeros(parts.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0


def _mask_below_transducer(parts: Mask) -> Mask:
    """Return the pixels below the line along which the topmost pixels of the sector are: the transducer surface."""
    height, width = parts.shape
    first = np.where(parts.any(axis=0), parts.argmax(axis=0), height).astype(np.float32)
    rows = np.flatnonzero(parts.any(axis=1))
    is_surface = first < rows[0] + SURFACE_DEPTH_FRACTION * (rows[-1] + 1 - rows[0])
    surface = np.interp(np.arange(width), np.flatnonzero(is_surface), first[is_surface])
    below: Mask = np.arange(height)[:, None] >= surface[None, :]
    return below


def _scale_bounds(mask: Mask, x_scale: float, y_scale: float) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(
        round(columns[0] * x_scale),
        round(rows[0] * y_scale),
        round((columns[-1] + 1) * x_scale),
        round((rows[-1] + 1) * y_scale),
    )


def _scale_crop(box: Box, x_scale: float, y_scale: float) -> Box:
    x_margin, y_margin = CROP_MARGIN_FRACTION * box.width, CROP_MARGIN_FRACTION * box.height
    return Box(
        int(np.ceil((box.left + x_margin) * x_scale)),
        int(np.ceil((box.top + y_margin) * y_scale)),
        int(np.floor((box.right - x_margin) * x_scale)),
        int(np.floor((box.bottom - y_margin) * y_scale)),
    )


def _round_to_odd(pixels: float) -> int:
    return 2 * max(0, round((pixels - 1) / 2)) + 1
