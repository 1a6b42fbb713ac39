"""The part of a picture that is one screen: without a player's bars, and one of two screens side by side."""

import numpy as np
from numpy.typing import NDArray

from usvs.media.box import Box
from usvs.media.sector_geometry import Mask

MIN_BAR_LEVEL = 10  # darker bars are as a screen's own background
BAR_LEVELS = 4  # largest difference of a bar's pixels from its level, at any time
BAR_FILLED = 0.8  # fraction of a row or column of a bar that has its level; a logo has not
MIN_BAR_FRACTION = 0.02  # of the side
MAX_BARS_FRACTION = 0.7  # of the side
CUT_MIN_LIT = 0.25  # of the line beside a black margin: a margin beside less is the screen's own background
CUT_LIT_LEVELS = 8  # above the darkest bars
CUT_MIN_FRACTION = 0.01  # of the side: width of either margin
CUT_LINES = 3  # beside a margin that are inspected: codecs blur the first one
SPLIT_MIN_WIDTH = 0.2  # of the picture: width of each of two sectors
SPLIT_SIMILAR = 0.85  # narrower over wider


def find_screen(highest: NDArray[np.uint8], lowest: NDArray[np.uint8]) -> Box | None:
    """Return the picture without bars of one gray level along its borders; None without bars.

    The screen's own background may have that level, too: then what is left begins with the same level, and nothing is
    removed.

    Args:
        highest: largest gray level over time [H, W].
        lowest: smallest.
    """
    height, width = highest.shape
    corner = int(np.median(highest[[0, 0, -1, -1], [0, -1, 0, -1]]))
    if corner <= MIN_BAR_LEVEL:
        return None
    is_level = (highest <= corner + BAR_LEVELS) & (lowest >= corner - BAR_LEVELS)
    found = []
    for across, side in ((0, width), (1, height)):
        is_bar = is_level.mean(axis=across) >= BAR_FILLED
        first, last = (0, side) if is_bar.all() else (int(is_bar.argmin()), side - int(is_bar[::-1].argmin()))
        is_wide = max(first, side - last) >= MIN_BAR_FRACTION * side and last - first > (1 - MAX_BARS_FRACTION) * side
        found.append((first, last) if is_wide else (0, side))
    (left, right), (top, bottom) = found
    box = Box(left, top, right, bottom)
    if (box.width, box.height) == (width, height):
        return None
    inside = box.crop(is_level)
    borders = ([inside[:, 1], inside[:, -2]] if box.width < width else []) + (
        [inside[1], inside[-2]] if box.height < height else []
    )
    return None if max(float(one.mean()) for one in borders) > 1 - BAR_FILLED else box


def find_cut_picture(highest: NDArray[np.uint8], lowest: NDArray[np.uint8]) -> Box | None:
    """Return the picture without black margins beside which it is bright along a line: there it was cut out.

    Args:
        highest: largest gray level over time [H, W].
        lowest: smallest.

    Returns:
        What is left, or None if nothing is to be removed.
    """
    found: list[int] = []
    for across, lines in ((0, highest.T), (1, highest)):
        brightest, darkest = highest.max(axis=across), lowest.min(axis=across)
        is_margin = (brightest <= darkest + BAR_LEVELS) & (brightest <= MIN_BAR_LEVEL)
        if is_margin.all():
            return None
        first, last = int(is_margin.argmin()), len(lines) - int(is_margin[::-1].argmin())
        is_lit = lines > MIN_BAR_LEVEL + CUT_LIT_LEVELS
        begins, ends = (
            is_lit[max(0, one) : one + CUT_LINES].any(axis=0).mean() >= CUT_MIN_LIT for one in (first, last - CUT_LINES)
        )
        # A screen may end at one side of the sector; people cut both.
        is_cut = begins and ends and min(first, len(lines) - last) >= CUT_MIN_FRACTION * len(lines)
        found += [first, last] if is_cut else [0, len(lines)]
    left, right, top, bottom = found
    box = Box(left, top, right, bottom)
    return None if (box.height, box.width) == highest.shape else box


def find_first_of_two(active: Mask) -> tuple[int, int] | None:
    """Return first and last (exclusive) column for the left one of two sectors of one size; None if there are not two.

    Args:
        active: dense active area [H, W].
    """
    width = active.shape[1]
    in_column = np.concatenate([[False], active.any(axis=0), [False]])
    starts, ends = np.flatnonzero(in_column[1:] & ~in_column[:-1]), np.flatnonzero(~in_column[1:] & in_column[:-1])
    sizes = ends - starts
    large = np.flatnonzero(sizes >= SPLIT_MIN_WIDTH * width)
    if len(large) != 2 or sizes[large].min() < SPLIT_SIMILAR * sizes[large].max():
        return None
    return 0, int((ends[large[0]] + starts[large[1]]) // 2)
