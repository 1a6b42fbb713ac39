"""What is active in a scan's frames: differs from the background at some time, in an area that is not thin.

The frames are reduced by a whole factor. Areas are kept where most pixels are active and which are not narrow, at
several levels of contrast, since no single level separates dim tissue from what a codec adds. Painted bars and thin
bright strokes (letters, rulers) outside of bright areas are taken out first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.media.sector_geometry import Mask

ANALYSIS_SIDE_PX = 320  # the longer side of the reduced frames is at most this

# --- Levels of contrast with the background, gray levels ---
FAINT_LEVEL = 0.75  # of the mean over time and 5 x 5 pixels
LEVELS = (1.0, 3.0, 8.0)  # above the noise of the background, of the brightest or darkest value over time
BRIGHT_LEVELS = (20.0, 40.0)  # likewise; here letters are too small to be dense
ACTIVE_LEVEL = 6.0  # of single pixels; half of it counts half

# --- Background: the most frequent gray level of areas that are constant in time and space ---
FLAT_STD_LEVELS = 0.7  # standard deviation over 3 x 3 pixels; tissue has more
FLAT_RANGE_LEVELS = 6  # over time
EVEN_STD_LEVELS, EVEN_RANGE_LEVELS = 0.25, 2.0  # likewise, of what is preferred
FLAT_MIN_FRACTION = 0.01  # of the image; with less the sector fills the image and the background is 0
SECOND_FRACTION = 0.15  # of the most frequent level; another level this frequent may be the background instead
NOISE_QUANTILE = 0.9  # of the background's own contrast

# --- Menu bars: runs of a row that keep one gray level in all frames ---
STROKE_FRACTION = 0.006  # of the shorter side: width of the strokes of letters on the bars
MENU_MIN_RUN_PX = 17  # shortest run in pixels ...
MENU_MIN_RUN_FRACTION = 0.015  # ... or as a fraction of the image width, whichever is longer
MENU_MAX_SPREAD_LEVELS = 2  # largest difference of gray levels in a run
MENU_MIN_LEVEL = 20  # codecs also paint runs of one level into shadows, which are darker than this
MENU_MIN_CONTRAST = 4.0  # difference from the background

PAINTED_RANGE_LEVELS = 8  # over 5 reduced pixels of a row and over time, as of a bar that a codec has changed

FRAMING_LEVEL = 10  # brightest pixel of a black row or column along the border

# --- Letters and rulers ---
THIN_FRACTION = 0.015  # of the shorter side: widest stroke
THIN_LEVELS = 40  # brighter than what is beside the stroke
STILL_LEVELS = 40  # largest change over time of a letter; thin tissue changes more
LETTER_PX, LETTER_ACTIVITY = 21, 0.5  # window around a letter, and its mean activity beside strokes: less than tissue's
LETTER_LEVELS = 80.0  # contrast of letters that are large enough to be dense
MOVING_LEVELS = 10.0  # change over time of moving tissue, above what a codec adds to a still image
MOTION_FRACTION = 0.75  # of the active area; if more of it moves, what is bright and does not move is lettering
HALO_PX = 4  # reduced pixels around a stroke in which codecs add noise

# --- Insets: panels of measurements over a corner ---
PLAIN_LEVELS = 3.0  # from the background, at any time
INSET_FILLED = 0.9  # fraction of the bounding box; the corner beside a sector is a triangle
INSET_MAX = 0.5  # of the width and height of the sector; a longer one is a border

# --- Dense areas ---
NEIGHBOURHOOD_FRACTION = 0.035  # side of the square neighbourhood, as a fraction of the shorter side
MIN_DENSITY = 0.5  # fraction of the neighbourhood that must be active: at a straight border it is half
MIN_WIDTH_FRACTION = 0.05  # of the shorter side; a narrower area is a line of text
MIN_PART_FRACTION = 0.02  # of the largest part's area; a part separated by a shadow is at least this large


@dataclass(frozen=True)
class Evidence:
    """What is active, in reduced pixels.

    Attributes:
        factor: side of a reduced pixel in pixels of the frames.
        masks: dense active areas [T, H, W], from the least to the most contrast.
        activity: of single pixels [H, W], 0 .. 1.
        painted: pixels that are even along the row and over time, or near letters [H, W], as a header is.
        ignored: menu bars, letters and their surroundings [H, W]; they are in no mask.
        text: letters outside of bright areas [H, W], which a crop must avoid.
        plain: pixels that always have the gray level of the background [H, W].
    """

    factor: int
    masks: Mask
    activity: NDArray[np.float32]
    painted: Mask
    ignored: Mask
    text: Mask
    plain: Mask

    def columns(self, first: int, last: int) -> "Evidence":
        """Return the evidence of the columns `first` .. `last` (exclusive) alone."""
        names = ("masks", "activity", "painted", "ignored", "text", "plain")
        return replace(self, **{name: getattr(self, name)[..., first:last] for name in names})


def gather_evidence(frames: NDArray[np.uint8], least_noise: float = 0.0) -> Iterator[Evidence]:
    """Yield the evidence of gray frames [n, H, W] for every gray level that may be the background, one or two.

    Args:
        frames: of one scan.
        least_noise: of the background, gray levels; more than its even part shows if it is dithered.
    """
    reduced, factor = _reduce(frames)
    brightest, darkest = (one.astype(np.float32) for one in (reduced.max(axis=0), reduced.min(axis=0)))
    mean = reduced.mean(axis=0, dtype=np.float32)
    highest, lowest = frames.max(axis=0), frames.min(axis=0)
    strokes = _reduce_mask(_find_strokes(highest), factor, mean.shape) > 0
    menu = _reduce_mask(_find_menu_bars(highest, lowest), factor, mean.shape) > 127
    near_strokes = _dilate(strokes, 2 * HALO_PX + 1)
    # Black bars along the border of a gray screen, which a player or a codec has added.
    framing = _find_framing(brightest)
    row_range = cv2.dilate(brightest, np.ones((1, 5))) - cv2.erode(darkest, np.ones((1, 5)))
    painted = (row_range <= PAINTED_RANGE_LEVELS) | near_strokes
    is_still = brightest - darkest <= STILL_LEVELS
    local_mean = cv2.blur(mean, (5, 5))
    for background, noise in _estimate_backgrounds(brightest, darkest, mean):
        contrast = np.maximum(brightest - background, background - darkest) - max(noise, least_noise)
        bars = menu & (np.abs(mean - background) > MENU_MIN_CONTRAST)
        if background > MENU_MIN_LEVEL:
            bars |= framing
        bright = [_keep_dense((contrast > level) & ~bars) for level in BRIGHT_LEVELS]
        solid = bright[0]
        frozen = _find_frozen(contrast, brightest - darkest, bars) if len(frames) > 1 else bars
        ignored = (near_strokes & ~solid) | bars | frozen
        if len(frames) > 1:
            bright = [one & ~frozen for one in bright]
        usable = ~ignored
        activity = np.clip(contrast / ACTIVE_LEVEL, 0, 1)
        masks = [_keep_dense((np.abs(local_mean - background) > FAINT_LEVEL) & usable)]
        masks += [_keep_dense((contrast > level) & usable) for level in LEVELS]
        text = _find_letters(strokes & is_still, strokes, activity) & ~solid
        plain = (brightest - background <= PLAIN_LEVELS) & (background - darkest <= PLAIN_LEVELS)
        yield Evidence(factor, np.stack([*masks, *bright]), activity, painted, ignored, text, plain)


def _reduce(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    factor = -(-max(frames.shape[1:]) // ANALYSIS_SIDE_PX)
    if factor == 1 or min(frames.shape[1:]) < factor:
        return frames, 1
    height, width = (side // factor for side in frames.shape[1:])
    parts = (frame[: height * factor, : width * factor] for frame in frames)
    # Whole factors are several times faster than others.
    return np.stack([cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) for part in parts]), factor


def _reduce_mask(mask: Mask, factor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return which fraction of each reduced pixel is in the mask, 0 .. 255."""
    whole = mask[: shape[0] * factor, : shape[1] * factor].astype(np.uint8) * 255
    return np.asarray(cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _estimate_backgrounds(
    brightest: NDArray[np.float32], darkest: NDArray[np.float32], mean: NDArray[np.float32]
) -> list[tuple[float, float]]:
    """Return gray level and noise of what may be the background; (0, 0) if the sector fills the image."""
    local_mean, local_square = cv2.blur(mean, (3, 3)), cv2.blur(mean * mean, (3, 3))
    variance, change = local_square - local_mean * local_mean, brightest - darkest
    flat = (variance < FLAT_STD_LEVELS**2) & (change <= FLAT_RANGE_LEVELS)
    level = np.rint(mean).astype(np.uint8)
    counts = np.bincount(level[flat], minlength=256)
    least = max(SECOND_FRACTION * counts.max(), FLAT_MIN_FRACTION * mean.size)
    # Receiver noise in a dark depth or flank is nearly even, too. A screen is even.
    even = np.bincount(level[flat & (variance < EVEN_STD_LEVELS**2) & (change <= EVEN_RANGE_LEVELS)], minlength=256)
    found = []
    for number in range(2):
        mode = int(counts.argmax())
        if number == 0 and even.max() >= FLAT_MIN_FRACTION * mean.size:
            mode = int(even.argmax())
        elif counts[mode] < least:
            break
        precise = float(mean[flat & (level == mode)].mean())
        near = flat & (np.abs(mean - mode) < 1.5)
        contrast = np.maximum(brightest[near] - precise, precise - darkest[near])
        found.append((precise, float(np.quantile(contrast, NOISE_QUANTILE))))
        counts[max(0, mode - FLAT_RANGE_LEVELS) : mode + FLAT_RANGE_LEVELS + 1] = 0
    return found or [(0.0, 0.0)]


def _find_menu_bars(highest: NDArray[np.uint8], lowest: NDArray[np.uint8]) -> Mask:
    side = _round_to_odd(STROKE_FRACTION * min(highest.shape) - 1)
    # Morphological opening removes bright strokes narrower than its square: letters on the bar.
    square = np.ones((side, side), np.uint8)
    opened = [cv2.morphologyEx(one, cv2.MORPH_OPEN, square) for one in (highest, lowest)]
    run = np.ones((1, max(MENU_MIN_RUN_PX, _round_to_odd(MENU_MIN_RUN_FRACTION * highest.shape[1]))), np.uint8)
    is_even = cv2.subtract(cv2.dilate(opened[0], run), cv2.erode(opened[1], run)) <= MENU_MAX_SPREAD_LEVELS
    return np.asarray(cv2.dilate((is_even & (opened[1] > MENU_MIN_LEVEL)).astype(np.uint8), run) > 0)


def _find_framing(brightest: NDArray[np.float32]) -> Mask:
    """Return the rows and columns from each border on that are black."""
    framing = np.zeros(brightest.shape, bool)
    for across in (0, 1):
        is_black = brightest.max(axis=across) <= FRAMING_LEVEL
        if not is_black.all():
            first, last = int(is_black.argmin()), len(is_black) - int(is_black[::-1].argmin())
            rows = framing.T if across == 0 else framing
            rows[:first], rows[last:] = True, True
    return framing


def _find_strokes(highest: NDArray[np.uint8]) -> Mask:
    side = max(3, _round_to_odd(THIN_FRACTION * min(highest.shape)))
    opened = cv2.morphologyEx(highest, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    return np.asarray(cv2.subtract(highest, opened) > THIN_LEVELS)


def _find_frozen(contrast: NDArray[np.float32], change: NDArray[np.float32], bars: Mask) -> Mask:
    """Return what is bright and does not change, if nearly all of the active area changes: it is lettering."""
    active, moving = _keep_dense((contrast > LEVELS[-1]) & ~bars), _keep_dense(change > MOVING_LEVELS)
    if moving.sum() <= MOTION_FRACTION * active.sum():
        return np.zeros(active.shape, bool)
    still = (contrast > LETTER_LEVELS) & (change <= MOVING_LEVELS) & ~_dilate(moving, 2 * HALO_PX + 1)
    return _dilate(still, 2 * HALO_PX + 1) & ~_dilate(moving, 2 * HALO_PX + 1)


def _find_letters(letters: Mask, strokes: Mask, activity: NDArray[np.float32]) -> Mask:
    """Return the letters, and a pixel around them, with little activity beside strokes: thin tissue is among tissue."""
    beside = (~_dilate(strokes, 3)).astype(np.float32)
    window = (LETTER_PX, LETTER_PX)
    surrounding = cv2.blur(activity * beside, window) / np.maximum(cv2.blur(beside, window), 1e-3)
    return _dilate(letters & (surrounding < LETTER_ACTIVITY), 3)


def find_insets(plain: Mask) -> Mask:
    """Return rectangles over the corners of a sector's bounds [H, W] that always have the background's gray level."""
    height, width = plain.shape
    # Bounds that are wider by a pixel would connect a panel with the corner above it.
    opened = cv2.morphologyEx(plain.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8), borderValue=0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    insets = np.zeros(plain.shape, bool)
    for corner in {int(labels[row, column]) for row in (0, -1) for column in (0, -1)} - {0}:
        left, top, wide, tall, area = stats[corner]
        if area >= INSET_FILLED * wide * tall and max(wide / width, tall / height) < INSET_MAX:
            insets[top : top + tall, left : left + wide] = True
    return _dilate(insets, 3)  # its border may be within a reduced pixel


def _keep_dense(active: Mask) -> Mask:
    """Return the areas that are active in most pixels, wide, and not much smaller than the largest one."""
    side, width = (_round_to_odd(part * min(active.shape)) for part in (NEIGHBOURHOOD_FRACTION, MIN_WIDTH_FRACTION))
    closed = cv2.morphologyEx(active.astype(np.uint8) * 255, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    # Pixels beyond the image edge are not counted as inactive: BORDER_REPLICATE repeats those at the edge.
    density = cv2.blur(closed, (side, side), borderType=cv2.BORDER_REPLICATE)
    dense = (density > 255 * MIN_DENSITY).astype(np.uint8)
    opened = cv2.morphologyEx(dense, cv2.MORPH_OPEN, np.ones((width, width), np.uint8), borderValue=0)
    # Parts are separated in pixels of twice the size, which takes a quarter of the time.
    pooled = np.ascontiguousarray(cv2.dilate(opened, np.ones((2, 2), np.uint8), anchor=(0, 0))[::2, ::2])
    count, labels = cv2.connectedComponents(pooled)
    areas = np.bincount(labels.ravel(), minlength=count)
    areas[0] = 0  # what is not dense
    kept = (areas > 0) & (areas >= MIN_PART_FRACTION * areas.max())
    if kept.sum() == count - 1:
        return opened > 0
    return np.repeat(np.repeat(kept[labels], 2, axis=0), 2, axis=1)[: opened.shape[0], : opened.shape[1]] & (opened > 0)


def _dilate(mask: Mask, side: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def _round_to_odd(pixels: float) -> int:
    return 2 * max(0, round((pixels - 1) / 2)) + 1
