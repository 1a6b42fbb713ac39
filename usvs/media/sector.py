"""The fan of an ultrasound picture and the largest box inside it.

Text, rulers and menus around the fan must never reach a network: the paper keeps the inner part of the fan only. The
fan is what changes or shines unevenly over a broad area; letters and rulers are thin and stand still.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

ANALYSED_PIXELS = 320  # longer side of the picture the fan is looked for in
CHANGE_LEVELS = 2.5  # temporal standard deviation, in gray levels, above what a codec leaves on a still picture
BRIGHT_LEVELS = 10.0  # above black, as codecs leave it
PANEL_PIXELS = 17  # at least so long a piece of a row ...
PANEL_SHARE = 0.015  # ... or this part of the width ...
PANEL_LEVELS = 2  # ... that stays within so many gray levels in all frames is a menu bar
PANEL_DARKEST = 20  # below it a codec paints even rows into shadows
STILL_LEVELS = 0.7  # standard deviation in time and among neighbours of a painted background; tissue has more
SMALLEST_BACKGROUND = 0.01  # of the picture; with less the fan fills it all
DIM_LEVELS = 0.8  # temporal standard deviation of a fan's dark flanks, where the background is frozen ...
FROZEN_LEVELS = 0.1  # ... which is where it changes by less than this ...
SMALLEST_FROZEN = 0.05  # ... in this part of the picture at least
FRINGE_PIXELS = 2
LEAST_GAIN = 1.2  # of the fan's area
CONVEX_SHARE = 0.88  # of its hull that a fan fills
DENSE_SHARE = 0.35  # of a neighbourhood that must be active: tissue is, letters and rulers are not
NEIGHBOURHOOD = 0.035  # of the shorter side
NARROWEST = 0.06  # of the shorter side: what is narrower is a menu bar or a line of text
STROKE = 0.006  # of the shorter side: the width of letters and rulers
MOVING_SHARE = 0.75  # of the active area
COMPANION_SHARE = 0.02  # a piece of the fan behind a shadow is at least this part of its largest piece
SMALLEST_FAN = 0.05  # of the picture; less is no fan
SMALLEST_BOX_PIXELS = 16
MARGIN = 0.01  # of the box, taken off each side


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    def moved(self, origin: "Box") -> "Box":
        """Return the box of the whole picture that this one is inside of `origin`."""
        across, down = origin.left, origin.top
        return Box(self.left + across, self.top + down, self.right + across, self.bottom + down)

    def crop(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of a picture [H, W] inside the box."""
        return picture[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Sector:
    """The inner box of a fan.

    Attributes:
        box: what of the picture may reach a network.
        note: why, where no fan was found and the box is the whole picture or region.
        source: who says so: ``found`` in the pixels, the file's own ``region``, the ``manifest``, or ``whole``: nobody.
        bounds: of the whole fan: the file's own region where it states one, else where it was found in the pixels.
    """

    box: Box
    note: str | None
    source: Literal["found", "region", "manifest", "whole"] = "found"
    bounds: Box | None = None


def find_sector(frames: NDArray[np.uint8]) -> Box:
    """Return the largest box inside the fan, the whole picture where none is found.

    Args:
        frames: gray frames spread over a scan [n, H, W].
    """
    return detect_sector(frames).box


def detect_sector(frames: NDArray[np.uint8], region: Box | None = None) -> Sector:
    """Return the largest box inside the fan, and the reason where none is found.

    Args:
        frames: gray frames spread over a scan [n, H, W].
        region: where the file itself says that the ultrasound is; nothing outside of it is looked at.
    """
    if region is not None:
        return _look_inside(frames, region)
    height, width = frames.shape[1:]
    whole = Box(0, 0, width, height)
    scale = min(1.0, ANALYSED_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in _without_panels(frames)])
    fan = sector_mask(small.astype(np.float32))
    if fan is None:
        return Sector(whole, "no fan found: the whole picture is kept", "whole")
    across, down = width / size[0], height / size[1]
    box = _grown_back(inscribed_box(fan), across, down)
    if min(box.width, box.height) < SMALLEST_BOX_PIXELS:
        return Sector(whole, "the fan found is too narrow for a box: the whole picture is kept", "whole")
    return Sector(box, None, "found", _bounds(fan, across, down))


def _look_inside(frames: NDArray[np.uint8], region: Box) -> Sector:
    inner = detect_sector(frames[:, region.top : region.bottom, region.left : region.right])
    # the fan's bounds are the machine's word; a region may hold black corners and letters, so the box is looked for
    stated = replace(inner, box=inner.box.moved(region), bounds=region)
    if inner.source == "whole":
        return replace(stated, note="no fan found inside the region that the file states: the region is kept")
    return replace(stated, source="region")


def sector_mask(frames: NDArray[np.float32]) -> Mask | None:
    """Return the area of the fan [H, W], shadows filled, or None where nothing is broad enough to be one.

    Args:
        frames: gray frames of some hundred pixels' size [n, H, W].
    """
    pieces = _pieces(_active(frames))
    if pieces is None or pieces.mean() < SMALLEST_FAN:
        return None
    pieces = _with_dim_flanks(frames.std(axis=0), pieces)
    return _hull(pieces) & _below_the_probe(pieces)


def inscribed_box(mask: Mask) -> Box:
    """Return the largest rectangle all of whose pixels are in the mask; of equal ones the highest, then the leftmost.

    Each pixel carries the run of pixels above it up to the mask's edge, widened as far as the narrowest row of that
    run allows: the largest rectangle is among these. Running maxima and minima down the columns, begun anew below
    every pixel outside, give all of them at once; O(H W).
    """
    if not mask.any():
        return Box(0, 0, 0, 0)
    height, width = mask.shape
    rows, columns = np.arange(1, height + 1, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    tall = rows - np.maximum.accumulate(np.where(mask, 0, rows), axis=0)
    left = np.maximum.accumulate(np.where(mask, 0, columns + 1), axis=1)  # of the run in its row
    right = np.minimum.accumulate(np.where(mask, width, columns)[:, ::-1], axis=1)[:, ::-1]
    # a step wider than the mask at each pixel outside keeps the runs of a column apart
    step = (width + 1) * np.cumsum(~mask, axis=0, dtype=np.int32)
    left = np.maximum.accumulate(np.where(mask, left, 0) + step, axis=0) - step
    right = np.minimum.accumulate(np.where(mask, right, width) - step, axis=0) + step
    area = tall * (right - left)
    bottom, column = np.nonzero(area == area.max())
    equals = np.stack([left[bottom, column], bottom + 1 - tall[bottom, column], right[bottom, column], bottom + 1])
    return Box(*equals[:, np.lexsort((equals[1], equals[2], equals[3]))[0]].tolist())


def _active(frames: NDArray[np.float32]) -> Mask:
    deviation, mean = frames.std(axis=0), frames.mean(axis=0)
    background = _background(mean, deviation)
    away = np.maximum(frames.max(axis=0) - background, background - frames.min(axis=0))
    changing = deviation > CHANGE_LEVELS
    active, moving = _dense(changing | (away > BRIGHT_LEVELS)), _dense(changing)
    # where nearly all of it moves, what stands still is lettering; else it may be a dim depth that a codec has frozen
    return moving if moving.sum() > MOVING_SHARE * active.sum() else active


def _dense(active: Mask) -> Mask:
    side = _odd(NEIGHBOURHOOD * min(active.shape))
    # a neighbour beyond the picture's edge says nothing: the share is of those inside
    share = cv2.boxFilter(active.astype(np.float32), -1, (side, side), borderType=cv2.BORDER_REPLICATE)
    dense = (share > DENSE_SHARE).astype(np.uint8)
    wide = _odd(NARROWEST * min(active.shape))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide))
    return cv2.morphologyEx(dense, cv2.MORPH_OPEN, disc, borderValue=0) > 0


def _with_dim_flanks(deviation: NDArray[np.float32], pieces: Mask) -> Mask:
    """Return the fan with those of its parts that hardly shine but flicker, where all else stands quite still."""
    if (deviation < FROZEN_LEVELS).mean() < SMALLEST_FROZEN:
        return pieces
    dim = _dense(deviation > DIM_LEVELS)
    _, labels = cv2.connectedComponents((dim | pieces).astype(np.uint8))
    joined = np.isin(labels, np.unique(labels[pieces]))
    # a codec leaves a fringe around what moves: it is taken off again; where it was all, or is ragged as no fan is,
    # nothing is gained
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * FRINGE_PIXELS + 1, 2 * FRINGE_PIXELS + 1))
    grown: Mask = (cv2.erode(joined.astype(np.uint8), disc) > 0) | pieces
    area = _hull(grown).sum()
    is_fan = area > LEAST_GAIN * _hull(pieces).sum() and grown.sum() > CONVEX_SHARE * area
    return grown if is_fan else pieces


def _without_panels(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = _odd(STROKE * min(frames.shape[1:]) - 1)
    # an opening takes off bright lines thinner than its square and leaves speckle, which is wider
    opened: NDArray[np.uint8]
    opened = np.stack([cv2.morphologyEx(frame, cv2.MORPH_OPEN, np.ones((side, side), np.uint8)) for frame in frames])
    lowest, highest = opened.min(axis=0), opened.max(axis=0)
    along = np.ones((1, max(PANEL_PIXELS, _odd(PANEL_SHARE * frames.shape[2]))), np.uint8)
    even = cv2.dilate(highest, along) - cv2.erode(lowest, along) <= PANEL_LEVELS
    panels = cv2.dilate((even & (lowest > PANEL_DARKEST)).astype(np.uint8), along) > 0
    opened[:, panels] = 0
    return opened


def _background(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> float:
    blurred, square = cv2.blur(mean, (3, 3)), cv2.blur(mean * mean, (3, 3))
    even = (deviation < STILL_LEVELS) & (square - blurred * blurred < STILL_LEVELS**2)
    if even.mean() < SMALLEST_BACKGROUND:
        return 0.0
    return float(np.bincount(mean[even].astype(np.int64), minlength=256).argmax())


def _pieces(active: Mask) -> Mask | None:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(active.astype(np.uint8))
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero(areas >= COMPANION_SHARE * areas.max())
    return np.isin(labels, kept)


def _hull(pieces: Mask) -> Mask:
    rows = np.flatnonzero(pieces.any(axis=1))  # a corner of the hull is the first or the last of its row
    first, last = pieces[rows].argmax(axis=1), pieces.shape[1] - 1 - pieces[rows, ::-1].argmax(axis=1)
    points = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1).astype(np.int32)
    filled = np.zeros(pieces.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0


def _below_the_probe(pieces: Mask) -> Mask:
    height, width = pieces.shape
    first = np.where(pieces.any(axis=0), pieces.argmax(axis=0), height).astype(np.float32)
    rows = np.flatnonzero(pieces.any(axis=1))
    near = first < rows[0] + 0.25 * (rows[-1] + 1 - rows[0])  # further down it is a shadow that begins, not the probe
    probe = np.interp(np.arange(width), np.flatnonzero(near), first[near])
    below: Mask = np.arange(height)[:, None] >= probe[None, :]
    return below


def _bounds(fan: Mask, across: float, down: float) -> Box:
    rows, columns = np.flatnonzero(fan.any(axis=1)), np.flatnonzero(fan.any(axis=0))
    return Box(
        round(columns[0] * across),
        round(rows[0] * down),
        round((columns[-1] + 1) * across),
        round((rows[-1] + 1) * down),
    )


def _grown_back(box: Box, across: float, down: float) -> Box:
    aside, above = MARGIN * box.width, MARGIN * box.height
    return Box(
        int(np.ceil((box.left + aside) * across)),
        int(np.ceil((box.top + above) * down)),
        int(np.floor((box.right - aside) * across)),
        int(np.floor((box.bottom - above) * down)),
    )


def _odd(pixels: float) -> int:
    return 2 * max(0, round((pixels - 1) / 2)) + 1
